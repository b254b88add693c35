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
