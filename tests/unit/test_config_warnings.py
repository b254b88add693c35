"""What is allowed, and hardly ever meant."""

from typing import Any

import pytest
from support.configurations import WATCH, a_config

from cdc_sync.config import warnings


def warned(changes: dict[str, Any]) -> list[tuple[str | None, str]]:
    """The code and the path of each warning."""
    return [(problem.code, problem.path) for problem in warnings(a_config(changes))]


def test_an_ordinary_configuration_is_not_suspicious() -> None:
    changes = {
        f"{WATCH}.status": {"map": {"Embauché": "hired", "Vu": "Vu par le recruteur"}, "unmapped": "ignore"},
        f"{WATCH}.settle": {"hired": "5m", "deleted": "1m", "default": "1s"},
        f"{WATCH}.extra": {"delay": {"column": "d", "only_for": ["hired"]}},
    }
    assert warned(changes) == []
    assert warned({}) == []


def test_a_status_of_hellowork_s_own_side_is_a_warning() -> None:
    changes = {f"{WATCH}.status": {"map": {"Envoyé": "sent", "?": "unknown"}, "deleted": "not_found"}}
    places = ("map.Envoyé", "map.?", "deleted")
    assert warned(changes) == [("status-of-hellowork", f"{WATCH}.status.{place}") for place in places]


def test_a_store_in_whatever_folder_the_command_is_run_is_pointed_out() -> None:
    assert warned({"state.path": "state.db"}) == [("path-relative", "state.path")]
    assert warned({"state": {"path": "state.db", "backend": "postgres"}}) == []


def test_a_status_that_is_a_number_by_its_name_is_pointed_out() -> None:
    a_number = [("status-number", f"{WATCH}.columns.status")]
    assert warned({f"{WATCH}.columns.status": "stage_id"}) == a_number
    mapped: dict[str, Any] = {f"{WATCH}.columns.status": "stage_id", f"{WATCH}.status": {"map": {"1": "Nouveau"}}}
    assert warned(mapped) == a_number
    mapped[f"{WATCH}.status"] = {"map": {"1": "Nouveau"}, "unmapped": "ignore"}
    assert warned(mapped) == []
    for sql in ("t.stage_id", "t.stage_id::text", 't."stage_id" :: varchar', "stage_id", "cast( t.stage_id AS text )"):
        assert warned({f"{WATCH}.columns.status": {"sql": sql}}) == a_number
    assert warned({f"{WATCH}.columns.status": {"sql": "label_of(t.stage_id)"}}) == []


@pytest.mark.parametrize("field", ["application_id", "status", "job_id", "source"])
@pytest.mark.parametrize("mapped", ["partner_phone", {"sql": "t.salary::text"}], ids=str)
def test_personal_data_is_pointed_out(field: str, mapped: object) -> None:
    assert warned({f"{WATCH}.columns.{field}": mapped}) == [("personal-data", f"{WATCH}.columns.{field}")]


def test_a_misspelt_code_is_pointed_out() -> None:
    (problem,) = warnings(a_config({f"{WATCH}.status": {"map": {"x": "offered"}}}))
    assert (problem.code, problem.path) == ("status-nearly-a-code", f"{WATCH}.status.map.x")
    assert '"offred"' in problem.message


def test_what_init_left_undecided_is_pointed_out() -> None:
    found = warnings(a_config({"undecided": ["status: a or b?", "key: none"]}))
    assert [(each.code, each.path, each.message) for each in found] == [
        ("undecided", "undecided[0]", "status: a or b?"),
        ("undecided", "undecided[1]", "key: none"),
    ]


def test_several_watches_with_where_on_one_table_are_pointed_out() -> None:
    watch = {"table": "public.t", "key": ["id"], "where": "t.tenant = 1"}
    columns = {"application_id": "i", "status": "s", "job_id": "j", "created": "c"}
    found = warned({f"watches.c{number}": {**watch, "columns": columns} for number in (1, 2)})
    assert found == [("table-of-customers", "watches.c1.where")]
