"""Who guesses the token, in log-ins or in headers; and bodies that are no forms."""

import asyncio
import gzip
from collections import Counter
from pathlib import Path

import pytest
from support.looking import TOKEN, Admin, Answer, admin_server

from cdc_sync.admin.access import FREE
from cdc_sync.core.events import Event, TokenRefused

LONGEST_WAIT = 2.0
WRONG = "wrong-secret-0123456789"


async def guess(admin: Admin, *, by: str) -> int:
    """Bring a wrong token; gives the status of the answer."""
    if by == "log-in":
        return (await admin.post("/login", {"token": WRONG})).status
    return (await admin.get("/api/status", authorization=f"Bearer {WRONG}")).status


@pytest.mark.parametrize("by", ["log-in", "header"])
async def test_who_guesses_fast_is_sent_away_and_observed(tmp_path: Path, by: str) -> None:
    seen: list[Event] = []
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN, observe=seen.append) as admin:
        assert [await guess(admin, by=by) for _ in range(FREE)] == [401] * FREE
        # Some of them take turns, of which each has another delay.
        tries = [asyncio.create_task(guess(admin, by=by)) for _ in range(100)]
        sent_away = 0
        for done in asyncio.as_completed(tries):
            if await done == 429:
                sent_away += 1
            if sent_away >= 80:
                break
        for each in tries:
            each.cancel()

        assert len(seen) < 20
        assert set(seen) == {TokenRefused("127.0.0.1")}


async def test_who_is_sent_away_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN) as admin:
        answers = await in_penalty(admin, 30)

        late = [answer for answer in answers if answer.status == 429]
        assert late
        for answer in late:
            assert answer.headers["Retry-After"] == "2"
            assert "Try again in 2 s." in answer.text


async def in_penalty(admin: Admin, number: int) -> list[Answer]:
    """Guess until there are turns, and take all of them."""
    for _ in range(FREE):
        await guess(admin, by="header")
    return await asyncio.gather(*(admin.post("/login", {"token": WRONG}, Accept_Language="en") for _ in range(number)))


async def test_guesses_keep_out_neither_health_checks_nor_who_has_logged_in(tmp_path: Path) -> None:
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN) as admin:
        browser = await admin.log_in()
        guessing = asyncio.create_task(in_penalty(admin, 30))
        while not guessing.done():
            for path in ("/healthz", "/readyz"):
                assert (await admin.get(path)).status == 200
                # Nor one that brings an old token, which it needs not.
                assert (await admin.get(path, authorization=f"Bearer {WRONG}")).status == 200
            assert (await admin.get("/metrics", headers={"Cookie": browser.cookie})).status == 200
            await asyncio.sleep(0.2)
        await guessing


async def test_the_right_token_has_its_turn_like_any_other_and_ends_the_turns(tmp_path: Path) -> None:
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN) as admin:
        for _ in range(FREE):
            await guess(admin, by="log-in")

        assert (await admin.get("/metrics", authorization=f"Bearer {TOKEN}")).status == 200
        statuses = await asyncio.gather(*(guess(admin, by="log-in") for _ in range(FREE)))
        assert Counter(statuses) == {401: FREE}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_scheme_is_written_in_any_case(tmp_path: Path, scheme: str) -> None:
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN) as admin:
        assert (await admin.get("/metrics", authorization=f"{scheme} {TOKEN}")).status == 200


FORM = "application/x-www-form-urlencoded"
_PART = b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n'
BROKEN = {
    "no UTF-8": (f"Content-Type: {FORM}", b"token=\xff\xfe"),
    "an unknown charset": (f"Content-Type: {FORM}; charset=unknown", b"token=x"),
    "a charset that is none": (f"Content-Type: {FORM}; charset=zlib", b"token=x"),
    "an odd charset": (f"Content-Type: {FORM}; charset=utf-16", b"token"),
    "a multipart without a boundary": ("Content-Type: multipart/form-data", b"token=x"),
    "a multipart that is none": ("Content-Type: multipart/form-data; boundary=b", b"token=x"),
    "a multipart that breaks off": (
        "Content-Type: multipart/form-data; boundary=b",
        _PART + b"x",
    ),
    "a multipart of an unknown charset": (
        "Content-Type: multipart/form-data; boundary=b",
        _PART.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=unknown\r\n\r\n") + b"\xff\r\n--b--\r\n",
    ),
    "a gzip that is none": (f"Content-Type: {FORM}\r\nContent-Encoding: gzip", b"token=x"),
    "a gzip that breaks off": (f"Content-Type: {FORM}\r\nContent-Encoding: gzip", gzip.compress(b"token=x")[:-9]),
    "a deflate that is none": (f"Content-Type: {FORM}\r\nContent-Encoding: deflate", b"token=x"),
    "a bad chunk": (f"Content-Type: {FORM}\r\nTransfer-Encoding: chunked", b"zz\r\ntoken\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_body_that_is_no_form_is_refused_without_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    header, body = BROKEN[kind]
    seen: list[Event] = []
    length = "" if "chunked" in header else f"Content-Length: {len(body)}\r\n"
    head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{header}\r\n{length}\r\n"
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN, observe=seen.append) as admin:
        answer = await admin.send(head.encode() + body)

    # Of a chunk that is none the parser says so, in another version; the beginning of a form is a form.
    status = answer.split(b" ")[1]
    assert status == b"400" or (status == b"401" and kind.endswith("that breaks off"))
    assert caplog.records == []
    assert b"Traceback" not in answer


async def test_who_goes_away_in_the_middle_of_a_form_leaves_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 100\r\n\r\ntoken".encode()
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN) as admin:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", admin.port)
            writer.write(head)
            await writer.drain()
            assert (await admin.get("/healthz")).status == 200
            writer.close()
            await writer.wait_closed()
        assert (await admin.get("/healthz")).status == 200

    assert caplog.records == []


async def test_a_form_that_unpacks_to_more_than_a_form_may_have_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bomb = gzip.compress(b"token=" + b"x" * 100_000_000)
    head = f"POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {FORM}\r\nContent-Encoding: gzip\r\n"
    async with admin_server(tmp_path, longest_wait=LONGEST_WAIT, token=TOKEN) as admin:
        answer = await admin.send(f"{head}Content-Length: {len(bomb)}\r\n\r\n".encode() + bomb)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert caplog.records == []
