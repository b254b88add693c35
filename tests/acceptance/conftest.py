"""The installation that each acceptance test works on, in one or both capture modes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.emulated import EmulatorOptions
from support.hellowork_server import HelloWork
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, Installation, an_installation

from cdc_sync.demo.postgres import Server

MODES = ("notify", "poll")


@pytest.fixture
def hellowork() -> Iterator[HelloWork]:
    """HelloWork, which refuses calls without our key; whatever it heard must be well formed and in order."""
    with running_hellowork(EmulatorOptions(required_headers={"X-Api-Key": API_KEY})) as running:
        yield running
        for call in running.calls:
            assert not call.violations
            assert not call.concurrent
            assert call.idempotency_key


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each mode of capture."""
    return str(request.param)


@pytest.fixture
def installation(tmp_path: Path, database: str, mode: str, hellowork: HelloWork) -> Iterator[Installation]:
    """An installation in each mode; triggers and privileges are in place, the daemon was never started."""
    with an_installation(tmp_path, database, mode, hellowork) as made:
        made.install()
        yield made


@pytest.fixture
def notify(tmp_path: Path, database: str, hellowork: HelloWork) -> Iterator[Installation]:
    """The same in notify mode only."""
    with an_installation(tmp_path, database, "notify", hellowork) as made:
        made.install()
        yield made


@pytest.fixture
def poll(tmp_path: Path, database: str, hellowork: HelloWork) -> Iterator[Installation]:
    """The same in poll mode only."""
    with an_installation(tmp_path, database, "poll", hellowork) as made:
        made.install()
        yield made


@pytest.fixture
def bare(tmp_path: Path, database: str, mode: str, hellowork: HelloWork) -> Iterator[Installation]:
    """The same in each mode, with nothing installed in the database yet."""
    with an_installation(tmp_path, database, mode, hellowork) as made:
        yield made


@pytest.fixture
def on_own_server(
    tmp_path: Path, restartable_server: Server, mode: str, hellowork: HelloWork
) -> Iterator[Installation]:
    """The same, in each mode, on the server of the fixture `restartable_server`, which must run in the end."""
    with an_installation(tmp_path, restartable_server.dsn, mode, hellowork) as made:
        made.install()
        yield made
