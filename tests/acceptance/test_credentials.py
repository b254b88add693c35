"""Watches with credentials of their own, and watches that share an endpoint: none keeps another from being told."""

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from support.installation import API_KEY, JOB, Installation


def add_watch(installation: Installation, name: str, **sections: Any) -> None:
    """A second watch of a table like the first one's, with an application of its own."""
    table = sql.Identifier("public", name)
    installation.ats.execute(sql.SQL("CREATE TABLE {} (LIKE public.applications INCLUDING ALL)").format(table))
    installation.add(f"hw-{name}", table=f"public.{name}")
    first = installation.document["watches"]["applications"]
    installation.configure(watches={name: {**first, "table": f"public.{name}", **sections}})
    installation.install()


def test_a_revoked_key_pauses_the_calls_of_its_customer_only(
    notify: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key: Path = tmp_path_factory.mktemp("keys") / "candidates"
    key.write_text("a-revoked-key-of-candidates\n")
    notify.configure(hellowork={"retry": {"first": "1h", "max": "1h"}})
    own = {"headers": {"x-api-key": f"${{file:{key}}}", "X-Customer": "candidates"}}
    add_watch(notify, "candidates", hellowork=own)
    notify.add("hw-1")
    paused = f"{notify.hellowork.url} [candidates]"
    with notify.daemon() as daemon:
        notify.change("hw-candidates", table="public.candidates", status="SEEN")
        # A customer's account is a condition, and the daemon stays ready.
        daemon.wait_until(lambda: f"endpoint {paused}: paused" in daemon.readiness()[1], "the condition")
        assert daemon.readiness()[0] == 200

        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SEEN", JOB)], "the other watch's call")

        modes = {notify.hellowork.url: "healthy", paused: "paused"}
        daemon.wait_for_report(
            lambda report: {each["endpoint"]: each["mode"] for each in report["endpoints"]} == modes, "both endpoints"
        )
        (story,) = json.loads(notify.run("explain", "hw-candidates", "--json").stdout)
        assert "a-revoked-key" not in json.dumps([story, daemon.report()])

        assert len(daemon.events_named("the endpoint refuses our credentials")) == 1
        key.write_text(f"{API_KEY}\n")
        daemon.reload()
        daemon.wait_until(
            lambda: notify.hellowork.told("hw-candidates") == [("SEEN", JOB)], "the call with the new key"
        )
        daemon.wait_until_ready()
        assert "a-revoked-key" not in daemon.logged
