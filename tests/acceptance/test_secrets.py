"""Secrets stay where they are, also when the other side repeats them or a connection string is mistyped.

Every test of this folder looks for the planted ones in all that was written; here somebody tries to get at them.
"""

import subprocess
import sys

from support.daemon_process import PATIENCE, environment
from support.installation import API_KEY, SECRETS, Installation


def test_what_helloworks_reply_repeats_of_our_headers_is_hidden(notify: Installation) -> None:
    for number, status in enumerate((400, 401, 500)):
        notify.add(f"hw-{number}")
        body = {"message": f"the key {API_KEY} is not good"}
        notify.hellowork.will({"kind": "status", "status": status, "body": body, "application_id": f"hw-{number}"})
    with notify.daemon() as daemon:
        for number in range(3):
            notify.change(f"hw-{number}", status="SEEN")
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 1, "the refused one")
        notify.settle(daemon)
        assert "the key" in notify.run("explain", "hw-0", "--json").stdout
        assert "the key" in notify.run("dead-letters", "list").stdout
        for path in ("/", "/metrics", "/api/status", "/readyz"):
            shown = daemon.get(path)[1]
            assert not any(secret in shown for secret in SECRETS)
        assert daemon.stop() == 0
    # `check_traces` looks into the log and the store.
    stored = notify.store.read_bytes()
    assert b"the key" in stored
    assert b"X-Api-Key" not in stored
    assert b"postgresql://" not in stored
    assert b"password" not in stored


_CRASH = """
import sys
from cdc_sync.cli import main
from cdc_sync.delivery.client import Client

async def call(self, entry):
    raise RuntimeError("a bug")

Client.call = call
sys.argv = ["cdc-sync", *sys.argv[1:]]
main()
"""


def test_a_crash_tells_none_of_them(notify: Installation) -> None:
    notify.add("hw-1")
    assert notify.run("run", "--once").code == 0
    notify.change("hw-1", status="SEEN")

    crashed = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _CRASH, "--config", notify.config, "run", "--once"],
        check=False,
        capture_output=True,
        text=True,
        env=environment(notify.variables),
        timeout=PATIENCE,
    )

    assert crashed.returncode == 1
    assert "RuntimeError: a bug" in crashed.stderr
    assert not any(secret in crashed.stdout + crashed.stderr for secret in SECRETS)
