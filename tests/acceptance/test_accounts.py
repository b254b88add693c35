"""Accounts: each customer's calls have that customer's headers, also where all customers share one table."""

from typing import Any

import pytest
from support.daemon_process import DaemonProcess
from support.installation import Installation, plainly


def account(customer: str, key: str = "${HELLOWORK_API_KEY}") -> dict[str, Any]:
    return {"headers": {"X-Api-Key": key, "X-Customer": customer}}


def by_column(ats: Installation, *customers: str, **sections: Any) -> Installation:
    """One watch for all customers, each of which has an account; rows without another one have the default account."""
    ats.ats.execute("ALTER TABLE public.applications ADD tenant text DEFAULT 'default'")
    ats.configure(hellowork={"accounts": {customer: account(customer) for customer in customers}})
    ats.configure_watch(columns={"account": "tenant"}, **sections)
    ats.install()
    return ats


@pytest.fixture
def shared(notify: Installation) -> Installation:
    """One table and one watch of two customers."""
    return by_column(notify, "acme", "beta")


def whose(ats: Installation, application_id: str) -> list[tuple[str, str | None]]:
    """The status and the customer of an application's accepted calls."""
    calls = [call for call in ats.hellowork.calls_for(application_id) if call.status == 200]
    headers = [{name.lower(): value for name, value in call.headers.items()} for call in calls]
    return [
        (call.body["status"] if isinstance(call.body, dict) else "", each.get("x-customer"))
        for call, each in zip(calls, headers, strict=True)
    ]


def skipped(report: dict[str, Any]) -> list[str]:
    return [row["reason"] for row in report["skipped_rows"]]


def reload(ats: Installation, daemon: DaemonProcess, **sections: Any) -> None:
    ats.configure(**sections)
    daemon.reload()


def remove_account(ats: Installation, daemon: DaemonProcess, customer: str) -> None:
    del ats.document["hellowork"]["accounts"][customer]
    reload(ats, daemon)


def test_a_row_whose_account_is_not_configured_is_reported_once_it_is(shared: Installation) -> None:
    with shared.daemon() as daemon:
        shared.add("hw-1", "SEEN", tenant="gamma")
        shared.add("hw-2", "SEEN", tenant=None)
        shared.settle(daemon)
        report = daemon.wait_for_report(lambda report: len(report["skipped_rows"]) == 2, "two skipped rows")
        assert skipped(report) == ["its account 'gamma' is not in hellowork.accounts", "it names no account"]
        reload(shared, daemon, hellowork={"accounts": {"gamma": account("gamma")}})
        daemon.wait_until(lambda: whose(shared, "hw-1") == [("SEEN", "gamma")], "the call of the new account")
        assert whose(shared, "hw-2") == []


def test_another_account_alone_causes_no_call_and_a_deletion_goes_to_the_account_that_knows_it(
    installation: Installation,
) -> None:
    by_column(installation, "acme", "beta")
    installation.add("hw-1", tenant="acme")
    installation.add("hw-2", tenant="acme")
    with installation.daemon() as daemon:
        installation.change("hw-1", status="SEEN")
        installation.settle(daemon)
        for id_ in ("hw-1", "hw-2"):
            installation.change(id_, tenant="beta")
        installation.settle(daemon)
        assert whose(installation, "hw-1") == [("SEEN", "acme")]
        installation.delete("hw-1")
        installation.change("hw-2", deleted_at="2024-01-01")
        daemon.wait_until(lambda: len(whose(installation, "hw-1")) == 2, "the deletion")
        daemon.wait_until(lambda: whose(installation, "hw-2"), "the marked deletion")
        installation.settle(daemon)
        assert whose(installation, "hw-1") == [("SEEN", "acme"), ("deleted", "acme")]
        assert whose(installation, "hw-2") == [("deleted", "acme")]


def test_entries_of_a_removed_account_wait_until_it_is_configured_again(shared: Installation) -> None:
    for number in (1, 2):
        shared.add(f"hw-{number}", tenant="acme")
    with shared.daemon() as daemon:
        shared.settle(daemon)
        remove_account(shared, daemon, "acme")
        for number in (1, 2):
            shared.delete(f"hw-{number}")
        shared.settle(daemon, pending=2)
        report = daemon.wait_for_report(lambda report: report["accounts_waiting"] == {"acme": 2}, "two wait")
        assert [each["endpoint"] for each in report["endpoints"]] == [shared.hellowork.url]
        assert "waits until its account acme is configured again" in shared.run("explain", "hw-1").stdout
        daemon.kill()
    with shared.daemon() as daemon:
        daemon.wait_for_event("entries of accounts that are no longer configured wait")
        shared.settle(daemon, pending=2)
        assert whose(shared, "hw-1") == []
        reload(shared, daemon, hellowork={"accounts": {"acme": account("acme")}})
        daemon.wait_until(lambda: whose(shared, "hw-1") == [("deleted", "acme")], "the deletion")
        daemon.wait_until(lambda: whose(shared, "hw-2") == [("deleted", "acme")], "the other one")


def test_a_removed_accounts_held_entries_are_counted_and_end_with_their_fuse(shared: Installation) -> None:
    shared.configure_watch(fuse={"max_changes": 3})
    for number in range(7):
        shared.add(f"hw-{number}", tenant="acme")
    with shared.daemon() as daemon:
        shared.settle(daemon)
        shared.hellowork.will({"kind": "status", "status": 422, "application_id": "hw-0"})
        for number in range(7):
            shared.change(f"hw-{number}", status="SEEN")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 4, "held entries")
        shared.settle(daemon)
        remove_account(shared, daemon, "acme")
        assert "0 pending entries, 4 held, 1 dead letters" in plainly(shared.run("forget", "--account", "acme"))
        assert shared.run("forget", "--account", "acme", "--yes").code == 0
        assert shared.run("fuse", "show").stdout == "Nothing is held.\n"
        daemon.wait_until_ready()


def test_a_removed_account_can_be_forgotten(shared: Installation) -> None:
    shared.add("hw-1", tenant="acme")
    shared.add("hw-2", tenant="beta")
    with shared.daemon() as daemon:
        shared.settle(daemon)
        assert shared.run("forget", "--account", "acme", "--yes").code != 0
        remove_account(shared, daemon, "acme")
        shared.delete("hw-1")
        shared.settle(daemon, pending=1)
        assert "1 send once its account is configured\n" in shared.run("plan").stdout
        assert shared.run("forget", "--account", "acme", "--yes").code == 0
        daemon.wait_for_report(lambda report: not report["accounts_waiting"], "nothing waits")
        shared.settle(daemon)
        assert shared.run("explain", "hw-1").code == 1
        assert shared.run("explain", "hw-2").code == 0
        assert shared.run("forget", "--account", "acme", "--yes").code == 1
    assert whose(shared, "hw-1") == []


def test_the_example_of_one_table_works_as_it_stands(notify: Installation) -> None:
    """The commands are those of docs/many-customers.md; only where the keys are is this test's own business."""
    accounts = {name: account(name) for name in ("acme", "beta")}
    notify.configure(hellowork={"accounts": accounts})
    notify.uninstall()
    notify.follow("one-table", "notify")
    assert notify.run("config", "validate").code == 0
    notify.install()
    checked = notify.run("check")
    assert checked.code == 0, checked.output
    assert notify.run("run", "--dry-run", "--once").code == 0
    with notify.daemon() as daemon:
        notify.ats.execute("UPDATE public.applications SET status = 'SEEN'")
        daemon.wait_until(lambda: whose(notify, "hw-acme") and whose(notify, "hw-beta"), "both customers' calls")
        assert [whose(notify, f"hw-{name}") for name in ("acme", "beta", "gamma")] == [
            [("SEEN", "acme")],
            [("SEEN", "beta")],
            [],
        ]
        report = daemon.wait_for_report(lambda report: report["skipped_rows"], "the row without an account")
        assert skipped(report) == ["its account 'gamma' is not in hellowork.accounts"]
