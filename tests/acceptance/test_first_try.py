"""`config/compose.yaml`, for a first try: its files, commands and settings, without an engine for containers."""

from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.installation import Installation

FOLDER = Path(__file__).parents[2] / "config"
DOCS = FOLDER.parent / "docs"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_its_commands_lead_to_a_call(notify: Installation) -> None:
    written = yaml.safe_load((FOLDER / "compose" / "config.yaml").read_text(encoding="utf-8"))
    # The database is this test's: it has no table and no role of the example yet.
    notify.uninstall()
    notify.ats.execute("DROP TABLE public.applications")
    script = (
        (FOLDER / "compose" / "ats.sql").read_text(encoding="utf-8").replace("ROLE cdc_sync", f"ROLE {notify.role}_")
    )
    notify.ats.execute(script.encode())
    role = f"{notify.role}_"
    try:
        assert conninfo_to_dict(written["database"]["dsn"])["user"] == "cdc_sync"
        own = {"database", "hellowork", "state", "admin", "log"}
        notify.document = {**written, **{name: notify.document[name] for name in own}}
        notify.variables["ATS_DSN"] = make_conninfo(notify.dsn, user=role, password="cdc_sync")
        notify.configure()
        for service in ("triggers", "privileges"):
            command = SERVICES[service]["command"]
            assert command[-2] == "--dsn"
            ended = notify.run(*command[:-1], notify.dsn)
            assert ended.code == 0, ended.output
        with notify.daemon() as daemon:
            notify.ats.execute("UPDATE applications SET status = 'hired' WHERE id = 1")
            daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("hired", "job-2")], "the call")
            known = daemon.wait_for_event("applications known")["event"]
            assert known == "10 applications known, 0 calls"
            # The guides show what is seen with this very database.
            for guide in ("getting-started.md", "fr/premiers-pas.md"):
                assert (DOCS / guide).read_text(encoding="utf-8").count(f" {known} ") == 2
    finally:
        with psycopg.connect(notify.dsn, autocommit=True) as dba:
            dba.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
            dba.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
