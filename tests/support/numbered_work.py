"""An ATS at work whose changes are numbered, and a judgement of what HelloWork received of them."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from support.emulated import Call
from support.hellowork_server import HelloWork
from support.installation import Installation

_PAUSE = 0.03
_NEVER_HELD = 1_000_000
_CHANGE = "UPDATE public.applications SET status = %s, updated_at = clock_timestamp() WHERE hellowork_id = %s"


class NumberedWork:
    """Changes its applications in turn, each time to a higher status: S00001, S00002, …

    Adds its applications, and opens the fuse wide; no daemon has started yet.

    Attributes:
        names: its applications.
        last: the status that was committed last, by application.
    """

    def __init__(self, installation: Installation, number: int) -> None:
        self.names = [f"hw-{each}" for each in range(1, number + 1)]
        self.last: dict[str, str] = {}
        self._dsn = installation.dsn
        installation.add_many("hw-", number)
        installation.configure_watch(fuse={"max_changes": _NEVER_HELD})
        self._number = 0
        self._stop = threading.Event()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Work in a thread meanwhile; it may be begun again later."""
        self._stop.clear()
        thread = threading.Thread(target=self._work, name="numbered work")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def step(self, applications: Sequence[str] | None = None) -> None:
        """Change each application once, in one transaction, or only these."""
        with psycopg.connect(self._dsn, autocommit=True) as ats, ats.transaction():
            for application in applications or self.names:
                self._change(ats, application)

    def is_known_to(self, hellowork: HelloWork) -> bool:
        """Whether HelloWork's last state of each application is the one that was committed last."""
        state = hellowork.state
        return all(name in state and state[name]["status"] == status for name, status in self.last.items())

    def _work(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as ats:
            while not self._stop.wait(_PAUSE):
                self._change(ats, self.names[self._number % len(self.names)])

    def _change(self, ats: psycopg.Connection, application: str) -> None:
        self._number += 1
        status = f"S{self._number:05}"
        assert ats.execute(_CHANGE, (status, application)).rowcount == 1
        self.last[application] = status


def older_after_newer(calls: Sequence[Call]) -> list[str]:
    """Each call with a number below that of an earlier call for its application, acknowledged or not."""
    highest: dict[str, str] = {}
    found = []
    for call in calls:
        name, status = call.application_id or "", status_of(call)
        if status < highest.get(name, ""):
            found.append(f"{name}: call {call.number} has {status} after {highest[name]}")
        highest[name] = max(status, highest.get(name, ""))
    return found


def overlaps(calls: Sequence[Call]) -> list[str]:
    """Each call that came while another one for its application was under way."""
    return [f"{call.application_id}: call {call.number} ({sender_of(call)})" for call in calls if call.concurrent]


def sender_of(call: Call) -> str:
    """The daemon that made a call, by the header `X-From` that a test has configured."""
    return call.headers.get("X-From", "")


def senders(calls: Sequence[Call]) -> Counter[str]:
    """How many calls each daemon made."""
    return Counter(map(sender_of, calls))


def status_of(call: Call) -> str:
    """The status in a call's body."""
    return str(call.body["status"]) if isinstance(call.body, dict) else ""
