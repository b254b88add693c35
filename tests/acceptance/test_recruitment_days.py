"""A day of recruitment in ATSs of real shapes, with the shipped examples: no call is wrong, missing or invented.

The shapes are in `shapes/NAME.sql`, the days in `shapes/NAME.day.sql`: first what was there before, then, from the line
`--- day` on, statements between blank lines, each with the calls that it should cause (`--> APPLICATION STATUS JOB`).
What comes after `--- later` happens once these have arrived. What comes after `--- many` is more than the fuse
believes, and waits for a person.
"""

from collections import defaultdict
from pathlib import Path

import pytest
from support.installation import Installation

SHAPES = ("horilla", "odoo-recruitment", "openats", "french-flags", "rejection-table")
MANY = range(1, 31)
LIMIT = 20
SHAPES_FOLDER = Path(__file__).parent / "shapes"

Calls = dict[str, list[tuple[str, str]]]
Part = tuple[bool, list[str], Calls]


def day_of(shape: str) -> list[Part]:
    """The parts of a shape's day: whether it is a mass change, its statements, and the calls that they should cause."""
    text = (SHAPES_FOLDER / f"{shape}.day.sql").read_text(encoding="utf-8")
    parts: list[Part] = [(False, [], defaultdict(list))]
    for block in text.strip().split("\n\n"):
        if block.startswith("---"):
            parts.append((block == "--- many", [], defaultdict(list)))
            continue
        parts[-1][1].append(block)
        for line in block.splitlines():
            if line.startswith("--> "):
                application, status, job = line.split()[1:]
                for name in {application.replace("*", str(one)) for one in MANY}:
                    parts[-1][2][name].append((status, job))
    return parts


def told(ats: Installation) -> Calls:
    """All that HelloWork was told."""
    return {one: ats.hellowork.told(one) for call in ats.hellowork.calls if (one := call.application_id) is not None}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_day_of_recruitment(bare: Installation, mode: str, shape: str) -> None:
    bare.follow(shape, mode)
    bare.configure_watch(fuse={"max_changes": LIMIT, "max_deletions": LIMIT})
    (_, before, _), *parts = day_of(shape)
    for statement in before:
        bare.ats.execute(statement.encode())
    bare.install()
    expected: Calls = defaultdict(list)
    with bare.daemon() as daemon:
        for is_mass, statements, calls in parts:
            for statement in statements:
                bare.ats.execute(statement.encode())
            for application, due in calls.items():
                expected[application] += due
            if is_mass:
                daemon.wait_for_report(lambda report: report["watches"][0]["held"] > 0, "held entries")
                bare.run("fuse", "release", "--yes")
            daemon.wait_until(lambda: told(bare) == expected, "the calls of the day")
            bare.quiet(daemon)
    # Whatever anything has missed, or is still to come, this run sends.
    assert bare.run("run", "--once").code == 0
    assert told(bare) == expected
