"""A hot standby of a test's own server, in the server's private folder."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from cdc_sync.demo.postgres import Server
from support.postgres import SETTINGS
from support.waiting import wait_until

_PORT = 5433
"""Only names its socket, which is beside the server's own."""


@contextmanager
def standby_of(server: Server) -> Iterator[str]:
    """Copy the server, follow it, and yield the copy's DSN."""
    # The launcher knows whom to run it as; its guardian ends the standby with the server if we cannot.
    launcher = server._launcher
    data, folder = str(server.folder / "standby"), str(server.folder)
    copy = ("-h", folder, "-U", "postgres", "-D", data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
    with launcher.spawn("pg_basebackup", *copy) as copying:
        assert copying.wait(60) == 0, launcher.tail()
    # A standby must have room for as many connections as its primary.
    options = {
        **SETTINGS,
        "unix_socket_directories": folder,
        "listen_addresses": "",
        "port": str(_PORT),
        "fsync": "off",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with launcher.spawn("postgres", "-D", data, *arguments) as process:
        dsn = make_conninfo(server.dsn, port=_PORT)
        try:
            wait_until(lambda: _answers(dsn), "the standby answers")
            yield dsn
        finally:
            process.send_signal(signal.SIGINT)


def _answers(dsn: str) -> bool:
    try:
        with psycopg.connect(dsn):
            return True
    except psycopg.OperationalError:
        return False
