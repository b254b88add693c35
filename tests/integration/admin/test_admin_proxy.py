"""Behind a reverse proxy that shows the page at a path, as docs/operations.md configures nginx."""

import re
from pathlib import Path

import pytest
from support.looking import TOKEN, admin_server
from support.nginx import nginx, nginx_binary

ROOT = Path(__file__).parents[3]


def documented() -> str:
    """What docs/operations.md has for nginx."""
    found = re.search(r"```nginx\n(.*?)```", (ROOT / "docs/operations.md").read_text("utf-8"), re.DOTALL)
    assert found
    return found[1].replace("http://127.0.0.1:8765", "BEHIND")


async def test_links_redirects_and_files_follow_the_prefix(tmp_path: Path) -> None:
    binary = nginx_binary()
    if binary is None:
        pytest.skip("needs nginx (Debian: apt-get install nginx-light)")
    async with admin_server(tmp_path, token=TOKEN, prefix="/cdc-sync", title="Paris") as admin:
        with nginx(binary, admin.url.rstrip("/"), documented()) as proxy:
            own = admin.url
            admin.url = f"{proxy}/"
            refused = await admin.get("/cdc-sync/", headers={"Accept": "text/html"})
            assert refused.status == 401
            assert "Paris" not in refused.text
            julia = admin.browser("julia").authorization

            page = await admin.get("/cdc-sync/?language=fr", authorization=julia, headers={"Accept": "text/html"})
            assert "Paris" in page.text
            addresses = re.findall(r'(?:href|src|action)="([^"]*)"', page.text)
            assert [one for one in addresses if not one.startswith(("/cdc-sync/", "#", "?"))] == []
            for address in addresses:
                if "/static/" in address:
                    assert (await admin.get(address, authorization=julia)).status == 200
            done = await admin.post("/cdc-sync/sending/pause", {"all": "1"}, Authorization=julia, Origin=proxy)
            assert (done.status, done.headers["Location"]) == (303, "/cdc-sync/")
            admin.url = own
            assert (await admin.get("/healthz")).text == "ok\n"
