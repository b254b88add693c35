"""Wrong tokens; and bodies that are no forms."""

import asyncio
import gzip
import time
from pathlib import Path

import pytest
from support.looking import TOKEN, Admin, admin_server

from cdc_sync.admin.access import WRONG_ANSWERED_AFTER
from cdc_sync.core.events import Event, TokenRefused

WRONG = "wrong-secret-0123456789"


async def guess(admin: Admin, *, by: str = "Bearer") -> int:
    """Bring a wrong token; gives the status of the answer."""
    basic = admin.browser(token=WRONG).authorization
    return (await admin.get("/api/status", authorization=basic if by == "Basic" else f"Bearer {WRONG}")).status


@pytest.mark.parametrize("by", ["Basic", "Bearer"])
async def test_a_wrong_token_is_refused_a_second_later_and_observed(tmp_path: Path, by: str) -> None:
    seen: list[Event] = []
    async with admin_server(tmp_path, token=TOKEN, observe=seen.append) as admin:
        began = time.monotonic()
        assert await asyncio.gather(*(guess(admin, by=by) for _ in range(10))) == [401] * 10

    assert time.monotonic() - began >= WRONG_ANSWERED_AFTER
    assert seen == [TokenRefused("127.0.0.1")] * 10


async def test_wrong_tokens_keep_out_neither_health_checks_nor_who_has_the_right_one(guarded: Admin) -> None:
    # With as many as the places that are left.
    guessing = asyncio.gather(*(guess(guarded) for _ in range(90)))
    while not guessing.done():
        for path in ("/healthz", "/readyz"):
            assert (await guarded.get(path)).status == 200
            # Nor one that brings an old token, which it needs not.
            assert (await guarded.get(path, authorization=f"Bearer {WRONG}")).status == 200
        assert await guarded.browser().page("/api/status")
    assert set(await guessing) == {401}


FORM = "application/x-www-form-urlencoded"
HEAD = f"POST /fuse/release HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
BROKEN = {
    "no UTF-8": (400, f"Content-Type: {FORM}", b"token=\xff\xfe"),
    "half of a surrogate pair": (400, f"Content-Type: {FORM}", b"watch=%ED%A0%80"),
    "a bad chunk": (400, f"Content-Type: {FORM}\r\nTransfer-Encoding: chunked", b"zz\r\ntoken\r\n0\r\n\r\n"),
    "an unknown charset": (415, f"Content-Type: {FORM}; charset=unknown", b"token=x"),
    "a charset that is another": (415, f"Content-Type: {FORM}; charset=iso-8859-1", b"token=x"),
    "no kind": (415, "X-A: b", b"token=x"),
    "a multipart": (415, "Content-Type: multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "a packed form": (400, f"Content-Type: {FORM}\r\nContent-Encoding: gzip", gzip.compress(b"all=1")),
    "chunks without an end": (
        413,
        f"Content-Type: {FORM}\r\nTransfer-Encoding: chunked",
        b"3e8\r\n" + (b"x" * 1_000 + b"\r\n3e8\r\n") * 9,
    ),
}


async def test_a_body_that_is_no_form_is_refused_without_a_line(
    guarded: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    for kind, (status, header, body) in BROKEN.items():
        length = "" if "chunked" in header else f"Content-Length: {len(body)}\r\n"
        answer = await guarded.send(f"{HEAD}Connection: close\r\n{header}\r\n{length}\r\n".encode() + body)

        # Of a chunk that is none the parser says so, in another version.
        assert answer.split(b" ")[1] == str(status).encode(), kind
        assert b"Traceback" not in answer
    assert caplog.records == []


@pytest.mark.parametrize("kind", [FORM, f"{FORM};charset=UTF-8", f'{FORM.upper()}; charset="utf-8"'])
async def test_a_form_in_utf8_is_read(guarded: Admin, kind: str) -> None:
    body = "transition=%C3%A9&transition=é&all=1".encode()
    head = f"{HEAD}Connection: close\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"

    assert (await guarded.send(head.encode() + body)).startswith(b"HTTP/1.1 200 ")


async def test_who_goes_away_in_the_middle_of_a_form_leaves_no_line(
    guarded: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", guarded.port)
        writer.write(f"{HEAD}Content-Type: {FORM}\r\nContent-Length: 100\r\n\r\nwatch".encode())
        await writer.drain()
        assert (await guarded.get("/healthz")).status == 200
        writer.close()
        await writer.wait_closed()
    assert (await guarded.get("/healthz")).status == 200
    assert caplog.records == []
