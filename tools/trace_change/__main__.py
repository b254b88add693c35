"""The command line."""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from bench.agreed import id_of
from bench.sink import ON_OUR_PATH, Sink, sink
from bench.site import DURABLE, PATIENCE, Rig, Site, new_store, site, store_server
from support.binaries import binaries_in, server_binaries

from cdc_sync.demo.postgres import Binaries, PostgresError, server
from trace_change.reading import (
    STEPS,
    Trace,
    common,
    jobs,
    middle,
    now_and_then,
    times,
    typical,
    until_call,
    without_news,
)

_ROWS = 1_000
_WARM_UP = 5
_REST = 0.3
_PAUSE = 0.05
_WIRING = ("cli/", "daemon/", "admin/")
"""Where the daemon is put together, and logs and counts."""

BUDGETS = {"files": (16, 12), "functions": (60, 45), "store jobs": (4, 3)}
"""Least and goal."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trace_change", description="The path of one change.")
    parser.add_argument("--pgbin", metavar="FOLDER", help="the bin folder of the server to use")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="(%(default)s)")
    parser.add_argument("--changes", type=int, help="how many are traced (9, or 200 with --times)")
    parser.add_argument("--times", action="store_true", help="where the milliseconds go, instead of what is crossed")
    given = parser.parse_args()
    try:
        binaries = binaries_in(given.pgbin, "--pgbin") if given.pgbin else server_binaries()
        number = given.changes or (200 if given.times else 9)
        traces = list(traced(binaries, number, store=given.store, with_functions=not given.times))
    except (PostgresError, ValueError) as error:
        sys.stderr.write(f"trace_change: {error}\n")
        return 1
    sys.stdout.write("\n".join(timetable(traces) if given.times else path(traces)) + "\n")
    return 0


def traced(binaries: Binaries, number: int, *, store: str, with_functions: bool) -> Iterator[Trace]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdc-sync-trace-")))
        takes_calls = stack.enter_context(sink())
        ats = stack.enter_context(server(binaries, settings=DURABLE))
        state = new_store(stack.enter_context(store_server(binaries))) if store == "postgres" else None
        place = stack.enter_context(site(Rig(ats, binaries, takes_calls), _ROWS, folder, state=state))
        recording = folder / "recording.json"
        what = "functions" if with_functions else "times"
        place.command = (sys.executable, "-m", "trace_change.hooks", str(recording), what)
        place.variables = {"PYTHONPATH": ON_OUR_PATH["PYTHONPATH"]}
        place.start()
        place.wait_until_swept()
        for row in range(1, _WARM_UP + 1):
            place.update_one("applications", row)
            time.sleep(_PAUSE)
        takes_calls.wait(_WARM_UP, PATIENCE)
        rows = range(_WARM_UP + 1, _WARM_UP + 1 + number)
        if with_functions:
            for row in rows:
                place.rest()
                yield from _recorded(place, takes_calls, recording, [row], with_functions=True)
        else:
            place.rest()
            yield from _recorded(place, takes_calls, recording, rows, with_functions=False)


def _recorded(
    place: Site, takes_calls: Sink, recording: Path, rows: Sequence[int], *, with_functions: bool
) -> Iterator[Trace]:
    recording.unlink(missing_ok=True)
    takes_calls.reset()
    place.running.send_signal(signal.SIGUSR1)
    # At any moment of a second: what the daemon does once in each must not seem to be on the path.
    time.sleep(_REST + random.random())  # noqa: S311
    committed: dict[str, int] = {}
    begun = time.monotonic()
    for number, row in enumerate(rows):
        time.sleep(max(begun + number * _PAUSE - time.monotonic(), 0))
        committed[id_of("applications", row)] = place.update_one("applications", row)
    takes_calls.wait(len(rows), PATIENCE)
    time.sleep(_REST)
    place.running.send_signal(signal.SIGUSR1)
    place.wait_until(recording.exists, "the recording")
    recorded = json.loads(recording.read_text())
    if missing := without_news(recorded, with_functions=with_functions):
        raise ValueError(f"the hooks found no {', no '.join(missing)}: mend tools/trace_change/hooks.py")
    for call in takes_calls.calls():
        yield Trace(recorded, committed[call.application_id], call.at)


def path(traces: Sequence[Trace]) -> Iterator[str]:
    crossed, shown = common(traces), typical(traces)
    packages = Counter(file.partition("/")[0] for file, _, _ in crossed)
    files: dict[str, list[str]] = {}
    for function in shown.functions:
        if function in crossed:
            files.setdefault(function[0], []).append(function[1])
    for missed in crossed.difference(shown.functions):
        files.setdefault(missed[0], []).append(missed[1])
    for file, names in files.items():
        yield f"cdc_sync/{file} ({len(names)})"
        yield from (f"    {name}" for name in names)
    yield ""
    yield "statements, with milliseconds since the COMMIT was sent"
    for each in shown.statements:
        yield f"{(each.begun - shown.committed) / 1e6:8.2f}  {each.where:5}  {each.text[:110]}"
    yield ""
    yield f"store jobs: {', '.join(shown.jobs)}"
    yield f"in most changes: {', '.join(f'{name} {number}' for name, number in jobs(traces).items())}"
    if rare := sorted(f"{file}: {name}" for file, name, _ in now_and_then(traces)):
        yield f"now and then, or in the background: {'; '.join(rare)}"
    yield f"functions by package: {', '.join(f'{name} {number}' for name, number in packages.most_common())}"
    yield ""
    counts: dict[str, float] = {
        "files": len(files),
        "functions": len(crossed),
        "store jobs": sum(jobs(traces).values()),
    }
    apart = [each for each in crossed if not each[0].startswith(_WIRING)]
    counts["files without cli, daemon, admin"] = len({file for file, _, _ in apart})
    counts["functions without cli, daemon, admin"] = len(apart)
    before = until_call(traces)
    counts["files until the call arrives"] = len({file for file, _, _ in before})
    counts["functions until the call arrives"] = len(before)
    for where, around in product(("ats", "store"), (False, True)):
        name = "BEGIN, COMMIT, savepoints, alone" if around else "statements"
        counts[f"{name}: {where}"] = middle(len(each.of(where, around=around)) for each in traces)
    yield f"| {'one change: medians of ' + str(len(traces)):40} | count | least | goal |"
    yield f"|{'-' * 42}|-------|-------|------|"
    for name, count in counts.items():
        least, goal = BUDGETS.get(name, ("", ""))
        yield f"| {name:40} | {count:5g} | {least:5} | {goal:4} |"


def timetable(traces: Sequence[Trace]) -> Iterator[str]:
    """The steps' milliseconds: medians, and the share of the means."""
    found = [times(each) for each in traces]
    total = [sum(each) for each in found]
    yield f"| {'step, medians of ' + str(len(traces)) + ' changes':53} |   ms |  mean | share |"
    yield f"|{'-' * 55}|------|-------|-------|"
    for name, column in zip(
        (*STEPS, "COMMIT sent → the call has arrived"), (*zip(*found, strict=True), total), strict=True
    ):
        mean = sum(column) / len(column)
        yield f"| {name:53} | {middle(column):4.2f} | {mean:5.2f} | {mean * len(total) / sum(total):5.0%} |"


if __name__ == "__main__":
    sys.exit(main())
