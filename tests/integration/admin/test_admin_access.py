"""Who may look, where, and what every answer is wrapped in."""

import asyncio
import logging
import socket
from pathlib import Path

import pytest
from support.configurations import a_config
from support.looking import TOKEN, Admin, admin_server

from cdc_sync.admin.metrics import Metrics
from cdc_sync.admin.server import AdminError, AdminServer
from cdc_sync.core.conditions import NONE
from cdc_sync.store.sqlite import SqliteStore

GUARDED = ["/", "/metrics", "/api/status"]
OPEN = ["/healthz", "/readyz"]


class TestToken:
    @pytest.mark.parametrize("path", GUARDED)
    @pytest.mark.parametrize(
        "authorization",
        [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer é"],
    )
    async def test_is_asked_for(self, tmp_path: Path, path: str, authorization: str | None) -> None:
        async with admin_server(tmp_path, token=TOKEN) as admin:
            answer = await admin.get(path, authorization=authorization)

        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "admin.token" in answer.text
        assert TOKEN not in answer.text

    @pytest.mark.parametrize("path", GUARDED)
    async def test_lets_in(self, tmp_path: Path, path: str) -> None:
        async with admin_server(tmp_path, token=TOKEN) as admin:
            assert (await admin.get(path, authorization=f"Bearer {TOKEN}")).status == 200

    @pytest.mark.parametrize("path", OPEN)
    async def test_is_not_needed_for_health(self, tmp_path: Path, path: str) -> None:
        async with admin_server(tmp_path, token=TOKEN) as admin:
            assert (await admin.get(path)).status == 200

    async def test_that_is_no_text_is_wrong_like_any_other(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with admin_server(tmp_path, token=TOKEN) as admin:
            headers = b"Host: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n"
            answer = await admin.send(b"GET / HTTP/1.1\r\n" + headers + b"\r\n")

        assert answer.startswith(b"HTTP/1.1 401 ")
        assert caplog.records == []

    @pytest.mark.parametrize(
        "path", ["//", "/metrics/", "/%6Detrics", "/healthz/../metrics", "/healthz%2F..%2Fmetrics"]
    )
    async def test_cannot_be_walked_round(self, tmp_path: Path, path: str) -> None:
        async with admin_server(tmp_path, token=TOKEN) as admin:
            answer = await admin.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

        assert answer.startswith(b"HTTP/1.1 401 ")

    @pytest.mark.parametrize("path", GUARDED)
    async def test_none_is_needed_if_none_is_configured(self, admin: Admin, path: str) -> None:
        assert (await admin.get(path)).status == 200


@pytest.mark.parametrize("path", [*GUARDED, *OPEN, "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_every_answer_has_the_headers_that_make_it_safe(
    tmp_path: Path, path: str, method: str, token: str | None
) -> None:
    async with admin_server(tmp_path, token=token) as admin:
        answer = await admin.get(path, method=method)

    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("path", "method", "status"), [("/nowhere", "GET", 404), ("/healthz", "POST", 405)])
async def test_what_there_is_not(admin: Admin, path: str, method: str, status: int) -> None:
    assert (await admin.get(path, method=method)).status == status


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

        assert str(raised.value).startswith(f"admin.listen {listen} cannot be listened on: ")
        assert "in use" in str(raised.value)
        assert "Choose another one, or null for none." in str(raised.value)

    async def test_on_an_address_of_another_machine(self, tmp_path: Path) -> None:
        with pytest.raises(AdminError, match=r"^admin.listen 192\.0\.2\.1:8765 cannot be listened on: "):
            async with admin_server(tmp_path, listen="192.0.2.1:8765", token=TOKEN):
                pass

    async def test_nowhere(self, tmp_path: Path) -> None:
        store = SqliteStore(tmp_path / "state.db")
        config = a_config({"admin.listen": None})
        async with AdminServer(config, store, Metrics(), lambda: NONE, lambda: 0) as server:
            assert server.url is None
        await store.close()

    async def test_on_ipv6(self, tmp_path: Path) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        async with admin_server(tmp_path, listen="[::1]:0") as admin:
            assert admin.url.startswith("http://[::1]:")
            assert (await admin.get("/healthz")).text == "ok\n"

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
