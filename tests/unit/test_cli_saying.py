"""There are two ways out of a command, and both make outside text visible."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
from rich.table import Table

from cdc_sync.cli.console import console

_CLI = Path(str(files("cdc_sync.cli")))
_AWAY = re.compile(r"typer\.s?echo|typer\.secho|\bprint\(|Console\(")


def test_no_command_prints_in_another_way() -> None:
    allowed = {"saying.py", "console.py", "progress.py"}  # a bar has the watch's name alone
    others = [file.name for file in sorted(_CLI.glob("*.py")) if file.name not in allowed]
    assert others

    for name in others:
        text = _CLI.joinpath(name).read_text(encoding="utf-8").replace("console.print(", "")
        assert not _AWAY.search(text), name


def test_cells_of_tables_too(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a\x1b[2J")
    table.add_row("b\nforged\x9b")

    with console.capture() as captured:
        console.print(table)
        console.print("c\u202e\nforged")

    assert not re.search("[\x1b\x9b\u202e]", captured.get())
    assert r"b\nforged\x9b" in captured.get()
    assert r"c\u202e\nforged" in captured.get()
    assert capsys.readouterr().out == ""
