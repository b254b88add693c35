"""Lines with fields, over a real datagram socket in the journal's place."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.builders import WATCH

from cdc_sync.config import Log
from cdc_sync.core.events import CallEnded, Dispatch, RowSkipped
from cdc_sync.daemon.logs import EventLogger, configure, is_the_journals


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(tmp_path / "journal"))
        opened.settimeout(5)
        yield opened


@contextmanager
def standard_error(file: Path) -> Iterator[dict[str, str]]:
    """A standard error, and the environment that systemd gives to a process that has it."""
    usual = sys.stderr
    with file.open("w+") as stream:
        sys.stderr = stream
        try:
            found = os.fstat(stream.fileno())
            yield {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        finally:
            sys.stderr = usual


def test_each_fact_is_a_field(listening: socket.socket, tmp_path: Path) -> None:
    with standard_error(tmp_path / "stderr") as environ:
        emit = Dispatch(EventLogger(configure(Log(), environ, tmp_path / "journal")).handlers).emit
        emit(CallEnded(WATCH, "hw-é", "dead", "HTTP 400: no\nPRIORITY=0", 2, 0.5, 0.1))
        emit(RowSkipped(WATCH, "7", None, "it has no id"))

    message, *fields = listening.recv(2000).decode().splitlines()
    assert message.startswith(
        f'MESSAGE=event="given up, now a dead letter" reply="HTTP 400: no\\\\nPRIORITY=0" watch={WATCH}'
    )
    assert fields[:2] == ["PRIORITY=3", "SYSLOG_IDENTIFIER=cdc-sync"]
    assert set(fields[2:]) == {
        "CDC_SYNC_EVENT=given up, now a dead letter",
        "CDC_SYNC_REPLY=HTTP 400: no\\nPRIORITY=0",
        f"CDC_SYNC_WATCH={WATCH}",
        "CDC_SYNC_APPLICATION_ID=hw-é",
        "CDC_SYNC_ATTEMPT=2",
        "CDC_SYNC_MS=500",
    }
    assert b"CDC_SYNC_APPLICATION_ID" not in listening.recv(2000)
    assert (tmp_path / "stderr").read_text() == ""


def test_another_standard_error_than_the_journals_gets_lines(listening: socket.socket, tmp_path: Path) -> None:
    with standard_error(tmp_path / "stderr") as environ:
        path = tmp_path / "journal"
        assert is_the_journals(environ, path)
        assert not is_the_journals({}, path)
        Dispatch(EventLogger(configure(Log(), {"JOURNAL_STREAM": "1:2"}, path)).handlers).emit(
            RowSkipped(WATCH, "7", None, "it has no id")
        )
    line = f'<4>event="a row cannot be reported: it has no id" watch={WATCH} key=7\n'
    assert (tmp_path / "stderr").read_text() == line


def test_what_the_journal_does_not_take_is_a_line(listening: socket.socket, tmp_path: Path) -> None:
    with standard_error(tmp_path / "stderr") as environ:
        emit = Dispatch(EventLogger(configure(Log(), environ, tmp_path / "journal")).handlers).emit
        listening.close()
        emit(RowSkipped(WATCH, "7", None, "it has no id"))
    line = f'<4>event="a row cannot be reported: it has no id" watch={WATCH} key=7\n'
    assert (tmp_path / "stderr").read_text() == line


def test_a_journal_that_was_started_anew_gets_the_next_line(listening: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with standard_error(tmp_path / "stderr") as environ:
        emit = Dispatch(EventLogger(configure(Log(), environ, path)).handlers).emit
        emit(RowSkipped(WATCH, "7", None, "it has no id"))
        listening.close()
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
            again.bind(str(path))
            again.settimeout(5)
            emit(RowSkipped(WATCH, "8", None, "it has no id"))
            assert b"CDC_SYNC_KEY=8\n" in again.recv(2000)
    assert (tmp_path / "stderr").read_text() == ""
