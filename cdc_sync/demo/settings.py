"""The demo's configuration file: an ordinary one, only more hurried than a real one should be."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from cdc_sync.demo.scenario import SETTLE, STATUS_MAP

Mode: TypeAlias = Literal["notify", "poll"]

ROLE = "cdc_sync"
DATABASE = "ats"


def configuration(mode: Mode, *, dsn: str, base_url: str, state: Path, admin_port: int) -> str:
    """The file's text.

    Args:
        mode: how changes are captured.
        dsn: the ATS's database, for the daemon's role.
        base_url: where the emulator listens.
        state: the store's file.
        admin_port: where the admin server shall listen on loopback.
    """
    capture: dict[str, Any] = {"mode": mode, "sweep": "1s"}
    if mode == "poll":
        capture |= {"watermark": "updated_at", "poll_interval": "200ms"}
    content = {
        "database": {"dsn": dsn},
        "hellowork": {"base_url": base_url},
        "state": {"path": str(state)},
        "watches": {
            "applications": {
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
                "capture": capture,
                "status": {"map": dict(STATUS_MAP)},
                "settle": dict(SETTLE),
                "deletion_grace": "1s",
            }
        },
        "admin": {"listen": f"127.0.0.1:{admin_port}"},
        "log": {"level": "debug", "format": "json"},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
