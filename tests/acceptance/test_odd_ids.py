"""Ids that no application of HelloWork's has: a tenant's table may be full of them, and nothing else may suffer."""

import secrets

import pytest
from support.installation import SENTINEL, Installation

TOO_LONG = "the application's id has more than 300 characters"
TOO_DEEP = "cannot stand in a URL's path"

ODD = [
    *("%" + "25" * 4_900 + f"{number:02}" for number in range(5)),
    # What PostgreSQL cannot compress is too long for its indexes.
    *(f"a{secrets.token_urlsafe(6_750)}" for _ in range(5)),
    "\U0001d4b3" * 301,
    "4" * 301,
]
"""Each is too long."""

DEEP = "%2525252541"


@pytest.fixture
def ats(notify: Installation) -> Installation:
    """An ATS that has no index on its ids, which could not hold all of them."""
    notify.ats.execute("DROP INDEX public.applications_hellowork_id_idx")
    return notify


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_ids_that_no_call_can_carry_are_left_out_with_the_reason(ats: Installation, store: str) -> None:
    if store == "postgres":
        ats.share_store()
    for id_ in (ODD[0], "hw-1"):
        ats.add(id_)
    with ats.daemon() as daemon:
        for id_ in (*ODD[1:], DEEP):
            ats.add(id_)
        ats.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: ats.hellowork.told("hw-1"), "the call for the usual id")
        ats.settle(daemon)
        report = ats.run("status", "--json").stdout
        assert report.count(TOO_LONG) == len(ODD)
        assert report.count(TOO_DEEP) == 1
        assert daemon.readiness() == (200, "ready\n")
        assert {call.application_id for call in ats.hellowork.calls} == {"hw-1", SENTINEL}
        assert daemon.stop() == 0


@pytest.mark.parametrize("command", ["explain", "resend"])
@pytest.mark.parametrize("id_", [ODD[0], ODD[5], DEEP], ids=["encoded", "long", "deep"])
def test_a_command_for_such_an_id_ends_with_a_sentence(ats: Installation, command: str, id_: str) -> None:
    ats.add(id_)
    ats.add("hw-1")
    assert ats.run("run", "--once").code == 0

    ended = ats.run(command, id_, *(["--yes"] if command == "resend" else []))

    assert "Traceback" not in ended.output
    assert ended.code == (0 if command == "explain" and id_ == DEEP else 1)
    if command == "explain":
        assert (TOO_DEEP if id_ == DEEP else "Ids of more than 300 characters are not kept") in ended.output
    assert ats.hellowork.calls == []
