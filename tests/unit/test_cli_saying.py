"""What commands print makes outside text visible, and what they say of a slip on the command line."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from rich.table import Table
from typer.testing import CliRunner

from cdc_sync.cli import app, main
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


@pytest.mark.parametrize("arguments", [("sql", "grants", "--role"), ("explain",), ("pause",)])
def test_bytes_that_are_no_text_of_the_locale_are_wrong_usage(config: Path, arguments: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(app, ["--config", str(config), *arguments, "a\udcff"])

    assert refused.exit_code == 2
    assert r"a\udcff" in refused.stderr


def test_nothing_to_install_is_said_as_a_comment(config: Path) -> None:
    config.write_text(
        config.read_text(encoding="utf-8").replace("mode: notify", "mode: poll\n      watermark: at"), encoding="utf-8"
    )

    said = CliRunner().invoke(app, ["--config", str(config), "sql", "install"])

    assert said.stdout.startswith("-- Nothing to install")


@pytest.mark.parametrize("listen", ["127.0.0.1:http", "127.0.0.1:99999", ":-1"])
def test_an_address_of_the_emulator_is_refused_as_an_option(listen: str) -> None:
    refused = CliRunner().invoke(app, ["emulator", "--listen", listen])

    assert refused.exit_code == 2
    assert "expected host:port" in refused.stderr
    assert not re.search("Value error|null", refused.stderr)


@pytest.mark.parametrize("header", ["X-Api-Key", ":secret"])
def test_a_header_of_the_emulator_has_a_name_and_a_value(header: str) -> None:
    refused = CliRunner().invoke(app, ["emulator", "--header", header, "--listen", "192.0.2.1:1"])

    assert refused.exit_code == 2
    assert "expected NAME:VALUE" in refused.stderr


def test_a_side_table_needs_a_watch_of_the_database(config: Path) -> None:
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    document["watches"]["applications"]["for_each"] = {"schemas": "tenant_%"}
    document["watches"]["applications"]["table"] = "applications"
    config.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")

    refused = CliRunner().invoke(app, ["--config", str(config), "sql", "id-table"])

    assert refused.exit_code == 2
    assert "there is none yet" in refused.stderr


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with names beyond Latin-1, for a database and a store that are not there."""
    columns = {"application_id": "id", "status": '"état → étape"', "job_id": "job_id", "created": "created_at"}
    watch = {"table": "public.applications", "key": ["id"], "columns": columns, "capture": {"mode": "notify"}}
    file = tmp_path / "config.yaml"
    document = {
        "database": {"dsn": "host=/nonexistent dbname=ats user=cdc_sync"},
        "hellowork": {"base_url": "http://127.0.0.1:1"},
        "state": {"path": str(tmp_path / "state.db")},
        "watches": {"applications": watch},
    }
    file.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return file


def printed(config: Path, command: str) -> bytes:
    """What a command prints in a locale of Latin-1."""
    stdout = io.TextIOWrapper(io.BytesIO(), "latin-1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["cdc-sync", "--config", str(config), *command.split()])
        patched.setattr("sys.stdout", stdout)
        with pytest.raises(SystemExit):
            main()
    stdout.flush()
    return stdout.buffer.getvalue()


@pytest.mark.parametrize(("command", "code"), [("status", 1), ("config example", 0)])
def test_closed_standard_streams_are_no_accident(
    config: Path, command: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cdc-sync", "--config", str(config), *command.split()])
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("sys.stdout", None)

    with pytest.raises(SystemExit) as ended:
        main()
    sys.stdin.close()
    sys.stdout.close()

    assert ended.value.code == code
    assert capfd.readouterr().out == ""


def test_messages_are_shown_in_a_locale_without_their_characters(config: Path) -> None:
    assert rb"         \u2192 " in printed(config, "check")


def test_scripts_and_json_are_utf_8_in_any_locale(config: Path) -> None:
    installation = printed(config, "sql install").decode()
    found = printed(config, "check --json").decode()

    assert "SET client_encoding = 'UTF8';" in installation
    assert "état → étape" in installation
    assert json.loads(found)
