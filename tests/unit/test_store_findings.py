"""What `cdc-sync check` says of what the daemon would log."""

from cdc_sync.cli.check import logged
from cdc_sync.core.events import TenantRefused, WatchUnconfigured


def test_what_the_daemon_logs_is_a_finding_with_its_last_sentence_as_the_remedy() -> None:
    found = logged("store-watches", WatchUnconfigured("full", 120, 2, 1, 3, 4))

    assert (found.check, found.state, found.watch) == ("store-watches", "warning", "full")
    assert "known 120, pending 2, held 1, dead 3, suspected 4" in found.message
    assert "its changes are not captured" in found.message
    assert "cdc-sync forget" in (found.remedy or "")


def test_a_tenant_that_is_refused_is_a_failure() -> None:
    found = logged("tenants", TenantRefused("customers@a", "the key's file is not there"))

    assert (found.state, found.watch) == ("failed", "customers@a")
    assert "the key's file is not there" in found.message
