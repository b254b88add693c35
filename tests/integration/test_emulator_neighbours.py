"""The emulator's control API among pages of a browser, and bodies without end."""

import asyncio
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest

from cdc_sync.emulator import Emulator, EmulatorOptions
from cdc_sync.emulator.server import MAX_CONTROL_BYTES

REQUESTS = [
    ("GET", "calls"),
    ("DELETE", "calls"),
    ("GET", "state"),
    ("DELETE", "state"),
    ("GET", "faults"),
    ("POST", "faults"),
    ("DELETE", "faults"),
    ("GET", "applications"),
    ("PUT", "applications"),
    ("GET", "nowhere"),
]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as running:
        running.known = frozenset({"planted-id"})
        running.inject({"kind": "reset"})
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def ask(
    client: aiohttp.ClientSession, emulator: Emulator, method: str, path: str, **headers: str
) -> tuple[int, str]:
    """Ask for something below the control path, with some headers; gives status and text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = b"null" if method in {"POST", "PUT"} else None
    async with client.request(method, f"{emulator.url}/_emulator/{path}", headers=named, data=data) as answer:
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        return answer.status, await answer.text()


def untouched(emulator: Emulator) -> bool:
    """Whether nothing was changed."""
    return len(emulator.faults) == 1 and emulator.known == frozenset({"planted-id"})


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "https://attacker.example"},
    ],
    ids=str,
)
async def test_a_page_of_another_site_gets_and_does_nothing(
    emulator: Emulator, client: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    for method, path in REQUESTS:
        status, text = await ask(client, emulator, method, path, **headers)
        assert status == 403
        assert "planted" not in text
    assert untouched(emulator)


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:8080", "127.0.0.1.attacker.example", "["])
async def test_on_loopback_another_host_gets_and_does_nothing(
    emulator: Emulator, client: aiohttp.ClientSession, host: str
) -> None:
    # After DNS rebinding the browser takes the attacker's origin for ours.
    for method, path in REQUESTS:
        status, text = await ask(client, emulator, method, path, Host=host, Origin=f"http://{host}")
        assert status == 421
        assert "planted" not in text
    assert untouched(emulator)


async def test_who_types_the_address_or_uses_curl_is_answered(
    emulator: Emulator, client: aiohttp.ClientSession
) -> None:
    own = emulator.url
    for headers in (
        {},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "same-origin", "Origin": own},
        {"Host": "localhost:80"},
        {"Host": "[::1]"},
    ):
        assert (await ask(client, emulator, "GET", "applications", **headers)) == (200, '["planted-id"]')


async def test_beyond_loopback_any_host_will_do(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(host="0.0.0.0")) as emulator:  # noqa: S104 - as in a container
        url = emulator.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - as above
        async with client.get(f"{url}/_emulator/calls", headers={"Host": "hellowork.example"}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "faults"), ("PUT", "applications")])
@pytest.mark.parametrize("length", [None, "400000800"], ids=["in chunks", "of a length"])
async def test_a_body_without_end_is_refused_and_not_kept(
    emulator: Emulator, client: aiohttp.ClientSession, method: str, path: str, length: str | None
) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    piece = b'["' + b"x" * 1_000_000

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield piece
            await asyncio.sleep(0)

    headers = {} if length is None else {"Content-Length": length}
    try:
        async with client.request(method, f"{emulator.url}/_emulator/{path}", data=pieces(), headers=headers) as answer:
            assert answer.status == 413
            assert str(MAX_CONTROL_BYTES) in await answer.text()
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        # The server is done with it while the client still sends.
        pass
    assert process.memory_info().rss - before < 100_000_000
    assert untouched(emulator)


async def test_a_list_of_a_hundred_thousand_ids_is_taken(emulator: Emulator, client: aiohttp.ClientSession) -> None:
    known = [f"hellowork-application-{number:>010}" for number in range(100_000)]
    data = io.BytesIO(json.dumps(known).encode())
    async with client.put(f"{emulator.url}/_emulator/applications", data=data) as answer:
        assert answer.status == 204


async def test_calls_without_end_do_not_fill_the_memory(client: aiohttp.ClientSession) -> None:
    async with Emulator(EmulatorOptions(keep=10)) as emulator:
        for number in range(50):
            url = f"{emulator.url}/v1/applications/a-{number}/status"
            async with client.post(url, data=b"x" * 100_000) as answer:
                assert answer.status == 400
        assert [call.number for call in emulator.calls] == list(range(41, 51))
