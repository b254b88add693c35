"""The ATS's side: its database, and what a DBA does there for cdc-sync."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from cdc_sync.demo.daemon import command, environment
from cdc_sync.demo.errors import DemoError
from cdc_sync.demo.postgres import Server
from cdc_sync.demo.scenario import SCHEMA, SEED
from cdc_sync.demo.settings import DATABASE, ROLE, Mode


class Ats:
    """The ATS's own connection to its database, with all the rights that an application of old has."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection

    async def run(self, script: str) -> None:
        """Run one or more statements; without BEGIN they commit together.

        Raises:
            DemoError: the server refuses one of them.
        """
        try:
            await self._connection.execute(script.encode())
        except psycopg.Error as error:
            raise DemoError(f"the ATS's database refused what it was told ({error}):\n{script}") from error


@asynccontextmanager
async def ats(server: Server) -> AsyncIterator[Ats]:
    """A new database with its tables and rows, and a role for the daemon that has no right to anything yet."""
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {DATABASE}".encode())
        await connection.execute(f"CREATE ROLE {ROLE} LOGIN".encode())
    async with await psycopg.AsyncConnection.connect(server.dsn_for(DATABASE), autocommit=True) as connection:
        made = Ats(connection)
        await made.run(SCHEMA + SEED)
        yield made


async def install(to: Ats, config: Path, mode: Mode) -> list[str]:
    """Do what a DBA does: have the scripts printed, read them, run them. Returns the commands that printed them.

    Raises:
        DemoError: a script cannot be had.
    """
    scripts = [["sql", "install"], ["sql", "grants"]] if mode == "notify" else [["sql", "grants"]]
    for script in await asyncio.gather(*(_printed(config, arguments) for arguments in scripts)):
        await to.run(script)
    return ["cdc-sync " + " ".join(arguments) for arguments in scripts]


async def _printed(config: Path, arguments: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command(config, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise DemoError(
            f"`cdc-sync {' '.join(arguments)}` ended with exit code {process.returncode}: {err.decode().strip()}"
        )
    return out.decode()
