"""A view as the watch's table: polled and swept like a table; in notify mode it is said what to do instead."""

import pytest
from support.installation import JOB, Installation, a_hurry

VIEW = """
CREATE VIEW public.shown AS
SELECT id, hellowork_id, upper(status) AS status, job_id, created_at, updated_at, source, deleted_at
  FROM public.applications
"""


@pytest.fixture
def shown(bare: Installation) -> Installation:
    """The applications seen through a view, in poll mode; the daemon's role may read that and nothing else."""
    bare.ats.execute(VIEW)
    bare.configure_watch(table="public.shown", capture={"watermark": "updated_at", **a_hurry("poll")})
    bare.add("hw-1")
    bare.add("hw-2")
    bare.grant()
    return bare


@pytest.mark.parametrize("mode", ["poll"])
def test_a_view_is_polled_and_swept(shown: Installation) -> None:
    with shown.daemon() as daemon:
        shown.change("hw-1", status="hired")
        shown.delete("hw-2")
        daemon.wait_until(lambda: "hw-2" in shown.hellowork.state, "the deletion's call")
        shown.settle(daemon)
        assert shown.hellowork.told("hw-1") == [("HIRED", JOB)]
        assert shown.hellowork.told("hw-2") == [("deleted", JOB)]


@pytest.mark.parametrize("mode", ["notify"])
def test_notify_mode_says_that_a_view_has_no_triggers_and_asks_for_related(shown: Installation) -> None:
    shown.configure_watch(capture={"mode": "notify", "sweep": "1s"})
    refused = shown.run("sql", "install", "--apply", "--dsn", shown.dsn)
    assert refused.code == 1
    assert 'Nothing was changed: "shown" is ' in refused.stderr  # as this server says it
    with shown.daemon(ready=False) as daemon:
        said = daemon.wait_for_event("public.shown is a view, and a view has no row triggers")["event"]
        assert "under related" in said
        assert "sql install" not in said
        assert "is a view" in daemon.wait_until_not_ready("is a view")
        daemon.wait_for_event("applications known")
        # The sweeps go on: a table that was replaced by a view of its name is no reason to tell nothing.
        shown.change("hw-1", status="hired")
        daemon.wait_until(lambda: shown.hellowork.told("hw-1") == [("HIRED", JOB)], "the sweep's call")
