"""`pg_dump`, as a backup runs it, and back again; the test is skipped where the program is older than the server."""

import os
import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync.demo.postgres import SYSTEM_INSTALLATIONS
from support.binaries import server_binaries

WITHIN = 60.0


def dump(dsn: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Dump a database as plain SQL, or what options of `pg_dump` leave of it."""
    return _run(dsn, options)


def restore(dsn: str, script: str) -> None:
    """Run a dump of `dump` in another database, as psql runs it."""
    dumped = re.sub(r"^\\(un)?restrict .*$", "", script, flags=re.MULTILINE)
    statements = re.split(r"^COPY (.*) FROM stdin;\n((?:.*\n)*?)\\\.$", dumped, flags=re.MULTILINE)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements[0].encode())
        for table, content, after in zip(statements[1::3], statements[2::3], statements[3::3], strict=True):
            with connection.cursor().copy(f"COPY {table} FROM stdin".encode()) as copy:
                copy.write(content)
            connection.execute(after.encode())


def _run(dsn: str, options: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    with psycopg.connect(dsn) as connection:
        server = connection.info.server_version // 10_000
    own = server_binaries()
    places: list[tuple[Path, Path | None]] = [(own.folder, own.libraries)]
    places += [(folder, None) for folder in sorted(SYSTEM_INSTALLATIONS.glob("*/bin"), reverse=True)]
    for folder, libraries in places:
        file = folder / "pg_dump"
        if file.exists() and _version(file, libraries) >= server:
            return _program([str(file), *options, "--dbname", _without_password(dsn)], libraries, dsn)
    pytest.skip(f"no pg_dump on this machine is of PostgreSQL {server} or newer")


def _version(file: Path, libraries: Path | None) -> int:
    said = _program([str(file), "--version"], libraries).stdout
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0


def _program(command: list[str], libraries: Path | None, dsn: str | None = None) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "LC_ALL": "C"}
    if libraries is not None:
        surroundings["LD_LIBRARY_PATH"] = str(libraries)
    if dsn is not None and (password := conninfo_to_dict(dsn).get("password")):
        surroundings["PGPASSWORD"] = str(password)
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=WITHIN, env=surroundings)


def _without_password(dsn: str) -> str:
    given = {name: value for name, value in conninfo_to_dict(dsn).items() if name != "password"}
    return make_conninfo("", **given)
