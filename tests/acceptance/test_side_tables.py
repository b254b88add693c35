"""An ATS without HelloWork's id: a side table beside it, as `sql id-table` makes it."""

from typing import Any

import pytest
import yaml
from support.daemon_process import DaemonProcess
from support.installation import Installation
from support.sessions import rows

TABLE = "public.applications_hellowork"


def configure(ats: Installation, table: str = TABLE, key: str = "id") -> None:
    """Have the watch read its ids from a side table."""
    looked_up = f"(SELECT h.{{}} FROM {table} h WHERE h.{key} = t.id)"  # noqa: S608 - a test's own names
    columns = {
        field: {"sql": looked_up.format(column), "depends_on": ["id"]}
        for field, column in (("application_id", "hellowork_id"), ("status_url", "status_url"))
    }
    ats.configure_watch(columns=columns, related=[{"table": table, "key": [key]}])


@pytest.fixture
def without_id(bare: Installation) -> Installation:
    """An ATS without the column, and the watch as the side table wants it; nothing is installed yet."""
    bare.ats.execute("DROP TABLE public.applications")
    bare.ats.execute(
        "CREATE TABLE public.applications (id bigint PRIMARY KEY, status text, job_id text, created_at timestamptz,"
        " updated_at timestamptz, source text, deleted_at timestamptz)"
    )
    configure(bare)
    return bare


@pytest.fixture
def ats(without_id: Installation) -> Installation:
    """The same with the table, the triggers and the privileges."""
    made = without_id.run("sql", "id-table", "--apply", "--dsn", without_id.dsn)
    assert made.code == 0, made.output
    without_id.install()
    return without_id


def apply(ats: Installation, *ids: int, status: str = "NEW") -> None:
    for id_ in ids:
        ats.ats.execute(
            "INSERT INTO public.applications (id, status, job_id, created_at, updated_at)"
            " VALUES (%s, %s, 'job-1', now(), clock_timestamp())",
            (id_, status),
        )


def move(ats: Installation, id_: int, status: str) -> None:
    ats.ats.execute(
        "UPDATE public.applications SET status = %s, updated_at = clock_timestamp() WHERE id = %s", (status, id_)
    )


def link(ats: Installation, id_: int, application_id: str) -> None:
    """Write an id into the side table, as the program that receives the applications does."""
    ats.ats.execute(
        f"INSERT INTO {TABLE} (id, hellowork_id) VALUES (%s, %s)"  # noqa: S608 - our own
        " ON CONFLICT (id) DO UPDATE SET hellowork_id = excluded.hellowork_id",
        (id_, application_id),
    )


def heard(ats: Installation, daemon: DaemonProcess, id_: str, *statuses: str) -> None:
    daemon.wait_until(lambda: [status for status, _ in ats.hellowork.told(id_)] == list(statuses), f"{id_}: {statuses}")


def links(ats: Installation) -> list[tuple[Any, ...]]:
    return rows(ats.ats, f"SELECT id, hellowork_id, status_url FROM {TABLE} ORDER BY id")  # noqa: S608 - our own


def test_rows_are_sent_once_they_are_linked_and_by_the_id_that_they_have(ats: Installation) -> None:
    apply(ats, 1, 2, 3, 4)
    link(ats, 1, "hw-1")
    link(ats, 2, "hw-2")
    with ats.daemon() as daemon:
        daemon.wait_for_event("applications known")
        # Linked when the daemon runs: seen for the first time. Row 4 is nobody's.
        link(ats, 3, "hw-3")
        for id_ in (1, 3, 4):
            move(ats, id_, "INTERVIEW")
        heard(ats, daemon, "hw-1", "INTERVIEW")
        daemon.wait_until(lambda: ats.hellowork.told("hw-3")[-1:] == [("INTERVIEW", "job-1")], "hw-3")
        # The row was another application all the time.
        link(ats, 2, "hw-5")
        heard(ats, daemon, "hw-5", "NEW")
        heard(ats, daemon, "hw-2", "deleted")
        ats.ats.execute("DELETE FROM public.applications WHERE id IN (1, 4)")
        heard(ats, daemon, "hw-1", "INTERVIEW", "deleted")
        ats.quiet(daemon)
        assert {call.application_id for call in ats.hellowork.calls} == {"hw-1", "hw-2", "hw-3", "hw-5"}
        assert [row[:2] for row in links(ats)] == [(2, "hw-5"), (3, "hw-3")]


@pytest.mark.parametrize("mode", ["notify"])
class TestTheScript:
    def test_says_the_configuration_where_there_is_none(self, without_id: Installation) -> None:
        ats = without_id
        ats.configure_watch(columns={"application_id": "nowhere", "status_url": None}, related=[])
        script = ats.run("sql", "id-table").stdout
        commented = script.split("once more in notify mode:\n")[1]
        piece = yaml.safe_load("\n".join(line.removeprefix("--   ") for line in commented.splitlines()))
        ats.ats.execute(script.encode())
        ats.configure(watches={"applications": piece})
        ats.install()
        assert {each["state"] for each in yaml.safe_load(ats.run("check", "--json").stdout) if each["watch"]} == {"ok"}
