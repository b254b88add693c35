"""The ATS, the daemon's configuration, what the recruiter does, and what HelloWork must hear of it: data only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

Mode: TypeAlias = Literal["notify", "poll"]

ROLE = "cdc_sync"
DATABASE = "ats"
ROWS = 40

SCHEMA = """
CREATE TABLE jobs (
    id    text PRIMARY KEY,
    title text NOT NULL
);
CREATE TABLE applications (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hellowork_id text,                 -- NULL: it did not come from HelloWork
    job_id       text NOT NULL REFERENCES jobs,
    candidate    text NOT NULL,        -- personal data: the daemon's role cannot read it
    status       text NOT NULL,
    notes        text,
    source       text,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL, -- set by the ATS's code, where it does not forget to
    deleted_at   timestamptz
);
CREATE INDEX ON applications (hellowork_id);
CREATE INDEX ON applications (updated_at);
"""

# Half an hour: a poll looks back for minutes, and must not find rows that nobody touched.
SEED = f"""
INSERT INTO jobs VALUES ('J-100', 'Developer'), ('J-200', 'Tester'), ('J-300', 'Designer');
INSERT INTO applications (hellowork_id, job_id, candidate, status, source, created_at, updated_at)
SELECT CASE WHEN n % 10 > 0 THEN 'HW-' || 1000 + n END,
       'J-100',
       'Candidate ' || n,
       CASE WHEN n <= {ROWS // 2} THEN 'new' ELSE (ARRAY['viewed', 'phone_interview', 'offer'])[1 + n % 3] END,
       CASE WHEN n % 10 > 0 THEN 'hellowork.com' ELSE 'spontaneous' END,
       now() - interval '30 days' + n * interval '1 hour',
       now() - interval '30 minutes'
  FROM generate_series(1, {ROWS}) AS n;
"""  # noqa: S608 - a number of ours

STATUS_MAP = {
    "viewed": "seen_by_recruiter",
    "phone_interview": "interview_by_recruiter",
    "onsite_interview": "interview_by_recruiter",
    "offer": "offred",
    "hired": "hired",
    "rejected": "rejected",
    "withdrawn": "whithdrawn",
}

# Longer than the whole show: the mis-click is undone within it, however slow the machine is.
SETTLE = {"rejected": "5m"}


def configuration(mode: Mode, *, dsn: str, base_url: str, state: Path, admin_port: int) -> str:
    """The text of the daemon's configuration file: an ordinary one, only more hurried than a real one should be.

    Args:
        mode: how changes are captured.
        dsn: the ATS's database, for the daemon's role.
        base_url: where the emulator listens.
        state: the store's file.
        admin_port: where the admin server shall listen on loopback.
    """
    capture: dict[str, Any] = {"mode": mode, "sweep": "1s"}
    if mode == "poll":
        capture |= {"watermark": "updated_at", "poll_interval": "200ms"}
    content = {
        "database": {"dsn": dsn},
        "hellowork": {"base_url": base_url},
        "state": {"path": str(state)},
        "watches": {
            "applications": {
                "table": "public.applications",
                "key": ["id"],
                "columns": {
                    "application_id": "hellowork_id",
                    "status": "status",
                    "job_id": "job_id",
                    "created": "created_at",
                    "event_date": "updated_at",
                    "source": "source",
                    "deleted": "deleted_at",
                },
                "capture": capture,
                "status": {"map": STATUS_MAP},
                "settle": SETTLE,
                "deletion_grace": "1s",
            }
        },
        "admin": {"listen": f"127.0.0.1:{admin_port}"},
        "log": {"level": "debug", "format": "json"},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True, slots=True)
class Told:
    """What a call tells HelloWork, apart from dates and the source: an application's status and job."""

    application_id: str
    status: str
    job_id: str

    @property
    def said(self) -> str:
        """What it says of the application."""
        return f"{self.status}, {self.job_id}"

    def __str__(self) -> str:
        return f"{self.application_id} {self.said}"


@dataclass(frozen=True, slots=True)
class Sql:
    """The ATS runs this, in one transaction unless it says otherwise."""

    text: str


@dataclass(frozen=True, slots=True)
class UntilWaiting:
    """Nothing is done until the daemon has noticed, and lets so many calls wait."""

    calls: int


@dataclass(frozen=True, slots=True)
class Kill:
    """The daemon gets kill -9."""


@dataclass(frozen=True, slots=True)
class Start:
    """The daemon is started again."""


Act: TypeAlias = Sql | UntilWaiting | Kill | Start


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens in the ATS.

    Attributes:
        done: what is done, for people.
        acts: how.
        expected: the calls that must follow; their order counts within an application.
        silent: what of it is rightly not sent, and why; empty if everything is.
    """

    done: str
    acts: tuple[Act, ...]
    expected: tuple[Told, ...] = ()
    silent: str = ""


def _update(what: str, *ids: int) -> Sql:
    names = ", ".join(f"'HW-{number}'" for number in ids)
    return Sql(f"UPDATE applications SET {what}, updated_at = now() WHERE hellowork_id IN ({names});")  # noqa: S608 - ours


STEPS: tuple[Step, ...] = (
    Step(
        "HW-1001 is opened by a recruiter",
        (_update("status = 'viewed'", 1001),),
        expected=(Told("HW-1001", "seen_by_recruiter", "J-100"),),
    ),
    Step(
        "HW-1001 gets an interview by phone",
        (_update("status = 'phone_interview'", 1001),),
        expected=(Told("HW-1001", "interview_by_recruiter", "J-100"),),
    ),
    Step(
        "HW-1001's interview becomes one on site",
        (_update("status = 'onsite_interview'", 1001),),
        silent="both labels are one status of HelloWork's",
    ),
    Step(
        "HW-1002 is hired",
        (_update("status = 'hired'", 1002),),
        expected=(Told("HW-1002", "hired", "J-100"),),
    ),
    Step(
        "HW-1003 is given another job",
        (_update("job_id = 'J-200'", 1003),),
        expected=(Told("HW-1003", "new", "J-200"),),
    ),
    Step(
        "HW-1004 changes jobs: DELETE, then INSERT",
        # Sent as one text, so that nothing comes between: the two are still two transactions.
        (
            Sql(
                "BEGIN; DELETE FROM applications WHERE hellowork_id = 'HW-1004'; COMMIT;"
                "BEGIN; INSERT INTO applications (hellowork_id, job_id, candidate, status, created_at, updated_at) "
                "VALUES ('HW-1004', 'J-300', 'Candidate 4', 'new', now() - interval '26 days', now()); COMMIT;"
            ),
        ),
        expected=(Told("HW-1004", "new", "J-300"),),
        silent="no deletion: it is back in another row",
    ),
    Step(
        "HW-1005 is deleted softly (deleted_at)",
        (_update("deleted_at = now()", 1005),),
        expected=(Told("HW-1005", "deleted", "J-100"),),
    ),
    Step(
        "HW-1006's row is deleted",
        (Sql("DELETE FROM applications WHERE hellowork_id = 'HW-1006';"),),
        expected=(Told("HW-1006", "deleted", "J-100"),),
    ),
    Step(
        "HW-1007 is rejected by mistake, and back",
        # A rejection has time to settle. The daemon must have seen it before it is undone, or there is nothing to show.
        (
            _update("status = 'rejected'", 1007),
            UntilWaiting(1),
            _update("status = 'new'", 1007),
            UntilWaiting(0),
        ),
        silent="a mis-click, undone in time",
    ),
    Step(
        "Three withdraw; a script forgets updated_at",
        (Sql("UPDATE applications SET status = 'withdrawn' WHERE hellowork_id IN ('HW-1008', 'HW-1009', 'HW-1011');"),),
        expected=tuple(Told(name, "whithdrawn", "J-100") for name in ("HW-1008", "HW-1009", "HW-1011")),
    ),
    Step(
        "A nightly job touches every updated_at",
        (Sql("UPDATE applications SET updated_at = now();"),),
        silent="no status and no job changed",
    ),
    Step(
        "Every row is written again as it was",
        (Sql("UPDATE applications SET status = status, job_id = job_id, updated_at = now();"),),
        silent="the same values are no change",
    ),
    Step(
        "Notes are taken on three",
        (_update("notes = 'speaks Breton'", 1012, 1013, 1014),),
        silent="not a column of HelloWork's",
    ),
    Step(
        "Everybody is hired, and it is rolled back",
        (Sql("BEGIN; UPDATE applications SET status = 'hired', updated_at = now(); ROLLBACK;"),),
        silent="it never happened",
    ),
    Step(
        "HW-2001 arrives",
        (
            Sql(
                "INSERT INTO applications (hellowork_id, job_id, candidate, status, source, created_at, updated_at) "
                "VALUES ('HW-2001', 'J-200', 'Candidate 41', 'new', 'hellowork.com', now(), now());"
            ),
        ),
        expected=(Told("HW-2001", "new", "J-200"),),
    ),
    Step(
        "One from elsewhere arrives, and is opened",
        (
            Sql(
                "INSERT INTO applications (job_id, candidate, status, source, created_at, updated_at) "
                "VALUES ('J-200', 'Candidate 42', 'new', 'spontaneous', now(), now());"
            ),
            Sql("UPDATE applications SET status = 'viewed', updated_at = now() WHERE candidate = 'Candidate 42';"),
        ),
        silent="it is not HelloWork's: it has no id",
    ),
    Step(
        "kill -9 the daemon, open HW-1015, make it an offer, start the daemon",
        (
            Kill(),
            _update("status = 'viewed'", 1015),
            _update("status = 'offer'", 1015),
            Start(),
        ),
        expected=(Told("HW-1015", "offred", "J-100"),),
        silent="the state in between: the latest counts",
    ),
)
