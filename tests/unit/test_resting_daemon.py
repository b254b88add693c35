"""A daemon at rest has loaded nothing that it does not need: what is imported stays in its memory for ever."""

import subprocess
import sys

import pytest

_COMMAND = """
import sys
from cdc_sync.cli import app
from typer.main import get_command
get_command(app).get_command(None, "run")
print(*sys.modules, sep="\\n")
"""


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """What `cdc-sync run` has imported before it reads its configuration."""
    done = subprocess.run([sys.executable, "-c", _COMMAND], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("rich", id="tables are for people"),
        pytest.param("jinja2", id="nobody looks at the page"),
        pytest.param("cdc_sync.store.postgres", id="the store is of SQLite"),
        pytest.param("cdc_sync.demo", id="another command"),
        pytest.param("cdc_sync.ats.check", id="of check"),
        pytest.param("cdc_sync.cli.status", id="each command is loaded alone"),
    ],
)
def test_what_a_resting_daemon_does_not_need_is_not_loaded(loaded: frozenset[str], what: str) -> None:
    assert not {module for module in loaded if module == what or module.startswith(f"{what}.")}


def test_what_it_does_need_is(loaded: frozenset[str]) -> None:
    # Else the test above would hold for a command that loads nothing yet.
    assert {"cdc_sync.daemon.running", "aiohttp", "apscheduler", "cdc_sync.store.sqlite"} <= loaded
