"""As the first process of a container, the command starts itself as a child, and hands signals on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of process numbers needs root")

_FIRST = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", sys.executable, "-c"]

_SAY = """
import os, signal, sys, time
from cdc_sync import signals
signals.hold()
signals.leave_first_process()
"""


def run_first(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_FIRST, _SAY + program], capture_output=True, text=True, timeout=30, check=False)


def test_the_program_is_another_process_and_its_exit_code_is_kept() -> None:
    done = run_first("print(os.getpid()); sys.exit(7)")
    assert done.returncode == 7
    assert int(done.stdout) > 1


def test_a_program_that_ends_before_its_first_process_goes_on_is_noticed() -> None:
    slow = "import os, time; fork = os.fork; os.fork = lambda: (child := fork()) and (time.sleep(1) or child)\n"
    assert subprocess.run([*_FIRST, slow + _SAY + "sys.exit(7)"], timeout=30, check=False).returncode == 7


def test_a_signal_that_ends_the_program_is_its_exit_code() -> None:
    assert run_first("signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(20)").returncode == 128 + signal.SIGALRM


def test_signals_reach_the_program() -> None:
    program = """
signal.signal(signal.SIGHUP, lambda *_: print("read again", flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("up", flush=True)
signals.deliver()
while True:
    time.sleep(0.01)  # a signal just before pause() would wait for the next one
"""
    with running(program) as (first, of_program):
        assert of_program.stdout is not None
        assert of_program.stdout.readline() == "up\n"
        os.kill(first, signal.SIGHUP)
        assert of_program.stdout.readline() == "read again\n"
        os.kill(first, signal.SIGTERM)
        assert of_program.wait(30) == 3


@contextmanager
def running(program: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The program, and the number that its first process has here."""
    with subprocess.Popen([*_FIRST, _SAY + program], stdout=subprocess.PIPE, text=True) as process:
        try:
            children = f"/proc/{process.pid}/task/{process.pid}/children"
            wait_until(lambda: bool(read(children)), "unshare starts the first process")
            yield int(read(children).split()[0]), process
        finally:
            process.kill()


def read(path: str) -> str:
    return Path(path).read_text(encoding="ascii")
