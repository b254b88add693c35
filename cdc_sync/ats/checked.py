"""A watch that `cdc-sync check` looks at: what is known of it so far, and how its questions are asked."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial

from psycopg import sql

from cdc_sync.ats.connection import Connection
from cdc_sync.ats.errors import SourceError, texts
from cdc_sync.ats.facts import TableFacts, asking_shortly
from cdc_sync.ats.mapping import Mapping
from cdc_sync.ats.statements import Statements
from cdc_sync.config import Watch
from cdc_sync.core import findings
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.core.identifiers import written

_TEXTS = texts("findings.yaml")

PARTITIONED, TABLES = "p", "rp"
"""The kinds of a partitioned table, and of all that can have indexes."""

found = partial(findings.found, _TEXTS)
"""A finding with a text of `findings.yaml`."""


@dataclass(eq=False)
class Checked:
    """A watch; each question relies on those before it.

    Attributes:
        facts: set once the table is there.
        mapping: set once the daemon could read the table.
        may_read: whether the role lacks rights on our own objects only.
    """

    connection: Connection
    name: str
    watch: Watch
    report: Tell
    facts: TableFacts = field(init=False)
    mapping: Mapping = field(init=False)
    may_read: bool = False

    @property
    def version(self) -> int:
        """The server's."""
        return self.connection.info.server_version

    @cached_property
    def statements(self) -> Statements:
        """The daemon's own."""
        return Statements(self.mapping)

    def found(self, name: str, remedy: str | None = None, **facts: object) -> Finding:
        """A finding about the watch."""
        return found(name, remedy, watch=self.name, **facts)

    async def holds(self, check: str, question: Callable[["Checked"], Awaitable[Finding | None]]) -> bool:
        """Report the answer to a question, asked in a transaction of its own; returns whether nothing is wrong.

        A question raises `SourceError` if the database does not answer.
        """
        try:
            async with asking_shortly(self.connection, f"checking {check} of {self.watch.table}"):
                finding = await question(self)
        except SourceError as error:
            finding = Finding(check, "failed", error.message, self._remedy(check, error), self.name)
        if finding is not None:
            self.report(finding)
        return finding is None or finding.state == "ok"

    def _remedy(self, check: str, error: SourceError) -> str:
        helps = _TEXTS["unanswered"]
        text: str = (helps.get(error.code) or helps.get(check) or helps["else"])["remedy"]
        zone = self.watch.timezone.rpartition("/")[2]
        return text.format(table=self.watch.table, zone=like(zone), similar=like(self.watch.table.name))


def how(table: TableFacts) -> str:
    """PostgreSQL builds no index CONCURRENTLY on a partitioned table."""
    return "" if table.kind == PARTITIONED else " CONCURRENTLY"


def listed(names: Iterable[str]) -> str:
    """Names as SQL writes them, in one line."""
    return ", ".join(map(written, names))


def like(part: str) -> str:
    """A pattern of what contains a text, as SQL."""
    return sql.Literal(f"%{part}%").as_string()
