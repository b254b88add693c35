"""The first configuration that `init` writes: valid whatever was found, and nothing in a name can break out of it."""

import re
from dataclasses import replace

import pytest
from support.schemas import FRENCH, LEGACY, ODOO, RAILS, a_column, a_table

from cdc_sync.config import PlainColumn, SqlColumn, parse
from cdc_sync.config.first import Answers, first_configuration
from cdc_sync.config.guessing import Column, Table, propose, rank
from cdc_sync.core.identifiers import QualifiedName, written

ANSWERS = Answers(
    dsn="host=/run/postgresql dbname=ats user=cdc_sync",
    dsn_comments=(),
    mode="notify",
    mode_why="You chose it.",
    timezone="Europe/Paris",
    timezone_doubt=None,
    state="/var/lib/cdc-sync/state.db",
)
POLLED = Answers("", ("DOUBT: who?",), "poll", "It is a view.", "UTC", "which?", "/var/lib/state.db", ("public.other",))


def text_of(tables: tuple[Table, ...], answers: Answers) -> str:
    return first_configuration(propose(rank(tables)[0], tables), answers)


@pytest.mark.parametrize("answers", [ANSWERS, POLLED], ids=["notify", "poll"])
@pytest.mark.parametrize("tables", [ODOO, FRENCH, RAILS, LEGACY], ids=["odoo", "french", "rails", "legacy"])
def test_it_is_valid_and_has_what_was_found(tables: tuple[Table, ...], answers: Answers) -> None:
    found = propose(rank(tables)[0], tables)

    text = first_configuration(found, answers)
    watch = parse(text, name="first", environ={}).watches["applications"]

    assert watch.table == found.table.name
    assert watch.key == found.key
    assert watch.capture.mode == answers.mode
    assert watch.capture.watermark == (found.watermark.column if found.watermark else None)
    for field, guess in found.guesses.items():
        mapped = getattr(watch.columns, field)
        if guess.suggested:
            assert mapped is None
        elif guess.sql is not None:
            assert mapped == SqlColumn(sql=guess.sql, depends_on=(written(guess.column or ""),))
        else:
            assert mapped == PlainColumn(guess.column or "")
        assert f"# {field}: " in text
    assert all(len(line) <= 120 for line in text.splitlines() if "sql:" not in line)


def test_whatever_a_name_holds_stays_a_name() -> None:
    evil = 'a\u00a0"#: ${HOME} {x}\ufffe'
    table = Table(
        QualifiedName("Odd 'schema", f"candidatures {evil}"),
        "r",
        0,
        (evil,),
        (
            Column(evil, "integer"),
            Column(f"statut {evil}", "text"),
            Column(f"offre {evil}", "text"),
            Column(f"created {evil}", "date"),
            Column(f"hellowork {evil}", "text"),
        ),
    )

    watch = parse(text_of((table,), ANSWERS), name="first", environ={}).watches["applications"]

    assert watch.table == table.name
    assert watch.key == (evil,)
    assert watch.columns.status == PlainColumn(f"statut {evil}")


def test_what_was_not_found_is_valid_too_and_in_doubt() -> None:
    table = a_table("applications", "nothing text", key=None)

    text = first_configuration(propose(table, [table]), ANSWERS)

    columns = parse(text, name="first", environ={}).watches["applications"].columns
    assert columns.status == PlainColumn("put_status_here")
    assert text.count("# DOUBT: no column looks like it") == 4
    assert "polling is not possible" in text


REJECTED = a_table("rejets", "id integer !", "candidature_id integer ->public.candidatures.id")


@pytest.mark.parametrize(
    ("tables", "keys"),
    [(ODOO, [()]), ((*FRENCH, REJECTED), [(), ("candidature_id",)]), ((*RAILS, a_table("x", "id integer")), [])],
    ids=["columns", "a table", "none"],
)
def test_what_may_also_decide_the_status_is_ready_to_be_uncommented(
    tables: tuple[Table, ...], keys: list[tuple[str, ...]]
) -> None:
    found = propose(rank(tables)[0], tables)
    text = first_configuration(found, ANSWERS)
    assert ("may also decide the status: " in text) == bool(found.carriers)

    if found.carriers:
        text = re.sub(r"^      status: .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("      # status: {sql: ", "      status: {sql: ")
    text = re.sub(r"^      # - \{table", "      - {table", text, flags=re.MULTILINE)
    watch = parse(text, name="first", environ={}).watches["applications"]

    assert [each.key for each in watch.related] == keys
    if found.carriers:
        depends_on = tuple(map(written, found.decided().depends_on or ()))
        assert watch.columns.status == SqlColumn(sql=found.decided().sql or "", depends_on=depends_on)


def test_related_is_ready_to_be_uncommented_where_nothing_else_is() -> None:
    table = a_table("candidatures", "id integer !", "statut text", "offre_id integer", "hellowork_id text")
    text = first_configuration(propose(table, [table, REJECTED]), ANSWERS)

    text = text.replace("    # related:", "    related:").replace("    #   - {table", "      - {table")

    (related,) = parse(text, name="first", environ={}).watches["applications"].related
    assert (related.table, related.key) == (REJECTED.name, ("candidature_id",))


def test_what_could_send_wrong_things_is_undecided() -> None:
    decided = a_table(
        "candidatures", "id integer !", "statut text", "offre_id integer indexed", "date_creation timestamp"
    )
    decided = replace(decided, columns=(*decided.columns, a_column("hellowork_id text")))
    assert "undecided" not in first_configuration(propose(decided, [decided]), ANSWERS)

    table = replace(decided, columns=(*decided.columns, a_column("actif boolean")), key=())
    proposal = propose(table, [table, REJECTED])
    answers = replace(ANSWERS, timezone_doubt="which one is for ${ATS} to say", others=("public.other",))
    text = first_configuration(proposal, answers)

    assert parse(text, name="first", environ={}).undecided == (
        "table: public.other look like it too",
        "key: nothing makes it unique in the database; it must be, and never NULL",
        "timezone: which one is for ${ATS} to say",
        "status: actif may decide it too",
    )
    assert text.index("undecided:") < text.index("database:")


def test_a_table_that_was_never_analysed_has_an_unknown_number_of_rows() -> None:
    table = a_table("candidatures", "id integer !")

    assert "about 1000 rows." in first_configuration(propose(table, [table]), ANSWERS)
    unknown = replace(table, rows=None)
    assert "an unknown number of rows, never analysed." in first_configuration(propose(unknown, [unknown]), ANSWERS)
    assert "; about 0 rows." in first_configuration(propose(replace(table, rows=0), [table]), ANSWERS)
