"""Tries each mutation against its tests, for a minute at most; the tests must pass without one.

cd tests; python -m mutations [WORD IN THE MUTATION]
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cdc_sync
from mutations import MUTATIONS, Mutation

SECONDS = 60
MOST_MISSED = 0.1
"""Of all mutations."""

_FAILED = 1
"""The exit code of pytest, and of the model, if something is found; others come from a run that says nothing."""

_PYTEST = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile=quick", f"--timeout={SECONDS}"]
_MODEL = """
import sys, tempfile
from pathlib import Path
from support.sender_model import search
with tempfile.TemporaryDirectory() as folder:
    sys.exit(search(float(sys.argv[1]), Path(folder)))
"""


def run(tests: str, mutation: Mutation | None = None) -> bool:
    """Run tests against a copy of the package; returns whether they fail."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "cdc_sync")
        shutil.copytree(Path(cdc_sync.__file__).parent, package)
        if mutation is not None:
            file = package / mutation.file
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(mutation.text, mutation.instead), encoding="utf-8")
        program = ["-c", _MODEL, str(SECONDS)] if tests == "model" else [*_PYTEST, *tests.split()]
        tests_folder = Path(__file__).parent.parent
        environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{tests_folder}"}
        try:
            done = subprocess.run(
                [sys.executable, *program],
                cwd=tests_folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=2 * SECONDS if mutation else None,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False  # nothing is found in time
    if done.returncode not in (0, _FAILED):
        sys.exit(f"{tests}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == _FAILED


def main() -> None:
    """Try them all, or those with a word."""
    word = " ".join(sys.argv[1:])
    chosen = [each for each in MUTATIONS if word in each.what or word in each.file]
    whole = sorted({test for each in chosen for test in each.tests.split()} - {"model"})
    if whole and run(" ".join(whole)):
        sys.exit(f"without a mutation, some of these tests fail: {' '.join(whole)}")
    missed = 0
    for mutation in chosen:
        begun = time.monotonic()
        is_caught = run(mutation.tests, mutation)
        missed += not is_caught
        verdict = "caught" if is_caught else "MISSED"
        print(f"{verdict} in {time.monotonic() - begun:3.0f} s: {mutation.file}: {mutation.what}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} are caught")
    sys.exit(missed > MOST_MISSED * len(chosen))


if __name__ == "__main__":
    main()
