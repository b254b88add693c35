"""An installation with something of everything, its daemon, and a browser to look at it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.chromium import Browser, chromium
from support.emulated import EmulatorOptions
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, an_installation
from support.page_scene import REBOUND, Scene, keep_busy
from support.postgres import Cluster, fresh_database


@contextmanager
def _scene(folder: Path, cluster: Cluster) -> Iterator[Scene]:
    with (
        fresh_database(cluster) as database,
        running_hellowork(EmulatorOptions(required_headers={"X-Api-Key": API_KEY})) as hellowork,
        an_installation(folder, database, "notify", hellowork) as installation,
    ):
        installation.install()
        installation.configure_watch(fuse={"max_changes": 12, "max_deletions": 5, "window": "10m"})
        installation.configure(admin={"title": "Groupe Exemple"})
        installation.add_many("hw-10", 40)
        with installation.daemon() as daemon:
            yield Scene(installation, daemon)


@pytest.fixture
def quiet_scene(tmp_path: Path, cluster: Cluster) -> Iterator[Scene]:
    """An installation that has nothing to do."""
    with _scene(tmp_path, cluster) as made:
        yield made


@pytest.fixture
def scene(quiet_scene: Scene) -> Scene:
    """The same after a busy morning."""
    keep_busy(quiet_scene)
    return quiet_scene


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Scene]:
    """The same for tests that only look."""
    with _scene(tmp_path_factory.mktemp("shown"), cluster) as made:
        keep_busy(made)
        yield made


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """An English Chromium."""
    with chromium(tmp_path_factory.mktemp("chromium"), resolve=[REBOUND]) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(browser: Browser) -> Iterator[None]:
    """Without cookies of an earlier test, on a desk's screen."""
    browser.look()
    browser.command("Network.clearBrowserCookies")
    browser.complaints()
    yield
    browser.open("about:blank")


@pytest.fixture(scope="session")
def images() -> Path | None:
    """Where screenshots for the documentation go, if they are asked for: `make screenshots`."""
    folder = os.environ.get("CDC_SYNC_SCREENSHOTS")
    return Path(folder).resolve() if folder else None
