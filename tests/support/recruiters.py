"""Recruiters at work: a stream of changes of every kind, from a session of their own, until told to stop."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from support.installation import JOB, Installation

_PAUSE = 0.004
_INSERT = (
    "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)"
    " VALUES (%s, %s, %s, now(), clock_timestamp())"
)


class Recruiters:
    """What they do is drawn from `chance`; `applications` are theirs alone.

    Attributes:
        new: applications that they have added.
    """

    def __init__(self, dsn: str, applications: Sequence[str], chance: random.Random) -> None:
        self.new: list[str] = []
        self._dsn = dsn
        self._applications = list(applications)
        self._chance = chance
        self._stop = threading.Event()

    def work(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as ats:
            while not self._stop.wait(_PAUSE):
                self._change_something(ats, self._chance.choice(self._applications))

    def stop(self) -> None:
        self._stop.set()

    def _change_something(self, ats: psycopg.Connection, application: str) -> None:
        status = sql.Literal(f"STATUS {self._chance.randrange(6)}")
        job = sql.Literal(f"job-{self._chance.randrange(4)}")
        match self._chance.choices(
            ("status", "job", "touch", "move", "delete", "rollback", "undo", "add"), (8, 4, 2, 3, 1, 1, 2, 1)
        )[0]:
            case "status":
                _update(ats, application, sql.SQL("status = {}").format(status))
            case "job":
                _update(ats, application, sql.SQL("job_id = {}").format(job))
            case "touch":
                _update(ats, application, sql.SQL("notes = status"))
            case "move":
                with ats.transaction():
                    _delete(ats, application)
                    ats.execute(_INSERT, (application, "MOVED", f"job-{self._chance.randrange(4)}"))
            case "delete":
                _delete(ats, application)
            case "rollback":
                with ats.transaction(force_rollback=True):
                    _update(ats, application, sql.SQL("status = 'NEVER'"))
            case "undo":
                _update(ats, application, sql.SQL("source = status, status = 'MISCLICK'"))
                _update(ats, application, sql.SQL("status = source"))
            case "add":
                self.new.append(f"new-{len(self.new)}")
                self._applications.append(self.new[-1])
                ats.execute(_INSERT, (self.new[-1], "APPLIED", "job-0"))


@contextmanager
def at_work(recruiters: Recruiters) -> Iterator[None]:
    thread = threading.Thread(target=recruiters.work, name="recruiters")
    thread.start()
    try:
        yield
    finally:
        recruiters.stop()
        thread.join()


def differences(installation: Installation, applications: list[str]) -> dict[str, tuple[object, object]]:
    """For each application that HelloWork is wrong about: what it should know, what it knows."""
    rows = installation.ats.execute("SELECT hellowork_id, status, job_id FROM public.applications").fetchall()
    database = {name: (status, job) for name, status, job in rows}
    heard = {name: (body["status"], body["jobId"]) for name, body in installation.hellowork.state.items()}
    wrong: dict[str, tuple[object, object]] = {}
    for name in applications:
        # What the first start adopted is known without a call.
        knows = heard.get(name, ("NEW", JOB) if name.startswith("hw-") else None)
        if name in database:
            if knows != database[name]:
                wrong[name] = (database[name], knows)
        elif knows is not None and knows[0] != "deleted":
            wrong[name] = ("deleted", knows)
    return wrong


def _update(ats: psycopg.Connection, application: str, assignments: sql.Composable) -> None:
    statement = sql.SQL("UPDATE public.applications SET {}, updated_at = clock_timestamp() WHERE hellowork_id = %s")
    ats.execute(statement.format(assignments), (application,))


def _delete(ats: psycopg.Connection, application: str) -> None:
    ats.execute("DELETE FROM public.applications WHERE hellowork_id = %s", (application,))
