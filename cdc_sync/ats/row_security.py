"""Whether row-level security may have hidden rows from us: a hidden row looks like a deleted one.

A read that proves a deletion asks, in its READ COMMITTED transaction and *after* the rows, which policies filtered
them. Its locks keep policies as they were, and show the relations to ask about, but do not cover roles' attributes: the
caller keeps an earlier "may hide" until a later question (decision 24).
"""

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

from cdc_sync.core.reasons import Reason

from .connection import Connection, rows_of
from .errors import reason
from .expressions import catalog


class Hiding(NamedTuple):
    """A table with policies that may hide rows from the reading role: ours, or a view's owner.

    Names are as SQL writes them; `restrictive` are the restrictive policies for that role.
    """

    table: str
    role: str
    restrictive: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """The shortest remedy, as SQL to paste."""
        if self.restrictive:
            policies = ", ".join(self.restrictive)
            return f"ALTER ROLE {self.role} BYPASSRLS;   -- by a superuser; or exclude it from the policies {policies}"
        return f"CREATE POLICY cdc_sync ON {self.table} FOR SELECT TO {self.role} USING (true);   -- by its owner"


async def hiding(connection: Connection) -> tuple[Hiding, ...]:
    """The tables with policies that may have hidden rows from this open transaction."""
    found = await rows_of(connection, catalog("hiding"), prepare=True)
    return tuple(Hiding(table, role, tuple(restrictive)) for table, role, restrictive in found)


def described(found: Iterable[Hiding]) -> Reason:
    """The roles that may miss rows, and of which tables."""
    reasons = (reason("rows-hidden", table=one.table, role=one.role) for one in sorted(found))
    return reduce(lambda a, b: reason("both", reason=a, reason_other=b), reasons)


def warning(found: Iterable[Hiding]) -> Reason:
    """The same, with the consequence and the remedy."""
    plain = described(found)
    sentence = Reason(f"{plain[0].upper()}{plain[1:]}", plain.code, plain.values)
    return reason("row-security", reason=sentence, remedies=" ".join(one.remedy for one in sorted(found)))
