"""Event dates that are whole hours off are reported once: the watch's `timezone` is not the one of the ATS."""

from typing import Any

import pytest
from psycopg import sql
from support.daemon_process import DaemonProcess
from support.installation import Installation

DOUBTED, TRUSTED = "event dates are whole hours off", "event dates agree with the changes again"
NUMBERS = (1, 2, 3, 4, 5)
IN_PARIS = "clock_timestamp() AT TIME ZONE 'Europe/Paris'"


@pytest.fixture
def ats(installation: Installation) -> Installation:
    """An ATS that writes its dates without a zone, in the time of Paris."""
    installation.ats.execute("ALTER TABLE public.applications ADD COLUMN changed_on timestamp")
    installation.ats.execute("CREATE INDEX ON public.applications (changed_on)")
    for number in NUMBERS:
        installation.add(f"hw-{number}")
    watermark = {"watermark": "changed_on"} if installation.mode == "poll" else {}
    installation.configure_watch(timezone="Europe/Paris", columns={"event_date": "changed_on"}, capture=watermark)
    installation.install()
    return installation


def change(ats: Installation, number: int, status: str, changed_on: str = IN_PARIS) -> None:
    ats.change(f"hw-{number}", status=status, changed_on=sql.SQL(changed_on))


def change_one_by_one(ats: Installation, daemon: DaemonProcess, status: str, changed_on: str = IN_PARIS) -> None:
    """Change each application, once the change before is sent."""
    for number in NUMBERS:
        change(ats, number, status, changed_on)
        daemon.wait_until(lambda number=number: is_sent(ats, number, status), f"{status} of {number}")  # type: ignore[misc] # bound


def is_sent(ats: Installation, number: int, status: str) -> bool:
    return [sent for sent, _ in ats.hellowork.told(f"hw-{number}")][-1:] == [status]


def conditions(daemon: DaemonProcess) -> list[dict[str, Any]]:
    return [each for each in daemon.report()["conditions"] if each["name"] == "zone applications"]


def test_a_wrong_zone_is_reported_once(ats: Installation) -> None:
    zone = "Europe/Athens"
    ats.configure_watch(timezone=zone)
    with ats.daemon() as daemon:
        change_one_by_one(ats, daemon, "SEEN")
        reason = daemon.wait_for_event(DOUBTED)["reason"]
        assert reason.startswith("the event dates of the last 3 changed rows are 1 h before")
        assert daemon.readiness()[0] == 200
        (condition,) = conditions(daemon)
        assert condition["message"].startswith(reason)
        assert "`timezone`" in condition["message"]

        # Dates that fit end it.
        here = sql.SQL("clock_timestamp() AT TIME ZONE {}").format(zone).as_string()
        change_one_by_one(ats, daemon, "HIRED", here)
        daemon.wait_for_event(TRUSTED)
        assert len(daemon.events_named(DOUBTED)) == 1
        assert conditions(daemon) == []
