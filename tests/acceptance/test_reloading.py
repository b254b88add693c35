"""SIGHUP: the daemon goes on with another configuration and loses nothing, or refuses it with every reason."""

import os
import signal

from support.installation import JOB, Installation
from support.numbered_work import NumberedWork, older_after_newer

REFUSED = "not reloaded, the configuration in use stays"
ROUNDS, APPLICATIONS = 6, 8


def test_a_watch_more_and_a_watch_less(notify: Installation) -> None:
    notify.ats.execute("CREATE TABLE public.candidates (LIKE public.applications INCLUDING ALL)")
    notify.add("hw-c", table="public.candidates")
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.configure(
            watches={"candidates": {**notify.document["watches"]["applications"], "table": "public.candidates"}}
        )
        notify.install()
        assert daemon.reload()["watches"] == "applications,candidates"
        daemon.wait_until_ready()
        daemon.wait_until(lambda: [e for e in daemon.events_named("watching") if e["watch"] == "candidates"], "it")
        notify.change("hw-c", table="public.candidates", status="SEEN")
        notify.change("hw-1", status="SEEN")
        notify.settle(daemon)
        daemon.wait_until(lambda: notify.hellowork.told("hw-c") == [("SEEN", JOB)], "the new watch's call")
        assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]

        del notify.document["watches"]["candidates"]
        notify.configure()
        assert daemon.reload()["watches"] == "applications"
        daemon.wait_until_ready()
        notify.settle(daemon)
        left = daemon.wait_for_event("the store knows a watch that the configuration does not have")
        assert (left["watch"], left["level"], left["known"]) == ("candidates", "warning", 1)
        assert [(watch["watch"], watch["configured"]) for watch in daemon.report()["watches"]] == [
            ("applications", True),
            ("candidates", False),
        ]


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
        daemon.wait_for_event("cannot be read: No such file")

        os.mkfifo(notify.config)
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_event(REFUSED, 5)
        notify.config.unlink()

        notify.config.write_text(valid)
        daemon.reload()
        daemon.wait_until_ready()


def test_nothing_is_lost_or_repeated_however_often_it_is_reloaded_under_load(notify: Installation) -> None:
    work, hellowork = NumberedWork(notify, APPLICATIONS), notify.hellowork
    hellowork.will({"kind": "random", "seed": 3, "rate": 0.5, "kinds": [{"kind": "delay", "seconds": 0.05}]})
    with notify.daemon() as daemon:
        pid = daemon.pid
        with work.going_on():
            for number in range(ROUNDS):
                calls = len(hellowork.calls)
                daemon.wait_until(lambda: len(hellowork.calls) > calls + 5, "calls")  # noqa: B023
                # What a watch has for itself; or what all of them share.
                if number % 2:
                    notify.configure_watch(capture={"lookback": f"{300 + number}s"})
                else:
                    notify.configure(hellowork={"concurrency": 2 + number, "timeout": f"{10 + number}s"})
                daemon.reload()
        daemon.wait_until(lambda: work.is_known_to(hellowork), "HelloWork to know the latest states")
        assert daemon.pid == pid
        assert older_after_newer(hellowork.calls) == []
        keys = [call.idempotency_key for call in hellowork.calls if call.status == 200]
        assert len(keys) == len(set(keys)), "a call under way was repeated"
