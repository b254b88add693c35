"""What goes with a status: its settle time, its extra fields."""

from dataclasses import replace

import pytest

from cdc_sync.core.diff import FusePolicy
from cdc_sync.core.rows import StatusRules, WatchRules
from cdc_sync.core.status_url import AllowedHosts

RULES = WatchRules(
    watch="applications",
    status=StatusRules(map={"Refusé": "rejected"}, unmapped="send", deleted="deleted"),
    baseline="adopt",
    first_status="send",
    settle={"rejected": 300_000, "hired": 0},
    default_settle=2_000,
    deletion_grace=5_000,
    extra={},
    base_url="https://ats-partner.hellowork.com",
    own_urls=True,
    allowed=AllowedHosts(frozenset({"ats-partner.hellowork.com"})),
    fuse=FusePolicy(max_changes=1_000, max_deletions=100, window=600_000),
)


@pytest.mark.parametrize(("status", "fields"), [("rejected", {"tenant", "delay"}), ("deleted", {"tenant"})])
def test_extra_fields_go_with_the_statuses_that_they_are_for(status: str, fields: set[str]) -> None:
    extra = {"tenant": frozenset[str](), "delay": frozenset({"rejected"})}

    assert replace(RULES, extra=extra).extra_fields_of(status) == fields
