"""The daemon's configuration: as in production, but hurried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torture.options import Backend, Mode

WATCH = "applications"

CONCURRENCY = 16
"""Most calls at once."""

TIMEOUT = 2.0
"""A call's seconds, at most."""

_HUGE = 1_000_000_000
"""No fuse: a mass change is what these writers do all day."""

_CAPTURE: Mapping[Mode, Mapping[str, Any]] = {
    "notify": {"mode": "notify", "sweep": "3s", "drain_interval": "1s"},
    # `lookback` is longer than writers date back, and than their transactions last before the first write.
    "poll": {"mode": "poll", "watermark": "updated_at", "poll_interval": "100ms", "lookback": "10s", "sweep": "3s"},
}


def document(
    mode: Mode, backend: Backend, *, dsn: str, hellowork: str, store: Path, admin_port: int
) -> Mapping[str, Any]:
    return {
        "database": {"dsn": dsn},
        "hellowork": {
            "base_url": hellowork,
            "timeout": f"{TIMEOUT:.0f}s",
            "concurrency": CONCURRENCY,
            "retry": {"first": "50ms", "max": "1s"},
            "not_found_retry": "1h",
        },
        "state": {"backend": backend, "path": str(store)},
        "admin": {"listen": f"127.0.0.1:{admin_port}"},
        "log": {"level": "debug", "format": "json"},
        "watches": {
            WATCH: {
                "table": "public.applications",
                "key": ["id"],
                "columns": {
                    "application_id": "hellowork_id",
                    "status": "status",
                    "job_id": "job_id",
                    "created": "created_at",
                    "event_date": "updated_at",
                    "source": "source",
                    "deleted": "deleted_at",
                },
                "deletion_grace": "300ms",
                "settle": {"REJECTED": "400ms"},
                "fuse": {"max_changes": _HUGE, "max_deletions": _HUGE},
                "capture": dict(_CAPTURE[mode]),
            }
        },
    }
