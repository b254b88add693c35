"""A status, an id, a reply or a message of PostgreSQL neither steers a terminal nor forges a line, in any command."""

import re

from support.daemon_process import Finished
from support.installation import Installation

EVIL = "\x1b]8;;http://evil/\x07x\x1b]8;;\x07\x1b[2J\x9b31m\u202e\u2066\u2028\u2029\x85\r\nfailed forged"
APPLICATION = "hw\x9b2J\u202e\u20281"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SHOWN = r"\x1b]8;;http://evil/\x07x\x1b]8;;\x07\x1b[2J\x9b31m\u202e\u2066\u2028\u2029\x85\r\nfailed forged"
FAILS = """
CREATE FUNCTION public.fails() RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN RAISE EXCEPTION USING MESSAGE = E'bad \\x1b[2J\\u009b31m\\u202e' || chr(10) || 'failed forged'; END $f$
"""


def harmless(text: str) -> None:
    assert OBEYED.findall(text) == []
    assert not [line for line in text.splitlines() if line.lstrip().startswith("failed forged")]


def run(installation: Installation, *arguments: str) -> Finished:
    done = installation.run(*arguments)
    assert done.output
    harmless(done.output)
    return done


def prepare(notify: Installation) -> None:
    """One application whose call was refused with a reply of that kind, one that waits, one whose row is skipped."""
    refused = {"kind": "status", "status": 400, "body": EVIL, "application_id": APPLICATION}
    notify.hellowork.will(refused)
    with notify.daemon() as daemon:
        notify.add(APPLICATION, status=EVIL)
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 1, "the dead letter")
        notify.add("hw-2", status="A")
        notify.settle(daemon)
        notify.hellowork.will({"kind": "status", "status": 503, "body": EVIL, "times": None, "application_id": "hw-2"})
        notify.change("hw-2", status=EVIL, job_id=EVIL)
        daemon.wait_for_report(
            lambda report: any(each["application_id"] == "hw-2" for each in report["last_failures"]), "the failure"
        )
        harmless(daemon.logged)
        assert r"\u009b31m" in daemon.logged
    notify.hellowork.will_work()


def test_commands_show_it_as_escapes(notify: Installation) -> None:
    prepare(notify)

    assert SHOWN in run(notify, "dead-letters", "list").stdout
    assert SHOWN in run(notify, "explain", "hw-2").stdout
    assert r"hw\x9b2J\u202e\u20281" in run(notify, "explain", APPLICATION).stdout
    assert r"\x9b31m" in run(notify, "status").stdout
    notify.add("hw-3", status=EVIL)
    assert SHOWN in run(notify, "plan").stdout
    assert r"\u009b31m" in run(notify, "run", "--once", "--dry-run").stdout
    run(notify, "fuse", "show")
    run(notify, "resend", APPLICATION, "hw-2", "--yes")
    run(notify, "explain", "hw\x9bunknown")
    run(notify, "check")
    run(notify, "dead-letters", "retry", APPLICATION)
    run(notify, "dead-letters", "discard", "hw\x9bunknown")


def test_a_message_of_postgresql_is_one_line(notify: Installation) -> None:
    notify.ats.execute(FAILS)
    notify.configure_watch(where="public.fails()")

    assert r"bad \x1b[2J" in run(notify, "plan").stderr
    run(notify, "check")
    run(notify, "check", "--json")
    run(notify, "run", "--once")
