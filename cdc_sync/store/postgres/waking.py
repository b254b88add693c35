"""Waking the other daemons: what one enqueues and does not claim, all of them may claim at once.

A daemon listens on a session of its own, while others live. It notifies after a commit, in a transaction that writes
nothing. In the commit's own, the cluster's one lock of NOTIFY would be held for as long as the commit is flushed, and
whoever else notifies would wait, the ATS where it shares the server; and a full queue would make the commit fail.

What is lost, because the daemon dies in between or a session was lost, the sender's look each second finds. So it is
behind a pooler, whose sessions are anybody's: there nobody listens.
"""

from collections.abc import Callable

from cdc_sync.store.postgres.connecting import connected


async def listen(dsn: str, daemon: Callable[[], int | None], wake: Callable[[], None]) -> None:
    """Call `wake` at once, and whenever another than `daemon` tells that something may be due.

    Returns behind a pooler.

    Raises:
        psycopg.Error: the session cannot be made, or was lost.
    """
    async with connected(dsn) as connection:
        ((process,),) = await (await connection.execute(b"SELECT pg_catalog.pg_backend_pid()")).fetchall()
        if process != connection.info.backend_pid:
            return
        await connection.execute(b"LISTEN cdc_sync_due")
        wake()
        async for heard in connection.notifies():
            if heard.payload != str(daemon()):
                wake()
