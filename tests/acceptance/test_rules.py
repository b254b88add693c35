"""What the configuration lets through: status map, scope, URLs of rows, first status; rows that cannot be reported."""

import json
import socket

import pytest
from support.installation import JOB, Installation


def test_a_rows_url_is_called_only_if_its_origin_is_allowed(poll: Installation) -> None:
    here = poll.hellowork.url
    port = here.rpartition(":")[2]
    poll.configure(hellowork={"allowed_hosts": [f"localhost:{port}"]})
    poll.configure_watch(columns={"application_id": None, "status_url": "status_api_url"})
    neighbour = socket.create_server(("127.0.0.1", 0))
    neighbour.settimeout(0)
    elsewhere = neighbour.getsockname()[1]
    urls = {
        "hw-same": f"{here}/v1/applications/hw-same/status",
        "hw-local": f"{here.replace('127.0.0.1', 'localhost')}/v1/applications/hw-local/status",
        "hw-port": f"http://127.0.0.1:{elsewhere}/v1/applications/hw-port/status",
        "hw-evil": "https://evil.example/v1/applications/hw-evil/status",
        "hw-plain": "http://evil.example/v1/applications/hw-plain/status",
        "hw-user": "http://127.0.0.1@evil.example/v1/applications/hw-user/status",
        "hw-sentinel": f"{here}/v1/applications/hw-sentinel/status",
    }
    for name, url in urls.items():
        if name != "hw-sentinel":
            poll.add(name, status_api_url=url)
    poll.change("hw-sentinel", status_api_url=urls["hw-sentinel"])
    poll.install()
    with poll.daemon() as daemon:
        for name in urls:
            poll.change(name, status="SEEN")
        poll.settle(daemon)
        assert poll.hellowork.told("hw-same") == [("SEEN", JOB)]
        assert poll.hellowork.told("hw-local") == [("SEEN", JOB)]
        letters = {one["application_id"]: one for one in _dead_letters(poll)}
        assert letters.keys() == {"hw-evil", "hw-plain", "hw-port"}
        assert f"add '127.0.0.1:{elsewhere}' to that list" in letters["hw-port"]["reason"]
        with neighbour, pytest.raises(BlockingIOError):  # nobody has called there
            neighbour.accept()
        assert "evil.example" in letters["hw-evil"]["reason"]
        assert "hellowork.allowed_hosts" in letters["hw-evil"]["reason"]
        assert "https" in letters["hw-plain"]["reason"]
        # A person's retry is no way round.
        assert poll.run("dead-letters", "retry", "hw-evil").code == 0
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 3, "it is dead again")
        told = poll.run("dead-letters", "list")
        assert letters["hw-evil"]["reason"] in told.stdout


def _dead_letters(installation: Installation) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(installation.run("dead-letters", "list", "--json").stdout)
    return listed
