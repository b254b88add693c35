"""`cdc-sync status` with a thousand watches: what a person should look at comes first, the rest is counted."""

import asyncio
from pathlib import Path

import pytest
from support.builders import a_batch, an_observation, some_rules
from support.configurations import a_text
from typer.testing import CliRunner, Result

from cdc_sync.cli import app
from cdc_sync.store import Store
from cdc_sync.store.sqlite.driver import SqliteDriver

CONFIGURED = 60
FORMER = tuple(f"former@tenant {number:03}" for number in range(3))


class Installed:
    """A configuration of sixty watches, and its store."""

    def __init__(self, folder: Path) -> None:
        self.file, self.path = folder / "config.yaml", folder / "state.db"
        text = a_text({"state.path": str(self.path)})
        head, _, watch = text.partition("watches:\n")
        body = watch.partition("applications:\n")[2].partition("\nstate:")[0]
        watches = "".join(f"  w{number:02}:\n{body}\n" for number in range(CONFIGURED))
        self.file.write_text(f"{head}watches:\n{watches}state: {{path: {self.path}}}\n")

    async def fill(self) -> None:
        """Let each watch know an application; one holds some, one has a dead letter, three are not configured."""
        store = Store(SqliteDriver(self.path))
        for number in range(CONFIGURED):
            await store.capture.apply(some_rules(f"w{number:02}"), a_batch(an_observation("a1"), positions={"x": "1"}))
        await store.capture.apply(some_rules("w40", max_changes=0), a_batch(an_observation("a2")))
        await store.capture.apply(some_rules("w50"), a_batch(an_observation("a2", refused="no such label")))
        for name in FORMER:
            await store.capture.apply(some_rules(name), a_batch(an_observation("a1")))
        await store.driver.close()

    def run(self, *arguments: str) -> Result:
        """Run the command."""
        return CliRunner().invoke(app, ["--config", str(self.file), *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    made = Installed(tmp_path_factory.mktemp("many"))
    asyncio.run(made.fill())
    return made


def names_in_table(text: str) -> list[str]:
    """The first column of the table."""
    return [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]


def test_those_with_problems_come_first_and_fifty_others(installed: Installed) -> None:
    said = installed.run("status").stdout

    names = names_in_table(said)
    assert names[:5] == ["w40", "w50", *FORMER]
    assert names[5:] == [f"w{number:02}" for number in range(52) if number not in (40, 50)]
    assert "… and 8 more" in said
    assert "--watch % lists all" in said
