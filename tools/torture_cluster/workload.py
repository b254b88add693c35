"""The ATS at work: as in `torture`, with numbered statuses, so that no state of an application comes twice.

So an older state never looks like a newer one, and each change differs from what a store remembers that has lost its
last second.
"""

import random

import psycopg
from psycopg import AsyncConnection
from torture.population import JOBS
from torture.writer import Writer

_LONGEST_PAUSE = 0.16

_NUMBERED = "status = 'S' || nextval('public.change_number')"
_INSERT = """
INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)
VALUES (%s, 'S' || nextval('public.change_number'), %s, clock_timestamp(), clock_timestamp())
"""


def number_changes(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE SEQUENCE public.change_number")


class NumberingWriter(Writer):
    """A slower session. It undoes nothing: that would bring a state back."""

    def __init__(self, number: int, dsn: str, chance: random.Random) -> None:
        super().__init__(number, dsn, chance, _LONGEST_PAUSE)
        self._works = {work: weight for work, weight in self._works.items() if work != self._undo}

    def _news(self) -> list[str]:
        job = f"job_id = '{self._chance.choice(JOBS)}'"
        return [_NUMBERED, job] if self._chance.random() < 0.3 else [_NUMBERED]

    async def _undelete(self, ats: AsyncConnection) -> None:
        query = "SELECT hellowork_id FROM public.applications WHERE deleted_at IS NOT NULL ORDER BY random() LIMIT 1"
        row = await (await ats.execute(query)).fetchone()
        if row is not None:
            await self._set(ats, [row[0]], "deleted_at = NULL", *self._news())

    async def _fill(self, ats: AsyncConnection) -> None:
        query = (
            f"UPDATE public.applications SET {_NUMBERED}, updated_at = clock_timestamp()"  # noqa: S608 - ours
            " WHERE id IN (SELECT id FROM public.applications WHERE status IS NULL LIMIT 1)"
        )
        await ats.execute(query.encode())

    async def _insert(self, ats: AsyncConnection, name: str) -> None:
        await ats.execute(_INSERT, (name, self._chance.choice(JOBS)))
