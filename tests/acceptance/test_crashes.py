"""Kill -9 at any moment, and ends in order: nothing is lost, and nothing is told that did not happen."""

import random
import signal

import pytest
from support.installation import JOB, Installation
from support.recruiters import Recruiters, at_work, differences

APPLICATIONS = 40
UNTOUCHED = 20
ROUNDS = 5
SLEEPING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"


@pytest.mark.timeout(240)
def test_helloworks_last_word_is_the_databases_whenever_the_daemon_is_killed(installation: Installation) -> None:
    chance = random.Random(20240501)  # noqa: S311 - the same moments in every run
    installation.add_many("hw-", APPLICATIONS)
    installation.add_many("still-", UNTOUCHED)
    with installation.daemon():
        pass
    installation.hellowork.will(
        {
            "kind": "random",
            "seed": 7,
            "rate": 0.3,
            "kinds": [{"kind": "delay", "seconds": 0.05}, {"kind": "lost_answer"}, {"kind": "status", "status": 503}],
        }
    )
    applications = [f"hw-{number}" for number in range(1, APPLICATIONS + 1)]
    recruiters = Recruiters(installation.dsn, applications, chance)
    with at_work(recruiters):
        for _ in range(ROUNDS):
            with installation.daemon(ready=False) as daemon:
                daemon.wait_for_event("", chance.randrange(5, 300))  # so many lines of its log
                daemon.kill()
    installation.hellowork.will_work()
    with installation.daemon() as daemon:
        applications += recruiters.new
        daemon.wait_until(lambda: not differences(installation, applications), "HelloWork to know the latest states")
        installation.settle(daemon)
        assert differences(installation, applications) == {}
        assert not [call for call in installation.hellowork.calls if (call.application_id or "").startswith("still-")]
        assert "NEVER" not in {status for name in applications for status, _ in installation.hellowork.told(name)}
        (watch,) = daemon.report()["watches"]
        assert watch["dead_letters"] == watch["held"] == 0
        assert daemon.stop() == 0


DRAGGING = """
CREATE SEQUENCE public.dragging MINVALUE 0;
GRANT SELECT ON public.dragging TO public;
CREATE FUNCTION public.drag(id bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF id % 2000 = 0 AND (SELECT last_value > 0 FROM public.dragging) THEN PERFORM pg_sleep(1); END IF;
    RETURN '';
END $$
"""


def let_reading_take_long(installation: Installation) -> None:
    """Have 2,000 rows read in a second at most, until `dragging` is 0: nobody sees an end that comes at once."""
    installation.ats.execute(DRAGGING)
    installation.configure_watch(
        columns={"job_id": {"sql": "t.job_id || public.drag(t.id)", "depends_on": ["job_id", "id"]}}
    )
    installation.install()
    installation.ats.execute("SELECT setval('public.dragging', 1)")


@pytest.mark.timeout(240)
def test_a_baseline_that_is_killed_goes_on_where_it_was(poll: Installation) -> None:
    number = 30_000
    poll.add_many("hw-", number)
    let_reading_take_long(poll)
    with poll.daemon(ready=False) as daemon:
        daemon.wait_until_not_ready("baseline")
        begun = daemon.wait_for_report(lambda report: report["watches"][0]["baseline"]["rows"] >= 4_000, "two pages")
        assert begun["watches"][0]["baseline"]["state"] == "running"
        daemon.kill()
    poll.ats.execute("SELECT setval('public.dragging', 0)")
    with poll.daemon() as daemon:
        assert daemon.wait_for_event("applications known")["event"] == f"{number + 1} applications known, 0 calls"
        pages = sum(event["keys"] for event in daemon.events_named("read") if event["by"] == "baseline")
        assert pages <= number + 1 - begun["watches"][0]["baseline"]["rows"]
        poll.settle(daemon)
        assert {call.application_id for call in poll.hellowork.calls} == {"hw-sentinel"}
        assert daemon.stop() == 0
    with poll.daemon() as daemon:
        poll.settle(daemon)
        assert not daemon.events_named("applications known")


def test_a_sweep_that_is_killed_starts_again(poll: Installation) -> None:
    number = 19_999
    poll.add_many("hw-", number)
    # Each page of a sweep takes two seconds as long as the ATS drags.
    poll.ats.execute(
        "CREATE SEQUENCE public.dragging MINVALUE 0; GRANT SELECT ON public.dragging TO public;"
        " CREATE FUNCTION public.drag(id bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
        " IF id % 5000 = 0 AND (SELECT last_value > 0 FROM public.dragging) THEN PERFORM pg_sleep(2); END IF;"
        " RETURN ''; END $$"
    )
    poll.configure_watch(
        columns={"job_id": {"sql": "t.job_id || public.drag(t.id)", "depends_on": ["job_id", "id"]}},
        capture={"sweep": "1h"},
    )
    poll.grant()
    with poll.daemon() as daemon:
        daemon.wait_for_event("swept")
        assert daemon.stop() == 0
    poll.ats.execute("SELECT setval('public.dragging', 1)")
    with poll.daemon() as daemon:
        daemon.wait_until(lambda: poll.ats.execute(SLEEPING).fetchone() == (True,), "a page of the sweep")
        daemon.kill()
    poll.ats.execute("SELECT setval('public.dragging', 0)")
    # Nobody has told the poll of either.
    poll.ats.execute("DELETE FROM public.applications WHERE hellowork_id IN ('hw-1', 'hw-17900')")
    with poll.daemon() as daemon:
        daemon.wait_for_event("swept")
        pages = sum(event["keys"] for event in daemon.events_named("read") if event["by"] == "sweep")
        assert pages == 0, "nothing else differed"
        daemon.wait_until(lambda: len(poll.hellowork.state) == 2, "both deletions")
        assert {name: poll.hellowork.told(name)[-1][0] for name in ("hw-1", "hw-17900")} == {
            "hw-1": "deleted",
            "hw-17900": "deleted",
        }
        assert daemon.stop() == 0


def test_what_changes_while_the_daemon_is_away_is_told_when_it_is_back(installation: Installation) -> None:
    for name in ("changed", "deleted", "undone", "moved", "still"):
        installation.add(f"hw-{name}")
    with installation.daemon() as daemon:
        assert daemon.stop() == 0
    installation.change("hw-changed", status="ONE")
    installation.change("hw-changed", status="TWO")
    installation.delete("hw-deleted")
    installation.change("hw-undone", status="HIRED")
    installation.change("hw-undone", status="NEW")
    installation.delete("hw-moved")
    installation.add("hw-moved", job_id="job-2")
    installation.add("hw-new", "APPLIED")
    with installation.daemon() as daemon:
        daemon.wait_until(lambda: "hw-deleted" in installation.hellowork.state, "the deletion's call")
        installation.settle(daemon)
        names = ("changed", "deleted", "undone", "moved", "still", "new")
        assert {name: installation.hellowork.told(f"hw-{name}") for name in names} == {
            "changed": [("TWO", JOB)],
            "deleted": [("deleted", JOB)],
            "undone": [],
            "moved": [("NEW", "job-2")],
            "still": [],
            "new": [("APPLIED", JOB)],
        }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_in_flight_end(notify: Installation, number: signal.Signals) -> None:
    notify.add("hw-1")
    notify.hellowork.will({"kind": "delay", "seconds": 1, "application_id": "hw-1"})
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the call")
        assert daemon.stop(number) == 0
        assert daemon.events_named("stopping")[0]["signal"] == number.name
        (sent,) = daemon.events_named("sent")
        assert sent["application_id"] == "hw-1"
        assert daemon.events[-1]["event"] == "stopped"
    with notify.daemon() as daemon:
        notify.settle(daemon)
    assert len(notify.hellowork.calls_for("hw-1")) == 1


def test_a_stop_among_many_calls_repeats_none_of_them(notify: Installation) -> None:
    number = 200
    notify.add_many("hw-", number)
    notify.configure(hellowork={"concurrency": 4})
    # All of them would take ten seconds, which no look at them misses.
    delay = {"kind": "delay", "seconds": 0.2}
    notify.hellowork.will({"kind": "random", "seed": 1, "rate": 1.0, "kinds": [delay]})
    with notify.daemon() as daemon:
        notify.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE hellowork_id <> 'hw-sentinel'")
        daemon.wait_until(lambda: len(notify.hellowork.calls) >= 10, "some calls")
        assert daemon.stop() == 0
        assert len(notify.hellowork.calls) < number
    notify.hellowork.will_work()
    with notify.daemon() as daemon:
        daemon.wait_until(lambda: len(notify.hellowork.state) == number, "the other calls")
        notify.settle(daemon)
    assert len(notify.hellowork.calls) == number + 1


def test_a_signal_ends_a_first_start_that_has_far_to_go(installation: Installation) -> None:
    installation.add_many("hw-", 30_000)
    let_reading_take_long(installation)
    with installation.daemon(ready=False) as daemon:
        daemon.wait_for_event("connected")
        daemon.wait_for_report(lambda report: report["watches"][0]["baseline"]["rows"] >= 2_000, "a page")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert not daemon.events_named("applications known")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once_and_loses_nothing(notify: Installation, number: signal.Signals) -> None:
    notify.add("hw-1")
    notify.hellowork.will({"kind": "hang", "seconds": 60, "application_id": "hw-1"})
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the call")
        daemon.send_signal(number)
        daemon.wait_for_event("stopping")
        daemon.send_signal(number)
        assert daemon.wait() == 128 + number
    with notify.daemon() as daemon:
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]
    first, second = notify.hellowork.calls_for("hw-1")
    assert first.idempotency_key == second.idempotency_key


def test_a_signal_ends_a_daemon_that_waits_for_its_database(notify: Installation) -> None:
    notify.configure(database={"dsn": "host=127.0.0.1 port=1 user=nobody connect_timeout=1"})
    with notify.daemon(ready=False) as daemon:
        daemon.wait_until_not_ready("cannot be reached")
        assert daemon.stop() == 0
