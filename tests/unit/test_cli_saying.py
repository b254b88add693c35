"""What commands print makes outside text visible."""

import re

import pytest
from rich.table import Table

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
