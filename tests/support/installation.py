"""A whole installation for a test: an ATS's database, a configuration, HelloWork, and the commands run on them.

The daemon's role has the privileges that `cdc-sync sql grants` prints and no others. The secrets are in the environment
of every command, as an operator keeps them, and must never come out of it again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import psycopg
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cdc_sync.ats.scripts import grants, uninstall
from cdc_sync.config import load
from cdc_sync.store.postgres import schema as store_scripts
from support import connections, install_script
from support.daemon_process import COMMAND, DaemonProcess, Finished, free_port, is_listened_on, run_to_end
from support.hellowork_server import HelloWork
from support.roles import roles
from support.sessions import Ats, one
from support.waiting import wait_until

PASSWORD = "planted-password-5f1d"
API_KEY = "planted-api-key-93ab"
TOKEN = connections.TOKEN
SECRETS = (PASSWORD, API_KEY, TOKEN)

SENTINEL = "hw-sentinel"
JOB = "job-1"
TABLE = "public.applications"

_SHAPES = Path(__file__).parents[1] / "acceptance" / "shapes"
_EXAMPLES = Path(__file__).parents[2] / "config"


def plainly(finished: Finished) -> str:
    """What a command said on standard error, without the frame and the breaks."""
    return " ".join(finished.stderr.replace("│", " ").split())


def calls_are(daemon: DaemonProcess, hellowork: HelloWork, application_id: str, *statuses: str) -> None:
    """Wait until HelloWork has been told these statuses of an application, and no other."""
    expected = [(status, JOB) for status in statuses]
    daemon.wait_until(lambda: hellowork.told(application_id) == expected, f"{application_id}: {expected}")


class Installation:
    """See the module's text; made by the fixtures of the acceptance tests.

    Attributes:
        folder: holds the configuration, the store and what commands wrote.
        dsn: the ATS's database as superuser, without a password.
        role: the daemon's role.
        ats: the ATS's own session, in autocommit.
        hellowork: where calls go.
        document: the configuration, as it is written.
        variables: what commands have in their environment.
        within: how the daemon's command line begins, on a host of its own.
        admin_host: where the daemon's admin server listens.
    """

    within: tuple[str, ...] = ()
    admin_host = "127.0.0.1"

    def __init__(self, folder: Path, dsn: str, *, role: str, ats: Ats, hellowork: HelloWork, mode: str) -> None:
        self.folder = folder
        self.dsn = dsn
        self.role = role
        self.ats = ats
        self.hellowork = hellowork
        self.admin_port = free_port()
        self.variables = {
            "ATS_DSN": make_conninfo(dsn, user=role, password=PASSWORD),
            "HELLOWORK_API_KEY": API_KEY,
            "ADMIN_TOKEN": TOKEN,
        }
        self.document: dict[str, Any] = {
            "database": {"dsn": "${ATS_DSN}"},
            "hellowork": {
                "base_url": hellowork.url,
                "headers": {"X-Api-Key": "${HELLOWORK_API_KEY}"},
                "retry": {"first": "50ms", "max": "400ms"},
            },
            "state": {"path": str(folder / "state.db")},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}", "token": "${ADMIN_TOKEN}"},
            "log": {"level": "debug", "format": "json"},
            "watches": {"applications": a_watch(mode)},
        }
        self._outputs: list[str] = []
        self._daemons: list[DaemonProcess] = []
        self._marks = count(1)
        self.configure()
        self.add(SENTINEL)

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def store(self) -> Path:
        return self.folder / "state.db"

    def configure(self, **sections: Any) -> None:
        """Put sections over the present configuration, mapping by mapping, and write the file."""
        self.document = merged(self.document, sections)
        self.config.write_text(yaml.safe_dump(self.document, sort_keys=False, allow_unicode=True))

    def configure_watch(self, **sections: Any) -> None:
        self.configure(watches={"applications": sections})

    def follow(self, example: str, mode: str) -> None:
        """Take over an example of `config/`, and create its tables (`acceptance/shapes`).

        Its watch stays as it stands there, but in more of a hurry; where things are is the test's own business.
        """
        self.ats.execute((_SHAPES / f"{example}.sql").read_bytes())
        own = {section: value for section, value in self.document.items() if section != "watches"}
        self.document = merged(yaml.safe_load((_EXAMPLES / f"{example}.yaml").read_text(encoding="utf-8")), own)
        settle = dict.fromkeys(self.document["watches"]["applications"]["settle"], "0s")
        self.configure_watch(settle=settle, deletion_grace="500ms", capture=a_hurry(mode))

    def another(self, name: str) -> "Installation":
        """A second one on the same database and the same HelloWork, with a configuration and a store of its own."""
        folder = self.folder / name
        folder.mkdir()
        other = copy(self)
        other.folder, other.admin_port = folder, free_port()
        other.configure(state={"path": str(folder / "state.db")}, admin={"listen": f"127.0.0.1:{other.admin_port}"})
        return other

    def on(self, address: str, within: tuple[str, ...]) -> "Installation":
        """Another one of the same store, whose daemon is on a host: its address, and what brings a process there."""
        other = self.another(f"on-{address}")
        other.admin_host, other.within = address, within
        other.configure(state={"path": str(self.store)}, admin={"listen": f"{address}:{other.admin_port}"})
        return other

    def reconnect(self) -> None:
        self.ats = psycopg.connect(self.dsn, autocommit=True)

    def grant(self) -> None:
        """What `cdc-sync sql grants` prints, run as a DBA runs it."""
        self._run_script(grants(self._loaded(), self.role))

    def install(self) -> None:
        """What `cdc-sync sql install` and `cdc-sync sql grants` print, run as a DBA runs them."""
        self._run_script(install_script.install(self._loaded()))
        self.grant()

    def share_store(self) -> None:
        """Keep the store in the ATS's database, with what `cdc-sync sql … --store` prints, run as a DBA runs it."""
        self.configure(state={"backend": "postgres"})
        self._run_script(store_scripts.install())
        self._run_script(store_scripts.grants(self.role))

    def uninstall(self) -> None:
        """What `cdc-sync sql uninstall` prints, run as a DBA runs it."""
        self._run_script(uninstall())

    def run(
        self, *arguments: str, config: Path | None = None, variables: Mapping[str, str] = MappingProxyType({})
    ) -> Finished:
        """Run a command to its end, with some variables in its environment."""
        return self.run_bare([*COMMAND, "--config", str(config or self.config), *arguments], variables)

    def run_bare(self, command: list[str], variables: Mapping[str, str] = MappingProxyType({})) -> Finished:
        """Run a whole command line to its end, as `run` does."""
        ended = run_to_end(command, {**self.variables, **variables}, cwd=self.folder)
        self._outputs.append(ended.output)
        return ended

    @contextmanager
    def daemon(self, *arguments: str, ready: bool = True, forked: bool = True) -> Iterator[DaemonProcess]:
        """`cdc-sync run`, ready unless that is not waited for; killed in the end if it is still there."""
        output = self.folder / f"run-{len(self._daemons)}"
        command = ["--config", str(self.config), "run", *arguments]
        process = DaemonProcess(
            command,
            self.variables,
            output,
            self.admin_port,
            TOKEN,
            command=(*self.within, *COMMAND),
            admin_host=self.admin_host,
            forked=forked and not self.within,
        )
        self._daemons.append(process)
        try:
            if ready:
                process.wait_until_ready()
            yield process
        finally:
            process.kill()

    def settle(self, daemon: DaemonProcess, *, pending: int = 0) -> None:
        """Return when all that was committed before has been captured and delivered, but for so many entries.

        A hard deletion is found by the next sweep only, in poll mode: see `sweeps`. An application with several rows
        is read once more, which the mark may overtake.
        """
        mark = f"MARK {next(self._marks)}"
        self.change(SENTINEL, status=mark)
        daemon.wait_until(lambda: self.hellowork.told(SENTINEL)[-1:] == [(mark, JOB)], f"the call for {mark}")
        self.quiet(daemon, pending=pending)

    def quiet(self, daemon: DaemonProcess, *, pending: int = 0) -> None:
        """Return when all that has been captured is delivered, but for so many entries."""
        daemon.wait_for_report(
            lambda report: (
                sum(watch["pending"] for watch in report["watches"]) == pending
                and not any(watch["suspected_deletions"] for watch in report["watches"])
            ),
            f"{pending} pending",
        )

    def sweeps(self, daemon: DaemonProcess, number: int = 2) -> None:
        """Return after so many more sweeps; of two, the second began after this call."""
        daemon.wait_for_event("swept", len(daemon.events_named("swept")) + number)

    @property
    def mode(self) -> str:
        return str(self.document["watches"]["applications"]["capture"]["mode"])

    def unread(self) -> int:
        """How many changes the daemon has not consumed."""
        return int(one(self.ats, "SELECT count(*) FROM cdc_sync.changes"))

    def add(
        self,
        application_id: str | None,
        status: str | None = "NEW",
        job_id: str | None = JOB,
        *,
        table: str = TABLE,
        **columns: Any,
    ) -> int:
        """Insert a row; returns its key."""
        values = {
            "hellowork_id": application_id,
            "status": status,
            "job_id": job_id,
            "created_at": "2023-01-01 09:00:00Z",
            "updated_at": sql.SQL("clock_timestamp()"),
            **columns,
        }
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
            _named(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(map(_value, values.values())),
        )
        row = self.ats.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    def add_many(self, prefix: str, number: int) -> None:
        """Insert rows `prefix`1, `prefix`2, …, which nobody has touched since yesterday."""
        self.ats.execute(
            "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)"
            " SELECT %s || i, 'NEW', %s, now(), now() - interval '1 day' FROM generate_series(1, %s) AS i",
            (prefix, JOB, number),
        )

    def change(self, application_id: str, *, table: str = TABLE, **columns: Any) -> None:
        """Update an application's row, as the ATS does: `updated_at` too."""
        values = {"updated_at": sql.SQL("clock_timestamp()"), **columns}
        assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), _value(value)) for name, value in values.items()]
        statement = sql.SQL("UPDATE {} SET {} WHERE hellowork_id = {}").format(
            _named(table), sql.SQL(", ").join(assignments), application_id
        )
        assert self.ats.execute(statement).rowcount == 1

    def delete(self, application_id: str, *, table: str = TABLE) -> None:
        statement = sql.SQL("DELETE FROM {} WHERE hellowork_id = {}").format(_named(table), application_id)
        assert self.ats.execute(statement).rowcount == 1

    def check_traces(self) -> None:
        """Nothing of what ran is left, and no secret came out.

        What anybody wrote is in the folder, but for the output of commands.
        """
        # What a container's end kills may last for a moment.
        wait_until(lambda: not any(str(self.folder) in line for line in _command_lines()), "the end of all that ran")
        for daemon in self._daemons:
            assert not is_listened_on(daemon.admin_port)
            assert "Traceback" not in daemon.logged
            assert isinstance(daemon.events, list)  # parses every line
        everything = "".join(self._outputs).encode()
        assert b"Traceback" not in everything
        for file in self.folder.rglob("*"):
            everything += file.read_bytes() if file.is_file() else b""
        for secret in SECRETS:
            assert secret.encode() not in everything

    def _loaded(self) -> Any:
        return load(self.config, self.variables)

    def _run_script(self, script: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as dba:
            dba.execute(script.encode())


@contextmanager
def an_installation(folder: Path, dsn: str, mode: str, hellowork: HelloWork) -> Iterator[Installation]:
    """Make one with a role of its own, and look at the end for what should not be left."""
    with psycopg.connect(dsn, autocommit=True) as ats, roles(dsn, PASSWORD) as new_role:
        made = Installation(folder, dsn, role=new_role(), ats=ats, hellowork=hellowork, mode=mode)
        try:
            yield made
        finally:
            made.ats.close()
        made.check_traces()


def a_watch(mode: str) -> dict[str, Any]:
    """The watch of `ats.sql`'s table, in more of a hurry than a real one should be.

    In notify mode sweeps are rare: what is told must have come through the triggers.
    """
    return {
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
        "deletion_grace": "500ms",
        "capture": {"watermark": "updated_at", **a_hurry(mode)},
    }


def a_hurry(mode: str) -> dict[str, Any]:
    """The section `capture` for a test, without a watermark."""
    notify = {"mode": "notify", "sweep": "1h", "drain_interval": "1s"}
    return notify if mode == "notify" else {"mode": "poll", "poll_interval": "100ms", "sweep": "1s"}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; where both have a mapping they are merged, else the second counts."""
    both = {
        name: merged(below[name], value) if isinstance(value, dict) and isinstance(below.get(name), dict) else value
        for name, value in above.items()
    }
    return {**below, **both}


def _named(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def _value(value: Any) -> sql.Composable:
    return value if isinstance(value, sql.Composable) else sql.Literal(value)


def _command_lines() -> Iterator[str]:
    """Of every process."""
    for process in psutil.process_iter(["cmdline"]):
        yield " ".join(process.info["cmdline"] or ())
