"""A name of one database that nobody answers for keeps no other name of the daemon waiting."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.installation import JOB, Installation, a_watch

SILENT = "127.66.0.1"
"""A name server that answers nothing."""

DEAD = 12

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def silent_names(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """What brings a process where names that are not in /etc/hosts get no answer; skips the test where none can be."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, to have a name server of its own")
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {SILENT}\n")
    within = "unshare", "-m", "sh", "-c", f'mount --bind {file} /etc/resolv.conf && exec "$@"', "sh"
    tried = subprocess.run([*within, "true"], check=False, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no mounts of its own can be made here: {tried.stderr.strip()}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT, 53))
        yield within


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
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SEEN", JOB)], "the call", 120)
        # Its own name was found in time: no call was given up.
        assert not [event for event in daemon.events if "within hellowork.timeout" in str(event)]
