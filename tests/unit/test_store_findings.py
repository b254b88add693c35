"""What `cdc-sync check` says of a disk's space, and of what the daemon would log."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cdc_sync.cli.check import check_files, logged
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


@pytest.mark.parametrize(("free", "state"), [(2**30, "ok"), (2**30 - 1, "warning"), (0, "warning")])
def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    found = check_files(tmp_path / "state.db")

    assert (found.check, found.state) == ("store-space", state)
    assert f"{free // 2**20:,} MiB free" in found.message
    assert (found.remedy is None) == (state == "ok")
