"""SIGHUP: the daemon goes on with another configuration and loses nothing, or refuses it with every reason."""

import random
import signal

import pytest
from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation, a_hurry
from support.recruiters import Recruiters, at_work, differences

TAKEN_OVER = "the configuration was read again and is in use"
REFUSED = "not reloaded, the configuration in use stays"
ROUNDS = 6


def reload(daemon: DaemonProcess) -> dict[str, object]:
    """Have it read its configuration, and return what it says once that is in use."""
    before = len(daemon.events_named(TAKEN_OVER))
    daemon.send_signal(signal.SIGHUP)
    return daemon.wait_for_event(TAKEN_OVER, before + 1)


def test_a_watch_more_and_a_watch_less(notify: Installation) -> None:
    notify.ats.execute("CREATE TABLE public.candidates (LIKE public.applications INCLUDING ALL)")
    notify.ats.execute(
        "INSERT INTO public.candidates (hellowork_id, status, job_id, created_at, updated_at)"
        " VALUES ('hw-c', 'NEW', 'job-1', now(), now())"
    )
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.configure(
            watches={"candidates": {**notify.document["watches"]["applications"], "table": "public.candidates"}}
        )
        notify.install()
        assert reload(daemon)["watches"] == "applications,candidates"
        daemon.wait_until_ready()
        daemon.wait_until(lambda: [e for e in daemon.events_named("watching") if e["watch"] == "candidates"], "it")
        notify.ats.execute("UPDATE public.candidates SET status = 'SEEN', updated_at = clock_timestamp()")
        notify.change("hw-1", status="SEEN")
        notify.settle(daemon)
        daemon.wait_until(lambda: notify.hellowork.told("hw-c") == [("SEEN", JOB)], "the new watch's call")
        assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]

        del notify.document["watches"]["candidates"]
        notify.configure()
        assert reload(daemon)["watches"] == "applications"
        daemon.wait_until_ready()
        notify.settle(daemon)
        left = daemon.wait_for_event("the store knows a watch that the configuration does not have")
        assert (left["watch"], left["level"], left["known"]) == ("candidates", "warning", 1)
        assert [(watch["watch"], watch["configured"]) for watch in daemon.report()["watches"]] == [
            ("applications", True),
            ("candidates", False),
        ]
        assert daemon.stop() == 0


def test_a_configuration_with_mistakes_is_refused_with_all_of_them(notify: Installation) -> None:
    notify.add("hw-1")
    valid = notify.config.read_text()
    with notify.daemon() as daemon:
        notify.config.write_text(valid.replace("job_id: job_id", "jobid: job_id").replace("debug", "loud"))
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_event(REFUSED, 3)
        problems = " ".join(event["event"] for event in daemon.events_named(REFUSED))
        for place in ("columns.jobid", "columns.job_id", "log.level"):
            assert place in problems
        assert {event["level"] for event in daemon.events_named(REFUSED)} == {"error"}
        notify.change("hw-1", status="SEEN")
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]

        notify.config.unlink()
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_event("there is no such file")

        notify.config.write_text(valid)
        reload(daemon)
        daemon.wait_until_ready()
        assert daemon.stop() == 0


@pytest.mark.timeout(240)
def test_nothing_is_lost_however_often_it_is_reloaded_under_load(installation: Installation) -> None:
    chance = random.Random(20261125)  # noqa: S311 - the same changes in every run
    installation.add_many("hw-", 30)
    applications = [f"hw-{number}" for number in range(1, 31)]
    installation.hellowork.will(
        {"kind": "random", "seed": 3, "rate": 0.5, "kinds": [{"kind": "delay", "seconds": 0.05}]}
    )
    mode = installation.document["watches"]["applications"]["capture"]["mode"]
    with installation.daemon() as daemon:
        pid = daemon.pid
        recruiters = Recruiters(installation.dsn, applications, chance)
        with at_work(recruiters):
            for number in range(ROUNDS):
                calls = len(installation.hellowork.calls)
                daemon.wait_until(lambda: len(installation.hellowork.calls) > calls + 5, "calls")  # noqa: B023
                # What a watch has for itself; or what all of them share.
                if number % 2:
                    sweep = "1h" if mode == "notify" else f"{1 + number / 10}s"
                    installation.configure_watch(
                        capture={**a_hurry(mode), "sweep": sweep, "lookback": f"{300 + number}s"}
                    )
                else:
                    installation.configure(hellowork={"concurrency": 2 + number, "timeout": f"{10 + number}s"})
                reload(daemon)
        applications += recruiters.new
        installation.settle(daemon)
        daemon.wait_until(lambda: not differences(installation, applications), "HelloWork to know the latest states")
        assert daemon.pid == pid
        keys = [call.idempotency_key for call in installation.hellowork.calls if call.status == 200]
        assert len(keys) == len(set(keys)), "a call under way was repeated"
        assert daemon.stop() == 0
