"""What `init` takes of schemas of several kinds, and what it leaves to a person."""

import pytest
from support.schemas import FRENCH, HORILLA, LEGACY, ODOO, OPENATS, PRISMA, RAILS, a_column, a_survey, a_table

from cdc_sync.ats.survey import Table, label_behind
from cdc_sync.cli.guessing import Proposal, expressions, listing, propose, rank
from cdc_sync.config.meanings import is_personal

SHAPES = {
    "odoo": ODOO,
    "french": FRENCH,
    "rails": RAILS,
    "legacy": LEGACY,
    "prisma": PRISMA,
    "horilla": HORILLA,
    "openats": OPENATS,
}


def proposed(tables: tuple[Table, ...]) -> Proposal:
    return propose(rank(tables)[0], a_survey(*tables))


def of(*described: str, key: str | None = "id", others: tuple[Table, ...] = ()) -> Proposal:
    table = a_table("applications", *described, key=key)
    return propose(table, a_survey(table, *others))


def taken(proposal: Proposal) -> dict[str, str | None]:
    """What is not left to a person."""
    return {field: column for field, column in proposal.values.items() if column != f"put_{field}_here"} | {
        "watermark": proposal.watermark
    }


def left(proposal: Proposal) -> set[str]:
    return {each.partition(":")[0] for each in proposal.undecided}


def test_no_table_is_better_than_a_wrong_one() -> None:
    assert (
        rank([a_table("invoices", "id integer", "amount numeric"), a_table("users", "id integer", "email text")]) == []
    )


def test_a_table_is_better_than_its_view_and_a_big_one_than_a_small_one() -> None:
    described = ("id integer", "hellowork_id text", "status text", "job_id integer", "created_at date")
    small = a_table("applications_a", *described, rows=10)
    big = a_table("applications_b", *described, rows=10_000)
    view = a_table("applications", *described, kind="v", rows=10_000)

    assert rank([view, small, big]) == [big, small, view]


DATES: dict[str, dict[str, str | None]] = {
    "odoo": {"created": "create_date", "event_date": "date_last_stage_update", "watermark": "write_date"},
    "french": {"created": "date_candidature", "event_date": "date_maj", "watermark": "date_maj"},
    "rails": {"created": "created_at", "event_date": "updated_at", "watermark": "updated_at"},
    "legacy": {"created": "DATECREATION", "watermark": "DATEMODIF"},
    "prisma": {"created": "createdAt", "event_date": "updatedAt", "watermark": "updatedAt"},
    "horilla": {"created": "created_at", "watermark": "last_updated"},
    "openats": {"created": "applied_at", "event_date": "updated_at", "watermark": "updated_at"},
}
JOBS = {"odoo": "job_id", "french": "offre_id", "rails": "job_posting_id", "prisma": "jobId", "openats": "job_id"}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_taken_of_seven_schemas_is_right_and_nothing_else_is(shape: str) -> None:
    job = {"job_id": JOBS[shape]} if shape in JOBS else {}

    assert taken(proposed(SHAPES[shape])) == job | DATES[shape]


@pytest.mark.parametrize(
    ("shape", "asked"),
    [
        ("odoo", {"timezone"}),
        ("french", {"timezone"}),
        ("rails", {"timezone"}),
        ("legacy", {"job_id", "timezone"}),
        ("prisma", set()),
        ("horilla", {"job_id", "timezone"}),  # two foreign keys
        ("openats", {"timezone"}),
    ],
)
def test_the_rest_is_left_to_a_person(shape: str, asked: set[str]) -> None:
    assert left(proposed(SHAPES[shape])) == {"application_id", "status", *asked}


def test_frameworks_that_write_utc_are_known() -> None:
    migrations = a_table("ar_internal_metadata", "key text")
    assert "timezone" not in left(proposed((*RAILS, migrations)))
    assert "timezone" not in left(of("id integer", "created_at timestamp_with_time_zone"))


def test_a_job_is_taken_behind_the_only_foreign_key_to_jobs_without_people() -> None:
    jobs, people = a_table("jobs", "id integer", "title text"), a_table("job_owners", "id integer", "email text")

    assert taken(of("id integer", "job_id integer ->public.jobs.id", others=(jobs, people)))["job_id"] == "job_id"
    assert "job_id" in left(of("id integer", "job_id integer ->public.job_owners.id", others=(jobs, people)))
    assert "job_id" in left(of("id integer", "job_id integer", others=(jobs, people)))
    two = of("id integer", "job_id integer ->public.jobs.id", "offre_id integer ->public.jobs.id", others=(jobs,))
    assert "job_id" in left(two)
    by_table = of("id integer", "parent integer ->public.jobs.id", others=(jobs,))
    assert taken(by_table)["job_id"] == "parent"


def test_two_equal_times_are_left_to_a_person() -> None:
    found = of("id integer", "created_at timestamp_with_time_zone", "created_on timestamp_with_time_zone")
    assert "created" in left(found)
    assert "created" in left(of("id integer", "dt_naissance date", "dt_saisie date"))


def test_a_key_that_the_database_does_not_have_is_left_to_a_person() -> None:
    found = of("nothing text", key=None)
    assert found.key == ("nothing",)
    assert left(found) == {"application_id", "status", "job_id", "created", "key"}


def test_the_label_behind_a_foreign_key() -> None:
    def behind(tables: tuple[Table, ...], column: str) -> str | None:
        found = rank(tables)[0].column(column)
        label = None if found is None else label_behind(found, tables)
        return None if label is None else label.sql

    assert behind(FRENCH, "étape_id") == '(SELECT s."libellé" FROM public.etapes s WHERE s.id = t."étape_id")'
    assert behind(ODOO, "stage_id") == (
        "(SELECT coalesce(s.name ->> 'fr_FR', s.name ->> 'en_US') FROM public.hr_recruitment_stage s"
        " WHERE s.id = t.stage_id)"
    )
    assert behind(HORILLA, "stage_id_id") == (
        "(SELECT s.stage FROM public.recruitment_stage s WHERE s.id = t.stage_id_id)"
    )
    assert behind(FRENCH, "candidat_id") is None, "it leads to people"
    assert behind(LEGACY, "CODESTATUT") is None, "no foreign key"


def test_a_lookups_own_key_is_no_label() -> None:
    lookup = a_table("etape", "code_etape character(2)", "libelle character(30)", key="code_etape")
    column = a_column("code_etape character(2) ->public.etape.code_etape")

    label = label_behind(column, [lookup])

    assert label is not None
    assert label.column == "libelle"
    assert label_behind(column, [a_table("etape", "code_etape character(2)", "rang integer", key="code_etape")]) is None


def test_the_tables_that_refer_to_it_are_named() -> None:
    shown = listing(rank(OPENATS)[0], OPENATS, {})

    assert [line for line in shown if "refers to it" in line] == [
        "public.candidate_rejections refers to it by candidate_id",
        "public.candidate_stage_history refers to it by candidate_id",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("partner_phone", "TELEPHONE", "email_source", "nom", "PrenomStatut", "candidate_name", "birth_date"),
        *("display_name", "nom_complet", "nomcandidat", "fname", "ddn", "titulaire", "numero_secu", "salaire"),
    ],
)
def test_personal_data_is_known(name: str) -> None:
    assert is_personal(name)


@pytest.mark.parametrize(
    "name", ["stage_name", "nom_statut", "hellowork_id", "job_name", "source", "stage", "security", "refname"]
)
def test_what_is_not_a_persons_is_no_personal_data(name: str) -> None:
    assert not is_personal(name)


def test_the_labels_behind_foreign_keys_are_ready_for_the_file() -> None:
    expression, other_table = expressions(rank(FRENCH)[0], FRENCH)
    assert expression.startswith('status: {sql: "(SELECT s.\\"libellé\\" FROM public.etapes s')
    assert other_table == "related: [{table: public.etapes, key: []}]"
