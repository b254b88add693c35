"""A watch whose connections die without a word, in the middle of a page: it notices, connects anew, and goes on."""

import pytest
from support.rig import OpenRig

from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.config.sessions import POOL_SIZE


async def test_a_pool_without_a_free_connection_is_a_lost_database(open_rig: OpenRig) -> None:
    """While the others hang: whoever only looks at the triggers must not end the daemon."""
    async with open_rig(capture={"drain_interval": "10ms"}) as rig:
        pool = rig.intake.sessions.pool
        pool.timeout = 0.1
        taken = [await pool.getconn(timeout=30) for _ in range(POOL_SIZE)]

        with pytest.raises(SourceError, match="a connection after") as raised:
            await (await NotifyCapture(rig.intake, rig.drain.installed._replace(has_log=False)).jobs())["tables"]()

        assert raised.value.kind == "unreachable"
        for connection in taken:
            await pool.putconn(connection)
