"""Somebody is told what needs a person, and that it is over; whatever a receiver does."""

from pathlib import Path

import pytest
from support.installation import Installation
from support.receiving import a_webhook, keeping, kept


def trip_the_fuse(installation: Installation) -> None:
    """Change more than the fuse allows."""
    installation.ats.execute(
        "UPDATE public.applications SET status = 'OOPS', updated_at = clock_timestamp()"
        " WHERE hellowork_id <> 'hw-sentinel'"
    )


@pytest.mark.timeout(240)
def test_a_tripped_fuse_is_told_by_one_message_and_its_release_by_another(poll: Installation, tmp_path: Path) -> None:
    poll.configure_watch(fuse={"max_changes": 5, "max_deletions": 2, "window": "10m"})
    poll.add_many("hw-", 20)
    with a_webhook() as webhook:
        poll.configure(notify={"command": keeping(tmp_path / "kept"), "url": webhook.url}, admin={"title": "Paris"})
        with poll.daemon() as daemon:
            trip_the_fuse(poll)
            daemon.wait_until(lambda: webhook.messages, "a message")
            (held,) = webhook.messages[0]["begun"]
            assert webhook.messages[0]["text"] == f"cdc-sync Paris {webhook.messages[0]['host']}\n{held}"
            assert held.startswith("applications: ")
            assert held.endswith(" held for a decision, see `cdc-sync fuse show`")
            daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 15, "15 entries held")

            assert poll.run("fuse", "release", "--yes").stdout == "15 released\n"
            daemon.wait_until(lambda: len(webhook.messages) == 2, "the end, a minute later", within=120)
            daemon.wait_until(lambda: len(kept(tmp_path / "kept")) == 2, "the same by the command")
            assert kept(tmp_path / "kept") == webhook.messages
            assert (webhook.messages[1]["over"], webhook.messages[1]["now"]) == ([held], [])
            assert "a-planted-secret" not in daemon.logged
            assert daemon.stop() == 0


def test_a_receiver_that_hangs_delays_nothing(notify: Installation) -> None:
    notify.configure_watch(fuse={"max_changes": 5, "max_deletions": 2, "window": "10m"})
    notify.add_many("hw-", 20)
    with a_webhook() as webhook:
        webhook.answer.clear()
        notify.configure(notify={"url": webhook.url})
        with notify.daemon() as daemon:
            trip_the_fuse(notify)
            daemon.wait_until(lambda: webhook.messages, "a message")
            assert notify.run("fuse", "release", "--yes").stdout == "15 released\n"
            daemon.wait_until(lambda: len(notify.hellowork.calls) == 20, "all calls")
            assert not daemon.events_named("a notice was not taken"), "it hangs all that time"
            daemon.wait_for_event("a notice was not taken")
            assert daemon.stop() == 0
