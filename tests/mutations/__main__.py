"""Tries each mutation of the sender against its model, for a minute at most.

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
_TRY = """
import sys, tempfile
from pathlib import Path
from support.sender_model import search
with tempfile.TemporaryDirectory() as folder:
    print(search(float(sys.argv[1]), Path(folder)) or "")
"""


def tried(mutation: Mutation) -> str:
    """What the model says about a mutation; empty if it finds nothing."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "cdc_sync")
        shutil.copytree(Path(cdc_sync.__file__).parent, package)
        file = package / mutation.file
        text = file.read_text(encoding="utf-8")
        assert text.count(mutation.text) == 1, mutation
        file.write_text(text.replace(mutation.text, mutation.instead), encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "-c", _TRY, str(SECONDS)],
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parent.parent}"},
            capture_output=True,
            text=True,
            timeout=3 * SECONDS,
            check=False,
        )
        return run.stdout.strip() or run.stderr.strip()[-200:]


def main() -> None:
    """Try them all, or those with a word."""
    word, missed = " ".join(sys.argv[1:]), []
    for mutation in MUTATIONS:
        if word in mutation.what:
            begun = time.monotonic()
            found = tried(mutation)
            print(
                f"{'caught' if found else 'MISSED'} in {time.monotonic() - begun:3.0f} s: {mutation.what}", flush=True
            )
            print(f"    {found[:150]}", flush=True)
            missed += [] if found else [mutation]
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
