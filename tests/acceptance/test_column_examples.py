"""docs/configuring-columns.md: less usual places of an id, a job and a deletion, as they stand there, with a daemon."""

import json
import re
from collections.abc import Callable
from functools import partial

import pytest
import yaml
from support.daemon_process import DaemonProcess
from support.installation import Installation, merged
from support.reader import ROOT

PAGE = (ROOT / "docs" / "configuring-columns.md").read_text(encoding="utf-8")

TABLES = """
CREATE TABLE public.candidates (id bigint PRIMARY KEY, hellowork_id text, erased_at timestamptz, seen int DEFAULT 0);
CREATE TABLE public.jobs (id bigint PRIMARY KEY, reference text, visits int DEFAULT 0);
CREATE TABLE public.application_jobs (id bigint PRIMARY KEY, application_id bigint, job_id bigint);
CREATE TABLE public.applications_archive (LIKE public.applications INCLUDING ALL);
ALTER TABLE public.applications ADD candidate_id bigint REFERENCES public.candidates ON DELETE SET NULL;
ALTER TABLE public.applications ADD payload jsonb;
DELETE FROM public.applications;
INSERT INTO public.candidates (id, hellowork_id) VALUES (1, 'hw-1'), (2, 'hw-2');
INSERT INTO public.jobs (id, reference) VALUES (1, 'job-1'), (2, 'job-2');
INSERT INTO public.application_jobs VALUES (1, 1, 1), (2, 2, 1);
INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at, updated_at, candidate_id, payload)
SELECT i, 'hw-' || i, 'NEW', 'job-1', now(), now(), i, json_build_object('applicationId', 'hw-' || i)
  FROM generate_series(1, 2) AS i;
"""

Call = tuple[str, str]


def blocks(lead: str, number: int) -> list[tuple[str, str]]:
    """The next blocks of the page behind its words `**lead**`, each with its language."""
    _, behind = PAGE.split(f"**{lead}**")
    return re.findall(r"^```(\w+)\n(.*?)^```$", behind, re.MULTILINE | re.DOTALL)[:number]


@pytest.fixture
def follow(bare: Installation) -> Callable[..., Installation]:
    """What makes an ATS with a part of the page, of which `check` finds nothing wrong.

    Sweeps are rare in notify mode, so that the triggers show.
    """

    def follow(lead: str, number: int = 1, **watch: object) -> Installation:
        bare.ats.execute(TABLES.encode())
        piece: dict[str, object] = {}
        for language, text in blocks(lead, number):
            if language == "sql":
                bare.ats.execute(text.encode())
            else:
                piece = yaml.safe_load(text)
        bare.configure_watch(**merged(piece, watch))
        bare.install()
        found = json.loads(bare.run("check", "--json").stdout)
        # Of a view nothing shows that its key is unique.
        assert [each for each in found if each["watch"] and each["state"] != "ok" and each["check"] != "key"] == []
        return bare

    return follow


def is_told(ats: Installation, application: str, *calls: Call) -> bool:
    return ats.hellowork.told(application) == list(calls)


def calls_are(daemon: DaemonProcess, ats: Installation, application: str, *calls: Call) -> None:
    daemon.wait_until(partial(is_told, ats, application, *calls), f"{application}: {calls}")


def run(ats: Installation, statement: str) -> None:
    ats.ats.execute(statement.encode())


def touch(ats: Installation, values: str, number: int = 1) -> None:
    """Update an application as the ATS does."""
    update = "UPDATE public.applications SET {}, updated_at = clock_timestamp() WHERE id = "
    run(ats, update.replace("{}", values) + str(number))


def sweeps(daemon: DaemonProcess) -> int:
    return len(daemon.events_named("swept"))


Follow = Callable[..., Installation]


def test_dates_as_text_are_in_the_watch_s_zone(notify: Installation) -> None:
    notify.ats.execute("ALTER TABLE public.applications ADD changed text")
    # The server's own zone, as its machine gave it.
    notify.ats.execute(f"ALTER DATABASE {notify.ats.info.dbname} SET timezone = 'America/New_York'".encode())
    ((_, text),) = blocks("another form", 1)
    columns = yaml.safe_load(text)["columns"]
    notify.configure_watch(timezone="Europe/Paris", columns={"event_date": columns["event_date"]})
    notify.install()
    notify.add("hw-1", changed="15/07/2024 10:00")
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN", changed="15/07/2024 10:05")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1"), "the call")

    (call,) = notify.hellowork.calls_for("hw-1")
    assert isinstance(call.body, dict)
    assert call.body["eventDate"] == "2024-07-15T08:05:00.000Z"


def test_ids_in_json(follow: Follow) -> None:
    ats = follow("In JSON", 2)
    with ats.daemon() as daemon:
        touch(ats, "status = 'SEEN'")
        calls_are(daemon, ats, "hw-1", ("SEEN", "job-1"))
        touch(ats, """payload = payload || '{"cv": "read"}'""")
        run(ats, "DELETE FROM public.applications WHERE id = 2")
        calls_are(daemon, ats, "hw-2", ("deleted", "job-1"))
        ats.quiet(daemon)
        assert is_told(ats, "hw-1", ("SEEN", "job-1"))


def test_a_job_through_a_join_table(follow: Follow) -> None:
    ats = follow("Through a join table")
    with ats.daemon() as daemon:
        run(ats, "UPDATE public.application_jobs SET job_id = 2 WHERE application_id = 1")
        calls_are(daemon, ats, "hw-1", ("NEW", "job-2"))
        run(ats, "INSERT INTO public.application_jobs VALUES (3, 1, 1)")
        run(ats, "UPDATE public.jobs SET reference = 'job-one' WHERE id = 1")
        calls_are(daemon, ats, "hw-2", ("NEW", "job-one"))
        ats.quiet(daemon)
        assert is_told(ats, "hw-1", ("NEW", "job-2"))


def test_deleted_by_a_column_of_a_parent(follow: Follow) -> None:
    ats = follow("By a column of a parent")
    with ats.daemon() as daemon:
        daemon.wait_for_event("swept")
        if ats.mode == "notify":
            before = sweeps(daemon)
            run(ats, "UPDATE public.candidates SET seen = seen + 1")
            touch(ats, "status = 'SEEN'", 2)
            calls_are(daemon, ats, "hw-2", ("SEEN", "job-1"))
            daemon.wait_until(lambda: ats.unread() == 0, "an empty change log")  # after the call, as a rule
            assert sweeps(daemon) == before
        run(ats, "UPDATE public.candidates SET erased_at = now() WHERE id = 1")
        calls_are(daemon, ats, "hw-1", ("deleted", "job-1"))


def test_deleted_by_a_parent_that_is_set_to_null(follow: Follow) -> None:
    ats = follow("By a parent that is set to NULL")
    with ats.daemon() as daemon:
        with ats.ats.transaction():
            run(ats, "DELETE FROM public.candidates WHERE id = 1")
            touch(ats, "notes = NULL")  # a poll sees it at once; else the sweep does
        calls_are(daemon, ats, "hw-1", ("deleted", "job-1"))
        ats.quiet(daemon)
        assert is_told(ats, "hw-2")


ARCHIVED = """
INSERT INTO public.applications_archive
SELECT id, hellowork_id, status_api_url, status, job_id, created_at, updated_at, source
  FROM public.applications WHERE id = 1;
"""
REMOVED = "DELETE FROM public.applications WHERE id = 1;"


@pytest.mark.parametrize("mode", ["poll"])
def test_live_and_archived_rows_in_a_view(follow: Follow) -> None:
    no_more = {"columns": {"source": None, "deleted": None}}
    ats = follow("Live and archived rows in two tables", 2, **no_more, deletion_grace="2s")
    ats.ats.execute("CREATE INDEX ON public.applications_archive (hellowork_id)")
    with ats.daemon() as daemon:
        for step in (ARCHIVED, REMOVED):
            run(ats, step)
            ats.sweeps(daemon)
        touch(ats, "status = 'SEEN'", 2)
        calls_are(daemon, ats, "hw-2", ("SEEN", "job-1"))
        ats.quiet(daemon)
        assert is_told(ats, "hw-1")
        run(ats, "UPDATE public.applications_archive SET status = 'HIRED', updated_at = clock_timestamp()")
        calls_are(daemon, ats, "hw-1", ("HIRED", "job-1"))
        run(ats, "DELETE FROM public.applications_archive")
        calls_are(daemon, ats, "hw-1", ("HIRED", "job-1"), ("deleted", "job-1"))
