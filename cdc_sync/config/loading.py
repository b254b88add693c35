"""From a file to a configuration, or to all its errors at once: pydantic's own, each with its line.

No error shows a value, whatever it is: it may be a secret in the wrong place. A key is shown if the configuration has
one of that name, or if it is a word with a value: `{token: SEC,RET}` has a key `RET` without one.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path as FilePath

from pydantic import ValidationError

from cdc_sync.config.document import (
    UNRESOLVED,
    Document,
    DocumentError,
    References,
    is_for_each_tenant,
    read_text,
    substitute,
)
from cdc_sync.config.models import Config
from cdc_sync.config.problems import ConfigurationError, Path, Problem, SettingError, path_text
from cdc_sync.config.values import KEYS
from cdc_sync.core.visible import HIDDEN

_A_BEGINNING = "`cdc-sync config example` prints an annotated configuration to begin with"
_WORD = re.compile(r"[\w. -]{1,60}")


def load(path: FilePath, environ: Mapping[str, str], lacking: dict[Path, str] | None = None) -> Config:
    """Read the configuration from a file; relative `${file:PATH}` in it are relative to its folder. See `parse`.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    try:
        text = read_text(path)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
        if isinstance(error, FileNotFoundError):
            wrong = f"there is no such file: name another with --config; {_A_BEGINNING}"
        raise ConfigurationError(str(path), [Problem("", None, wrong)]) from None
    return parse(text, name=str(path), environ=environ, folder=path.parent, lacking=lacking)


def parse(
    text: str,
    *,
    name: str,
    environ: Mapping[str, str],
    folder: FilePath = FilePath(),
    lacking: dict[Path, str] | None = None,
) -> Config:
    """Read the configuration from text.

    Args:
        text: YAML.
        name: for messages.
        environ: the values of `${NAME}`.
        folder: of relative `${file:PATH}`.
        lacking: for printing SQL, where a secret may be missing: gets what is missing, by path. The value is a
            placeholder then.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    found = _read(text, References(environ, folder), lacking)
    # Raised here, so that no exception with the file's content is its context.
    if isinstance(found, Config):
        return found
    raise ConfigurationError(name, found)


def _read(text: str, references: References, lacking: dict[Path, str] | None) -> Config | list[Problem]:
    no_value: list[tuple[Path, str]] = []
    try:
        document = Document(text, partial(_replaced, references, no_value))
    except DocumentError as error:
        return [error.problem]
    if document.values is None:
        return [Problem("", None, f"there is nothing in it; {_A_BEGINNING}")]
    if lacking is not None:
        lacking.update(each for each in no_value if is_secret(each[0]))
        no_value = [each for each in no_value if not is_secret(each[0])]
    problems = [_problem(document, path, message) for path, message in document.twice + no_value]
    try:
        # Where secrets may be missing, none is needed.
        reveal = references if lacking is None else lambda _: UNRESOLVED
        config = Config.model_validate(document.values, context=reveal)
    except ValidationError as error:
        for details in error.errors():
            where = tuple(key for key in details["loc"] if key != "[key]")
            # A missing value is not validated too: it would be reported twice.
            if not any(where[: len(path)] == path for path, _ in no_value):
                problems.append(_problem(document, where, details["msg"]))
        return problems
    return problems or config


def _replaced(references: References, no_value: list[tuple[Path, str]], text: str, path: Path) -> str:
    """A value with its references replaced; those without a value are noted."""
    # A tenant's own header is replaced with the tenant's watch.
    if path[:1] == ("watches",) and path[-2:-1] == ("headers",) and is_for_each_tenant(text):
        return text

    def resolved(body: str) -> str:
        try:
            return references.resolve(body)
        except SettingError as error:
            no_value.append((path, str(error)))
            return UNRESOLVED

    return substitute(text, resolved)


def is_secret(path: Path) -> bool:
    """Whether a value at a path is one: a connection string, the token, a webhook, a header."""
    return path[-1:] in {("token",), ("dsn",)} or path == ("notify", "url") or path[-2:-1] == ("headers",)


def _problem(document: Document, path: Path, message: str) -> Problem:
    parts = document.parts
    reached = next(path[:length] for length in range(len(path), -1, -1) if path[:length] in parts)
    if isinstance(parts[reached].value, str | bool):
        path = reached  # a column's name is short for a section: an error of its key is one of the name
    shown = [_shown(document, path[:length]) for length in range(1, len(path) + 1)]
    return Problem(path_text(tuple(shown)), parts[reached].line, message)


def _shown(document: Document, path: Path) -> str | int:
    key, part = path[-1], document.parts.get(path)
    if isinstance(key, int) or key in KEYS:
        return key
    return key if part and part.value is not None and _WORD.fullmatch(key) else HIDDEN
