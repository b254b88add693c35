"""config/rejection-table.yaml on tables of that shape: what recruiters do there, and what HelloWork hears of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import sql
from support.daemon_process import DaemonProcess
from support.installation import Installation

READ, INTERVIEW = 2, 3
NANTES, PARIS = 71, 72


@pytest.fixture
def ats(bare: Installation, mode: str) -> Installation:
    bare.follow("rejection-table", mode)
    # The dates are Paris's, as the example says: from eleven in the evening on, UTC has another one.
    bare.ats.execute("SET timezone = 'Europe/Paris'")
    return bare


def hw(number: int) -> str:
    """The HelloWork id of a candidacy of the test, whose key is this number."""
    return f"{number:08d}-0000-4000-8000-00000000abcd"


def apply(ats: Installation, number: int, job_id: int = NANTES) -> None:
    """Insert a candidacy that nobody has touched for long."""
    ats.ats.execute(
        "INSERT INTO public.candidacy (id, hellowork_id, stage_id, job_id, created_on, changed_on)"
        " VALUES (%s, %s, %s, %s, '2024-07-10', '2024-07-11')",
        (number, hw(number), READ, job_id),
    )


def change(ats: Installation, number: int, **columns: Any) -> None:
    """Update a candidacy, as the ATS does."""
    values = {"changed_on": sql.SQL("current_date"), **columns}
    assignments = [
        sql.SQL("{} = {}").format(sql.Identifier(name), value if isinstance(value, sql.SQL) else sql.Literal(value))
        for name, value in values.items()
    ]
    statement = sql.SQL("UPDATE public.candidacy SET {} WHERE id = {}")
    assert ats.ats.execute(statement.format(sql.SQL(", ").join(assignments), number)).rowcount == 1


def reject(ats: Installation, *candidacies: int | None) -> None:
    """Insert a rejection of each, which touches nothing else."""
    ats.ats.cursor().executemany(
        "INSERT INTO public.rejection (candidacy_id) VALUES (%s)", [(candidacy,) for candidacy in candidacies]
    )


def settle(ats: Installation, daemon: DaemonProcess, mark: int) -> None:
    """Return when all that was committed before has been captured and delivered."""
    if ats.document["watches"]["applications"]["capture"]["mode"] == "poll":
        ats.sweeps(daemon)
    apply(ats, mark)
    daemon.wait_until(lambda: hw(mark) in ats.hellowork.state, f"the call for {mark}")
    ats.quiet(daemon)


def told(ats: Installation, number: int) -> list[tuple[str, str]]:
    return ats.hellowork.told(hw(number))


def wait_for(ats: Installation, daemon: DaemonProcess, number: int, status: str | None = None) -> None:
    """Wait until HelloWork's last word on a candidacy is this status, or it has been told anything."""
    what = f"{status or 'a call'} for {number}"
    daemon.wait_until(lambda: told(ats, number) and status in (None, told(ats, number)[-1][0]), what)


STAGED, HIRED, CANCELED, MOVED, DELETED, UNDONE, FROM, TO, RENUMBERED, BYSTANDER = range(1, 11)


def test_what_other_tables_say_is_told_of_the_candidacies_that_it_concerns(ats: Installation, mode: str) -> None:
    for number in range(STAGED, BYSTANDER + 1):
        apply(ats, number, PARIS if number == RENUMBERED else NANTES)
    reject(ats, FROM, None, 4711)
    ats.install()
    started = datetime.now(UTC)
    with ats.daemon() as daemon:
        change(ats, STAGED, stage_id=INTERVIEW)
        change(ats, BYSTANDER, candidate_name="Jeanne Martin")
        change(ats, MOVED, job_id=PARIS)
        # Of nobody, of a candidacy that is long gone, and of a number that no candidacy can have.
        reject(ats, None, 4712, 99_999_999_999, HIRED, DELETED, UNDONE)
        change(ats, HIRED, hired=True)
        change(ats, CANCELED, canceled=True)
        ats.ats.execute("UPDATE public.rejection SET candidacy_id = %s WHERE candidacy_id = %s", (TO, FROM))
        ats.ats.execute("UPDATE public.rejection SET comment = 'Jeanne Martin' WHERE candidacy_id = %s", (UNDONE,))
        ats.ats.execute("UPDATE public.job SET reference = 'PAR-2025-1' WHERE id = %s", (PARIS,))
        for number in (DELETED, UNDONE, RENUMBERED):
            wait_for(ats, daemon, number)
        ats.ats.execute("DELETE FROM public.rejection WHERE candidacy_id = %s", (DELETED,))
        ats.ats.execute("UPDATE public.rejection SET undone_on = current_date WHERE candidacy_id = %s", (UNDONE,))
        settle(ats, daemon, 101)
        assert {number: told(ats, number)[-1:] for number in range(STAGED, BYSTANDER + 1)} == {
            STAGED: [("interview_by_recruiter", "NAN-2024-71")],
            HIRED: [("hired", "NAN-2024-71")],
            CANCELED: [("whithdrawn", "NAN-2024-71")],
            MOVED: [("seen_by_recruiter", "PAR-2025-1")],
            DELETED: [("seen_by_recruiter", "NAN-2024-71")],
            UNDONE: [("seen_by_recruiter", "NAN-2024-71")],
            FROM: [("seen_by_recruiter", "NAN-2024-71")],
            TO: [("rejected", "NAN-2024-71")],
            RENUMBERED: [("seen_by_recruiter", "PAR-2025-1")],
            BYSTANDER: [],
        }
        assert [told(ats, number)[0][0] for number in (DELETED, UNDONE)] == ["rejected", "rejected"]
        body = ats.hellowork.state[hw(STAGED)]
        assert body["created"] == "2024-07-09T22:00:00.000Z"  # midnight in Paris, in summer
        assert started <= datetime.fromisoformat(body["eventDate"]) <= datetime.now(UTC)

        # In notify mode the sweep finds what concerns all candidacies, as it is asked to; in poll mode all that
        # happened elsewhere.
        def counted(repairs: Mapping[str, int]) -> bool:
            return repairs.keys() == {"asked_for"} if mode == "notify" else repairs.keys() >= {"job", "status"}

        daemon.wait_for_report(lambda report: counted(report["watches"][0]["sweep_repairs"]), "the repairs")


def test_a_label_that_changes_for_all_is_held_and_so_is_a_job_reference(ats: Installation) -> None:
    for number in range(8):
        apply(ats, number)
    ats.configure_watch(fuse={"max_changes": 3})
    ats.install()
    with ats.daemon() as daemon:
        ats.ats.execute("UPDATE public.stage SET label = 'Seen' WHERE id = %s", (READ,))
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 5, "five entries held")
        assert ats.run("fuse", "discard", "--yes").stdout == "5 discarded\n"
        daemon.wait_until_ready()
        ats.ats.execute("UPDATE public.job SET reference = 'NAN-2025-1' WHERE id = %s", (NANTES,))
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] >= 5, "most of them held")
        assert "changes" in daemon.wait_until_not_ready("fuse applications")
        ats.quiet(daemon)
        assert len(ats.hellowork.calls) <= 2 * 3


@pytest.mark.parametrize("mode", ["poll"])
def test_a_date_is_enough_of_a_watermark(ats: Installation) -> None:
    for number in (1, 2, 3):
        apply(ats, number)
    ats.configure_watch(capture={"sweep": "1h"})
    ats.install()
    with ats.daemon() as daemon:
        daemon.wait_for_event("swept")
        for stage_id, status in ((INTERVIEW, "interview_by_recruiter"), (READ, "seen_by_recruiter")):
            change(ats, 1, stage_id=stage_id)
            wait_for(ats, daemon, 1, status)
        reject(ats, 2)
        change(ats, 2, stage_id=INTERVIEW)  # now it is looked at, whatever changed
        wait_for(ats, daemon, 2, "rejected")
        assert len(daemon.events_named("swept")) == 1
        assert told(ats, 3) == []
