"""What was tried at the admin server and did not work, so that it goes on not working."""

from itertools import product

import pytest
from support.builders import a_batch, an_observation, some_rules
from support.looking import TOKEN, Admin

from cdc_sync.admin.acting import ACTIONS

FOREIGN = [
    {"Origin": "null"},
    {"Origin": "https://cdc-sync.example.attacker.example"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": "none"},
]


async def test_no_action_is_done_for_a_page_of_another_site(guarded: Admin) -> None:
    await guarded.store.capture.apply(some_rules(max_changes=0), a_batch(an_observation("h1")))
    # A browser brings the token by itself, and says all the same where a form comes from.
    tokens = f"Bearer {TOKEN}", guarded.browser().authorization
    for headers, path, authorization in product(FOREIGN, ACTIONS, tokens):
        form = {"all": "1", "watch": "applications"}
        answer = await guarded.post(path, form, Authorization=authorization, **headers)
        assert answer.status == 403, (headers, path)
    assert len(await guarded.store.report.entries("held", None, 10)) == 1


async def test_an_origin_that_is_no_url_is_refused_and_not_logged(
    guarded: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await guarded.post("/fuse/release", {}, Authorization=f"Bearer {TOKEN}", Origin="http://[")

    assert answer.status == 403
    assert caplog.records == []


async def test_every_action_asks_for_a_post(guarded: Admin) -> None:
    for path, method in product(ACTIONS, ("GET", "HEAD", "PUT", "DELETE", "PATCH")):
        answer = await guarded.get(f"{path}?all=1", method=method, authorization=f"Bearer {TOKEN}")
        assert answer.status == 405, (path, method)


async def test_an_action_leads_nowhere_else(guarded: Admin) -> None:
    headers = {"Host": "attacker.example", "X_Forwarded_Host": "attacker.example"}
    for query in ("?next=https://attacker.example/", "?language=//attacker.example", ""):
        answer = await guarded.post(f"/fuse/release{query}", {"all": "1"}, Authorization=f"Bearer {TOKEN}", **headers)
        assert answer.status == 303
        assert answer.headers["Location"].partition("?")[0] == "/"


FILES = (
    "/static/../server.py",
    "/static/..%2fserver.py",
    "/static/%2e%2e/server.py",
    "/static/%2fetc%2fpasswd",
    "/static/page.css%00",
    "/static/",
    "/../../../../etc/passwd",
)


async def test_no_file_is_read_but_the_pages_own(admin: Admin) -> None:
    for path in FILES:
        answer = await admin.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ")[1] in {b"400", b"403", b"404"}, path
        assert b"import" not in answer
        assert b"root:" not in answer


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
AMBIGUOUS = {
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nall=1x" + SMUGGLED,
    "a length with a sign": b"Content-Length: +5\r\n\r\nall=1" + SMUGGLED,
    "a folded header": b"X-Folded: a\r\n Content-Length: 5\r\n\r\n" + SMUGGLED,
    "chunks under another name": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk with a sign": b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + SMUGGLED,
    "a bare line feed in a header": b"X-A: b\nContent-Length: 50\r\n\r\n" + SMUGGLED,
}


async def test_a_request_that_a_proxy_could_read_otherwise_is_refused_as_a_whole(
    admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /fuse/release HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n"
    for kind, rest in AMBIGUOUS.items():
        answer = await admin.send(head + rest)
        assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 ")), kind
        assert b"cdc_sync_build_info" not in answer
    assert caplog.records == []


async def test_a_head_without_end_is_refused(admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    for line in (b"GET /" + b"x" * 1_000_000, b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 100_000):
        try:
            answer = await admin.send(line + b"\r\n\r\n")
        except ConnectionError:
            continue  # it was cut off while we sent
        assert answer.split(b" ")[1] in {b"400", b""}
    assert (await admin.get("/healthz")).status == 200
    assert caplog.records == []
