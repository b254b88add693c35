"""A real pgbouncer between clients and the server, in one of its modes."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from support.daemon_process import PATIENCE
from support.postgres import answers
from support.waiting import wait_until

_PORT = 6432
"""Only names its socket, which is in a folder of its own."""

_SETTINGS = """
[databases]
* = host={host} port={port}
[pgbouncer]
pool_mode = {mode}
auth_type = trust
auth_file = {folder}/users
listen_addr =
listen_port = {own}
unix_socket_dir = {folder}
logfile = {folder}/log
pidfile =
"""


def pgbouncer_binary() -> str | None:
    """The program, if the machine has it (Debian: apt-get install pgbouncer)."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(binary: str, dsn: str, mode: str, **settings: Any) -> Iterator[str]:
    """Start one in front of the server of a DSN, for its user, with more settings; yield the DSN by way of it."""
    server = conninfo_to_dict(dsn)
    with tempfile.TemporaryDirectory(prefix="cdc") as folder:
        users = Path(folder) / "users"
        users.write_text(f'"{server["user"]}" "{server.get("password", "")}"\n')
        file = Path(folder) / "pgbouncer.ini"
        user = None if os.geteuid() else "nobody"  # it refuses to be root
        if user:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        file.write_text(
            _SETTINGS.format(host=server["host"], port=server["port"], mode=mode, own=_PORT, folder=folder)
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        file.chmod(0o644)
        with subprocess.Popen([binary, "-q", str(file)], user=user) as process:
            through = make_conninfo(dsn, host=folder, port=_PORT, hostaddr=None)
            try:
                wait_until(lambda: answers(through), "pgbouncer answers", PATIENCE)
                yield through
            finally:
                process.terminate()
