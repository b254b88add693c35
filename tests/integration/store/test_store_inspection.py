"""What `cdc-sync check` finds of the SQLite store: looked at, and left as it is."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.configurations import a_config

from cdc_sync.cli.check import check_store
from cdc_sync.core.findings import Finding
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver


async def found(path: Path) -> dict[str, Finding]:
    findings: list[Finding] = []
    await check_store(a_config({"state.path": str(path)}), findings.append, ())
    return {finding.check: finding for finding in findings}


def wrong(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {name: finding.state for name, finding in findings.items() if finding.state != "ok"}


async def test_no_store_yet(tmp_path: Path) -> None:
    findings = await found(tmp_path / "state.db")

    assert wrong(findings) == {}
    assert "at its first start" in findings["store"].message
    assert list(tmp_path.iterdir()) == []


async def test_a_store_without_a_daemon(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(SqliteDriver(path))
    await store.databases.bind("ats of cluster 1")

    findings = await found(path)

    await store.driver.close()
    assert wrong(findings) == {}
    assert "nobody: no daemon runs" in findings["store-lock"].message


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    findings = await found(tmp_path / "nowhere" / "state.db")

    assert wrong(findings) == {"store": "failed"}
    assert "install -d -m 0700 -o" in (findings["store"].remedy or "")


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[None]:
    """This process as a user without rights on the folder, whoever runs the tests."""
    if os.geteuid():
        tmp_path.chmod(0o500)
        yield
        tmp_path.chmod(0o700)
    else:
        tmp_path.chmod(0o711)
        os.seteuid(65534)
        yield
        os.seteuid(0)


@pytest.mark.usefixtures("nobody")
async def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    findings = await found(tmp_path / "state.db")

    assert wrong(findings) == {"store": "failed"}
    assert "chown " in (findings["store"].remedy or "")
