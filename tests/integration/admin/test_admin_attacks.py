"""What was tried at the admin server and did not work, so that it goes on not working."""

from itertools import product
from pathlib import Path

import pytest
from support.builders import a_batch, an_observation, some_rules
from support.looking import TOKEN, admin_server

from cdc_sync.admin.acting import ACTIONS

FOREIGN = [
    {"Origin": "null"},
    {"Origin": "https://cdc-sync.example.attacker.example"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_no_action_is_done_for_a_page_of_another_site(tmp_path: Path, headers: dict[str, str]) -> None:
    async with admin_server(tmp_path, token=TOKEN) as admin:
        await admin.store.capture.apply(some_rules(max_changes=0), a_batch(an_observation("h1")))
        # A browser brings the token by itself, and says all the same where a form comes from.
        for path, authorization in product(ACTIONS, (f"Bearer {TOKEN}", admin.browser().authorization)):
            form = {"all": "1", "watch": "applications"}
            answer = await admin.post(path, form, Authorization=authorization, **headers)
            assert answer.status == 403, path
        assert len(await admin.store.report.entries("held", None, 10)) == 1


async def test_an_origin_that_is_no_url_is_refused_and_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with admin_server(tmp_path, token=TOKEN) as admin:
        answer = await admin.post("/fuse/release", {}, Authorization=f"Bearer {TOKEN}", Origin="http://[")

    assert answer.status == 403
    assert caplog.records == []


async def test_every_action_asks_for_a_post(tmp_path: Path) -> None:
    async with admin_server(tmp_path, token=TOKEN) as admin:
        for path, method in product(ACTIONS, ("GET", "HEAD", "PUT", "DELETE", "PATCH")):
            answer = await admin.get(f"{path}?all=1", method=method, authorization=f"Bearer {TOKEN}")
            assert answer.status == 405, (path, method)


@pytest.mark.parametrize("query", ["?next=https://attacker.example/", "?language=//attacker.example", ""])
async def test_an_action_leads_nowhere_else(tmp_path: Path, query: str) -> None:
    async with admin_server(tmp_path, token=TOKEN) as admin:
        form = {"all": "1", "next": "https://attacker.example/", "url": "//attacker.example"}
        headers = {"Host": "attacker.example", "X_Forwarded_Host": "attacker.example"}
        bearer = f"Bearer {TOKEN}"
        answer = await admin.post(f"/fuse/release{query}", form, Authorization=bearer, **headers)
        assert answer.status == 303
        assert answer.headers["Location"].partition("?")[0] == "/"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/%2fetc%2fpasswd",
        "/static/page.css%00",
        "/static/",
        "/../../../../etc/passwd",
    ],
)
async def test_no_file_is_read_but_the_pages_own(tmp_path: Path, path: str) -> None:
    async with admin_server(tmp_path) as admin:
        answer = await admin.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())

    assert answer.split(b" ")[1] in {b"400", b"403", b"404"}
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


@pytest.mark.parametrize("kind", AMBIGUOUS)
async def test_a_request_that_a_proxy_could_read_otherwise_is_refused_as_a_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    head = b"POST /fuse/release HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n"
    async with admin_server(tmp_path) as admin:
        answer = await admin.send(head + AMBIGUOUS[kind])

    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b"cdc_sync_build_info" not in answer
    assert caplog.records == []


async def test_a_head_without_end_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with admin_server(tmp_path) as admin:
        for line in (b"GET /" + b"x" * 1_000_000, b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 100_000):
            try:
                answer = await admin.send(line + b"\r\n\r\n")
            except ConnectionError:
                continue  # it was cut off while we sent
            assert answer.split(b" ")[1] in {b"400", b""}
        assert (await admin.get("/healthz")).status == 200

    assert caplog.records == []
