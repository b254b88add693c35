"""A leader and standbys on hosts of their own, an ATS at work, and what HelloWork received of whom."""

from collections.abc import Iterator
from contextlib import contextmanager

from support.daemon_process import DaemonProcess
from support.installation import Installation
from support.numbered_work import NumberedWork, older_after_newer, overlaps, senders
from support.replicated import Replicated
from support.several_hosts import Hosts

LEASE = 13.0
"""Seconds, with `hellowork.timeout` of one: twice that, one for bytes on their way, and ten."""

TAKEN_OVER = LEASE + 12
"""Seconds: the lease, a look each second, and a start; the rest is for a busy machine."""

APPLICATIONS = 12


class Cluster:
    """Three hosts for daemons, a store's server, the ATS's database, HelloWork; made by a test's fixture.

    Attributes:
        first, second, third: the daemons' installations, on hosts 1 to 3.
        work: the ATS's changes.
    """

    def __init__(self, installation: Installation, hosts: Hosts, store: Replicated) -> None:
        self.hosts = hosts
        self.store = store
        self.hellowork = installation.hellowork
        self.ats = installation
        self.work = NumberedWork(installation, APPLICATIONS)
        self.first, self.second, self.third = (hosts.place(installation, number) for number in (1, 2, 3))

    @contextmanager
    def daemons(self) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
        """The leader on host 1, and a standby on host 2."""
        with self.first.daemon() as leader, self.second.daemon(ready=False) as standby:
            standby.wait_until_standby()
            yield leader, standby

    def calls_of(self, number: int) -> int:
        """How many calls the daemon on a host has made."""
        return senders(self.hellowork.calls)[f"host-{number}"]

    def wait_for_calls_of(self, number: int, daemon: DaemonProcess, more: int = 5, within: float = TAKEN_OVER) -> None:
        before = self.calls_of(number)
        daemon.wait_until(lambda: self.calls_of(number) >= before + more, f"calls of host {number}", within)

    def wait_until_known(self, daemon: DaemonProcess) -> None:
        """Nothing is lost."""
        daemon.wait_until(lambda: self.work.is_known_to(self.hellowork), "every change at HelloWork")

    def check(self, *, takeovers: int) -> None:
        """Nothing older after newer, and at most one overlap for each take-over without a clean stop."""
        calls = self.hellowork.calls
        assert older_after_newer(calls) == []
        assert len(overlaps(calls)) <= takeovers, overlaps(calls)
