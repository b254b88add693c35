"""Settings that change how the daemon works, each seen from outside."""

import json
import re
import signal

import pytest
from psycopg import sql
from support.installation import JOB, Installation
from support.sessions import one

LEGACY = """
CREATE SCHEMA "ATS";
CREATE TABLE "ATS"."Candidatures" (
    "Société" text, "N°" int, "Réf HelloWork" varchar(40), "État" char(10), "Offre" int, "Créée" date,
    "Modifiée" date DEFAULT current_date, "Supprimée" boolean, PRIMARY KEY ("Société", "N°")
);
INSERT INTO "ATS"."Candidatures" VALUES
    ('O''Brien & Cie', 1, 'hw-1', 'NOUVEAU', 100, '2024-03-31'),
    ('O''Brien & Cie', 2, 'hw-2', 'NOUVEAU', 100, '2024-03-31'),
    ('{a,"b"}', 1, 'hw-3', 'NOUVEAU', 200, '2024-03-31');
"""


def test_a_legacy_schema_with_quoted_names_and_days_for_timestamps(installation: Installation) -> None:
    installation.ats.execute(LEGACY)
    installation.configure(
        watches={
            "legacy": {
                "table": '"ATS"."Candidatures"',
                "key": ['"Société"', '"N°"'],
                "columns": {
                    "application_id": '"Réf HelloWork"',
                    "status": {"sql": 'trim(t."État")', "depends_on": ['"État"']},
                    "job_id": '"Offre"',
                    "created": '"Créée"',
                    "event_date": '"Modifiée"',
                    "deleted": '"Supprimée"',
                },
                "timezone": "Europe/Paris",
                "deletion_grace": "200ms",
                "capture": {
                    **installation.document["watches"]["applications"]["capture"],
                    "watermark": '"Modifiée"',
                    "sweep": "1h" if is_notify(installation) else "1s",
                },
            }
        }
    )
    installation.install()
    with installation.daemon() as daemon:
        update = 'UPDATE "ATS"."Candidatures" SET {} WHERE "Réf HelloWork" = %s'
        for assignment, name in (
            ("\"État\" = 'VU'", "hw-1"),
            ('"Offre" = 300', "hw-2"),
            ('"Supprimée" = true', "hw-3"),
        ):
            installation.ats.execute(sql.SQL(update).format(sql.SQL(assignment)), (name,))
        daemon.wait_until(lambda: len(installation.hellowork.state) == 3, "three calls")
        # The second change of a day has the day's date again.
        installation.ats.execute('UPDATE "ATS"."Candidatures" SET "N°" = 7, "État" = \'OK\' WHERE "N°" = 2')
        daemon.wait_until(lambda: len(installation.hellowork.told("hw-2")) == 2, "the change of a row with a new key")
        installation.settle(daemon)
    assert installation.hellowork.told("hw-1") == [("VU", "100")]
    assert installation.hellowork.told("hw-2") == [("NOUVEAU", "300"), ("OK", "300")]
    assert installation.hellowork.told("hw-3") == [("deleted", "200")]
    assert installation.hellowork.state["hw-1"]["created"] == "2024-03-30T23:00:00.000Z"


def test_a_watch_may_do_without_notifications(notify: Installation) -> None:
    notify.configure_watch(capture={"wakeup": "none", "poll_interval": "100ms"})
    notify.install()
    assert "pg_notify" not in one(notify.ats, "SELECT prosrc FROM pg_proc WHERE proname = 'record_applications'")
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN")
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]
        assert daemon.report()["watches"][0]["sweep_repairs"] == {}


def test_triggers_of_another_configuration_are_outdated(notify: Installation) -> None:
    notify.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]})
    notify.grant()
    with notify.daemon(ready=False) as daemon:
        daemon.wait_until_not_ready("another version or configuration")
        notify.install()
        daemon.wait_until_ready()


def test_without_an_admin_address_nobody_listens(notify: Installation) -> None:
    notify.configure(admin={"listen": None})
    with notify.daemon(ready=False) as daemon:
        daemon.wait_for_event("watching")
        assert daemon.readiness()[0] == 0
        assert "admin" not in daemon.wait_for_event("started")
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("log", "journal", "line"),
    [
        ({"format": "auto"}, "", r'\{.*"event": "1 applications known, 0 calls", "level": "info".*\}'),
        (
            {"format": "auto"},
            "1:2",
            r'<6>event="1 applications known, 0 calls" watch=applications.*',
        ),
        ({"format": "text"}, "", r".*info.*1 applications known, 0 calls.*watch=applications.*"),
    ],
    ids=["json", "journal", "text"],
)
def test_the_log_has_the_format_of_where_it_goes(
    notify: Installation, log: dict[str, str], journal: str, line: str
) -> None:
    notify.configure(log={"level": "info", **log})
    once = notify.run("run", "--once", variables={"JOURNAL_STREAM": journal} if journal else {})
    assert once.code == 0
    assert any(re.fullmatch(line, written) for written in once.stderr.splitlines()), once.stderr
    assert "debug" not in once.stderr


def test_an_interrupted_run_once_says_nothing_odd(notify: Installation) -> None:
    assert notify.run("run", "--once").code == 0
    notify.change("hw-sentinel", status="SEEN")
    notify.hellowork.will({"kind": "hang", "seconds": 60})
    with notify.daemon("--once", ready=False) as process:
        process.wait_until(lambda: notify.hellowork.calls, "the call")
        assert process.stop(signal.SIGINT) == 130
        assert process.logged.count("\n") == len(process.events)
    assert notify.run("run", "--once").code == 0
    assert notify.hellowork.told("hw-sentinel") == [("SEEN", JOB)]


def is_notify(installation: Installation) -> bool:
    return str(installation.document["watches"]["applications"]["capture"]["mode"]) == "notify"


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_a_database_that_writes_dates_its_own_way(installation: Installation, backend: str) -> None:
    """Settings of the database are those of each session in it, the daemon's as well."""
    if backend == "postgres":
        installation.share_store()
    for setting in (
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Jakarta'",
        "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "extra_float_digits = 0",
        "standard_conforming_strings = off",
    ):
        name = sql.Identifier(installation.ats.info.dbname)
        installation.ats.execute(sql.SQL("ALTER DATABASE {} SET " + setting).format(name))
    installation.add("hw-1")
    installation.add("hw-2")
    with installation.daemon() as daemon:
        installation.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: installation.hellowork.told("hw-1") == [("SEEN", JOB)], "the call")
        installation.settle(daemon)
        assert len(installation.hellowork.calls) == 2, "that, and the last one to settle"
        checked = json.loads(installation.run("check", "--json").stdout)
        assert [finding for finding in checked if finding["state"] == "failed"] == []
        for command in (["status"], ["plan"], ["explain", "hw-1"], ["sql", "verify", "--apply"]):
            if command[0] != "sql" or is_notify(installation):
                assert installation.run(*command).code == 0
