"""The daemons' configuration: as in production, but hurried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from torture.ats import tenants
from torture.options import Mode, Options

WATCH = "applications"

CONCURRENCY = 16
"""Most calls at once."""

TIMEOUT = 2.0
"""A call's seconds, at most."""

TOKEN = "of-the-torture-of-all-daemons"

_DOCUMENT = Path(__file__).with_name("daemon.yaml").read_text(encoding="utf-8")

_CAPTURE: Mapping[Mode, Mapping[str, Any]] = {
    "notify": {"mode": "notify", "sweep": "3s", "drain_interval": "1s"},
    # `lookback` is longer than writers date back, and than their transactions last before the first write.
    "poll": {"mode": "poll", "watermark": "updated_at", "poll_interval": "100ms", "lookback": "10s", "sweep": "3s"},
}


def watches(options: Options) -> list[str]:
    """The names of the watches."""
    if options.tenants:
        return [f"{WATCH}@{tenant}" for tenant in tenants(options.tenants)]
    return [WATCH]


def document(options: Options, *, dsn: str, hellowork: str, state: Mapping[str, str], admin: str) -> dict[str, Any]:
    """A daemon's configuration."""
    made: dict[str, Any] = yaml.safe_load(_DOCUMENT)
    watch = {**made["watches"][WATCH], "capture": _CAPTURE[options.mode]}
    found = {WATCH: watch}
    if options.tenants:
        found = {WATCH: {**watch, "table": "applications", "for_each": {"schemas": r"tenant\_%"}}}
    made["database"]["dsn"], made["hellowork"]["base_url"] = dsn, hellowork
    made["hellowork"] |= {"concurrency": CONCURRENCY, "timeout": f"{TIMEOUT:.0f}s"}
    made["admin"] = {"listen": admin, "token": TOKEN}
    return {**made, "state": {"backend": options.store, **state}, "watches": found}
