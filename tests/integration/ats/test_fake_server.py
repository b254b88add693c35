"""A server that is none asks for the password in clear text: what docs/security.md recommends keeps it."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cdc_sync.ats.connection import connected
from cdc_sync.ats.errors import SourceError

_SECRET = "planted-password-0c1d"
_STARTUP = 196608
_CLEAR_TEXT = b"R" + struct.pack("!ii", 8, 3)


@asynccontextmanager
async def fake_server(heard: bytearray) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length, code = struct.unpack("!ii", await reader.readexactly(8))
                await reader.readexactly(length - 8)
                if code >> 16 == _STARTUP >> 16:
                    break
                writer.write(b"N")  # no TLS, no GSS
            writer.write(_CLEAR_TEXT)
            heard.extend(await reader.read(1000))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def password_given(more: str) -> bool:
    heard = bytearray()
    async with fake_server(heard) as port:
        with pytest.raises(SourceError):
            async with connected(f"host=127.0.0.1 port={port} user=u dbname=d password={_SECRET} {more}"):
                pass
    return _SECRET.encode() in heard


async def test_libpq_gives_the_password_to_whoever_asks() -> None:
    assert await password_given("")


@pytest.mark.parametrize(
    "more", ["sslmode=require", "sslmode=verify-full sslrootcert=system", "require_auth=scram-sha-256"]
)
async def test_what_is_recommended_keeps_it(more: str) -> None:
    assert not await password_given(more)
