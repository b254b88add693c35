"""One version's run."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from support.binaries import BIN_FOLDER
from support.postgres import RUNNING_SERVER

ROOT = Path(__file__).parents[2]
_DONE = (0, 1)
"""pytest's exit codes of a whole run: all passed, some failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a version.

    Attributes:
        version: the server's.
        passed: the number of tests.
        failed: their names.
        skipped: the number of tests, by reason.
        seconds: without the download.
        trouble: why it did not run to its end.
    """

    version: str
    passed: int = 0
    failed: Sequence[str] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str | None = None

    @property
    def good(self) -> bool:
        return self.trouble is None and not self.failed


def run(version: str, binaries: Path, arguments: Sequence[str], record: Path) -> Outcome:
    """Run pytest on a server.

    Args:
        version: the server's.
        binaries: its bin folder.
        arguments: pytest's.
        record: pytest's report, in JUnit's format.
    """
    environment = {name: value for name, value in os.environ.items() if name != RUNNING_SERVER}
    record.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", f"--junitxml={record}", *arguments],
        check=False,
        cwd=ROOT,
        env={**environment, BIN_FOLDER: str(binaries)},
    )
    seconds = time.monotonic() - started
    if not record.exists():
        return Outcome(version, seconds=seconds, trouble=f"pytest ended with exit code {ended.returncode}")
    return _read(version, record, seconds, ended.returncode)


def _read(version: str, record: Path, seconds: float, code: int) -> Outcome:
    passed, failed, skipped = 0, list[str](), Counter[str]()
    for case in ET.parse(record).iter("testcase"):  # noqa: S314 - pytest has just written it
        reason = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        elif reason is not None:
            skipped[reason.get("message", "")] += 1
        else:
            passed += 1
    trouble = None if code in _DONE else f"pytest ended with exit code {code}"
    if trouble is None and code == 0 and not passed:
        trouble = "no test passed"
    return Outcome(version, passed, tuple(failed), dict(skipped), seconds, trouble)
