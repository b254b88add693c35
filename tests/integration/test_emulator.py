"""The emulator as its clients see it."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
from support.eventually import in_time

from cdc_sync.core.failures import OperationError
from cdc_sync.emulator import Call, Emulator, serve

BODY = {
    "status": "NEW_STATUS",
    "eventDate": "2023-01-10T09:00:00.000Z",
    "created": "2023-01-01T09:00:00.000Z",
    "jobId": "2022-001-developer",
}
UPDATED = {"result": "Status was updated successfully"}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def send(
    client: aiohttp.ClientSession,
    emulator: Emulator,
    path: str = "/v1/applications/a-1/status",
    raw: bytes | None = None,
    **headers: str,
) -> tuple[int, dict[str, object]]:
    data = json.dumps(BODY).encode() if raw is None else raw
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with client.post(emulator.url + path, data=data, headers=sent) as answer:
        return answer.status, await answer.json()


async def test_a_good_call_is_acknowledged_and_recorded(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    assert await send(client, emulator, Idempotency_Key="k-1") == (200, UPDATED)
    (call,) = emulator.calls
    assert (call.status, call.violations, call.idempotency_key) == (200, (), "k-1")
    assert (call.application_id, call.body, json.loads(call.raw)) == ("a-1", BODY, BODY)


async def test_a_bad_call_is_refused_with_every_violation(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    status, answer = await send(client, emulator, raw=b'{"applicationId": "a"}', Content_Type="text/plain")
    assert (status, answer["statusCode"], answer["error"]) == (400, 400, "Bad Request")
    (call,) = emulator.calls
    assert answer["message"] == "; ".join(call.violations)
    assert len(call.violations) == 6


async def test_on_loopback_another_host_gets_no_calls(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    headers = {"Host": "127.0.0.1.attacker.example"}
    async with client.get(f"{emulator.url}/_emulator/calls", headers=headers) as answer:
        assert answer.status == 421


async def test_an_address_that_is_taken(emulator: Emulator) -> None:
    port = int(emulator.url.rpartition(":")[2])
    with pytest.raises(OperationError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*choose an address"):
        await Emulator(port=port).__aenter__()


async def test_stopping_does_not_wait_for_clients_that_do_not_go(client: aiohttp.ClientSession) -> None:
    async with Emulator() as emulator:
        await send(client, emulator)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(emulator.url.rpartition(":")[2]))
        writer.write(b"POST /v1/applications/a/status HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        await writer.drain()
    assert await in_time(reader.read(), 5) == b""
    writer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serving_ends_on_a_signal(client: aiohttp.ClientSession, number: signal.Signals) -> None:
    started: asyncio.Queue[str] = asyncio.Queue()
    called: list[Call] = []
    emulator = Emulator(on_call=called.append)
    serving = asyncio.create_task(serve(emulator, started.put_nowait))
    assert await in_time(started.get(), 5) == emulator.url
    assert (await send(client, emulator))[0] == 200
    os.kill(os.getpid(), number)
    await in_time(serving, 5)
    assert [call.status for call in called] == [200]
