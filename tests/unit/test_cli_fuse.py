"""What `fuse show` reads, and what `fuse release` and `discard` do."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
import typer
from support.builders import a_batch, an_observation, some_rules
from typer.testing import CliRunner

from cdc_sync.cli import app, operator
from cdc_sync.store import Store
from cdc_sync.store.sqlite.driver import SqliteDriver

WATCH = "applications"
CONFIG = f"""
database: {{dsn: "postgresql:///ats"}}
state: {{path: PATH}}
watches:
  {WATCH}:
    table: applications
    key: [id]
    columns: {{application_id: id, status: status, job_id: job_id, created: created_at}}
"""


def hold(path: Path, *observations: Any, watch: str = WATCH) -> None:
    """Have the fuse hold what is observed."""

    async def held() -> None:
        store = Store(SqliteDriver(path))
        await store.capture.apply(some_rules(watch, max_changes=0), a_batch(*observations))
        await store.driver.close()

    with ThreadPoolExecutor() as beside:  # a command's event loop may run
        beside.submit(asyncio.run, held()).result()


@pytest.fixture
def _held(tmp_path: Path) -> None:
    """`h1` and `h2` of the watch are held."""
    path = tmp_path / "state.db"
    (tmp_path / "config.yaml").write_text(CONFIG.replace("PATH", str(path)))
    hold(path, an_observation("h1"), an_observation("h2"))


@pytest.mark.parametrize(
    "command",
    [
        ("fuse", "release"),
        ("fuse", "discard"),
        ("dead-letters", "retry", "--all"),
        ("resend", "h1"),
        ("forget", "former"),
        ("forget", "--account", "former"),
        ("forget", "--application", "h1"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("_held")
def test_no_session_with_the_store_waits_for_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    path, seen = tmp_path / "state.db", list[list[str]]()
    hold(path, an_observation("h1"), watch="former")
    with closing(connect(path)) as store, store:
        store.execute("UPDATE outbox SET state = 'dead' WHERE application_id = 'h2'")

    def confirm(*_: Any, **__: Any) -> None:
        files = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        seen.append([each.name for each in files if each.name.startswith(path.name)])
        raise typer.Abort

    monkeypatch.setattr(operator, "confirm", confirm)
    CliRunner().invoke(app, ["--config", str(tmp_path / "config.yaml"), *command])

    assert seen == [[]]


@pytest.mark.usefixtures("_held")
def test_a_pattern_names_no_watch_to_forget(tmp_path: Path) -> None:
    hold(tmp_path / "state.db", an_observation("h1"), watch="former")

    refused = CliRunner().invoke(app, ["--config", str(tmp_path / "config.yaml"), "forget", "%", "--yes"])

    assert refused.exit_code == 2
    assert "no watch is called '%'" in refused.stderr


@pytest.mark.usefixtures("_held")
def test_a_copied_transition_may_have_a_typed_arrow_in_a_label(tmp_path: Path) -> None:
    hold(tmp_path / "state.db", an_observation("h3", "a->b"))
    release = "--config", str(tmp_path / "config.yaml"), "fuse", "release", "--yes", "--transition"

    copied, typed = (CliRunner().invoke(app, [*release, text]) for text in ("(new) → a->b", "(new) -> applied"))

    assert (copied.stdout, typed.stdout) == ("1 released\n", "2 released\n")
