"""A watch that `cdc-sync check` looks at: what is known of it so far, and how its questions are asked."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from functools import cached_property, partial

import psycopg
from psycopg import pq, sql

from cdc_sync.ats.connection import Connection, asking
from cdc_sync.ats.errors import SourceError, texts
from cdc_sync.ats.expressions import sections
from cdc_sync.ats.facts import TableFacts
from cdc_sync.ats.mapping import Mapping
from cdc_sync.ats.statements import Statements
from cdc_sync.ats.survey import Survey, survey
from cdc_sync.ats.triggers import Triggers
from cdc_sync.config import Watch
from cdc_sync.core import findings
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.core.identifiers import written

_FINDINGS = "findings.yaml"

PARTITIONED, TABLES = "p", "rp"
"""The kinds of a partitioned table, and of all that can have indexes."""

_OPEN = {pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR}

found = partial(findings.found, texts(_FINDINGS))
"""A finding with a text of `findings.yaml`."""


class Shared:
    """What all watches of a database share: their triggers, or why these are unknown, and a survey of its tables."""

    def __init__(self, triggers: Triggers | SourceError) -> None:
        self._triggers = triggers
        self._survey: Survey | None = None

    @property
    def triggers(self) -> Triggers:
        """Those of all watches; raises `SourceError` if they are unknown."""
        if isinstance(self._triggers, SourceError):
            raise self._triggers
        return self._triggers

    async def survey(self, connection: Connection) -> Survey:
        """The database's tables, looked at once."""
        if self._survey is None:
            self._survey = await survey(connection)
        return self._survey


class Checked:
    """A watch; each question relies on those before it.

    Attributes:
        facts: set once the table is there.
        mapping: set once the daemon could read the table.
        may_read: whether the role lacks rights on our own objects only.
    """

    facts: TableFacts
    mapping: Mapping
    may_read = False

    def __init__(self, connection: Connection, name: str, watch: Watch) -> None:
        self.connection, self.name, self.watch = connection, name, watch
        self.version = connection.info.server_version
        self.found = partial(found, watch=name)

    @cached_property
    def statements(self) -> Statements:
        """The daemon's own."""
        return Statements(self.mapping)

    @property
    def remedies(self) -> dict[str, str]:
        """What the remedies of questions without an answer name."""
        zone = self.watch.timezone.rpartition("/")[2]
        return {"table": str(self.watch.table), "zone": like(zone), "similar": like(self.watch.table.name)}

    def missing(self, check: str, named: list[tuple[str, str]], table: TableFacts) -> Finding | None:
        """The finding about columns that a table lacks, of (place that names it, column)."""
        missing = [(place, column) for place, column in named if column not in table.columns]
        if not missing:
            return None
        folded = {name.lower(): name for name in table.columns}
        close = {name: get_close_matches(name.lower(), folded, n=1) for _, name in missing}
        hints = [f"{written(name)} → {written(folded[similar[0]])}" for name, similar in close.items() if similar]
        remedy = f"Correct the watch: {', '.join(hints)}?" if hints else "Correct the names in the watch."
        if unquoted := next((written(folded[name]) for name in close if name in folded), None):
            remedy += f" A name without double quotes is folded to lower case; in YAML: '{unquoted}'."
        lacks = ", ".join(f"{place}: {written(column)}" for place, column in missing)
        return self.found(
            f"{check}/column-missing", remedy, table=table.qualified, missing=lacks, columns=listed(table.columns)
        )


Question = Callable[[Checked], Awaitable[Finding | None]]
"""Returns a finding, if there is one; raises `SourceError` if the database does not answer."""


class Asking:
    """Asks a watch's questions, and reports the answers.

    They share a short read-only transaction, until one gets no answer: a thousand watches have some ten thousand.
    """

    def __init__(self, one: Checked, report: Tell) -> None:
        self._one, self._report = one, report

    async def holds(self, check: str, doing: str, question: Question) -> bool:
        """Report the answer; returns whether nothing is wrong."""
        try:
            async with asking(doing):
                if self._state != pq.TransactionStatus.INTRANS:
                    await self.end()
                    await self._one.connection.execute(f"BEGIN; {sections('sessions.sql')['bounds']}".encode())
                finding = await question(self._one)
        except SourceError as error:
            await self.end()
            helps = texts(_FINDINGS)["unanswered"]
            text = (helps.get(error.code) or helps.get(check) or helps["else"])["remedy"]
            finding = Finding(check, "failed", error.message, text.format(**self._one.remedies), self._one.name)
        if finding is not None:
            self._report(finding)
        return finding is None or finding.state == "ok"

    async def end(self) -> None:
        """End the transaction, if one is open."""
        if self._state in _OPEN:
            with suppress(psycopg.Error):  # the session has ended: so the next question says
                await self._one.connection.rollback()

    @property
    def _state(self) -> pq.TransactionStatus:
        return self._one.connection.info.transaction_status


def how(table: TableFacts) -> str:
    """PostgreSQL builds no index CONCURRENTLY on a partitioned table."""
    return "" if table.kind == PARTITIONED else " CONCURRENTLY"


def listed(names: Iterable[str]) -> str:
    """Names as SQL writes them, in one line."""
    return ", ".join(map(written, names))


def like(part: str) -> str:
    """A pattern of what contains a text, as SQL."""
    return sql.Literal(f"%{part}%").as_string()
