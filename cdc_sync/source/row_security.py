"""Whether row-level security may have hidden rows from what a transaction of ours has read.

A hidden row looks like a deleted one, so a read that is to prove a deletion asks, in its own transaction and *after*
the rows, which policies filtered them. That order makes the answer certain. A statement locks every relation that it
touches until the transaction ends, and whatever changes what a policy hides (CREATE, ALTER and DROP POLICY, ALTER TABLE
with ROW LEVEL SECURITY or OWNER TO, a new definition of a view) waits for that lock: what had been committed before the
read applied to it, and the catalog shows it; nothing else can be committed before we have asked. In that order only
READ COMMITTED sees it all: a snapshot from before the lock was granted may be older than the policy that came with it.

The locks also tell which relations to ask about: the tables under a view, and the lookup tables that expressions of the
configuration read. A partition or an inheriting table that is read through its parent is under the parent's policies
alone. Under a view (but one with `security_invoker`) tables are read with the rights of the view's owner.

No lock covers the attributes of roles and their memberships. They would have to change between two statements of one
transaction; whoever asks keeps an earlier "may hide" until a later question, so that a remedy never lets through what
was read before it.

`SET row_security = off`, with which PostgreSQL refuses a statement that policies would filter, is no substitute: it
refuses where the policy is `USING (true)` too, and each refusal is an ERROR in the ATS's log.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from cdc_sync.core.reasons import Reason
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import reason
from cdc_sync.source.expressions import catalog


@dataclass(frozen=True, slots=True, order=True)
class Hiding:
    """A table whose policies may hide rows.

    Attributes:
        table: its name, as SQL writes it.
        role: who reads it, as SQL writes it: our role, or the owner of a view.
        restrictive: the restrictive policies that apply to that role.
    """

    table: str
    role: str
    restrictive: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """What the DBA can do about it."""
        bypass = f"let a superuser run ALTER ROLE {self.role} BYPASSRLS"
        if self.restrictive:
            policies = ", ".join(self.restrictive)
            return f"exclude {self.role} from the restrictive policies of {self.table} ({policies}), or {bypass}"
        policy = f"CREATE POLICY cdc_sync ON {self.table} FOR SELECT TO {self.role} USING (true)"
        return f"let the owner of {self.table} run {policy}, or {bypass}"

    @property
    def script(self) -> str:
        """The shortest remedy, as SQL to paste."""
        if self.restrictive:
            return f"ALTER ROLE {self.role} BYPASSRLS;   -- by a superuser"
        return f"CREATE POLICY cdc_sync ON {self.table} FOR SELECT TO {self.role} USING (true);   -- by its owner"


async def hiding(connection: Connection) -> tuple[Hiding, ...]:
    """The tables whose policies may have hidden rows from what this open transaction, READ COMMITTED, has read.

    Raises:
        psycopg.Error: the catalog cannot be read.
    """
    rows = await (await connection.execute(catalog("hiding"))).fetchall()
    return tuple(Hiding(table, role, tuple(restrictive)) for table, role, restrictive in rows)


def described(found: Iterable[Hiding]) -> Reason:
    """Who may not see what, in words."""
    said = (reason("rows-hidden", table=one.table, role=one.role) for one in sorted(found))
    return reduce(lambda a, b: reason("both", reason=a, reason_other=b), said)


def warning(found: Iterable[Hiding]) -> Reason:
    """Who may not see what, what follows from it, and how it is repaired."""
    said = described(found)
    sentence = Reason(f"{said[0].upper()}{said[1:]}", said.code, said.values)
    return reason("row-security", reason=sentence, remedies="; and ".join(one.remedy for one in sorted(found)))
