"""One address behind which several servers stand: each new connection leads to the next one that takes it."""

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_PORT = 5432


class _Balancer:
    def __init__(self, sockets: list[str]) -> None:
        self._sockets = sockets
        self._next = count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(self._next)
        for number in range(len(self._sockets)):
            with suppress(OSError):
                there = await asyncio.open_unix_connection(self._sockets[(first + number) % len(self._sockets)])
                await asyncio.gather(_forward(reader, there[1]), _forward(there[0], writer))
                return
        writer.close()


async def _forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while content := await source.read(65536):
            target.write(content)
            await target.drain()
    except ConnectionError:
        pass
    finally:
        target.close()


@contextmanager
def balancer(*dsns: str) -> Iterator[str]:
    """Stand before servers that listen on unix sockets; yields the DSN that leads to them in turn."""
    servers = [conninfo_to_dict(dsn) for dsn in dsns]
    sockets = [f"{server['host']}/.s.PGSQL.{server.get('port') or _PORT}" for server in servers]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="balancer")
    # Not pytest's folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="cdc") as folder:
        thread.start()
        try:
            listening = asyncio.start_unix_server(_Balancer(sockets).serve, Path(folder) / f".s.PGSQL.{_PORT}")
            server = asyncio.run_coroutine_threadsafe(listening, loop).result(10)
            # A pooler runs as another user.
            Path(folder).chmod(0o755)
            (Path(folder) / f".s.PGSQL.{_PORT}").chmod(0o777)
            yield make_conninfo(dsns[0], host=folder, port=_PORT, hostaddr=None)
            loop.call_soon_threadsafe(server.close)
        finally:
            asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _end_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
