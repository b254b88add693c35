"""`${NAME}` and `${file:PATH}`."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from support.configurations import LEAST, a_config, problems_of

from cdc_sync.config import ConfigurationError, parse, values
from cdc_sync.config.values import SettingError

ENVIRON = {"A": "one", "B": "two", "EMPTY": "", "NESTED": "${A}", "TIMEOUT": "5s", "HOST": "h"}


def substitute(text: str, environ: Mapping[str, str], folder: Path) -> tuple[str, list[SettingError]]:
    """A value, its references replaced, and what is wrong with those that stand for nothing."""
    errors: list[SettingError] = []

    def resolved(body: str) -> str:
        try:
            return values.References(environ, folder).resolve(body)
        except SettingError as error:
            errors.append(error)
            return ""

    return values.substitute(text, resolved), errors


def replaced(text: str, folder: Path = Path()) -> str:
    result, errors = substitute(text, ENVIRON, folder)
    assert errors == []
    return result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("x${A}y${B}z${EMPTY}", "xoneytwoz"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A $ {A} $", "$A $ {A} $"),
        ("${NESTED}", "${A}"),
    ],
)
def test_references_are_replaced_once(text: str, result: str) -> None:
    assert replaced(text) == result


@pytest.mark.parametrize(
    ("content", "result"), [(b"s3cret\r\n", "s3cret"), (b"s3cret\n\n", "s3cret\n"), (b"s3cret", "s3cret"), (b"", "")]
)
def test_a_file_loses_one_newline_at_its_end(tmp_path: Path, content: bytes, result: str) -> None:
    (tmp_path / "key").write_bytes(content)
    assert replaced(f"${{file:{tmp_path}/key}}") == result
    assert replaced("<${file:key}>", tmp_path) == f"<{result}>"


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "hellowork-api-key").write_text("s3cret\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "NAME": "api-key"}

    assert substitute("<${file:${CREDENTIALS_DIRECTORY}/hellowork-${NAME}}>", environ, Path("/")) == ("<s3cret>", [])
    _, (error,) = substitute("${file:${CREDENTIALS_DIRECTORY}/hellowork-api-key}", {}, tmp_path)
    assert "CREDENTIALS_DIRECTORY is not set" in str(error)
    assert "LoadCredential=" in str(error)


@pytest.mark.parametrize(
    "text", ["${", "${A", "${}", "${A:-x}", "${1A}", "${A B}", "${a{b}", "${é}", "${file:${A B}}", "${file:${}}"]
)
def test_a_malformed_reference_is_an_error(text: str) -> None:
    _, errors = substitute(text, ENVIRON, Path())
    (error,) = errors
    assert str(error).startswith("expected ${NAME} or ${file:PATH}")


def test_a_reference_without_a_value_is_reported_with_its_line() -> None:
    (problem,) = problems_of(LEAST + "database:\n  dsn: postgresql://${USER_NAME}@h/d\n", {})
    assert (problem.path, problem.line) == ("database.dsn", 7)
    assert "USER_NAME" in problem.message


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_secret_may_be_any_text(secret: str) -> None:
    text = LEAST + "database: {dsn: '${S}'}\n"
    dsn = make_conninfo(host="h", password=secret)
    assert parse(text, name="c", environ={"S": dsn}).database.dsn.get_secret_value() == dsn


def test_the_value_behind_a_reference_is_never_shown() -> None:
    with pytest.raises(ConfigurationError) as raised:
        a_config({"hellowork.timeout": "${S}", "watches.applications.timezone": "${S}"}, {"S": "hunter2"})
    assert "hunter2" not in str(raised.value)
    assert len(raised.value.problems) == 2


@pytest.mark.parametrize("name", ["missing", "a\0b", "\ud800"])
def test_a_file_that_cannot_be_read_is_an_error(name: str) -> None:
    _, (error,) = substitute(f"${{file:/{name}}}", ENVIRON, Path())
    assert str(error).startswith("cannot read /")
