"""The program as it was at a commit."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from support.daemon_process import environment

from cdc_sync.store.statements import Database

EARLIER = {"0.1.0": "fcd1f3f91c41066197d29335bdc9111dc18ec8cf", "0.2.0": "7f66334103ec7f6ee22b66d0d878be6ea0ea6d7d"}
"""A commit of each earlier version. This one of 0.1.0 has no `backup`, an older store, and fewer privileges."""

_ROOT = Path(__file__).parents[2]


def check_out(commit: str, folder: Path) -> Mapping[str, str]:
    """Put the program of a commit into a folder.

    Returns what the environment needs so that Python finds this one, with the dependencies of today.

    Raises:
        OSError, subprocess.CalledProcessError: there is no repository here that has the commit.
    """
    command = ["git", "archive", commit, "cdc_sync"]
    packed = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def schema_of(code: Mapping[str, str], backend: Database) -> int:
    """The number of the schema that the program works with."""
    folder = Path(code["PYTHONPATH"]) / "cdc_sync" / "store" / "sql" / backend
    return len(list(folder.glob("[0-9]*.sql")))


def run_old(code: Mapping[str, str], config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of its commands to the end."""
    command = [sys.executable, "-m", "cdc_sync", "--config", str(config), *arguments]
    return subprocess.run(command, env=environment(code), check=False, capture_output=True, text=True, timeout=60)
