"""The demo, as the installed command: it passes in both modes, can fail, and leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from support.binaries import BIN_FOLDER
from support.leftovers import inhabitants, nothing_left
from support.postgres import RUNNING_SERVER
from support.waiting import wait_until

from cdc_sync.demo import show
from cdc_sync.demo.postgres import PostgresError, find_binaries
from cdc_sync.demo.show import Mode, Step, run_demo, steps

COMMAND = Path(sys.executable).with_name("cdc-sync")


@pytest.fixture(scope="module", autouse=True)
def _a_server_to_embed() -> None:
    try:
        find_binaries()
    except PostgresError as error:
        if RUNNING_SERVER in os.environ or BIN_FOLDER in os.environ:
            pytest.skip(str(error))
        raise


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, its output in a pipe; killed if the test fails before it has ended."""
    with subprocess.Popen(
        [COMMAND, "demo", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read the output up to the line that matches; it is returned with what came before."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(pattern, line):
            return seen
    pytest.fail(f"the output ended without {pattern!r}:\n{seen}")


@pytest.mark.parametrize("mode", ["notify", "poll"])
def test_passes(mode: Mode, temporary: Path) -> None:
    ended = subprocess.run(
        [COMMAND, "demo", "--mode", mode], capture_output=True, encoding="utf-8", timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert f"capture.mode {mode}): 36 applications known, 0 calls." in ended.stdout
    for step in steps():
        assert f"✓ {step.done}\n" in ended.stdout
        for told in step.expected:
            assert f"    sent: {told}  " in ended.stdout
    calls = sum(len(step.expected) for step in steps())
    assert f"{len(steps())} done, {calls} sent, 9 correctly not sent\n" in ended.stdout
    assert ended.stdout.rstrip().endswith(f"PASSED: HelloWork received {calls} calls, exactly the expected ones.")
    assert nothing_left(temporary)


def test_leaves_nothing_when_it_is_killed_in_the_middle(temporary: Path) -> None:
    with started() as process:
        read_until(process, "✓ +HW-1002 is hired")
        assert any("postgres" in line for line in inhabitants(temporary))
        assert any("cdc_sync --config" in line for line in inhabitants(temporary))
        process.kill()
        # It cannot wait for those who tidy up.
        wait_until(lambda: nothing_left(temporary), "the end of what was started")


def test_stays_to_play_with_until_it_is_interrupted(temporary: Path) -> None:
    with started("--keep") as process:
        said = read_until(process, "What HelloWork receives from now on")
        assert re.search(r"the daemon's page +http://127\.0\.0\.1:\d+/", said)
        assert re.search(r"what HelloWork got +http://127\.0\.0\.1:\d+/_emulator/calls", said)
        dsn = re.search(r"postgresql://\S+(?=\n)", said)
        config = re.search(r"--config (\S+) status", said)
        statement = re.search(r"UPDATE applications SET status = 'hired'.*'HW-1012';", said)
        assert dsn is not None
        assert config is not None
        assert statement is not None
        with psycopg.connect(dsn.group(), autocommit=True) as connection:
            connection.execute(statement.group().encode())
        assert "HW-1012 hired J-100" in read_until(process, "HW-1012")
        subprocess.run([COMMAND, "--config", config.group(1), "status"], check=True, stdout=subprocess.DEVNULL)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert nothing_left(temporary)


def test_fails_when_helloworks_calls_are_others_than_expected(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Step("HW-1001 is opened", (_set("viewed", 1001),), ("HW-1001 hired J-100",))
    surplus = Step("HW-1002 is hired", (_set("hired", 1002),), silent="so this test says")
    monkeypatch.setattr(show, "steps", lambda: (wrong, surplus))
    said = list[str]()
    assert run_demo("notify", said.append, keep=False) == 1
    account_and_verdict = "\n".join(said)
    assert re.search(r"✗ HW-1001 is opened\n    sent: HW-1001 seen_by_recruiter J-100  \d+ ms", account_and_verdict)
    assert "PASSED" not in account_and_verdict
    for line in ("- HW-1001 hired J-100", "+ HW-1001 seen_by_recruiter J-100", "+ HW-1002 hired J-100"):
        assert f"\n  {line}\n" in account_and_verdict
    assert '"event": "sent"' in account_and_verdict  # the end of the daemon's log
    assert nothing_left(temporary)


def _set(status: str, number: int) -> str:
    return f"UPDATE applications SET status = '{status}' WHERE hellowork_id = 'HW-{number}'"  # noqa: S608 - ours
