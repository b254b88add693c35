"""Somebody is told what needs a person."""

from pathlib import Path

from support.installation import Installation
from support.receiving import a_webhook, keeping, kept


def trip_the_fuse(installation: Installation) -> None:
    """Change more than the fuse allows."""
    installation.ats.execute(
        "UPDATE public.applications SET status = 'OOPS', updated_at = clock_timestamp()"
        " WHERE hellowork_id <> 'hw-sentinel'"
    )


def test_a_tripped_fuse_is_told_by_one_message(poll: Installation, tmp_path: Path) -> None:
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
            daemon.wait_until(lambda: kept(tmp_path / "kept") == webhook.messages, "the same by the command")
            assert "a-planted-secret" not in daemon.logged
