"""A mass change is held for a person, who releases or discards it."""

import json
import sqlite3
from contextlib import closing

import pytest
from support.installation import JOB, Installation


def test_a_mass_change_is_held_until_a_person_releases_it(poll: Installation) -> None:
    poll.configure_watch(fuse={"max_changes": 5, "max_deletions": 2, "window": "10m"})
    poll.add_many("hw-", 20)
    with poll.daemon() as daemon:
        poll.ats.execute(
            "UPDATE public.applications SET status = 'OOPS', updated_at = clock_timestamp()"
            " WHERE hellowork_id <> 'hw-sentinel'"
        )
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 15, "15 entries held")
        daemon.wait_until(lambda: len(poll.hellowork.calls) == 5, "the calls within the limit")
        reasons = daemon.wait_until_not_ready("fuse applications")
        assert "more than 5 changes" in reasons
        shown = json.loads(poll.run("fuse", "show", "--json").stdout)
        (group,) = shown["groups"]
        assert (group["transition"], group["number"], len(group["examples"])) == ("NEW → OOPS", 15, 5)
        assert [fuse["reason"] for fuse in shown["fuses"]] == ["more than 5 changes at once (fuse.max_changes)"]
        held = shown["entries"]
        assert len(held) == 15
        assert {entry["watch"] for entry in held} == {"applications"}
        assert {entry["status"] for entry in held} == {"OOPS"}
        assert "15 held" in poll.run("fuse", "show").stdout
        blown = held[0]["application_id"]
        assert "held by the fuse" in poll.run("explain", blown).stdout
        # A held entry follows later changes; and so does a new change while the fuse is blown.
        poll.change(held[1]["application_id"], status="HIRED")
        poll.change(blown, status="NEW")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 14, "one cancelled by its undoing")
        assert daemon.stop() == 0
    # It survives a restart, and is released with the daemon down.
    oldest = json.loads(poll.run("fuse", "show", "--json").stdout)["entries"][:4]
    released = poll.run("fuse", "release", "--yes", *(each["application_id"] for each in oldest))
    assert (released.code, released.stdout) == (0, "4 released\n")
    assert poll.run("fuse", "release", "--only", "deletions").stdout == "0 released\n"
    with poll.daemon(ready=False) as daemon:
        daemon.wait_until(lambda: len(poll.hellowork.calls) == 9, "the released calls")
        assert daemon.readiness()[0] == 503
        assert poll.run("fuse", "release", "--watch", "applications", "--yes").stdout == "10 released\n"
        daemon.wait_until_ready()
        daemon.wait_until(lambda: len(poll.hellowork.calls) == 19, "all calls")
        poll.settle(daemon)
        assert poll.hellowork.told(blown) == []
        assert poll.hellowork.told(held[1]["application_id"]) == [("HIRED", JOB)]


def test_a_mass_deletion_is_held_until_a_person_discards_it(notify: Installation) -> None:
    notify.configure_watch(fuse={"max_changes": 1000, "max_deletions": 2, "window": "10m"})
    notify.add_many("hw-", 8)
    with notify.daemon() as daemon:
        notify.ats.execute("DELETE FROM public.applications WHERE hellowork_id <> 'hw-sentinel'")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 6, "6 entries held")
        daemon.wait_until(lambda: len(notify.hellowork.calls) == 2, "the calls within the limit")
        assert "more than 2 deletions" in daemon.wait_until_not_ready("fuse applications")
        discarded = notify.run("fuse", "discard", "--yes")
        assert (discarded.code, discarded.stdout) == (0, "6 discarded\n")
        daemon.wait_until_ready()
        notify.settle(daemon)
        assert len([call for call in notify.hellowork.calls if call.application_id != "hw-sentinel"]) == 2
        assert "Nothing is held" in notify.run("fuse", "show").stdout
        assert json.loads(notify.run("fuse", "show", "--json").stdout) == {"fuses": [], "groups": [], "entries": []}
        called = {call.application_id for call in notify.hellowork.calls}
        given_up = next(f"hw-{number}" for number in range(1, 9) if f"hw-{number}" not in called)
        assert "(a person discarded it)" in notify.run("explain", given_up).stdout
        (story,) = json.loads(notify.run("explain", given_up, "--json").stdout)
        assert story["discarded"]
        assert not story["adopted"]


def test_a_released_deletion_is_not_sent_if_the_row_is_back(notify: Installation) -> None:
    notify.configure_watch(fuse={"max_deletions": 1}, capture={"sweep": "1h"})
    notify.add_many("hw-", 3)
    with notify.daemon() as daemon:
        notify.delete("hw-1")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1"), "the call within the limit")
        notify.ats.execute("DELETE FROM public.applications WHERE hellowork_id IN ('hw-2', 'hw-3')")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 2, "2 entries held")
        # As a restore does: no trigger records it.
        notify.ats.execute("SET session_replication_role = replica")
        notify.add("hw-2")
        notify.ats.execute("RESET session_replication_role")
        assert notify.run("fuse", "release", "--yes").stdout == "2 released\n"
        daemon.wait_until(lambda: notify.hellowork.told("hw-3"), "the call for the row that is gone")
        notify.settle(daemon)
        assert notify.hellowork.told("hw-2") == []


def test_a_choice_that_meets_nothing_decides_nothing(poll: Installation) -> None:
    with poll.daemon():
        pass
    with closing(sqlite3.connect(poll.store)) as store, store:
        store.execute("""UPDATE watch SET fuse = '{"blown_at": 1, "reason": "edited", "holds_all": true}'""")

    assert poll.run("fuse", "release", "hw-nobody").code == 1
    assert json.loads(poll.run("fuse", "show", "--json").stdout)["fuses"]

    assert poll.run("fuse", "release").stdout == "0 released\n"
    assert not json.loads(poll.run("fuse", "show", "--json").stdout)["fuses"]


@pytest.mark.parametrize("is_configured", [False, True])
def test_deletions_of_another_table_are_held(poll: Installation, *, is_configured: bool) -> None:
    poll.add_many("hw-", 7)
    with poll.daemon() as daemon:
        if is_configured:
            poll.ats.execute("CREATE TABLE public.others (LIKE applications)")
            poll.configure_watch(table="public.others")
            poll.grant()
            daemon.reload()
        else:
            poll.ats.execute("ALTER TABLE applications RENAME TO old; CREATE TABLE applications (LIKE old)")
            poll.grant()
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 8, "every deletion held")
        assert "is another one than before" in poll.run("fuse", "show").stdout
