"""Calls without an answer, or with one that is none: what the client says of them."""

import asyncio
import gzip
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.emulated import Emulator
from support.faults import Fault, HalfAnswer, Hang, LostAnswer, Reset, Status
from support.sending import an_entry
from support.wire import OK, UPDATED, saying, wire_server

from cdc_sync.core.replies import Reply, meaning_of
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.delivery.client import EXCERPT, READ_LIMIT, Client

TIMED_OUT = Reply(failure="no answer within hellowork.timeout")
LOST_BEFORE = Reply(failure="the connection was lost before the answer")
LOST_AMID = Reply(failure="the connection was lost in the middle of the answer")
NOT_HTTP = Reply(failure="the answer is not HTTP")

NO_BODY = b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Reset(), LOST_BEFORE), (LostAnswer(), LOST_BEFORE), (Hang(seconds=0.1), LOST_BEFORE), (HalfAnswer(), LOST_AMID)],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_the_connection_is_lost(client: Client, hellowork: Emulator, fault: Fault, expected: Reply) -> None:
    hellowork.inject(fault)

    assert await client.call(an_entry(base_url=hellowork.url)) == (expected, "")


async def test_each_call_has_the_whole_time(hellowork: Emulator) -> None:
    """One timer is for all of them: it goes on from the first to the next, and from none to a later one."""
    entry = an_entry(base_url=hellowork.url)

    async def timed(client: Client, after: float) -> float:
        await asyncio.sleep(after)
        hellowork.inject(Hang())
        started = time.monotonic()
        assert await client.call(entry) == (TIMED_OUT, "")
        return time.monotonic() - started

    async with Client({DEFAULT_ACCOUNT: {}}, timeout=1, connections=3) as client:
        took = await asyncio.gather(*(timed(client, after) for after in (0.0, 0.5, 2.0)))
        assert await client.call(entry) != (TIMED_OUT, "")

    assert min(took) >= 0.99


async def test_one_that_is_cancelled_as_its_time_is_over_is_cancelled(hellowork: Emulator) -> None:
    hellowork.inject(Hang())
    async with Client({DEFAULT_ACCOUNT: {}}, timeout=1, connections=1) as client:
        call = asyncio.create_task(client.call(an_entry(base_url=hellowork.url)))
        await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + 1.1, call.cancel)
        time.sleep(1.3)  # noqa: ASYNC251 - both timers are due then, in the same turn of the loop

        with pytest.raises(asyncio.CancelledError):
            await call


async def test_an_endless_trickle_is_no_way_round_the_timeout() -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with wire_server(trickle) as wire, Client({DEFAULT_ACCOUNT: {}}, timeout=0.3, connections=1) as client:
        assert await client.call(an_entry(base_url=wire.url)) == (TIMED_OUT, "")


async def test_nobody_listens(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    reply, _ = await client.call(an_entry(base_url=f"http://127.0.0.1:{port}"))

    assert reply == Reply(failure=f"no connection to 127.0.0.1:{port} (Connection refused)")


async def test_a_name_that_does_not_exist(client: Client) -> None:
    reply, _ = await client.call(an_entry(base_url="https://ats-partner.invalid"))

    assert reply == Reply(failure="DNS: the host name ats-partner.invalid cannot be resolved")


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        OK + b"Transfer-Encoding: chunked\r\n\r\nno-number\r\nhello\r\n0\r\n\r\n",
        OK + b"X-Long: " + b"x" * 100_000 + b"\r\n" + NO_BODY,
    ],
    ids=lambda answer: repr(answer[:60]),
)
async def test_the_answer_is_not_http(client: Client, answer: bytes) -> None:
    async with wire_server(saying(answer)) as wire:
        assert await client.call(an_entry(base_url=wire.url)) == (NOT_HTTP, "")


INTERIM = [f"HTTP/1.1 {status} Wait\r\nLink: </x>\r\n\r\n".encode() for status in (100, 102, 103, 199)]
NO_FINAL_REPLY = Reply(failure="more than 10 interim replies (1xx) and no final one")


async def test_ten_interim_replies_are_enough() -> None:
    before = b"".join((INTERIM * 3)[:10])
    async with Client({DEFAULT_ACCOUNT: {}}, timeout=20, connections=1) as client:
        async with wire_server(saying(before + UPDATED)) as wire:
            reply, _ = await client.call(an_entry(base_url=wire.url))
            assert reply.status == 200
        async with wire_server(saying(before + INTERIM[0] + UPDATED)) as wire:
            assert await client.call(an_entry(base_url=wire.url)) == (NO_FINAL_REPLY, "")


@contextmanager
def at_most(allocated: int) -> Iterator[None]:
    """Fail if the block allocates more bytes at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < allocated
    finally:
        tracemalloc.stop()


async def test_another_protocol_is_no_answer(client: Client) -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with wire_server(saying(switching + UPDATED)) as wire:
        reply, _ = await client.call(an_entry(base_url=wire.url))
        assert reply.status == 101
        assert meaning_of(reply, 0).kind == "unavailable"
        await client.call(an_entry(base_url=wire.url))

    assert len(wire.requests) == 2, "its connection was used again"


async def test_what_a_refusal_says_is_kept_in_bounds(client: Client, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=400, body="é" * 10_000, headers={"Retry-After": "7"}))

    reply, text = await client.call(an_entry(base_url=hellowork.url))

    assert (reply.status, reply.retry_after) == (400, "7")
    assert text == "é" * EXCERPT


async def test_no_secret_is_in_what_is_said_of_a_failure(hellowork: Emulator) -> None:
    hellowork.inject(Reset(), HalfAnswer(), Status(status=400))
    urls = [hellowork.url] * 3 + [
        "https://ats-partner.invalid",
        "http://127.0.0.1:9",
        hellowork.url.replace("p:", "ps:"),
    ]
    said = []
    for secret in ("planted-secret", "planted-secret\r\nwith a line break", "planted-secret\ud800"):
        async with Client({DEFAULT_ACCOUNT: {"X-Api-Key": secret}}, timeout=20, connections=1) as client:
            said += [await client.call(an_entry(base_url=url)) for url in urls]

    assert "planted" not in repr(said)
    assert all(reply.failure or text for reply, text in said)


# What a call must not do: follow, go round about, remember, unpack.


MIB = 1024 * 1024

ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect_is_not_followed(client: Client, hellowork: Emulator, status: int) -> None:
    async with Emulator() as elsewhere:
        target = f"{elsewhere.url}/v1/applications/a1/status"
        hellowork.inject(Status(status=status, headers={"Location": target}))

        reply, _ = await client.call(an_entry(base_url=hellowork.url))

        assert reply.status == status
        assert elsewhere.calls == []
        assert len(hellowork.calls) == 1


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
async def test_no_proxy_is_taken_from_the_environment(
    hellowork: Emulator, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with Emulator() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        async with Client({DEFAULT_ACCOUNT: {}}, timeout=20, connections=1) as client:
            reply, _ = await client.call(an_entry(base_url=hellowork.url))

        assert reply.status == 200
        assert proxy.calls == []


async def test_no_credentials_are_taken_from_netrc(
    hellowork: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password planted-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Client({DEFAULT_ACCOUNT: {}}, timeout=20, connections=1) as client:
        await client.call(an_entry(base_url=hellowork.url))

    (call,) = hellowork.calls
    assert "Authorization" not in call.headers


async def test_no_cookie_is_kept(client: Client, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=200, headers={"Set-Cookie": "session=1; Path=/"}))
    # By name: to keep a cookie of a bare address would be odd in any case.
    url = hellowork.url.replace("127.0.0.1", "localhost")
    for _ in range(2):
        await client.call(an_entry(base_url=url))

    assert [call.headers.get("Cookie") for call in hellowork.calls] == [None, None]


async def test_a_compressed_answer_is_not_unpacked(client: Client) -> None:
    bomb = gzip.compress(bytes(80 * MIB))
    assert len(bomb) > READ_LIMIT
    answer = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
    async with wire_server(saying(answer)) as wire:
        with at_most(4 * MIB):
            reply, text = await client.call(an_entry(base_url=wire.url))

    assert reply == Reply(200, "application/json")
    assert len(text) <= EXCERPT
    assert text.startswith("\x1f")


async def test_of_an_endless_answer_no_more_is_read_than_the_limit(client: Client) -> None:
    gone = asyncio.Event()
    sent = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            while True:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        finally:
            gone.set()

    async with wire_server(pour) as wire:
        with at_most(4 * MIB):
            reply, text = await client.call(an_entry(base_url=wire.url))
        async with asyncio.timeout(20):
            # The connection was given up: what the kernel had taken in between is all that was ever sent.
            await gone.wait()

    assert (reply, text) == (Reply(200, "application/json"), "x" * EXCERPT)
    assert sent < 64 * MIB


async def test_what_came_unasked_on_an_idle_connection_answers_no_call(client: Client) -> None:
    idle = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        if len(wire.requests) > 1:
            writer.write(REFUSED)
            return
        writer.write(ACCEPTED)
        await idle.wait()
        writer.write(ACCEPTED)
        await asyncio.Event().wait()

    async with wire_server(answer) as wire:
        entry = an_entry(base_url=wire.url)
        first, _ = await client.call(entry)
        idle.set()
        await asyncio.sleep(0.1)
        second, _ = await client.call(entry)
        third, _ = await client.call(entry)

    assert (first.status, second.status, third.status) == (200, None, 400)
    assert len(wire.requests) == 2
