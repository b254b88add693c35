"""A name of one database that nobody answers for keeps no other name of the daemon waiting."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.installation import JOB, Installation, a_watch

SILENT = "127.66.0.1"
"""A name server that answers nothing."""

DEAD = 12

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="a name server of its own needs root"),
]


@pytest.fixture
def silent_names(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """What brings a process where names that are not in /etc/hosts get no answer."""
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {SILENT}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT, 53))
        yield "unshare", "-m", "sh", "-c", f'mount --bind {file} /etc/resolv.conf && exec "$@"', "sh"


def test_databases_without_an_answering_name_server_affect_their_watches_only(
    notify: Installation, silent_names: tuple[str, ...]
) -> None:
    """`localhost`, where HelloWork is, stands in /etc/hosts: it needs no name server."""
    notify.within = silent_names
    notify.document["databases"] = {"ats": notify.document.pop("database")}
    notify.configure(
        databases={f"dead_{n}": {"dsn": f"host=db-{n}.customer.test dbname=ats user=cdc_sync"} for n in range(DEAD)},
        hellowork={"base_url": notify.hellowork.url.replace("127.0.0.1", "localhost")},
        watches={
            "applications": {"database": "ats"},
            **{f"w{n}": {**a_watch("poll"), "database": f"dead_{n}"} for n in range(DEAD)},
        },
    )
    notify.add("hw-1")
    with notify.daemon(ready=False, forked=False) as daemon:
        daemon.wait_for_event("watching")
        time.sleep(1)
        began = time.monotonic()
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SEEN", JOB)], "the call", 120)
        took = time.monotonic() - began
        failed = [e for e in daemon.events if "within hellowork.timeout" in str(e)]
        assert took < 5, f"{took:.0f} s, {failed[:2]}"
