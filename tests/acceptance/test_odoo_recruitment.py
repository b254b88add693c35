"""config/odoo-recruitment.yaml on tables as Odoo has them: what recruiters do there, and what HelloWork hears of it."""

from typing import Any

import pytest
from psycopg import sql
from support.daemon_process import DaemonProcess
from support.installation import Installation

NEW, QUALIFIED, INTERVIEW, PROPOSED, SIGNED, UNTRANSLATED = 1, 2, 3, 5, 6, 7
NURSE, BAKER = 11, 12


@pytest.fixture
def odoo(bare: Installation, mode: str) -> Installation:
    bare.follow("odoo-recruitment", mode)
    return bare


def apply(odoo: Installation, hellowork_id: str | None, stage_id: int = NEW, **columns: Any) -> None:
    """Insert an applicant, as Odoo does."""
    values = {
        "x_hellowork_id": hellowork_id,
        "partner_name": "Jeanne Martin",
        "stage_id": stage_id,
        "job_id": NURSE,
        "active": True,
        "create_date": "2024-03-31 02:30:00.123456",
        "write_date": sql.SQL("clock_timestamp() AT TIME ZONE 'UTC'"),
        "date_last_stage_update": "2024-03-31 02:30:00",
        **columns,
    }
    statement = sql.SQL("INSERT INTO public.hr_applicant ({}) VALUES ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(_value, values.values()))
    )
    odoo.ats.execute(statement)


def write(odoo: Installation, hellowork_id: str, **columns: Any) -> None:
    """Update an applicant, as Odoo does."""
    now = sql.SQL("clock_timestamp() AT TIME ZONE 'UTC'")
    values = {"write_date": now, **({"date_last_stage_update": now} if "stage_id" in columns else {}), **columns}
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), _value(value)) for name, value in values.items()]
    statement = sql.SQL("UPDATE public.hr_applicant SET {} WHERE x_hellowork_id = {}").format(
        sql.SQL(", ").join(assignments), hellowork_id
    )
    assert odoo.ats.execute(statement).rowcount == 1


def statuses(odoo: Installation, hellowork_id: str) -> list[str]:
    return [status for status, _ in odoo.hellowork.told(hellowork_id)]


def test_what_recruiters_do_is_told_as_odoo_means_it(odoo: Installation, mode: str) -> None:
    for name in ("staged", "untranslated", "hired", "refused", "qualified", "archived", "touched", "moved", "deleted"):
        apply(odoo, f"hw-{name}")
    apply(odoo, None)
    odoo.install()
    with odoo.daemon() as daemon:
        write(odoo, "hw-staged", stage_id=INTERVIEW, date_last_stage_update="2024-07-01 12:34:56.789")
        write(odoo, "hw-untranslated", stage_id=UNTRANSLATED)
        write(odoo, "hw-hired", stage_id=SIGNED)
        write(odoo, "hw-refused", active=False, refuse_reason_id=1)
        write(odoo, "hw-qualified", stage_id=QUALIFIED)  # the same to HelloWork as before
        write(odoo, "hw-archived", active=False)
        write(odoo, "hw-archived", stage_id=INTERVIEW)
        write(odoo, "hw-touched", kanban_state="done", partner_name="Jeanne Durand")
        write(odoo, "hw-moved", job_id=BAKER)
        odoo.ats.execute("DELETE FROM public.hr_applicant WHERE x_hellowork_id = 'hw-deleted'")
        daemon.wait_until(lambda: statuses(odoo, "hw-refused") == ["rejected"], "the refusal's call")
        settle(odoo, daemon, "hw-mark-1")
        assert statuses(odoo, "hw-archived") == []
        write(odoo, "hw-refused", active=True, refuse_reason_id=None)
        write(odoo, "hw-archived", stage_id=PROPOSED)
        write(odoo, "hw-archived", active=True)
        daemon.wait_until(lambda: "hw-deleted" in odoo.hellowork.state, "the deletion's call")
        settle(odoo, daemon, "hw-mark-2")
        names = ("staged", "untranslated", "hired", "refused", "qualified", "archived", "touched", "moved", "deleted")
        assert {name: odoo.hellowork.told(f"hw-{name}") for name in names} == {
            "staged": [("interview_by_recruiter", "11")],
            "untranslated": [("Assessment", "11")],
            "hired": [("hired", "11")],
            "refused": [("rejected", "11"), ("seen_by_recruiter", "11")],
            "qualified": [],
            "archived": [("offred", "11")],
            "touched": [],
            "moved": [("seen_by_recruiter", "12")],
            "deleted": [("deleted", "11")],
        }
        body = odoo.hellowork.state["hw-staged"]
        # Summer in Paris, and an hour that does not exist there: Odoo means UTC.
        assert (body["eventDate"], body["created"]) == ("2024-07-01T12:34:56.789Z", "2024-03-31T02:30:00.123Z")
        assert daemon.report()["watches"][0]["sweep_repairs"] == {}


def test_a_renamed_stage_is_a_mass_change_and_held(odoo: Installation) -> None:
    for number in range(9):
        apply(odoo, f"hw-{number}", INTERVIEW)
    apply(odoo, "hw-elsewhere")
    odoo.configure_watch(fuse={"max_changes": 3})
    odoo.install()
    with odoo.daemon() as daemon:
        odoo.ats.execute(
            """UPDATE public.hr_recruitment_stage SET name = name || '{"fr_FR": "Entretien"}' WHERE id = 3"""
        )
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 6, "six entries held")
        daemon.wait_until(lambda: len(odoo.hellowork.calls) == 3, "the calls within the limit")
        assert "more than 3 changes" in daemon.wait_until_not_ready("fuse applications")
        # The label is put right again, before anybody has released them.
        odoo.ats.execute(
            """UPDATE public.hr_recruitment_stage SET name = name || '{"fr_FR": "Premier entretien"}' WHERE id = 3"""
        )
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 3, "what was not sent is cancelled")
        odoo.run("fuse", "release", "--yes")
        daemon.wait_until(lambda: len(odoo.hellowork.calls) == 6, "the calls for those that were told")
        daemon.wait_until_ready()
        assert {body["status"] for body in odoo.hellowork.state.values()} == {"interview_by_recruiter"}


def settle(odoo: Installation, daemon: DaemonProcess, mark: str) -> None:
    """Return when all that was committed before has been captured and delivered."""
    apply(odoo, mark)
    daemon.wait_until(lambda: mark in odoo.hellowork.state, f"the call for {mark}")
    odoo.quiet(daemon)


def _value(value: Any) -> sql.Composable:
    return value if isinstance(value, sql.Composable) else sql.Literal(value)
