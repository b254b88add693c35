"""What is allowed, and hardly ever meant."""

from typing import Any

import pytest
from support.configurations import WATCH, a_config

from cdc_sync.config import warnings

OWN_SIDE = "send the ATS's own label, or a code for what a recruiter did"
NEVER_SENT = (
    "is never sent: status.map has no label for it, and status.unmapped is not send (found: {}); "
    "name the status as it is sent, not the ATS's label"
)


def warned(changes: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in warnings(a_config(changes))]


def test_an_ordinary_configuration_is_not_suspicious() -> None:
    changes = {
        f"{WATCH}.status": {"map": {"Embauché": "hired", "Vu": "Vu par le recruteur"}, "unmapped": "ignore"},
        f"{WATCH}.settle": {"hired": "5m", "deleted": "1m", "default": "1s"},
        f"{WATCH}.extra": {"delay": {"column": "d", "only_for": ["hired"]}},
    }
    assert warned(changes) == []
    assert warned({}) == []


@pytest.mark.parametrize("per_watch", [True, False])
def test_a_key_that_means_nothing_any_more_is_accepted_with_a_warning(per_watch: bool) -> None:  # noqa: FBT001 - a key
    (said,) = warned({"metrics.per_watch": per_watch})
    assert said.startswith("metrics.per_watch: means nothing any more, and is an error from 0.4 on; remove it")


def test_a_status_of_hellowork_s_own_side_is_a_warning() -> None:
    changes = {f"{WATCH}.status": {"map": {"Envoyé": "sent", "?": "unknown"}, "deleted": "not_found"}}
    own = "is HelloWork's own code for its side of the exchange"
    assert warned(changes) == [
        f'{WATCH}.status.map."Envoyé": {own} (sent to the ATS) (found: sent); {OWN_SIDE}',
        f'{WATCH}.status.map."?": {own} (the status that the ATS returned is unknown) (found: unknown); {OWN_SIDE}',
        f"{WATCH}.status.deleted: {own} (the application was not found in the ATS) (found: not_found); {OWN_SIDE}",
    ]


@pytest.mark.parametrize(
    ("written", "code"), [("offered", "offred"), ("withdrawn", "whithdrawn"), ("Rejected", "rejected")]
)
def test_a_misspelt_code_is_pointed_out(written: str, code: str) -> None:
    assert warned({f"{WATCH}.status": {"map": {"x": written}}}) == [
        f'{WATCH}.status.map.x: is nearly a code of HelloWork\'s (found: {written}); HelloWork spells it "{code}"'
    ]


@pytest.mark.parametrize("unmapped", ["ignore", "reject"])
def test_what_is_never_sent_need_not_be_waited_for(unmapped: str) -> None:
    changes = {
        f"{WATCH}.status": {"map": {"Refusé": "rejected"}, "unmapped": unmapped},
        f"{WATCH}.settle": {"Refusé": "5m", "rejected": "5m"},
        f"{WATCH}.extra": {"delay": {"column": "d", "only_for": ["rejected", "refused"]}},
    }
    assert warned(changes) == [
        f'{WATCH}.settle."Refusé": {NEVER_SENT.format("Refusé")}',
        f"{WATCH}.extra.delay.only_for[1]: {NEVER_SENT.format('refused')}",
    ]


def test_with_unmapped_send_anything_may_be_sent() -> None:
    assert warned({f"{WATCH}.settle": {"whatever": "5m"}}) == []


def test_a_dsn_that_is_not_used_is_pointed_out_without_it() -> None:
    assert warned({"state.dsn": "host=h password=hunter2"}) == [
        "state.dsn: is not used by backend sqlite; set state.backend: postgres, or remove it"
    ]
    assert warned({"state": {"backend": "postgres", "dsn": "host=h"}}) == []


def test_a_store_in_whatever_folder_the_command_is_run_is_pointed_out() -> None:
    (line,) = warned({"state.path": "state.db"})

    assert line.startswith("state.path: is relative to whatever folder the command is run in")
    assert warned({"state": {"path": "state.db", "backend": "postgres"}}) == []


def test_a_status_that_is_a_number_by_its_name_is_pointed_out() -> None:
    (line,) = warned({f"{WATCH}.columns.status": "stage_id"})

    assert line.startswith(f"{WATCH}.columns.status: is a number by its name")
    assert "(found: stage_id)" in line
    mapped = {f"{WATCH}.columns.status": "stage_id", f"{WATCH}.status": {"map": {"1": "Nouveau"}}}
    (line,) = warned(mapped)
    assert "status.unmapped: reject" in line
    mapped[f"{WATCH}.status"] = {"map": {"1": "Nouveau"}, "unmapped": "ignore"}
    assert warned(mapped) == []
    for sql in ("t.stage_id", "t.stage_id::text", 't."stage_id" :: varchar', "stage_id", "cast( t.stage_id AS text )"):
        assert "(found: stage_id)" in warned({f"{WATCH}.columns.status": {"sql": sql}})[0]
    assert warned({f"{WATCH}.columns.status": {"sql": "label_of(t.stage_id)"}}) == []


@pytest.mark.parametrize("field", ["application_id", "status", "job_id", "source"])
def test_personal_data_is_pointed_out(field: str) -> None:
    (line,) = warned({f"{WATCH}.columns.{field}": "partner_phone"})

    assert line == (
        f"{WATCH}.columns.{field}: looks like personal data, which would be sent, logged and stored "
        "(found: partner_phone); map the column that is meant"
    )


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ({"sql": "lower(t.email)"}, "email"),
        ({"sql": 't."Téléphone" || t.birth_date'}, "Téléphone, birth_date"),
        ({"sql": "coalesce(t.ref, email)"}, "email"),
        ({"sql": "(SELECT p.email FROM people p WHERE p.id = t.person)"}, "email"),
        ({"sql": "upper(t.name)"}, "name"),
        ({"sql": "masked(t)", "depends_on": ["salary"]}, "salary"),
    ],
)
def test_personal_data_inside_an_expression_is_pointed_out(expression: dict[str, Any], found: str) -> None:
    (line,) = warned({f"{WATCH}.columns.source": expression})

    assert line.startswith(f"{WATCH}.columns.source: looks like personal data")
    assert f"(found: {found})" in line


@pytest.mark.parametrize(
    "sql",
    [
        "(SELECT s.name FROM stages s WHERE s.id = t.stage_id)",
        "CASE WHEN t.canal = 'email' THEN 'e-mail' END -- no t.phone",
        "(SELECT a.label /* t.phone */ FROM public.addresses a WHERE a.id = t.origin)",
        "phone(t.ref)",
    ],
)
def test_an_expression_that_names_no_personal_data_is_left_alone(sql: str) -> None:
    assert warned({f"{WATCH}.columns.source": {"sql": sql}}) == []


def test_what_init_left_undecided_is_pointed_out() -> None:
    remedy = "decide it, correct the file, and remove the entry: `cdc-sync run` refuses before"
    assert warned({"undecided": ["status: a or b?", "key: none"]}) == [
        f"undecided[0]: status: a or b?; {remedy}",
        f"undecided[1]: key: none; {remedy}",
    ]


def test_several_watches_with_where_on_one_table_are_pointed_out() -> None:
    watch = {"table": "public.t", "key": ["id"], "where": "t.tenant = 1"}
    columns = {"application_id": "i", "status": "s", "job_id": "j", "created": "c"}
    (said,) = warned({f"watches.c{number}": {**watch, "columns": columns} for number in (1, 2)})
    assert said == (
        "watches.c1.where: the watches c1, c2 read one table, and each change of it costs the ATS each of them; "
        "if they are customers, one watch with columns.account serves them all: docs/many-customers.md"
    )


def test_watches_with_the_same_headers_are_pointed_out() -> None:
    own = {"hellowork": {"headers": {"X-Api-Key": "k"}}}
    watch = {"key": ["id"], "columns": {"application_id": "i", "status": "s", "job_id": "j", "created": "c"}, **own}
    two = {f"watches.{name}": {**watch, "table": name} for name in ("a", "b")}
    (said,) = warned(two)
    assert said.startswith("watches.b.hellowork: the watches a, b have the same headers")
    assert warned({**two, "watches.a.account": "x", "watches.b.account": "x"}) == []
