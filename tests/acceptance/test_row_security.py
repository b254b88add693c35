"""Row-level security that is switched on under a running daemon, and the remedy that it names."""

import json
import re

from support.installation import JOB, Installation


def test_hidden_rows_are_held_until_the_remedy_shows_them(notify: Installation) -> None:
    notify.configure_watch(capture={"sweep": "1s"})
    notify.add("hw-hidden")
    notify.add("hw-gone")
    with notify.daemon() as daemon:
        # By a session that a policy never concerns: the ATS goes on as before.
        with notify.ats.transaction():  # between two, no row at all would be seen
            notify.ats.execute("ALTER TABLE public.applications ENABLE ROW LEVEL SECURITY")
            notify.ats.execute("CREATE POLICY most ON public.applications USING (hellowork_id <> 'hw-hidden')")
        notify.delete("hw-gone")
        notify.settle(daemon)
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 2, "both deletions are held")
        reasons = daemon.wait_until_not_ready("row security applications")
        assert "held applications: row-level security of public.applications may hide rows" in reasons
        assert len(daemon.events_named("A hidden row looks like a deleted one")) == 1
        held = json.loads(notify.run("fuse", "show", "--json").stdout)["entries"]
        assert sorted(entry["application_id"] for entry in held) == ["hw-gone", "hw-hidden"]
        assert "row-level security of public.applications may hide rows" in notify.run("fuse", "show").stdout
        assert "CREATE POLICY" in notify.run("status").stdout
        assert 'cdc_sync_rows_may_be_hidden{watch="applications"} 1.0' in daemon.get("/metrics")[1]

        remedy = re.search(r"CREATE POLICY .* USING \(true\)", reasons)
        assert remedy is not None
        notify.ats.execute(remedy[0].encode())

        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 1, "the hidden row is seen again")
        assert notify.run("fuse", "release", "--yes").stdout == "1 released\n"
        daemon.wait_until_ready()
        notify.settle(daemon)
        assert notify.hellowork.told("hw-hidden") == []
        assert notify.hellowork.told("hw-gone") == [("deleted", JOB)]
