"""The command line, a version's run, and its server, which npm fetches into a folder of this checkout, once."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from command_line import parser_of, say
from support.binaries import BIN_FOLDER
from support.postgres import RUNNING_SERVER

from postgres_matrix.releases import RELEASES

_ROOT = Path(__file__).parents[2]
_CACHE = _ROOT / "build" / "postgresql"
_PACKAGE = "@embedded-postgres/linux-" + {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "unknown")
_QUIETLY = ("--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")

_OF_SQL = "any_schema changes check planted_names recruitment_days row_security standby tenants physical_copies"
# SQL that versions may understand differently, and each shape of a schema once: short enough for every change.
_SUITE = ["tests/integration/ats", *(f"tests/acceptance/test_{name}.py" for name in _OF_SQL.split())]


def main() -> int:
    parser = parser_of("postgres_matrix")
    parser.add_argument("majors", nargs="*", type=int, metavar="MAJOR", help="10 to 18; all unless given")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="that test at once (%(default)s)")
    given = parser.parse_args()
    if unknown := set(given.majors) - RELEASES.keys():
        parser.error(f"expected major versions from {min(RELEASES)} to {max(RELEASES)}, not {unknown}")
    failed = list[str]()
    for major in given.majors or RELEASES:
        name = f"PostgreSQL {'.'.join(RELEASES[major].split('.')[:2])}"
        say(f"\n== {name} ==")
        environment = {name: value for name, value in os.environ.items() if name != RUNNING_SERVER}
        tests = [sys.executable, "-m", "pytest", *_SUITE, "-q", "--numprocesses", str(given.workers)]
        try:
            environment[BIN_FOLDER] = str(fetched(RELEASES[major]) / "bin")
            subprocess.run(tests, check=True, cwd=_ROOT, env=environment)
        except (OSError, subprocess.SubprocessError) as error:
            failed.append(f"{name}: {error}")
    say("\n".join(failed) or "passed")
    return 1 if failed else 0


def fetched(release: str) -> Path:
    """The folder of a release.

    It is made elsewhere and renamed, so it is whole, also after an interrupted download or two at once.

    Raises:
        OSError, SubprocessError: npm is missing or failed, or there is no package for this machine.
    """
    installed = _CACHE / release
    if not installed.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE, prefix="fetching-") as folder:
            # Without the package's script, which only makes the links.
            npm = ["npm", "install", "--prefix", folder, *_QUIETLY, f"{_PACKAGE}@{release}"]
            subprocess.run(npm, check=True, timeout=600)
            unpacked = Path(folder, "node_modules", _PACKAGE)
            # npm does not carry symbolic links; the first of a name counts.
            for link in json.loads((unpacked / "native" / "pg-symlinks.json").read_text()):
                source, target = unpacked / link["source"], unpacked / link["target"]
                if not os.path.lexists(target):
                    target.symlink_to(os.path.relpath(source, target.parent))
            (unpacked / "native").rename(installed)
    return installed


if __name__ == "__main__":
    sys.exit(main())
