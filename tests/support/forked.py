"""Starts the command as a fork of a process that has imported it, else as a program of its own.

To import the command takes most of a second of CPU, and the acceptance tests start it a few thousand times. A fork runs
the same `main` of the same installation, with its own arguments, folder, environment and output. A program of its own
is started where that could differ: another command, variables that Python or a library reads while it is imported,
another network.

This file is the process that forks too, run by the command's interpreter: without what the tests install.
"""

import atexit
import gc
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from typing import IO, Any

_READ_LATE = re.compile(
    r".*(DSN|KEY|TOKEN|PASSWORD)|SUDO_USER|TRIGGERS|CDC_SYNC_CONFIG|CREDENTIALS_DIRECTORY|PYTEST_.*"
)
"""Variables on which nothing depends that a cache keeps."""

_IMPORTED_LATE = (
    "cdc_sync.daemon.running",
    "cdc_sync.store.postgres",
    "cdc_sync.admin.page",
    "uvloop",  # not everywhere
    "apscheduler.executors.asyncio",
    "apscheduler.triggers.interval",
    "encodings.idna",
)

_LONGEST = 200_000
_NETWORK = Path("/proc/thread-self/ns/net")
_HOME = _NETWORK.readlink() if _NETWORK.exists() else None
"""The network of the tests, but for those that take another one."""


class Forked:
    """As much of `subprocess.Popen` as tests use, of a process that is not our child."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self.pid = int(status.recv(_LONGEST))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                code = self._status.recv(_LONGEST)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("cdc-sync", timeout or 0) from None
            self.returncode = int(code)
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        self._status.close()  # nobody waited for its end


def start(
    command: Sequence[str],
    program: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: IO[Any],
    stderr: IO[Any],
    stdin: int | None = None,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes] | Forked":
    """Start a command line; `program` is the command, as it begins a command line that may be forked.

    Its output goes to files; it has no input, unless a descriptor is given.
    """
    is_known = program and list(command[: len(program)]) == list(program)
    may_be = is_known and _HOME and _NETWORK.readlink() == _HOME
    known = _forking_process(tuple(program)) if may_be else None
    if known is None or not known.would_be_the_same(environment):
        return subprocess.Popen(
            command, stdin=stdin or subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment, cwd=cwd
        )
    with Path(os.devnull).open("rb") as nothing:
        files = [stdin or nothing.fileno(), stdout.fileno(), stderr.fileno()]
        return known.fork(command[len(program) :], environment, files, cwd or Path.cwd())


class _ForkingProcess:
    def __init__(self, program: Sequence[str]) -> None:
        self._program = program[0]
        self._environment = dict(os.environ)
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        interpreter = sys.executable if len(program) > 1 else str(Path(self._program).with_name("python"))
        with its:
            command = [interpreter, "-P", __file__, str(its.fileno())]
            # What it runs to get warm must depend on none of them.
            others = {name: value for name, value in self._environment.items() if not _READ_LATE.fullmatch(name)}
            self._process = subprocess.Popen(command, pass_fds=(its.fileno(),), env=others)

    def would_be_the_same(self, environment: Mapping[str, str]) -> bool:
        before = self._environment
        others = {name for name in {*before, *environment} if before.get(name) != environment.get(name)}
        # On what the tests take away depends nothing that a cache keeps.
        others -= {name for name in before if name.startswith(("PG", "CDC_SYNC_", "JOURNAL_"))} - {*environment}
        return all(map(_READ_LATE.fullmatch, others))

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int], cwd: Path) -> Forked:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = json.dumps([[self._program, *arguments], dict(environment), str(cwd)]).encode()
        with its:
            socket.send_fds(self._control, [message], [*files, its.fileno()])
        return Forked(ours)

    def end(self) -> None:
        self._control.close()
        self._process.wait()


@cache
def _forking_process(program: tuple[str, ...]) -> _ForkingProcess:
    made = _ForkingProcess(program)
    atexit.register(made.end)
    return made


def _serve(control: socket.socket) -> None:
    """Return in each fork, which is to become the command; never in this process."""
    ended, notify = socket.socketpair()
    os.set_blocking(notify.fileno(), False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(notify.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, ended], [], [])
        if ended in ready:
            ended.recv(_LONGEST)
            _report(running)
        if control in ready:
            message, files, *_ = socket.recv_fds(control, _LONGEST, 4)
            if not message:
                os._exit(0)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for ours in (control, ended, notify, *running.values()):
                    ours.close()
                line, environment, cwd = json.loads(message)
                os.chdir(cwd)
                _become(line, environment, files)
                return
            running[pid] = socket.socket(fileno=files.pop())
            for file in files:
                os.close(file)
            _send(running[pid], pid)


def _report(running: dict[int, socket.socket]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(ended[0]) as status:
                _send(status, os.waitstatus_to_exitcode(ended[1]))


def _send(status: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits any longer
        status.send(str(number).encode())


def _become(line: list[str], environment: dict[str, str], files: Sequence[int]) -> None:
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = line
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _main() -> None:
    # Ctrl-C is for the tests, which let us know by the end of the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cli = import_module("cdc_sync.cli")
    for each in iter_modules(cli.__path__, "cdc_sync.cli."):
        import_module(each.name)
    for name in _IMPORTED_LATE:
        with suppress(ImportError):
            import_module(name)
    control = socket.socket(fileno=int(sys.argv[1]))
    _warm_up(cli.main)
    gc.freeze()
    program = import_module("cdc_sync.__main__")
    _serve(control)
    _run(program.main)


def _warm_up(main: Callable[[], object]) -> None:
    """Make what a process makes once, and read its files: half of the CPU of most commands."""
    packaged = import_module("cdc_sync.packaged")
    package = Path(packaged.__file__ or "").parent
    for table in package.rglob("*.yaml"):
        packaged.data(table.relative_to(package).as_posix())
    with tempfile.TemporaryDirectory() as folder:
        config, output = Path(folder, "config.yaml"), Path(folder, "output")
        for to, line in ((config, "config example"), (output, "sql install"), (output, "config check"), (output, "-h")):
            sys.argv[1:] = ["--config", str(config), *line.split()]
            with to.open("w") as file, redirect_stdout(file), redirect_stderr(file), suppress(SystemExit):
                main()
    import_module("cdc_sync.admin.metrics").EventMetrics()
    for name, module in [*sys.modules.items()]:
        for made_once in [*vars(module).values()] if name.startswith("cdc_sync.") else ():
            if hasattr(made_once, "cache_info") and not signature(made_once).parameters:
                made_once()


def _run(main: Callable[[], object]) -> None:
    """Run it and end, as a program does, but take no module apart: that is half of a short command's CPU."""
    try:
        sys.exit(main())  # type: ignore[arg-type] # whatever it returns
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        threading._shutdown()  # type: ignore[attr-defined] # joins threads, as the interpreter does
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code or 0)


if __name__ == "__main__":
    _main()
