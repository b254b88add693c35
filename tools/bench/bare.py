"""The bare loops: the same physical work, in a process of its own, with no promises.

- `listen DSN URL FILE`: for each notification on the channel `bare`, whose payload is an application's id, a call,
  after a line about it is on the disk.
- `post URL CALLS`: so many calls, a task for each, `CONCURRENCY` of them at once. It prepares all of them, begins when
  it reads a line, and ends when it reads another.

Each says `ready` when it is.
"""

import asyncio
import os
import sys

import aiohttp
import psycopg
from yarl import URL

from bench.agreed import CONCURRENCY, id_of
from cdc_sync.core.content import Content, request

_CREATED = 1_700_000_000_000


async def listen(dsn: str, base_url: str, kept: str) -> None:
    """Call at each notification, once it is kept in a file."""
    file = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with _session() as session, await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("LISTEN bare")
        _say("ready")
        async for notification in connection.notifies():
            os.write(file, f"{notification.payload}\n".encode())
            os.fsync(file)
            await _post(session, *_call(base_url, notification.payload))


async def post(base_url: str, number: int) -> None:
    """Make many calls, a task for each, `CONCURRENCY` at once."""
    calls = [_call(base_url, id_of("bare", row)) for row in range(1, number + 1)]
    free = asyncio.Semaphore(CONCURRENCY)

    async def work(url: URL, data: bytes, headers: dict[str, str]) -> None:
        try:
            await _post(session, url, data, headers)
        finally:
            free.release()

    async with _session() as session:
        _say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as tasks:
            for call in calls:
                await free.acquire()
                tasks.create_task(work(*call))
        _say("done")
        await asyncio.to_thread(sys.stdin.readline)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY))


async def _post(session: aiohttp.ClientSession, url: URL, data: bytes, headers: dict[str, str]) -> None:
    async with session.post(url, data=data, headers=headers) as response:
        await response.read()


def _call(base_url: str, application_id: str) -> tuple[URL, bytes, dict[str, str]]:
    url = f"{base_url}/v1/applications/{application_id}/status"
    content = Content("STATUS 1", "job-123", deleted=False, created=_CREATED, event_date=_CREATED, source='"hellowork"',
                      extra=None, url=url)  # fmt: skip
    body, key = request(application_id, content)
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    return URL(url, encoded=True), body, headers


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["listen", dsn, url, file]:
            asyncio.run(listen(dsn, url, file))
        case ["post", url, number]:
            asyncio.run(post(url, int(number)))
        case _:
            sys.exit(__doc__)
