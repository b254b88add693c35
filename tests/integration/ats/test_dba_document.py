"""What docs/for-dbas.md has for psql works as it stands there."""

import re
from pathlib import Path

from support.sessions import Ats, rows, run
from support.watched import a_config, install_triggers

from cdc_sync.ats.verifying import verify

DOCUMENT = (Path(__file__).parents[3] / "docs" / "for-dbas.md").read_text(encoding="utf-8")


def test_the_queries_for_psql_run_and_show_what_they_say(ats: Ats) -> None:
    install_triggers(ats, a_config())
    run(ats, "SELECT setval('cdc_sync.bell', 2000000000)")
    columns = "hellowork_id, status, job_id, created_at"
    run(ats, f"INSERT INTO public.applications ({columns}) VALUES ('a', 'b', 'c', now())")  # noqa: S608
    run(ats, "SET application_name = 'cdc-sync'; SELECT pg_advisory_lock(7)")
    (block,) = re.findall(r"^```sql\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)

    found = [rows(ats, query) for query in block.split(";\n") if query.strip()]

    log, size, bells, missed, triggers, sessions, captures = found
    assert [(watch, number) for watch, number, _, _ in log] == [("applications", 1)]
    assert size == [("8192 bytes",)]
    ((bell, until),) = bells
    assert (bell, until.year) == ("bell", 2033)
    assert missed == [("missed_applications", None)]
    assert [fires for _, _, fires in triggers] == ["O", "O"]
    assert len(sessions) == len(captures) == 1


def test_the_emergency_switch_switches_off_and_on(ats: Ats) -> None:
    install_triggers(ats, a_config())
    off, on = re.findall(r"^ALTER TABLE public\.applications .*$", DOCUMENT, re.MULTILINE)

    for switch, state in ((off, "disabled"), (on, "ok")):
        run(ats, switch)
        assert {row[-1] for row in rows(ats, verify(a_config().watches)) if row[1] == "trigger"} == {state}
