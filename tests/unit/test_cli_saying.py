"""What commands print makes outside text visible, and what they say of a slip on the command line."""

import re

import pytest
from rich.table import Table
from typer.testing import CliRunner

from cdc_sync.cli import app
from cdc_sync.cli.console import console


def test_cells_of_tables_make_outside_text_visible(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a\x1b[2J")
    table.add_row("b\nforged\x9b")

    with console.capture() as captured:
        console.print(table)
        console.print("c\u202e\nforged")

    assert not re.search("[\x1b\x9b\u202e]", captured.get())
    assert r"b\nforged\x9b" in captured.get()
    assert r"c\u202e\nforged" in captured.get()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("check --config x", "cdc-sync --config PATH check"),
        ("explain hw-1 --config=x", "cdc-sync --config PATH explain"),
        ("fuse show --config x", "cdc-sync --config PATH fuse show"),
        ("sql install --version", "cdc-sync --version"),
    ],
)
def test_a_global_option_after_the_command_is_answered_with_the_right_order(arguments: str, expected: str) -> None:
    refused = CliRunner().invoke(app, arguments.split(), prog_name="cdc-sync")

    assert refused.exit_code == 2
    said = " ".join(refused.stderr.replace("│", " ").split())
    assert f"stands before the command: {expected}" in said, said


def test_an_option_that_no_command_has_is_answered_as_before() -> None:
    refused = CliRunner().invoke(app, ["check", "--nothing"])

    assert refused.exit_code == 2
    assert "No such option: --nothing" in refused.stderr
