"""The emulator as its clients see it: real sockets, and what a client can do to them."""

import asyncio
import gzip
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from support.eventually import in_time

from cdc_sync.emulator import Call, Emulator, EmulatorOptions, serve, server
from cdc_sync.emulator.faults import (
    Delay,
    FaultError,
    HalfAnswer,
    Hang,
    Html,
    HugeBody,
    LostAnswer,
    Random,
    Redirect,
    Reset,
    SlowBody,
    Status,
)
from cdc_sync.emulator.server import JournalError, ListenError

# As on HelloWork's page, white space apart.
DOCUMENTED_WITH_TEXT_SOURCE = b"""
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer", "source": "hellowork.com"}"""
DOCUMENTED_WITH_OBJECT_SOURCE = b"""
    {"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
     "jobId": "2022-001-developer",
     "source": {"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}}"""
UPDATED = b'{"result": "Status was updated successfully"}'

GOOD: dict[str, object] = json.loads(DOCUMENTED_WITH_TEXT_SOURCE)
JSON_TYPE = {"Content-Type": "application/json"}
KEY = {"X-Api-Key": "planted-secret"}


@pytest.fixture
async def ended() -> asyncio.Queue[Call]:
    """The emulator's calls that are over."""
    return asyncio.Queue()


@pytest.fixture
async def emulator(ended: asyncio.Queue[Call]) -> AsyncIterator[Emulator]:
    async with Emulator(on_call=ended.put_nowait) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


class Reply:
    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


async def send(
    client: aiohttp.ClientSession,
    emulator: Emulator,
    path: str = "/v1/applications/a-1/status",
    *,
    method: str = "POST",
    raw: bytes = DOCUMENTED_WITH_TEXT_SOURCE,
    headers: dict[str, str] = JSON_TYPE,
) -> Reply:
    url = emulator.url + path
    async with client.request(method, url, data=raw, headers=headers, allow_redirects=False) as response:
        return Reply(response, await response.read())


async def control(
    client: aiohttp.ClientSession, emulator: Emulator, method: str, path: str, document: object = None
) -> Reply:
    raw = None if document is None else json.dumps(document).encode()
    async with client.request(method, f"{emulator.url}/_emulator/{path}", data=raw) as response:
        return Reply(response, await response.read())


def body(status: str) -> bytes:
    return json.dumps({**GOOD, "status": status}).encode()


def raw_request(raw: bytes = DOCUMENTED_WITH_TEXT_SOURCE, application_id: str = "a-1") -> bytes:
    head = f"POST /v1/applications/{application_id}/status HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


@asynccontextmanager
async def connect(emulator: Emulator) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = emulator.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


# --- the documented API ---


@pytest.mark.parametrize("raw", [DOCUMENTED_WITH_TEXT_SOURCE, DOCUMENTED_WITH_OBJECT_SOURCE])
async def test_documented_examples_are_accepted(emulator: Emulator, client: aiohttp.ClientSession, raw: bytes) -> None:
    reply = await send(client, emulator, raw=raw)
    assert (reply.status, reply.body) == (200, UPDATED)
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    [call] = emulator.calls
    assert call.body == json.loads(raw)
    assert call.raw == raw.decode()
    assert (call.status, call.fault, call.violations, call.warnings) == (200, None, (), ())
    assert emulator.state == {"a-1": json.loads(raw)}


async def test_the_404_is_byte_exact(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(known=frozenset({"a-1"}))) as emulator:
        assert (await send(client, emulator)).status == 200
        reply = await send(client, emulator, "/v1/applications/a%2F%22%C3%A9/status")
    assert reply.status == 404
    assert reply.body == (
        b'{"statusCode": 404, "error": "Not Found", '
        b'"message": "Could not find applicationInfo with id a/\\"\\u00e9 for ATS staging"}'
    )
    assert set(emulator.state) == {"a-1"}


async def test_a_bad_call_is_answered_with_every_violation(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    reply = await send(client, emulator, raw=b'{"applicationId": "a-1"}', headers={"Content-Type": "text/plain"})
    assert reply.status == 400
    answer = reply.json()
    assert list(answer) == ["statusCode", "error", "message"]
    assert (answer["statusCode"], answer["error"]) == (400, "Bad Request")
    [call] = emulator.calls
    assert answer["message"] == "; ".join(call.violations)
    for subject in ("Content-Type", "status", "eventDate", "created", "jobId", "applicationId"):
        assert subject in answer["message"]
    assert emulator.state == {}


async def test_a_body_that_is_too_big_is_refused_and_the_connection_lives_on(
    emulator: Emulator, client: aiohttp.ClientSession
) -> None:
    reply = await send(client, emulator, raw=b" " * 300_000)
    assert reply.status == 400
    assert "must not exceed 65536 bytes" in reply.json()["message"]
    assert len(emulator.calls[0].raw) == 65_536
    assert (await send(client, emulator)).status == 200


async def test_a_body_that_comes_in_pieces_is_put_together(emulator: Emulator) -> None:
    async with connect(emulator) as (reader, writer):
        request = raw_request()
        for part in (request[:50], request[50:-60], request[-60:-1], request[-1:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)  # separate segments: nothing on this side shows when one has been read
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    assert emulator.calls[0].raw == DOCUMENTED_WITH_TEXT_SOURCE.decode()


async def test_what_is_no_http_is_refused_without_ado(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    broken_chunk = b"POST /v1/applications/a/status HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
    for nonsense in (broken_chunk, b"nonsense\r\n\r\n", b"\x16\x03\x01 a TLS hello\r\n\r\n"):
        async with connect(emulator) as (reader, writer):
            writer.write(nonsense)
            assert b" 400 " in await in_time(reader.readline(), 5)
    assert caplog.records == []
    assert emulator.calls == []


async def test_a_compressed_body_is_no_json(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    packed = gzip.compress(DOCUMENTED_WITH_TEXT_SOURCE)
    reply = await send(client, emulator, raw=packed, headers={**JSON_TYPE, "Content-Encoding": "gzip"})
    assert reply.status == 400
    assert "the body must be JSON" in reply.json()["message"]


async def test_ids_are_decoded_and_the_path_is_kept_as_received(
    emulator: Emulator, client: aiohttp.ClientSession
) -> None:
    async with connect(emulator) as (reader, writer):
        writer.write(raw_request(application_id="a%2f%C3%A9%20b"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    [call] = emulator.calls
    assert call.application_id == "a/é b"
    assert call.path == "/v1/applications/a%2f%C3%A9%20b/status"
    assert set(emulator.state) == {"a/é b"}


async def test_a_badly_encoded_id_is_refused(emulator: Emulator) -> None:
    async with connect(emulator) as (reader, writer):
        writer.write(raw_request(application_id="a%ff"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    assert "percent-encoded" in emulator.calls[0].violations[0]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_other_methods_are_refused_and_recorded(
    emulator: Emulator, client: aiohttp.ClientSession, method: str
) -> None:
    emulator.inject(Reset())
    reply = await send(client, emulator, method=method)
    assert reply.status == 405
    assert reply.headers["Allow"] == "POST"
    assert reply.json()["error"] == "Method Not Allowed"
    assert [(call.method, call.status) for call in emulator.calls] == [(method, 405)]
    assert emulator.faults != []
    assert emulator.state == {}


@pytest.mark.parametrize("path", ["/", "/v1/applications/a-1", "/v1/applications/a-1/status/", "/v2/x"])
async def test_other_paths_do_not_exist_and_are_recorded(
    emulator: Emulator, client: aiohttp.ClientSession, path: str
) -> None:
    reply = await send(client, emulator, path)
    assert reply.status == 404
    assert reply.json()["message"] == "No such path; expected /v1/applications/{applicationId}/status"
    assert [(call.path, call.application_id, call.status) for call in emulator.calls] == [(path, None, 404)]


async def test_statuses_of_helloworks_own_side_are_accepted_with_a_warning(
    emulator: Emulator, client: aiohttp.ClientSession
) -> None:
    assert (await send(client, emulator, raw=body("not_found"))).status == 200
    assert (await send(client, emulator, raw=body("hired"))).status == 200
    assert [len(call.warnings) for call in emulator.calls] == [1, 0]


async def test_required_headers(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(required_headers=KEY)) as emulator:
        assert (await send(client, emulator, headers={**JSON_TYPE, **KEY})).status == 200
        missing = await send(client, emulator)
        wrong = await send(client, emulator, headers={**JSON_TYPE, "x-api-key": "planted-secret-too"})
        assert (await send(client, emulator, headers={"x-api-key": "planted-secret"})).status == 400
        assert (await control(client, emulator, "GET", "calls")).status == 200
    for reply in (missing, wrong):
        assert reply.status == 401
        assert reply.json()["message"] == "Header X-Api-Key is missing or wrong"
        assert b"planted" not in reply.body


# --- what is recorded ---


async def test_calls_are_numbered_and_described(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    before = time.time()
    await send(client, emulator, headers={**JSON_TYPE, "Idempotency-Key": "k-1"})
    await send(client, emulator, "/v1/applications/a-2/status?x=1", raw=b"nonsense")
    first, second = emulator.calls
    assert (first.number, second.number) == (1, 2)
    assert before <= first.received <= second.received <= time.time()
    assert (first.idempotency_key, second.idempotency_key) == ("k-1", None)
    assert (second.application_id, second.path) == ("a-2", "/v1/applications/a-2/status?x=1")
    assert (second.body, second.raw) == (None, "nonsense")
    for call in (first, second):
        assert call.duration is not None
        assert 0 <= call.duration < 5
        assert not call.abandoned
    shown = (await control(client, emulator, "GET", "calls")).json()
    assert shown == [first.as_json(), second.as_json()]


async def test_secrets_are_nowhere(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    journal = tmp_path / "calls.jsonl"
    secret = {"Authorization": "planted-1", "X-Api-Key": "planted-2", "X-Tenant": "planted-3", "Cookie": "c=planted-4"}
    async with Emulator(EmulatorOptions(required_headers={"x-tenant": "planted-3"}, journal=journal)) as emulator:
        assert (await send(client, emulator, headers={**JSON_TYPE, **secret})).status == 200
        shown = await control(client, emulator, "GET", "calls")
    [call] = emulator.calls
    assert {call.headers[name] for name in secret} == {"(hidden)"}
    assert call.headers["Content-Type"] == "application/json"
    for text in (shown.body.decode(), journal.read_text(), repr(call)):
        assert "planted" not in text


async def test_only_so_many_calls_are_kept(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(keep=2)) as emulator:
        for number in range(4):
            await send(client, emulator, raw=body(f"s{number}"))
        assert [call.number for call in await emulator.wait_for_calls(4, timeout=60)] == [3, 4]


async def test_of_so_many_applications_the_state_is_kept(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(keep=2)) as emulator:
        for application_id in ("a", "b", "a", "c"):
            await send(client, emulator, f"/v1/applications/{application_id}/status")
        assert list(emulator.state) == ["a", "c"]


async def test_calls_in_progress_at_once_for_one_application_are_marked(
    emulator: Emulator, client: aiohttp.ClientSession
) -> None:
    emulator.inject(Hang(application_id="a-1"))
    hanging = asyncio.create_task(send(client, emulator))
    await emulator.wait_for_calls(1, timeout=60)
    await send(client, emulator)
    await send(client, emulator, "/v1/applications/a-2/status")
    hanging.cancel()
    assert [(call.application_id, call.concurrent) for call in emulator.calls] == [
        ("a-1", False),
        ("a-1", True),
        ("a-2", False),
    ]


async def test_calls_in_turn_are_not_marked(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    for fault in (None, SlowBody(seconds=0.02), HugeBody(size=300_000), HalfAnswer(), LostAnswer(), Reset()):
        if fault is not None:
            emulator.inject(fault)
        for _ in range(2):
            try:
                await send(client, emulator)
            except aiohttp.ClientError:
                assert fault is not None
    assert len(emulator.calls) == 12
    assert not any(call.concurrent for call in emulator.calls)


async def test_a_call_after_a_client_gave_up_is_not_marked(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(Hang())
    async with connect(emulator) as (_, writer):
        writer.write(raw_request())
        await emulator.wait_for_calls(1, timeout=60)
    await send(client, emulator)
    assert [call.concurrent for call in emulator.calls] == [False, False]
    assert [call.abandoned for call in emulator.calls] == [True, False]


async def test_latency_is_added_and_calls_are_seen_before_it(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(latency=0.2)) as emulator:
        started = time.monotonic()
        sending = asyncio.create_task(send(client, emulator))
        [call] = await emulator.wait_for_calls(1, timeout=60)
        assert call.duration is None
        assert call.status == 200
        assert (await sending).status == 200
        assert time.monotonic() - started >= 0.2
        assert call.duration is not None


async def test_the_latest_acknowledged_body_is_the_state(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    await send(client, emulator, raw=body("first"))
    await send(client, emulator, raw=body("second"))
    await send(client, emulator, raw=b"{}")
    emulator.inject(Status(status=503))
    await send(client, emulator, raw=body("third"))
    assert emulator.state["a-1"]["status"] == "second"
    assert (await control(client, emulator, "GET", "state")).json() == {"a-1": {**GOOD, "status": "second"}}


# --- the journal ---


def journalled(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_journal_has_a_line_for_each_call_that_is_over(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    ended: asyncio.Queue[Call] = asyncio.Queue()
    async with Emulator(EmulatorOptions(journal=path), on_call=ended.put_nowait) as emulator:
        await send(client, emulator)
        call = await in_time(ended.get(), 5)
        # The next request is handled after the turn of the loop that writes.
        await control(client, emulator, "GET", "calls")
        assert journalled(path) == [call.as_json()]
        emulator.inject(Hang())
        hanging = asyncio.create_task(send(client, emulator, raw=body("hanging")))
        await emulator.wait_for_calls(2, timeout=60)
    with pytest.raises(aiohttp.ClientError):
        await hanging
    lines = journalled(path)
    assert [(line["number"], line["fault"], line["abandoned"]) for line in lines] == [
        (1, None, False),
        (2, "hang", True),
    ]


async def test_the_journal_is_appended_to_behind_a_torn_line(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"number": 1}\n{"numb')
    for _ in range(2):
        async with Emulator(EmulatorOptions(journal=path)) as emulator:
            await send(client, emulator)
    first, torn, *last = path.read_text().splitlines()
    assert (first, torn) == ('{"number": 1}', '{"numb')
    assert [json.loads(line)["number"] for line in last] == [1, 1]


async def test_a_short_write_of_the_journal_is_continued(
    client: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(data[:100])

    monkeypatch.setattr(server, "FileIO", Short)
    path = tmp_path / "calls.jsonl"
    async with Emulator(EmulatorOptions(journal=path)) as emulator:
        await send(client, emulator)
    assert [line["number"] for line in journalled(path)] == [1]


async def test_a_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "calls.jsonl"
    with pytest.raises(
        JournalError, match=r"cannot open the journal .*calls\.jsonl: No such file or directory; name a"
    ):
        await Emulator(EmulatorOptions(journal=path)).__aenter__()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_a_journal_that_cannot_be_written_ends_the_service_and_not_the_calls(
    client: aiohttp.ClientSession,
) -> None:
    started: asyncio.Queue[str] = asyncio.Queue()
    serving = asyncio.create_task(serve(EmulatorOptions(journal=Path("/dev/full")), on_start=started.put_nowait))
    url = await in_time(started.get(), 5)
    async with client.post(f"{url}/v1/applications/a/status", json=GOOD) as response:
        assert response.status == 200
    with pytest.raises(JournalError, match="cannot write the journal /dev/full: No space left on device"):
        await in_time(serving, 5)


# --- faults ---


async def test_status(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(
        Status(status=429, headers={"Retry-After": "7"}),
        Status(status=503, body="down", headers={"content-type": "text/x-plain"}),
        Status(status=422, body={"why": ["so"]}),
        Status(status=204),
        Status(status=599),
    )
    throttled, down, rejected, empty, odd = [await send(client, emulator, raw=body(f"s{n}")) for n in range(5)]
    assert (throttled.status, throttled.headers["Retry-After"]) == (429, "7")
    assert throttled.json() == {
        "statusCode": 429,
        "error": "Too Many Requests",
        "message": "Too Many Requests, as scripted",
    }
    assert (down.status, down.body, down.headers.getall("Content-Type")) == (503, b"down", ["text/x-plain"])
    assert (rejected.status, rejected.json()) == (422, {"why": ["so"]})
    assert (empty.status, empty.body) == (204, b"")
    assert odd.status == 599
    assert [(call.status, call.fault) for call in emulator.calls] == [
        (status, "status") for status in (429, 503, 422, 204, 599)
    ]
    # A 2xx tells the client that it was heard.
    assert emulator.state["a-1"]["status"] == "s3"
    assert (await send(client, emulator)).status == 200


async def test_delay(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(Delay(seconds=0.2))
    started = time.monotonic()
    reply = await send(client, emulator)
    assert time.monotonic() - started >= 0.2
    assert (reply.status, reply.body) == (200, UPDATED)
    [call] = emulator.calls
    assert call.fault == "delay"
    assert call.duration is not None
    assert call.duration >= 0.2


async def test_delay_does_not_let_old_news_overwrite_new(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(Delay(seconds=0.2))
    late = asyncio.create_task(send(client, emulator, raw=body("old")))
    await emulator.wait_for_calls(1, timeout=60)
    await send(client, emulator, raw=body("new"))
    await late
    assert emulator.state["a-1"]["status"] == "new"


async def test_hang_until_the_client_goes(emulator: Emulator, ended: asyncio.Queue[Call]) -> None:
    emulator.inject(Hang())
    async with connect(emulator) as (_, writer):
        writer.write(raw_request())
        [call] = await emulator.wait_for_calls(1, timeout=60)
        assert (call.status, call.fault, call.duration) == (None, "hang", None)
        writer.close()
    assert await in_time(ended.get(), 5) is call
    assert call.abandoned
    assert call.duration is not None
    assert emulator.state == {}


async def test_hang_is_bounded(emulator: Emulator) -> None:
    emulator.inject(Hang(seconds=0.1))
    async with connect(emulator) as (reader, writer):
        writer.write(raw_request())
        assert await in_time(reader.read(), 5) == b""
    assert not emulator.calls[0].abandoned


@pytest.mark.parametrize(("fault", "state"), [(Reset(), {}), (LostAnswer(), {"a-1": GOOD})])
async def test_reset_before_and_after_the_call_is_processed(
    emulator: Emulator, client: aiohttp.ClientSession, fault: Reset | LostAnswer, state: object
) -> None:
    emulator.inject(fault, fault)
    async with connect(emulator) as (reader, writer):
        writer.write(raw_request())
        with pytest.raises(ConnectionResetError):
            await reader.read()
    with pytest.raises(aiohttp.ClientConnectionError):
        await send(client, emulator)
    assert [(call.status, call.fault, call.abandoned) for call in emulator.calls] == [(None, fault.kind, False)] * 2
    assert emulator.state == state
    assert (await send(client, emulator)).status == 200


async def test_a_lost_answer_to_a_bad_call_changes_nothing(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(LostAnswer())
    with pytest.raises(aiohttp.ClientConnectionError):
        await send(client, emulator, raw=b"{}")
    assert emulator.state == {}
    assert emulator.calls[0].violations != ()


async def test_slow_body(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(SlowBody(seconds=0.5))
    started = time.monotonic()
    async with client.post(f"{emulator.url}/v1/applications/a-1/status", json=GOOD) as response:
        assert emulator.calls[0].duration is None
        first = await response.content.readany()
        assert first
        assert emulator.calls[0].duration is None
        assert await response.read() == UPDATED[len(first) :]
    assert response.status == 200
    assert time.monotonic() - started >= 0.5
    assert emulator.state == {"a-1": GOOD}


async def test_a_client_that_leaves_between_two_bytes_is_no_error(
    emulator: Emulator, ended: asyncio.Queue[Call], caplog: pytest.LogCaptureFixture
) -> None:
    # With no pause between the bytes and an orderly end, the next write meets the closed connection first.
    emulator.inject(SlowBody(seconds=0))
    async with connect(emulator) as (reader, writer):
        writer.write(raw_request())
        await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        assert (await in_time(ended.get(), 5)).abandoned
    assert caplog.records == []


async def test_huge_body(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject({"kind": "huge_body"}, HugeBody(size=100_001))
    reply = await send(client, emulator)
    assert (reply.status, len(reply.body), int(reply.headers["Content-Length"])) == (200, 10_000_000, 10_000_000)
    reply = await send(client, emulator)
    assert len(reply.body) == 100_001
    assert reply.json() == json.loads(UPDATED)


async def test_huge_body_is_given_up_when_the_client_is_satisfied(
    emulator: Emulator, ended: asyncio.Queue[Call]
) -> None:
    emulator.inject(HugeBody(size=1_000_000_000))
    async with connect(emulator) as (reader, writer):
        writer.write(raw_request())
        assert len(await reader.readexactly(65_536)) == 65_536
        writer.transport.abort()
        call = await in_time(ended.get(), 5)
        assert call.abandoned


async def test_half_answer(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(HalfAnswer(), HalfAnswer())
    async with connect(emulator) as (reader, writer):
        writer.write(raw_request())
        head, _, half = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"\r\nContent-Length: {len(UPDATED)}\r\n".encode() in head
    assert half == UPDATED[: len(UPDATED) // 2]
    with pytest.raises(aiohttp.ClientPayloadError):
        await send(client, emulator)
    assert "a-1" in emulator.state


async def test_spoiled_answers_spoil_the_normal_one(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(known=frozenset())) as emulator:
        emulator.inject(SlowBody(seconds=0), HugeBody(size=100_000), Delay(seconds=0))
        assert [(await send(client, emulator)).status for _ in range(3)] == [404, 404, 404]
        assert emulator.state == {}


async def test_html(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(Html())
    reply = await send(client, emulator)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.body.startswith(b"<!doctype html>")
    assert emulator.state == {}


async def test_redirect(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(Redirect(location="https://elsewhere.example/login"))
    reply = await send(client, emulator)
    assert (reply.status, reply.headers["Location"], reply.body) == (302, "https://elsewhere.example/login", b"")
    assert emulator.state == {}


async def test_random(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(Random(seed=3, rate=0.5, kinds=[Status(status=500), Status(status=502)]))
    statuses = {(await send(client, emulator)).status for _ in range(40)}
    assert statuses == {200, 500, 502}


async def test_a_fault_for_one_application(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    emulator.inject(Status(status=500, application_id="a/1"))
    assert (await send(client, emulator, "/v1/applications/a-1/status")).status == 200
    assert (await send(client, emulator, "/v1/applications/a%2F1/status")).status == 500
    assert (await send(client, emulator, "/v1/applications/a%2F1/status")).status == 200


async def test_nothing_is_scripted_if_one_fault_is_wrong(emulator: Emulator) -> None:
    with pytest.raises(FaultError, match="does not match any of the expected tags"):
        emulator.inject(Hang(), {"kind": "rest"})
    assert emulator.faults == []


# --- the control API ---


async def test_calls_can_be_listed_from_a_number_on_and_forgotten(
    emulator: Emulator, client: aiohttp.ClientSession
) -> None:
    for number in range(3):
        await send(client, emulator, raw=body(f"s{number}"))
    reply = await control(client, emulator, "GET", "calls?after=1")
    assert [call["number"] for call in reply.json()] == [2, 3]
    assert (await control(client, emulator, "DELETE", "calls")).status == 204
    assert (await control(client, emulator, "GET", "calls")).json() == []
    assert set(emulator.state) == {"a-1"}
    await send(client, emulator)
    assert [call["number"] for call in (await control(client, emulator, "GET", "calls")).json()] == [4]


async def test_a_long_poll_ends_with_the_call_that_it_waits_for(
    emulator: Emulator, client: aiohttp.ClientSession
) -> None:
    await send(client, emulator)
    polling = asyncio.create_task(control(client, emulator, "GET", "calls?after=1&wait=10&count=2"))
    await send(client, emulator)
    done, _ = await asyncio.wait([polling], timeout=0.1)
    assert not done
    await send(client, emulator)
    reply = await in_time(polling, 5)
    assert [call["number"] for call in reply.json()] == [2, 3]
    assert [call["number"] for call in (await control(client, emulator, "GET", "calls?wait=10")).json()] == [1, 2, 3]


async def test_a_long_poll_ends_with_its_time(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    started = time.monotonic()
    reply = await control(client, emulator, "GET", "calls?wait=0.1")
    assert time.monotonic() - started >= 0.1
    assert (reply.status, reply.json()) == (200, [])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("affter=1", "affter: Extra inputs are not permitted, not '1'"),
        ("after=x", "after: Input should be a valid integer, unable to parse string as an integer, not 'x'"),
        ("count=0", "count: Input should be greater than or equal to 1, not '0'"),
        ("wait=nan", "wait: Input should be less than or equal to 3600, not 'nan'"),
        ("wait=-1", "wait: Input should be greater than or equal to 0, not '-1'"),
    ],
)
async def test_wrong_parameters(emulator: Emulator, client: aiohttp.ClientSession, query: str, message: str) -> None:
    reply = await control(client, emulator, "GET", f"calls?{query}")
    assert (reply.status, reply.json()["message"]) == (400, message)


async def test_state_can_be_forgotten(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    await send(client, emulator)
    assert (await control(client, emulator, "DELETE", "state")).status == 204
    assert emulator.state == {}


async def test_faults_are_scripted_shown_and_removed(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    expected = [
        {"kind": "status", "times": 2, "application_id": None, "status": 503, "body": None, "headers": {}},
        {"kind": "reset", "times": None, "application_id": "b"},
    ]
    reply = await control(client, emulator, "POST", "faults", {"kind": "status", "status": 503, "times": 3})
    assert reply.status == 200
    reply = await control(client, emulator, "POST", "faults", [{"kind": "reset", "times": None, "application_id": "b"}])
    assert len(reply.json()) == 2
    assert (await send(client, emulator)).status == 503
    assert (await control(client, emulator, "GET", "faults")).json() == expected
    assert (await control(client, emulator, "DELETE", "faults")).status == 204
    assert (await send(client, emulator)).status == 200


async def test_wrong_faults_are_refused_with_a_near_miss(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    reply = await control(client, emulator, "POST", "faults", [{"kind": "hang"}, {"kind": "dealy", "seconds": 1}])
    assert reply.status == 400
    assert "'dealy' found using 'kind' does not match any of the expected tags: 'status'" in reply.json()["message"]
    assert emulator.faults == []
    async with client.post(f"{emulator.url}/_emulator/faults", data=b"nonsense") as response:
        assert response.status == 400
        assert (await response.json())["message"].startswith("expected ")


async def test_known_applications_can_be_replaced(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    assert (await control(client, emulator, "GET", "applications")).json() is None
    assert (await control(client, emulator, "PUT", "applications", ["b", "a"])).status == 204
    assert (await control(client, emulator, "GET", "applications")).json() == ["a", "b"]
    assert (await send(client, emulator)).status == 404
    async with client.put(f"{emulator.url}/_emulator/applications", data=b"null") as response:
        assert response.status == 204
    assert (await send(client, emulator)).status == 200
    emulator.known = frozenset()
    assert (await send(client, emulator)).status == 404
    for wrong in ({"a": 1}, ["a", 1], [""], "a"):
        reply = await control(client, emulator, "PUT", "applications", wrong)
        assert reply.status == 400


@pytest.mark.parametrize("path", ["calls", "state", "faults", "applications"])
async def test_each_method_is_done_or_not_among_those_allowed(
    emulator: Emulator, client: aiohttp.ClientSession, path: str
) -> None:
    replies = {method: await control(client, emulator, method, path, []) for method in ("GET", "POST", "PUT", "DELETE")}
    done = [method for method, reply in replies.items() if reply.status < 300]
    refused = [reply for reply in replies.values() if reply.status == 405]
    assert len(done) + len(refused) == len(replies)
    assert {reply.headers["Allow"] for reply in refused} == {", ".join(done)}


async def test_wrong_control_requests(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    reply = await control(client, emulator, "GET", "call")
    assert reply.status == 404
    assert "/_emulator/calls, /_emulator/state, /_emulator/faults" in reply.json()["message"]
    reply = await control(client, emulator, "POST", "calls")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, DELETE")
    assert emulator.calls == []


# --- starting and stopping ---


async def test_an_address_that_is_taken(emulator: Emulator) -> None:
    port = int(emulator.url.rpartition(":")[2])
    with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*choose an address"):
        await Emulator(EmulatorOptions(port=port)).__aenter__()


async def test_a_name_that_no_host_can_have() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on a\.\.b port 0: a\.\.b is no host name; choose an address"):
        await Emulator(EmulatorOptions(host="a..b")).__aenter__()


async def test_it_listens_on_loopback_unless_told_otherwise(emulator: Emulator) -> None:
    assert emulator.url.startswith("http://127.0.0.1:")


async def test_a_port_can_be_used_again_at_once(client: aiohttp.ClientSession) -> None:
    async with Emulator() as emulator:
        await send(client, emulator)
    async with Emulator(EmulatorOptions(port=int(emulator.url.rpartition(":")[2]))) as again:
        assert again.url == emulator.url
        assert (await send(client, again)).status == 200


async def test_stopping_does_not_wait_for_clients_that_do_not_go(client: aiohttp.ClientSession) -> None:
    async with AsyncExitStack() as lines:
        async with Emulator() as emulator:
            emulator.inject(Hang(), Delay(seconds=60), SlowBody(seconds=60), HugeBody(size=1_000_000_000))
            for number in range(4):
                _, writer = await lines.enter_async_context(connect(emulator))
                writer.write(raw_request(application_id=f"a-{number}"))
                await emulator.wait_for_calls(number + 1, timeout=60)
            polling = asyncio.create_task(control(client, emulator, "GET", "calls?wait=60&count=9"))
            done, _ = await asyncio.wait([polling], timeout=0.1)
            assert not done
            started = time.monotonic()
        assert time.monotonic() - started < 30
        assert [call.abandoned for call in emulator.calls] == [True] * 4
        port = int(emulator.url.rpartition(":")[2])
        assert [each for each in psutil.Process().net_connections("tcp") if each.laddr.port == port] == []
    with pytest.raises(aiohttp.ClientError):
        await polling


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serving_as_a_process_ends_cleanly_on_a_signal(
    client: aiohttp.ClientSession, tmp_path: Path, number: signal.Signals
) -> None:
    journal = tmp_path / "calls.jsonl"
    program = (
        "import asyncio, functools, pathlib, sys; from cdc_sync.emulator import EmulatorOptions, serve; "
        "asyncio.run(serve(EmulatorOptions(journal=pathlib.Path(sys.argv[1])), "
        "on_start=functools.partial(print, flush=True)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(journal), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        url = (await in_time(process.stdout.readline(), 20)).decode().strip()
        async with client.post(f"{url}/v1/applications/a/status", json=GOOD) as response:
            assert response.status == 200
        process.send_signal(number)
        output, errors = await in_time(process.communicate(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, output, errors) == (0, b"", b"")
    assert [line["application_id"] for line in journalled(journal)] == ["a"]


async def test_serving_ends_when_cancelled() -> None:
    started: asyncio.Queue[str] = asyncio.Queue()
    serving = asyncio.create_task(serve(EmulatorOptions(), on_start=started.put_nowait))
    port = int((await in_time(started.get(), 5)).rpartition(":")[2])
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))
