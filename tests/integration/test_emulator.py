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


@pytest.mark.parametrize("raw", [b"", b"{'status': 'x'}", b"\xef\xbb\xbf{}", b'{"status": "\xff"}', b"[" * 100_000])
async def test_a_body_that_is_no_json_is_refused(emulator: Emulator, client: aiohttp.ClientSession, raw: bytes) -> None:
    status, _ = await send(client, emulator, raw=raw)
    assert status == 400
    assert emulator.calls[0].violations[0].startswith("body: expected JSON: ")


async def test_ids_are_decoded_and_the_path_is_kept(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    await send(client, emulator, "/v1/applications/a%2F%C3%A9%20b/status?x=1")
    (call,) = emulator.calls
    assert call.application_id == "a/é b"
    assert call.path == "/v1/applications/a%2F%C3%A9%20b/status?x=1"


@pytest.mark.parametrize("path", ["/", "/v1/applications/a-1", "/v1/applications/a-1/status/", "/v2/x"])
async def test_other_paths_do_not_exist(emulator: Emulator, client: aiohttp.ClientSession, path: str) -> None:
    status, answer = await send(client, emulator, path)
    assert status == 404
    assert answer["message"] == "No such path; expected POST /v1/applications/{applicationId}/status"
    assert [call.path for call in emulator.calls] == [path]


async def test_a_look_for_a_server_is_no_call(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    async with client.head(emulator.url) as answer:
        assert answer.status == 404
    assert emulator.calls == []


async def test_required_headers(client: aiohttp.ClientSession) -> None:
    async with Emulator(required_headers={"X-Api-Key": "planted-secret"}) as emulator:
        assert (await send(client, emulator, x_api_key="planted-secret"))[0] == 200
        for wrong in ("", "another"):
            status, answer = await send(client, emulator, x_api_key=wrong)
            assert (status, answer["message"]) == (401, "Header X-Api-Key is missing or wrong")


async def test_the_calls_are_listed_without_headers(client: aiohttp.ClientSession) -> None:
    async with Emulator(required_headers={"X-Api-Key": "planted-secret"}) as emulator:
        await send(client, emulator, x_api_key="planted-secret")
        async with client.get(f"{emulator.url}/_emulator/calls") as answer:
            (call,) = await answer.json()
            assert "planted" not in await answer.text()
    assert (call["body"], call["status"], call["received"][10]) == (BODY, 200, "T")
    assert len(emulator.calls) == 1


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:8080", "127.0.0.1.attacker.example"])
async def test_on_loopback_another_host_gets_no_calls(
    emulator: Emulator, client: aiohttp.ClientSession, host: str
) -> None:
    async with client.get(f"{emulator.url}/_emulator/calls", headers={"Host": host}) as answer:
        assert answer.status == 421


async def test_beyond_loopback_any_host_will_do(client: aiohttp.ClientSession) -> None:
    async with Emulator("0.0.0.0") as emulator:  # noqa: S104 - as in a container
        url = emulator.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - as above
        async with client.get(f"{url}/_emulator/calls", headers={"Host": "hellowork.example"}) as answer:
            assert answer.status == 200


async def test_the_newest_calls_are_kept(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    for number in range(1_003):
        await send(client, emulator, f"/v1/applications/{number}/status")
    assert [call.application_id for call in emulator.calls] == [str(number) for number in range(3, 1_003)]


async def test_an_address_that_is_taken(emulator: Emulator) -> None:
    port = int(emulator.url.rpartition(":")[2])
    with pytest.raises(OperationError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*choose an address"):
        await Emulator(port=port).__aenter__()


async def test_a_name_that_no_host_can_have() -> None:
    with pytest.raises(OperationError, match=r"cannot listen on a\.\.b port 0: .*choose an address"):
        await Emulator("a..b").__aenter__()


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
