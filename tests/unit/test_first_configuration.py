"""The first configuration that `init` writes: valid whatever was found, and nothing in a name can break out of it."""

from dataclasses import replace

import pytest
from support.schemas import FRENCH, HORILLA, LEGACY, ODOO, OPENATS, RAILS, a_survey

from cdc_sync.ats.facts import Column
from cdc_sync.ats.survey import Table
from cdc_sync.cli.guessing import Proposal, propose, rank
from cdc_sync.cli.init import rendered
from cdc_sync.config import Config, PlainColumn, parse
from cdc_sync.core.identifiers import QualifiedName, written


def text_of(proposal: Proposal, tables: tuple[Table, ...], label: str = "Reçue") -> str:
    samples = {column.name: [label] for column in proposal.table.columns}
    dsn = "host=/run/postgresql dbname=ats user=cdc_sync password=secret"
    return rendered(a_survey(*tables), proposal, samples, dsn=dsn, state="/var/lib/cdc-sync/state.db")


def read(text: str) -> Config:
    return parse(text, name="first", environ={})


@pytest.mark.parametrize("in_recovery", [False, True])
@pytest.mark.parametrize(
    "tables",
    [ODOO, FRENCH, RAILS, LEGACY, HORILLA, OPENATS],
    ids=["odoo", "french", "rails", "legacy", "horilla", "openats"],
)
def test_it_is_valid_and_has_what_was_taken(tables: tuple[Table, ...], *, in_recovery: bool) -> None:
    found = propose(rank(tables)[0], replace(a_survey(*tables), in_recovery=in_recovery))

    text = text_of(found, tables)
    config = read(text)
    watch = config.watches["applications"]

    assert (watch.table, watch.key, watch.timezone) == (found.table.name, found.key, "UTC")
    assert (watch.capture.mode, watch.capture.watermark) == ("poll" if in_recovery else "notify", found.watermark)
    assert {field: getattr(watch.columns, field) for field in found.values} == {
        field: PlainColumn(column) for field, column in found.values.items()
    }
    assert config.undecided == found.undecided
    assert all(len(line) <= 120 for line in text.splitlines() if "sql:" not in line)


def test_whatever_a_name_or_a_label_holds_stays_there() -> None:
    evil = 'a\u00a0"#: ${HOME} {x}\ufffe'
    table = Table(
        QualifiedName("Odd 'schema", f"candidatures {evil}"),
        "r",
        0,
        (evil,),
        (Column(evil, "integer"), Column(f"statut {evil}", "text"), Column(f"created {evil}", "date")),
    )
    found = propose(table, a_survey(table))

    watch = read(text_of(found, (table,), label="x\nwatches: {}\n")).watches["applications"]

    assert watch.table == table.name
    assert watch.key == (evil,)
    assert watch.columns.created == PlainColumn(f"created {evil}")
    assert written(evil).startswith('"')
