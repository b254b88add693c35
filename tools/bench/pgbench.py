"""The load: pgbench."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cdc_sync.demo.postgres import SYSTEM_INSTALLATIONS, Binaries

_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_NUMBER = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)


class PgbenchError(Exception):
    """There is no pgbench, or it failed."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A run's transactions, and their `rate` per second, connecting not counted."""

    rate: float
    transactions: int


@dataclass(frozen=True, slots=True)
class Pgbench:
    """The program pgbench, and its LD_LIBRARY_PATH."""

    program: Path
    libraries: Path | None

    def run(self, script: Path, dsn: str, clients: int, length: tuple[str, ...]) -> Ran:
        """Run a script to its end.

        Raises:
            PgbenchError: a transaction failed, or the server could not be reached.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        if self.libraries:
            environment["LD_LIBRARY_PATH"] = str(self.libraries)
        threads = min(clients, os.cpu_count() or 1)
        arguments = ["--no-vacuum", f"--file={script}", f"--client={clients}", f"--jobs={threads}", *length, dsn]
        ended = subprocess.run(
            [self.program, *arguments], check=False, capture_output=True, text=True, env=environment, cwd=script.parent
        )
        rates, number = _RATE.findall(ended.stdout), _NUMBER.search(ended.stdout)
        # Triggers' warnings and single clients' errors are on standard error.
        complaints = [line for line in ended.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
        if ended.returncode or complaints or not rates or not number:
            raise PgbenchError(f"{self.program} ended with exit code {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        # Before version 14 a first rate includes connecting.
        return Ran(float(rates[-1]), int(number[1]))


def find_pgbench(server: Binaries) -> Pgbench:
    """The server's own, else another version's: it is a client.

    Raises:
        PgbenchError: there is none.
    """
    own = server.folder / "pgbench"
    if own.exists():
        return Pgbench(own, server.libraries)
    found = [*sorted(SYSTEM_INSTALLATIONS.glob("*/bin/pgbench"), reverse=True), shutil.which("pgbench")]
    if found[0] is None:
        raise PgbenchError(
            f"there is no pgbench: neither in {server.folder}, nor in {SYSTEM_INSTALLATIONS}, nor on PATH. "
            "Install Debian's postgresql."
        )
    return Pgbench(Path(found[0]), None)
