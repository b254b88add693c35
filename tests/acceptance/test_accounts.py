"""Accounts: each customer's calls have that customer's headers, also where all customers share one table."""

import json
import signal
import time
from typing import Any

import pytest
from support.daemon_process import DaemonProcess
from support.emulated import EmulatorOptions
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, SENTINEL, Installation

MASS = 10_000

WRONG = "a-revoked-key-of-a-customer"


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
    before = len(daemon.events_named("the configuration was read again and is in use"))
    ats.configure(**sections)
    daemon.send_signal(signal.SIGHUP)
    daemon.wait_for_event("the configuration was read again and is in use", before + 1)


def remove_account(ats: Installation, daemon: DaemonProcess, customer: str) -> None:
    del ats.document["hellowork"]["accounts"][customer]
    reload(ats, daemon)


def test_each_row_of_one_table_is_sent_with_the_headers_of_its_account(installation: Installation) -> None:
    by_column(installation, "acme", "beta")
    for name in ("acme", "beta", "default"):
        installation.add(f"hw-{name}", tenant=name)
    with installation.daemon() as daemon:
        for name in ("acme", "beta", "default"):
            installation.change(f"hw-{name}", status="SEEN")
        installation.settle(daemon)
        assert whose(installation, "hw-acme") == [("SEEN", "acme")]
        assert whose(installation, "hw-beta") == [("SEEN", "beta")]
        assert whose(installation, "hw-default") == [("SEEN", None)]
        assert daemon.stop() == 0


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
        assert daemon.stop() == 0


def test_a_revoked_key_stops_its_account_only(shared: Installation) -> None:
    shared.configure(
        hellowork={"accounts": {"acme": account("acme", WRONG)}, "retry": {"first": "1h", "max": "1h"}},
    )
    shared.add("hw-acme", tenant="acme")
    shared.add("hw-beta", tenant="beta")
    paused = f"{shared.hellowork.url} [acme]"
    with shared.daemon() as daemon:
        shared.change("hw-acme", status="SEEN")
        daemon.wait_until_an_account_stops(f"endpoint {paused}: paused")
        shared.change("hw-beta", status="SEEN")
        shared.settle(daemon, pending=1)
        assert (whose(shared, "hw-acme"), whose(shared, "hw-beta")) == ([], [("SEEN", "beta")])
        reload(shared, daemon, hellowork={"accounts": {"acme": account("acme")}})
        daemon.wait_until(lambda: whose(shared, "hw-acme") == [("SEEN", "acme")], "the call with the new key")
        assert WRONG not in daemon.logged
        assert daemon.stop() == 0


def test_an_entry_that_has_not_begun_goes_to_its_rows_new_account(shared: Installation) -> None:
    shared.configure(
        hellowork={"accounts": {"acme": account("acme", WRONG)}, "retry": {"first": "1h", "max": "1h"}},
    )
    for number in (1, 2):
        shared.add(f"hw-{number}", tenant="acme")
    with shared.daemon() as daemon:
        shared.change("hw-1", status="SEEN")
        daemon.wait_until_an_account_stops("[acme]: paused")
        shared.change("hw-2", status="SEEN")
        shared.settle(daemon, pending=2)
        shared.ats.execute("UPDATE public.applications SET tenant = 'beta' WHERE hellowork_id = 'hw-2'")
        daemon.wait_until(lambda: whose(shared, "hw-2") == [("SEEN", "beta")], "the call of the new account")
        shared.settle(daemon, pending=1)
        assert whose(shared, "hw-1") == []


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


def test_a_deletion_by_a_row_whose_account_is_not_configured_goes_to_the_account_that_knows_it(
    shared: Installation,
) -> None:
    shared.add("hw-1", tenant="acme")
    shared.add("hw-2", tenant="gamma")
    with shared.daemon() as daemon:
        shared.settle(daemon)
        shared.change("hw-1", tenant="gamma", deleted_at="2024-01-01")
        shared.change("hw-2", deleted_at="2024-01-01")
        daemon.wait_until(lambda: whose(shared, "hw-1") == [("deleted", "acme")], "the deletion")
        shared.settle(daemon)
        assert shared.hellowork.calls_for("hw-2") == []
        report = daemon.wait_for_report(lambda report: len(report["skipped_rows"]) == 1, "one skipped row")
        assert skipped(report) == ["its account 'gamma' is not in hellowork.accounts"]


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
        assert "acme: 2" in shared.run("status").stdout
        assert "waits until its account acme is configured again" in shared.run("explain", "hw-1").stdout
        assert "no longer configured" in daemon.get("/")[1]
        daemon.kill()
    with shared.daemon() as daemon:
        daemon.wait_for_event("entries of accounts that are no longer configured wait")
        shared.settle(daemon, pending=2)
        assert whose(shared, "hw-1") == []
        reload(shared, daemon, hellowork={"accounts": {"acme": account("acme")}})
        daemon.wait_until(lambda: whose(shared, "hw-1") == [("deleted", "acme")], "the deletion")
        daemon.wait_until(lambda: whose(shared, "hw-2") == [("deleted", "acme")], "the other one")


@pytest.mark.parametrize("is_shared", [False, True], ids=["own store", "shared store"])
@pytest.mark.parametrize("running", [True, False], ids=["daemon up", "daemon down"])
def test_a_removed_account_can_be_forgotten(shared: Installation, *, is_shared: bool, running: bool) -> None:
    if is_shared:
        shared.share_store()
    shared.add("hw-1", tenant="acme")
    shared.add("hw-2", tenant="beta")
    shared.add("hw-3", tenant="acme")
    with shared.daemon() as daemon:
        shared.settle(daemon)
        refused = shared.run("forget", "--account", "acme", "--yes")
        assert refused.code != 0
        remove_account(shared, daemon, "acme")
        shared.delete("hw-1")
        shared.settle(daemon, pending=1)
        if not running:
            assert daemon.stop() == 0
        assert shared.run("forget", "--account", "acme", "--yes").code == 0
        if running:
            daemon.wait_for_report(lambda report: not report["accounts_waiting"], "nothing waits")
            shared.settle(daemon)
        assert shared.run("explain", "hw-1").code == 1
        assert shared.run("explain", "hw-2").code == 0
        assert shared.run("forget", "--account", "acme", "--yes").code == 1
        if running:
            shared.delete("hw-3")
            shared.settle(daemon)
    assert whose(shared, "hw-1") == whose(shared, "hw-3") == []


def test_the_fuse_counts_each_account_of_a_watch_by_itself(shared: Installation) -> None:
    shared.configure_watch(fuse={"max_changes": 3})
    for number in range(5):
        shared.add(f"acme-{number}", tenant="acme")
        shared.add(f"beta-{number}", tenant="beta")
    with shared.daemon() as daemon:
        shared.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE tenant = 'acme'")
        report = daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 2, "two are held")
        assert report["watches"][0]["fuse_reason"].endswith("of the account acme")
        shared.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE hellowork_id IN ('beta-0', 'beta-1')")
        daemon.wait_until(lambda: whose(shared, "beta-0") and whose(shared, "beta-1"), "the other account's calls")
        assert shared.run("fuse", "release", "--yes").code == 0
        shared.quiet(daemon)
        assert [whose(shared, f"acme-{number}") for number in range(5)] == [[("SEEN", "acme")]] * 5


def test_what_is_held_of_one_account_can_be_decided_by_itself(shared: Installation) -> None:
    shared.configure_watch(fuse={"max_changes": 1})
    customers = ("acme", "beta", "default")
    for customer in customers:
        for number in range(2):
            shared.add(f"{customer}-{number}", tenant=customer)
    with shared.daemon() as daemon:
        shared.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE hellowork_id LIKE '%-_'")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 3, "one of each is held")
        held = json.loads(shared.run("fuse", "show", "--json").stdout)["entries"]
        assert sorted(entry["account"] for entry in held) == sorted(customers)
        assert shared.run("fuse", "release", "--account", "acme", "--yes").stdout == "1 released\n"
        daemon.wait_until(lambda: len([1 for n in range(2) if whose(shared, f"acme-{n}")]) == 2, "acme's calls")
        assert shared.run("fuse", "discard", "--account", "default", "--yes").stdout == "1 discarded\n"
        report = daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 1, "beta's is held")
        assert report["watches"][0]["fuse"] == "blown"
        assert shared.run("fuse", "release", "--account", "acme", "--yes").stdout == "0 released\n"


def test_ten_times_an_accounts_limit_is_the_watchs(notify: Installation) -> None:
    customers = [f"c{number}" for number in range(12)]
    by_column(notify, *customers, fuse={"max_changes": 2})
    for customer in customers:
        for number in range(2):
            notify.add(f"{customer}-{number}", tenant=customer)
    with notify.daemon() as daemon:
        notify.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE tenant <> 'default'")
        report = daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 4, "four are held")
        assert report["watches"][0]["fuse"] == "blown"
        assert report["watches"][0]["fuse_reason"].startswith("more than 20 changes")


def test_a_watch_names_the_account_of_all_its_rows(notify: Installation) -> None:
    notify.configure(hellowork={"accounts": {"acme": account("acme")}})
    notify.configure_watch(account="acme")
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN")
        notify.settle(daemon)
        assert whose(notify, "hw-1") == [("SEEN", "acme")]
        # A rename is another account: what has not begun takes it from its row.
        notify.hellowork.will({"kind": "status", "status": 503, "times": 3})
        notify.change("hw-1", status="HIRED")
        daemon.wait_until(lambda: len(notify.hellowork.calls_for("hw-1")) > 1, "a failed call")
        notify.document["hellowork"]["accounts"] = {"other": account("other")}
        reload(notify, daemon, watches={"applications": {"account": "other"}})
        daemon.wait_until(lambda: whose(notify, "hw-1")[1:] == [("HIRED", "other")], "the call of the other account")
    assert {customer for _, customer in whose(notify, SENTINEL)} == {"acme"}


def test_pending_deletions_of_a_watch_go_to_its_account_when_that_is_renamed(notify: Installation) -> None:
    notify.configure(hellowork={"accounts": {"acme": account("acme")}, "retry": {"first": "1h", "max": "1h"}})
    notify.configure_watch(account="acme", fuse={"max_changes": 10, "max_deletions": 2})
    for number in range(3):
        notify.add(f"hw-{number}")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        reload(notify, daemon, hellowork={"accounts": {"acme": account("acme", WRONG)}})
        notify.delete("hw-0")
        notify.change("hw-1", deleted_at="2024-01-01")
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 2, "two wait")
        notify.delete("hw-2")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 1, "one is held")
        notify.document["hellowork"]["accounts"] = {"other": account("other")}
        reload(notify, daemon, watches={"applications": {"account": "other"}})
        for number in range(2):
            daemon.wait_until(lambda: whose(notify, f"hw-{number}") == [("deleted", "other")], "the deletion")  # noqa: B023
        # What was held for the former account is sent after the next start.
        assert notify.run("fuse", "release", "--yes").stdout == "1 released\n"
        daemon.wait_for_report(lambda report: report["accounts_waiting"] == {"acme": 1}, "it waits, named")
        assert "acme: 1" in notify.run("status").stdout
        assert daemon.stop() == 0
    with notify.daemon() as daemon:
        daemon.wait_until(lambda: whose(notify, "hw-2") == [("deleted", "other")], "the released deletion")


def test_after_kill_9_every_entry_is_sent_with_its_own_accounts_headers(shared: Installation) -> None:
    customers = ("acme", "beta", "default")
    for customer in customers:
        for number in range(10):
            shared.add(f"{customer}-{number}", tenant=customer)
    with shared.daemon() as daemon:
        shared.hellowork.will({"kind": "status", "status": 503, "times": 40})
        shared.ats.execute("UPDATE public.applications SET status = 'SEEN'")
        daemon.wait_until(lambda: len(shared.hellowork.calls) > 10, "some calls")
        daemon.kill()
    shared.hellowork.will_work()
    # Rotated while nothing runs.
    shared.configure(hellowork={"accounts": {"beta": account("beta-2")}})
    names = {"acme": "acme", "beta": "beta-2", "default": None}
    with shared.daemon() as daemon:
        shared.settle(daemon)
        for customer in customers:
            for number in range(10):
                calls = whose(shared, f"{customer}-{number}")
                assert ("SEEN", names[customer]) in calls
                assert {name for _, name in calls} <= {names[customer], customer if customer != "default" else None}
        (story,) = json.loads(shared.run("explain", "acme-1", "--json").stdout)
        assert API_KEY not in json.dumps(story)


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_check_says_which_headers_are_configured(bare: Installation) -> None:
    by_column(bare, "acme")
    assert bare.run("config", "validate").code == 0
    findings = json.loads(bare.run("check", "--json").stdout)
    assert [each["state"] for each in findings if each["check"] == "headers"] == ["ok"]


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_check_names_an_id_in_rows_of_two_accounts(bare: Installation) -> None:
    by_column(bare, "acme", "beta", where={"sql": "t.status <> 'DRAFT' AND 5 % 2 = 1", "depends_on": ["status"]})
    for tenant, id_, status in (
        ("acme", "hw-5", "NEW"),
        ("beta", "hw-5", "NEW"),
        ("acme", "hw-6", "NEW"),
        ("acme", "hw-6", "NEW"),
        ("beta", "hw-6", "DRAFT"),
        ("acme", None, "NEW"),
        ("beta", None, "NEW"),
    ):
        bare.add(id_, status, tenant=tenant)

    def found() -> list[tuple[str, str]]:
        findings = json.loads(bare.run("check", "--json").stdout)
        return [(each["state"], each["message"]) for each in findings if each["check"] == "account-ids"]

    ((state, message),) = found()
    assert (state, message.split(":")[0]) == ("warning", "1 ids, such as hw-5, are in rows of two accounts")
    bare.ats.execute("DELETE FROM public.applications WHERE tenant <> 'acme'")
    assert found() == [("ok", "no id is in rows of two accounts")]
    bare.ats.execute("DELETE FROM public.applications WHERE hellowork_id = 'hw-6'")
    bare.ats.execute("CREATE UNIQUE INDEX ON public.applications (hellowork_id)")
    assert found() == [("ok", "no id is in rows of two accounts")]


def test_ten_thousand_changes_of_one_account_delay_anothers_by_a_second_at_most(notify: Installation) -> None:
    required = {"X-Api-Key": API_KEY}
    with running_hellowork(EmulatorOptions(latency=0.02, required_headers=required)) as slow:
        notify.configure(hellowork={"base_url": slow.url})
        by_column(notify, "acme", "beta", fuse={"max_changes": 100_000})
        notify.add_many("hw", MASS)
        notify.ats.execute("UPDATE public.applications SET tenant = 'acme'")
        notify.add("hw-beta", tenant="beta")
        with notify.daemon() as daemon:
            notify.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE tenant = 'acme'")
            # Beyond the applying of earlier commits.
            daemon.wait_until(lambda: not notify.unread(), "the mass change to be read", within=60)
            committed = time.time()
            notify.change("hw-beta", status="SEEN")
            daemon.wait_until(lambda: slow.told("hw-beta"), "the other account's call")
            assert len(slow.calls) < MASS, "in the middle of the others"
            (call,) = slow.calls_for("hw-beta")
            assert call.received - committed < 1.0
            daemon.kill()


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
