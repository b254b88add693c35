"""A job that is deleted leaves its applications behind without one; what becomes of them is sent all the same."""

import json

import pytest
from support.installation import Installation

GONE = "job-2"


@pytest.fixture
def with_jobs(notify: Installation) -> Installation:
    """An installation whose applications refer to jobs, as most schemas have it."""
    notify.ats.execute(
        "CREATE TABLE public.jobs (id text PRIMARY KEY);"
        "INSERT INTO public.jobs VALUES ('job-1'), ('job-2'), ('job-3');"
        "ALTER TABLE public.applications ADD FOREIGN KEY (job_id) REFERENCES public.jobs ON DELETE SET NULL"
    )
    for name in ("hired", "refused", "silent", "deleted", "moved"):
        notify.add(f"hw-{name}", job_id=GONE)
    notify.add("hw-never", job_id=None)
    notify.install()
    return notify


def delete_job(installation: Installation) -> None:
    installation.ats.execute("DELETE FROM public.jobs WHERE id = %s", [GONE])


def test_what_becomes_of_its_candidates_is_sent_with_the_last_known_job(with_jobs: Installation) -> None:
    with with_jobs.daemon() as daemon:
        delete_job(with_jobs)
        with_jobs.settle(daemon)
        with_jobs.change("hw-hired", status="hired")
        with_jobs.change("hw-refused", status="refused")
        with_jobs.change("hw-silent", notes="read")
        with_jobs.change("hw-deleted", deleted_at="2024-01-01")
        with_jobs.change("hw-moved", job_id="job-3")
        with_jobs.change("hw-never", status="hired")
        with_jobs.settle(daemon)

        told = with_jobs.hellowork.told
        assert told("hw-hired") == [("hired", GONE)]
        assert told("hw-refused") == [("refused", GONE)]
        assert told("hw-silent") == [], "that a job is gone is no change of job"
        assert told("hw-deleted") == [("deleted", GONE)]
        assert told("hw-moved") == [("NEW", "job-3")]
        assert told("hw-never") == []
        assert [row["reason"] for row in skipped(with_jobs)] == ["it has no job id"]
        with_jobs.change("hw-never", job_id="job-3")
        with_jobs.settle(daemon)
        assert with_jobs.hellowork.told("hw-never") == [("hired", "job-3")]


def skipped(installation: Installation) -> list[dict[str, str]]:
    """The rows that `status` lists."""
    rows: list[dict[str, str]] = json.loads(installation.run("status", "--json").stdout)["skipped_rows"]
    return rows
