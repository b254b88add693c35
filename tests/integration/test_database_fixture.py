"""What tests build on: a database of their own, whatever others do to theirs."""

import os
import subprocess

import psycopg
import pytest
from support.binaries import server_binaries
from support.postgres import RUNNING_SERVER
from support.sessions import one


@pytest.mark.skipif(RUNNING_SERVER in os.environ, reason="about the server that the tests start themselves")
def test_the_server_is_of_the_version_that_was_chosen(server: str) -> None:
    binaries = server_binaries()
    told = subprocess.run(
        [binaries.folder / "postgres", "--version"],
        check=True,
        capture_output=True,
        text=True,
        env={"LD_LIBRARY_PATH": str(binaries.libraries)},
    )
    with psycopg.connect(server) as connection:
        assert f"PostgreSQL) {one(connection, 'SHOW server_version')}" in told.stdout
