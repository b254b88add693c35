"""Accounts: whose headers a call has, and what moves an application to another one."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from support.builders import ENDPOINT, NOW, a_batch, a_content, a_known_entry, an_observation, some_rules

from cdc_sync.core.batch import Batch, Resolved
from cdc_sync.core.content import Content
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import Known
from cdc_sync.core.plan import BatchPlan, accounts_of, plan_batch
from cdc_sync.core.rows import Observation, Reportable, Row, Unreportable, WatchRules, interpret
from cdc_sync.core.status_url import account_of, endpoint_name

BY_ROW = replace(some_rules(max_changes=2, max_deletions=1), account=None, accounts=frozenset({"acme", "beta"}))


def a_row(account: str | None, *, job_id: str = "J1", deleted: bool = False) -> Row:
    rest = (None, "seen", job_id, "0", None, None, deleted, ())
    return Row(("1",), True, "a1", *rest, account=account)  # noqa: FBT003 - by position, as the mapping makes it


def known(snapshot: Content | None = None, pending: Content | None = None) -> Known:
    entry = None if pending is None else a_known_entry(pending)
    return Known(1, ("a1",), True, snapshot, entry, True)  # noqa: FBT003 - as above


def plan(
    *rows: Observation | Resolved,
    rules: WatchRules = BY_ROW,
    fuse: Fuse | None = None,
    fuses_before: Mapping[str, Fuse] | None = None,
    **before: Known,
) -> BatchPlan:
    origin = "deletion" if any(isinstance(row, Resolved) for row in rows) else "notify"
    batch = a_batch(*rows, origin=origin)  # type: ignore[arg-type] # one of both
    return plan_batch(rules, batch, before, fuse or Fuse(), fuses_before=fuses_before or {})


@pytest.mark.parametrize("account", ["default", "acme", "a [b]", "@"])
def test_an_endpoint_is_an_origin_and_an_account(account: str) -> None:
    assert account_of(endpoint_name(ENDPOINT, account)) == account
    assert a_content(account="acme").endpoint == f"{ENDPOINT} [acme]"
    assert a_content().endpoint == ENDPOINT


class TestRows:
    @pytest.mark.parametrize(("rules", "account"), [(replace(some_rules(), account="beta"), "beta"), (BY_ROW, "acme")])
    def test_a_row_has_its_watchs_account_or_names_its_own(self, rules: WatchRules, account: str) -> None:
        row = interpret(a_row("acme"), rules, NOW)

        assert isinstance(row, Reportable)
        assert row.content.account == account

    @pytest.mark.parametrize(
        ("account", "reason"),
        [
            (None, "it names no account"),
            (" ", "it names no account"),
            ("gamma", "its account 'gamma' is not in hellowork.accounts"),
            ("x" * 500, f"its account '{'x' * 100}' is not in hellowork.accounts"),
        ],
    )
    def test_an_account_that_is_not_configured_cannot_be_reported(self, account: str | None, reason: str) -> None:
        assert interpret(a_row(account), BY_ROW, NOW) == Unreportable("a1", ("1",), reason)


class TestRenamedAccounts:
    """A watch whose account has another name now."""

    RULES = replace(some_rules(), account="acme")

    @pytest.mark.parametrize("pending", [None, a_content(account="applications", status="seen")])
    def test_a_deletion_goes_to_the_watchs_account(self, pending: Content | None) -> None:
        before = known(a_content(account="applications"), pending)

        found = plan(Resolved("a1", NOW, None), rules=self.RULES, a1=before)

        (entry,) = found.enqueued
        content = entry.content
        assert (content.deleted, content.account, content.endpoint) == (True, "acme", f"{ENDPOINT} [acme]")


class TestMoves:
    def test_another_account_alone_is_no_change(self) -> None:
        found = plan(an_observation(account="beta"), a1=known(a_content(account="acme")))

        assert (found.results, found.refreshed, found.is_empty) == ([], [], True)

    def test_an_entry_takes_its_rows_account(self) -> None:
        pending = a_content("hired", account="acme")

        found = plan(an_observation("a1", "hired", account="beta"), a1=known(a_content(account="acme"), pending))

        (refreshed,) = found.refreshed
        assert (refreshed.content.account, refreshed.content.endpoint) == ("beta", f"{ENDPOINT} [beta]")

    @pytest.mark.parametrize("gone", [True, False], ids=["gone", "marked as deleted"])
    def test_a_deletion_goes_to_the_account_that_knows_the_application(self, *, gone: bool) -> None:
        row = None if gone else an_observation(deleted=True, account="beta")
        pending = a_content("hired", account="beta") if gone else None

        found = plan(Resolved("a1", NOW, row, frozenset({("a1",)})), a1=known(a_content(account="acme"), pending))

        (entry,) = found.enqueued
        content = entry.content
        assert (content.deleted, content.account, content.endpoint) == (True, "acme", f"{ENDPOINT} [acme]")

    @pytest.mark.parametrize("account", [None, "gamma"])
    def test_also_if_its_rows_account_is_not_configured(self, account: str | None) -> None:
        row = interpret(a_row(account, deleted=True), BY_ROW, NOW)
        resolved = Resolved("a1", NOW, row, frozenset({("1",)}))

        found = plan(resolved, a1=known(a_content(account="acme")))

        (entry,) = found.enqueued
        content = entry.content
        assert (content.deleted, content.account, content.endpoint) == (True, "acme", f"{ENDPOINT} [acme]")
        assert resolved.is_deletion
        assert plan(row).skips, "no account knows it"

    def test_a_row_that_lacks_its_account_is_no_deletion_without_a_mark(self) -> None:
        assert not Resolved("a1", NOW, interpret(a_row("gamma"), BY_ROW, NOW)).is_deletion


class TestFuse:
    def test_each_account_has_its_own(self) -> None:
        rows = [an_observation(f"a{number}", account="acme") for number in range(3)]

        found = plan(*rows, an_observation("b1", account="beta"))

        assert [(entry.state, entry.reason) for entry in found.enqueued] == [
            ("pending", None),
            ("pending", None),
            ("held", "more than 2 changes at once (fuse.max_changes), of the account acme"),
            ("pending", None),
        ]
        assert {name: fuse.changes for name, fuse in found.fuses.of_accounts.items()} == {"acme": 2, "beta": 1}
        assert (found.fuses.own.changes, found.fuses.own.blown_at) == (3, NOW)

    def test_ten_times_its_limit_is_the_watchs(self) -> None:
        found = plan(an_observation(account="acme"), fuse=Fuse(NOW, changes=20))

        assert [entry.reason for entry in found.enqueued] == ["more than 20 changes at once (fuse.max_changes)"]

    def test_the_accounts_of_a_batch_are_those_of_its_rows_and_of_what_is_known(self) -> None:
        without_job = interpret(a_row("acme", job_id=""), BY_ROW, NOW)
        batch = a_batch(an_observation(account="beta"), without_job, Resolved("a2", NOW, None))
        before = {"a2": known(a_content(account="gone"), a_content(account="other"))}

        assert accounts_of(BY_ROW, batch, before) == {"acme", "beta", "gone", "other"}
        assert accounts_of(some_rules(), batch, before) == set()
        assert accounts_of(BY_ROW, Batch("notify", NOW, "send"), {"a1": known()}) == set()
