"""The command line."""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from bench.sink import ON_OUR_PATH, sink
from bench.site import DURABLE, PATIENCE, Rig, Site, site
from command_line import say
from support.binaries import server_binaries

from cdc_sync.demo.postgres import Binaries, PostgresError, server

_ROWS = 1_000
_WARM_UP = 5
_REST = 0.3
_PAUSE = 0.05

_STILL = 50_000_000
"""Nanoseconds without work that mean rest."""

BUDGETS = {"files": (16, 12), "functions": (60, 45), "store jobs": (4, 3)}
"""Least and goal."""

Function: TypeAlias = tuple[str, str, int]
"""File, qualified name, line."""


class Trace:
    """One change, from the sending of COMMIT until the daemon rests after its call.

    `recorded` is of `hooks`; `committed` and `arrived` are when COMMIT was sent, and the call arrived.
    """

    def __init__(self, recorded: dict[str, Any], committed: int, arrived: int) -> None:
        self.committed = committed
        rests = arrived
        for at in sorted(at for at, *_ in recorded["functions"] + recorded["statements"] if at > arrived):
            if at - rests > _STILL:
                break
            rests = at

        def until(end: int, what: str) -> list[Any]:
            return [each for each in recorded[what] if committed <= each[0] <= end]

        self.functions = list(dict.fromkeys(tuple(function) for _, function in until(rests, "functions")))
        self.until_call = {tuple(function) for _, function in until(arrived, "functions")}
        self.jobs: list[str] = [name for _, name in until(rests, "jobs")]
        self.statements: list[tuple[int, str, str]] = until(rests, "statements")


def main() -> int | str:
    parser = argparse.ArgumentParser(prog="python -m trace_change", description="The path of one change.")
    parser.add_argument("--changes", type=int, default=9, help="how many are traced (%(default)s)")
    given = parser.parse_args()
    try:
        say("\n".join(path(list(traced(server_binaries(), given.changes)))))
    except (PostgresError, ValueError) as error:
        return f"trace_change: {error}"
    return 0


def traced(binaries: Binaries, number: int) -> Iterator[Trace]:
    """The traces of so many changes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdc-sync-trace-")))
        takes_calls = stack.enter_context(sink())
        ats = stack.enter_context(server(binaries, settings=DURABLE))
        place = stack.enter_context(site(Rig(ats, binaries, takes_calls), _ROWS, folder))
        recording = folder / "recording.json"
        place.command = (sys.executable, "-m", "trace_change.hooks", str(recording))
        place.variables = {"PYTHONPATH": ON_OUR_PATH["PYTHONPATH"]}
        place.start()
        place.wait_until_swept()
        for row in range(1, _WARM_UP + 1):
            place.update_one("applications", row)
            time.sleep(_PAUSE)
        takes_calls.wait(_WARM_UP, PATIENCE)
        for row in range(_WARM_UP + 1, _WARM_UP + 1 + number):
            place.rest()
            yield _recorded(place, recording, row)


def _recorded(place: Site, recording: Path, row: int) -> Trace:
    recording.unlink(missing_ok=True)
    place.sink.reset()
    place.running.send_signal(signal.SIGUSR1)
    # At any moment of a second: what the daemon does once in each must not seem to be on the path.
    time.sleep(_REST + random.random())  # noqa: S311
    committed = place.update_one("applications", row)
    arrived = place.sink.wait(1, PATIENCE)
    time.sleep(_REST)
    place.running.send_signal(signal.SIGUSR1)
    place.wait_until(recording.exists, "the recording")
    recorded = json.loads(recording.read_text())
    if missing := [name for name, found in recorded.items() if not found]:
        raise ValueError(f"the hooks found no {', no '.join(missing)}: mend tools/trace_change/hooks.py")
    return Trace(recorded, committed, arrived)


def path(traces: Sequence[Trace]) -> Iterator[str]:
    """What most changes met, with the statements of the change nearest to that."""
    crossed = _in_most([trace.functions for trace in traces])
    shown = min(traces, key=lambda each: (len(crossed.symmetric_difference(each.functions)), len(each.statements)))
    files: dict[str, list[str]] = {}
    for file, name, _ in (*filter(crossed.__contains__, shown.functions), *crossed.difference(shown.functions)):
        files.setdefault(file, []).append(name)
    for file, names in files.items():
        yield f"cdc_sync/{file} ({len(names)})"
        yield from (f"    {name}" for name in names)
    yield "\nstatements, with milliseconds since the COMMIT was sent"
    for at, where, text in shown.statements:
        yield f"{(at - shown.committed) / 1e6:8.2f}  {where:5}  {text[:110]}"
    numbers = {name: median(trace.jobs.count(name) for trace in traces) for trace in traces for name in trace.jobs}
    jobs = {name: number for name, number in numbers.items() if number >= 1}
    yield f"\nstore jobs: {', '.join(f'{name} {number:g}' for name, number in jobs.items())}"
    counts: dict[str, float] = {"files": len(files), "functions": len(crossed), "store jobs": sum(jobs.values())}
    counts["functions until the call arrives"] = len(_in_most([trace.until_call for trace in traces]))
    for where in ("ats", "store"):
        counts[f"statements: {where}"] = median(
            sum(database == where for _, database, _ in trace.statements) for trace in traces
        )
    yield f"| {'one change: medians of ' + str(len(traces)):40} | count | least | goal |"
    yield f"|{'-' * 42}|-------|-------|------|"
    for name, count in counts.items():
        least, goal = BUDGETS.get(name, ("", ""))
        yield f"| {name:40} | {count:5g} | {least:5} | {goal:4} |"


def _in_most(found: Sequence[Iterable[Function]]) -> set[Function]:
    met = Counter(each for functions in found for each in functions)
    return {each for each, number in met.items() if number * 2 > len(found)}


if __name__ == "__main__":
    sys.exit(main())
