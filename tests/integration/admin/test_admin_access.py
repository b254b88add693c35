"""Who may look, where, and what every answer is wrapped in."""

import asyncio
import base64
import logging
import socket
from itertools import product
from pathlib import Path

import pytest
from support.configurations import a_config
from support.looking import TOKEN, Admin, admin_server

from cdc_sync.admin.server import AdminError


def basic(login: str, password: str) -> str:
    """The header of HTTP Basic."""
    return f"Basic {base64.b64encode(f'{login}:{password}'.encode()).decode()}"


GUARDED = ["/", "/metrics", "/api/status"]
OPEN = ["/healthz", "/readyz"]
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


WRONG = (
    *(None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Bearer é"),
    *("Basic", "Basic ", f"Basic {TOKEN}", basic("", f"{TOKEN}x"), basic(TOKEN, ""), f"{basic('', TOKEN)}x"),
)
RIGHT = (f"Bearer {TOKEN}", basic("", TOKEN), basic("julia", TOKEN), basic("é", TOKEN), basic(" ", TOKEN))


class TestToken:
    async def test_is_asked_for(self, guarded: Admin) -> None:
        asked = list(product(GUARDED, WRONG))

        answers = await asyncio.gather(*(guarded.get(path, authorization=wrong) for path, wrong in asked))

        for what, answer in zip(asked, answers, strict=True):
            assert answer.status == 401, what
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="cdc-sync", charset="UTF-8"'
            assert "Set-Cookie" not in answer.headers
            assert "admin.token" in answer.text
            assert TOKEN not in answer.text

    async def test_lets_in(self, guarded: Admin) -> None:
        for path, authorization in product(GUARDED, RIGHT):
            answer = await guarded.get(path, authorization=authorization)
            assert answer.status == 200
            assert "Set-Cookie" not in answer.headers

    async def test_that_is_no_text_is_wrong_like_any_other(
        self, guarded: Admin, caplog: pytest.LogCaptureFixture
    ) -> None:
        headers = b"Host: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n"
        answer = await guarded.send(b"GET / HTTP/1.1\r\n" + headers + b"\r\n")

        assert answer.startswith(b"HTTP/1.1 401 ")
        assert caplog.records == []

    async def test_cannot_be_walked_round(self, guarded: Admin) -> None:
        for path in ("//", "/metrics/", "/%6Detrics", "/healthz/../metrics", "/healthz%2F..%2Fmetrics"):
            answer = await guarded.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 401 "), path


class TestRebinding:
    """A name that an attacker controls leads to the loopback: a page of his may ask, and must learn nothing."""

    async def test_a_name_of_elsewhere_is_refused(self, admin: Admin) -> None:
        admin.conditions = {"watch applications": "secret"}
        hosts = "attacker.example", "attacker.example:8765", "127.0.0.1.attacker.example", "["
        for path, host in product((*GUARDED, *OPEN, "/application?id=a1", "/nowhere"), hosts):
            answer = await admin.get(path, headers={"Host": host})

            assert answer.status == 421
            assert "is no name of this machine's loopback" in answer.text
            assert "secret" not in answer.text

    async def test_the_loopbacks_names_are_taken_at_any_port(self, admin: Admin) -> None:
        # A tunnel ends at a port of its own.
        for host in ("localhost", "LOCALHOST:9000", "127.0.0.1", "127.1.2.3:80", "[::1]:8765"):
            assert (await admin.get("/api/status", headers={"Host": host})).status == 200

    async def test_an_old_health_check_names_no_host(self, admin: Admin) -> None:
        assert (await admin.send(b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")

    async def test_whoever_has_the_token_may_come_by_a_proxys_name(self, guarded: Admin) -> None:
        headers = {"Host": "cdc-sync.example"}
        assert (await guarded.get("/metrics", authorization=f"Bearer {TOKEN}", headers=headers)).status == 200


class TestFromElsewhere:
    """A page of another site sends requests by a browser of a person who may look."""

    async def test_it_is_refused_on_every_method(self, admin: Admin) -> None:
        paths = *GUARDED, *OPEN, "/static/page.js", "/fuse/release", "/nowhere"
        elsewhere = (
            {"Origin": "https://attacker.example"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "iframe"},
            {"Sec-Fetch-Site": "cross-site"},
        )
        for path, method, headers in product(paths, ("GET", "HEAD", "POST", "PUT", "OPTIONS"), elsewhere):
            answer = await admin.get(path, method=method, headers=headers)
            assert answer.status == 403, (path, method, headers)
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]

    async def test_a_person_may_type_the_address_or_follow_a_link(self, guarded: Admin) -> None:
        typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
        for headers in (typed, followed):
            assert (await guarded.get("/readyz", headers=headers)).status == 200
            assert (await guarded.get("/", headers=headers)).status == 401


async def test_a_token_that_was_changed_is_wrong(guarded: Admin) -> None:
    another = "another-secret-0123456789"
    guarded.use(a_config({"admin.listen": "127.0.0.1:0", "admin.token": another}))

    assert (await guarded.get("/", authorization=f"Bearer {TOKEN}")).status == 401
    assert (await guarded.get("/", authorization=f"Bearer {another}")).status == 200


async def test_the_files_of_the_page_need_the_token_too(guarded: Admin) -> None:
    for name, kind in (("page.css", "text/css"), ("page.js", "javascript"), ("icon.svg", "image/svg+xml")):
        assert (await guarded.get(f"/static/{name}")).status == 401
        answer = await guarded.get(f"/static/{name}", authorization=f"Bearer {TOKEN}")
        assert answer.status == 200
        assert kind in answer.headers["Content-Type"]


async def test_a_form_has_a_limit(guarded: Admin) -> None:
    browser = guarded.browser()
    assert (await browser.press("/fuse/release", all="1", transition="x" * 8_000)).status == 303
    answer = await browser.press("/fuse/release?language=fr", all="1", transition="x" * 8_192)
    assert answer.status == 413
    assert "Ce formulaire dépasse 8192 octets. Envoyez moins de candidatures" in answer.text


@pytest.mark.parametrize("path", ["/?watch=", "/api/status?watch="])
async def test_a_pattern_of_watches_has_a_limit(admin: Admin, path: str) -> None:
    assert (await admin.get(path + "é" * 200)).status == 200
    assert (await admin.get(path + "é" * 201)).status == 400


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_every_answer_has_the_headers_that_make_it_safe(tmp_path: Path, token: str | None) -> None:
    async with admin_server(tmp_path, token=token) as admin:
        for path, method in product((*GUARDED, *OPEN, "/nowhere"), ("GET", "HEAD", "POST")):
            headers = (await admin.get(path, method=method)).headers
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert "'unsafe" not in headers["Content-Security-Policy"]
            assert headers.items() >= SAFE.items()
            assert not {"Access-Control-Allow-Origin", "Server"} & set(headers)


@pytest.mark.parametrize(
    "request_",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"x" * 100_000, b""],
    ids=lambda request: repr(request[:20]),
)
async def test_a_port_scanner_leaves_no_trace_in_the_log(
    admin: Admin, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    caplog.set_level(logging.WARNING)

    await admin.send(request_, hang_up=True)

    assert (await admin.get("/healthz")).status == 200
    assert caplog.records == []


class TestListening:
    async def test_on_a_port_that_is_taken(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = f"127.0.0.1:{taken.getsockname()[1]}"

            with pytest.raises(AdminError) as raised:
                async with admin_server(tmp_path, listen=listen):
                    pass

        assert str(raised.value).startswith(f"admin.listen {listen} cannot be listened on: error while attempting")
        assert "in use" in str(raised.value)
        assert "Choose another one, or null for none." in str(raised.value)

    async def test_on_a_host_that_cannot_be_one(self, tmp_path: Path) -> None:
        with pytest.raises(AdminError, match=r"cannot be listened on: a\.\.b is no host name\. Is another"):
            async with admin_server(tmp_path, listen="a..b:8765", token=TOKEN):
                pass

    async def test_ends_also_while_somebody_holds_a_connection(self, tmp_path: Path) -> None:
        async with asyncio.timeout(20), admin_server(tmp_path) as admin:
            idle = await asyncio.open_connection("127.0.0.1", admin.port)
            half = await asyncio.open_connection("127.0.0.1", admin.port)
            half[1].write(b"GET /metrics HTTP/1.1\r\nHos")
            await half[1].drain()
            await admin.get("/healthz")
        for reader, writer in (idle, half):
            assert await reader.read() == b""
            writer.close()
