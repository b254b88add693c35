"""The daemons' configuration: as in production, but hurried."""

from collections.abc import Mapping
from typing import Any

from torture.ats import tenants
from torture.options import Mode, Options

WATCH = "applications"

CONCURRENCY = 16
"""Most calls at once."""

TIMEOUT = 2.0
"""A call's seconds, at most."""

TOKEN = "of-the-torture-of-all-daemons"

_HUGE = 1_000_000_000
"""No fuse: a mass change is what these writers do all day."""

_CAPTURE: Mapping[Mode, Mapping[str, Any]] = {
    "notify": {"mode": "notify", "sweep": "3s", "drain_interval": "1s"},
    # `lookback` is longer than writers date back, and than their transactions last before the first write.
    "poll": {"mode": "poll", "watermark": "updated_at", "poll_interval": "100ms", "lookback": "10s", "sweep": "3s"},
}
_COLUMNS = {
    "application_id": "hellowork_id",
    "status": "status",
    "job_id": "job_id",
    "created": "created_at",
    "event_date": "updated_at",
    "source": "source",
    "deleted": "deleted_at",
}


def watches(options: Options) -> list[str]:
    """The names of the watches."""
    if options.tenants:
        return [f"{WATCH}@{tenant}" for tenant in tenants(options.tenants)]
    return [WATCH] if options.watches == 1 else [f"{WATCH}_{number}" for number in range(1, options.watches + 1)]


def document(options: Options, *, dsn: str, hellowork: str, state: Mapping[str, str], admin: str) -> dict[str, Any]:
    """A daemon's configuration."""
    watch = {
        "table": "public.applications",
        "key": ["id"],
        "columns": _COLUMNS,
        "deletion_grace": "300ms",
        "settle": {"REJECTED": "400ms"},
        "fuse": {"max_changes": _HUGE, "max_deletions": _HUGE},
        "capture": _CAPTURE[options.mode],
    }
    found = {WATCH: watch}
    if options.tenants:
        found = {WATCH: {**watch, "table": "applications", "for_each": {"schemas": r"tenant\_%"}}}
    elif options.watches > 1:
        # An application's rows are all of one watch.
        part = f"ascii(right(t.hellowork_id, 1)) % {options.watches}"
        found = {
            name: {**watch, "where": {"sql": f"{part} = {place}", "depends_on": ["hellowork_id"]}}
            for place, name in enumerate(watches(options))
        }
    return {
        "database": {"dsn": dsn},
        "hellowork": {
            "base_url": hellowork,
            "timeout": f"{TIMEOUT:.0f}s",
            "concurrency": CONCURRENCY,
            "retry": {"first": "50ms", "max": "1s"},
            "not_found_retry": "1h",
        },
        "state": {"backend": options.store, **state},
        "admin": {"listen": admin, "token": TOKEN},
        "log": {"level": "debug", "format": "json"},
        "watches": found,
    }
