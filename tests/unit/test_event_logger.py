"""The log: one line for each thing that a person needs to know, in three formats."""

import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest
from support.builders import WATCH
from support.observing import EXAMPLES

from cdc_sync.config import Log
from cdc_sync.core import events
from cdc_sync.daemon.logs import LOG, configure, handlers

Format = Literal["text", "journal", "json"]
FORMATS: tuple[Format, ...] = ("text", "journal", "json")
UNSAID = (events.CaughtUp, events.HeartBeat, events.NotifyQueueSeen)
NO_VARIABLES: Mapping[str, str] = {}
HOSTILE = "a\n<3>event=forged\r\x1b[2Jb\x00 _priority=3 \u2028c"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Set-up of logging is the process's: give the others theirs back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> "Written":
    return Written(capsys)


def logging_events(log: Log, environ: Mapping[str, str] = NO_VARIABLES) -> events.Emit:
    """Writes events to the log."""
    configure(log, environ)
    return events.Dispatch(handlers).emit


class Written:
    """What observations become."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def lines(
        self, kind: str, *observations: events.Event, level: str = "debug", environ: Mapping[str, str] | None = None
    ) -> list[str]:
        """The lines of observations in a format."""
        emit = logging_events(Log.model_validate({"format": kind, "level": level}), environ or {})
        for observation in observations:
            emit(observation)
        captured = self._capsys.readouterr()
        assert captured.out == ""
        # Not splitlines: to whoever reads a log, no other character ends a line.
        return captured.err.removesuffix("\n").split("\n") if captured.err else []

    def records(self, *observations: events.Event, level: str = "debug") -> list[dict[str, Any]]:
        """The JSON lines of observations, without the time."""
        records = [json.loads(line) for line in self.lines("json", *observations, level=level)]
        for record in records:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("timestamp"))
        return records

    def record(self, observation: events.Event) -> dict[str, Any]:
        """The JSON line of an observation that has exactly one."""
        (record,) = self.records(observation)
        return record


def test_json_is_utf_8_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")
    monkeypatch.setattr("sys.stderr", stderr)

    configure(Log(format="json"), {})
    LOG.write(logging.WARNING, "prénom", {})

    stderr.flush()
    assert json.loads(stderr.buffer.getvalue().decode())["event"] == "prénom"


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_has_one_line_without_empty_fields(written: Written, kind: Format) -> None:
    for example in EXAMPLES:
        lines = written.lines(kind, example)

        assert len(lines) == (0 if isinstance(example, UNSAID) else 1), example
        assert not re.search("None|null", "".join(lines)), example


@pytest.mark.parametrize("kind", ["text", "journal"])
@pytest.mark.parametrize(
    "observation",
    [
        events.RowSkipped(WATCH, HOSTILE, HOSTILE, HOSTILE),
        events.WatchLost(WATCH, HOSTILE, misconfigured=False),
        events.CallEnded(WATCH, HOSTILE, "dead", HOSTILE, 1, 0.1, 0.1),
        events.StoreFailed(HOSTILE),
    ],
    ids=lambda observation: type(observation).__name__,
)
def test_text_from_outside_cannot_forge_a_line_or_steer_a_terminal(
    written: Written, kind: str, observation: events.Event
) -> None:
    configure_and_read = written.lines(kind, observation)

    (line,) = configure_and_read
    assert line.isprintable()
    if kind == "journal":
        priority = "4" if isinstance(observation, events.RowSkipped | events.WatchLost) else "3"
        assert line.startswith(f"<{priority}>event=")


def test_a_line_has_the_code_of_its_error(written: Written) -> None:
    lost = events.WatchLost(WATCH, "no such table", misconfigured=True, code="table-missing")

    records = written.records(lost, events.StoreFailed("the disk is full", WATCH, "store-unusable"))

    assert [(record["watch"], record["code"]) for record in records] == [
        (WATCH, "table-missing"),
        (WATCH, "store-unusable"),
    ]


class TestFormatByItself:
    @pytest.mark.parametrize(("apart", "begin"), [(0, "<6>event="), (1, '{"event"')], ids=["its own", "a parent's"])
    def test_under_systemd(self, written: Written, apart: int, begin: str) -> None:
        ours = os.fstat(2)
        variables = {"JOURNAL_STREAM": f"{ours.st_dev}:{ours.st_ino + apart}"}

        assert written.lines("auto", events.StoreRecovered(), environ=variables)[0].startswith(begin)

    def test_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        master, slave = os.openpty()
        with open(master, "rb", buffering=0) as screen, open(slave, "w", encoding="utf-8") as terminal:  # noqa: PTH123 - descriptors
            monkeypatch.setattr(sys, "stderr", terminal)
            logging_events(Log(), {"JOURNAL_STREAM": "8:1"})(events.StoreRecovered())
            line = screen.read(10_000).decode()

        assert "[info     ] the store can be written again" in line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110 - a device
@pytest.mark.parametrize("kind", FORMATS)
def test_a_log_that_cannot_be_written_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch, kind: Format) -> None:
    # The first lines fill its buffer; the rest, and what is left in it at the end, finds no room.
    full = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115 - closed below, and fails
    monkeypatch.setattr(sys, "stderr", full)
    emit = logging_events(Log(format=kind))

    for _ in range(1000):
        emit(events.StoreRecovered())

    with pytest.raises(OSError, match="No space left"):
        full.close()


class TestRetries:
    def told(self, written: Written, *observations: events.Event) -> list[tuple[str, str]]:
        calls = [line for line in written.records(*observations) if "application_id" in line]
        return [(line["application_id"], line["level"]) for line in calls]

    def test_are_told_by_the_first_attempt(self, written: Written) -> None:
        again = [events.CallEnded(WATCH, "a1", "retry", "HTTP 404", attempt, 0.1, 0.1) for attempt in (1, 2, 3)]
        other = events.CallEnded(WATCH, "a2", "retry", "HTTP 404", 1, 0.1, 0.1)
        sent = events.CallEnded(WATCH, "a1", "acknowledged", "HTTP 200", 4, 0.1, 0.1)
        assert self.told(written, *again, other, sent) == [
            ("a1", "info"),
            ("a1", "debug"),
            ("a1", "debug"),
            ("a2", "info"),
            ("a1", "info"),
        ]


class TestWatch:
    """A watch that tries again and again."""

    CONNECTED = events.WatchConnected(WATCH, "notify", 180_001)
    CAPTURING = events.CaptureStarted(WATCH)
    LOST = events.WatchLost(WATCH, "no route to host", misconfigured=False)
    MISTAKE = events.WatchLost(WATCH, "no such table", misconfigured=True)
    SWEPT = events.SweepDone(WATCH, 9, 0.1, {})

    def told(self, written: Written, *observations: events.Event) -> list[str]:
        return [record["event"] for record in written.records(*observations, level="info")]

    def test_that_is_lost_twice_within_a_minute_has_two_lines(self, written: Written) -> None:
        story = (self.CONNECTED, self.CAPTURING, self.LOST, self.CONNECTED, self.CAPTURING, self.LOST)

        told = self.told(written, *story)

        assert told == ["connected", "watching", "no route to host", "watching", "no route to host"]

    def test_tells_a_mistake_once_and_that_it_is_mended(self, written: Written) -> None:
        trying = (self.CONNECTED, self.CAPTURING, self.MISTAKE)

        told = self.told(written, *trying, *trying, *trying, self.CONNECTED, self.CAPTURING, self.SWEPT, self.MISTAKE)

        assert told == ["connected", "watching", "no such table", "swept", "no such table"]

    @pytest.mark.parametrize(
        "end", [events.CaptureStarted, events.WatchEnded, lambda watch: events.WatchStandsBy(watch, "another one")]
    )
    def test_the_end_of_a_tenants_loss_has_a_line(self, written: Written, end: Callable[[str], events.Event]) -> None:
        tenant = "applications@one"

        told = written.records(
            events.CaptureStarted(tenant),
            replace(self.LOST, watch=tenant),
            events.WatchConnected(tenant, "notify", 180_001),
            end(tenant),
            events.CaptureStarted(tenant),
            level="info",
        )

        assert [(record["level"], record["watch"]) for record in told] == [("warning", tenant), ("info", tenant)]


class TestDatabase:
    """A database with many watches."""

    WATCHES = tuple(f"applications@{number}" for number in range(1_000))

    def lost(self, watch: str, database: str = "") -> events.WatchLost:
        return events.WatchLost(watch, "no route to host", misconfigured=False, database=database)

    def told(self, written: Written, *observations: events.Event) -> list[tuple[str, str]]:
        return [(record["event"], record["watch"]) for record in written.records(*observations, level="info")]

    def test_that_is_down_has_one_line_and_one_when_its_last_watch_is_back(self, written: Written) -> None:
        first, last = self.WATCHES[0], self.WATCHES[-1]

        told = self.told(
            written, *map(self.lost, self.WATCHES), *map(events.CaptureStarted, self.WATCHES), self.lost(first)
        )

        assert told == [("no route to host", first), ("watching", last), ("no route to host", first)]


class TestLibraries:
    def test_of_an_exception_only_its_kind_is_told(self, written: Written, capsys: pytest.CaptureFixture[str]) -> None:
        written.lines("json")
        try:
            int("planted-secret")
        except ValueError:
            logging.getLogger("some.library").exception("it failed")

        said = capsys.readouterr().err
        assert json.loads(said)["exception"] == "ValueError"
        assert "planted-secret" not in said

    def test_what_repeats_itself_has_a_line_a_minute_with_its_number(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        configure(Log(format="json"), {})
        monkeypatch.setattr("cdc_sync.daemon.logs.monotonic", lambda: now[0])
        log = logging.getLogger("asyncio").error

        for second in range(121):
            now[0] = float(second)
            # As asyncio says it: which socket is in the second line.
            log(f"socket.accept() out of system resource\nsocket: {second}")
        log("something else")

        records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [(record["event"].split("\n")[0], record.get("times")) for record in records] == [
            ("socket.accept() out of system resource", None),
            ("socket.accept() out of system resource", 60),
            ("socket.accept() out of system resource", 60),
            ("something else", None),
        ]


@pytest.mark.parametrize(
    "event", [events.TokenRefused, lambda _: events.ConnectionDisplaced()], ids=["token", "connection"]
)
def test_what_strangers_do_at_the_admin_servers_door_has_a_line_a_minute(
    written: Written, event: Callable[[str], events.Event]
) -> None:
    (record,) = written.records(*(event(f"2001:db8::{number}") for number in range(1_000)))

    assert record["level"] == "warning"
