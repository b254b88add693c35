"""A daemon that freezes between the two statements of a confirming read keeps the ATS waiting for seconds only."""

import pytest
from support.applications import insert
from support.sessions import Ats
from support.source import opened
from support.watched import a_config

from cdc_sync.ats import row_security
from cdc_sync.ats.connection import Connection
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.row_security import Hiding


async def test_its_locks_are_let_go_and_reading_goes_on(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(ats, 1, "a1")
    ask = row_security.hiding

    async def freeze(connection: Connection) -> tuple[Hiding, ...]:
        # Nothing of ours runs meanwhile: the session of the ATS blocks the event loop.
        ats.execute("SET lock_timeout = '20s'")
        ats.execute("ALTER TABLE public.applications ADD COLUMN added int")
        return await ask(connection)

    async with opened(a_config(database)) as source:
        monkeypatch.setattr(row_security, "hiding", freeze)
        with pytest.raises(SourceError) as raised:
            await source.reader.by_application(["a1"])
        assert raised.value.kind == "unreachable"
        assert "idle-in-transaction timeout" in str(raised.value)

        monkeypatch.undo()
        read = await source.reader.by_application(["a1"])
        assert [row.application_id for row in read.rows] == ["a1"]
