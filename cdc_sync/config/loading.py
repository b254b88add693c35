"""From a file to a configuration, or to all its errors at once: pydantic's own, each with its line.

No error shows a value, whatever it is: it may be a secret in the wrong place. A key is shown if the configuration has
one of that name, or if it is a word with a value: `{token: SEC,RET}` has a key `RET` without one.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.config.document import (
    UNRESOLVED,
    Document,
    DocumentError,
    Part,
    References,
    is_for_each_tenant,
    read_text,
    substitute,
)
from cdc_sync.config.dsn import check
from cdc_sync.config.models import Config
from cdc_sync.config.problems import (
    ConfigurationError,
    Path,
    Problem,
    SettingError,
    SeveralSettingsError,
    did_you_mean,
    path_text,
)
from cdc_sync.config.tenants import expanded
from cdc_sync.config.values import Section
from cdc_sync.core.visible import HIDDEN

_A_BEGINNING = "`cdc-sync config example` prints an annotated configuration to begin with"
_WORD = re.compile(r"[\w. -]{1,60}")

_WITHOUT_MEANING: dict[tuple[str, ...], str] = {
    ("metrics",): "/metrics has each watch by itself where there are at most ten"
}
"""Keys that mean nothing any more, and why: accepted with a warning until 0.4."""


def load(path: FilePath, environ: Mapping[str, str], lacking: dict[Path, str] | None = None) -> Config:
    """Read the configuration from a file; relative `${file:PATH}` in it are relative to its folder. See `parse`.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        missing = f"there is no such file: name another with --config; {_A_BEGINNING}"
        raise ConfigurationError(str(path), [Problem("", None, missing)]) from None
    except OSError as error:
        unreadable = f"cannot be read: {error.strerror}"
        raise ConfigurationError(str(path), [Problem("", None, unreadable)]) from None
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
    values = _Values(references, lacking)
    try:
        document = Document(text, values.replaced)
    except DocumentError as error:
        return [error.problem]
    if document.values is None:
        return [Problem("", None, f"there is nothing in it; {_A_BEGINNING}")]
    without_meaning = dict(_taken_out(document.values))
    errors = [*values.errors, *_of_no_tenants(values.of_tenants, document)]
    config = None
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        # A missing value is not validated too: it would be reported twice.
        missing = {error.path for error in values.errors}
        found = (each for details in error.errors() for each in _errors_of(details))
        errors += [each for each in found if not any(each.path[: len(path)] == path for path in missing)]
    problems = [_problem(error, document, line) for (line, _), error in document.twice.items()]
    problems += [_problem(error, document) for error in errors]
    if config is None or problems:
        return list(dict.fromkeys(problems))
    # Where secrets may be missing, none is needed.
    reveal = references if lacking is None else _unresolved
    return expanded(config.of_file(reveal, without_meaning), {}, reveal)[0]


def _of_no_tenants(paths: list[Path], document: Document) -> Iterator[SettingError]:
    """The errors of headers that differ by tenant, in watches without `for_each`."""
    for path in paths:
        for_each = document.parts.get((*path[:2], "for_each"))
        if for_each is None or for_each.value is None:
            yield SettingError("expected for_each beside hellowork: {tenant} stands for nothing", path=path)


class _Values:
    """Replaces references; collects those without a value, and those that differ by tenant."""

    def __init__(self, references: References, lacking: dict[Path, str] | None) -> None:
        self.errors: list[SettingError] = []
        self.of_tenants: list[Path] = []
        self._references = references
        self._lacking = lacking

    def replaced(self, text: str, path: Path) -> str:
        """A value with its references replaced."""
        # A tenant's own header is replaced with the tenant's watch.
        if path[:1] == ("watches",) and path[-3:-1] == ("hellowork", "headers") and is_for_each_tenant(text):
            self.of_tenants.append(path)
            return text
        wrong: list[SettingError] = []

        def resolved(body: str) -> str:
            try:
                return self._references.resolve(body)
            except SettingError as error:
                wrong.append(replace(error, path=path))
                return UNRESOLVED

        value = substitute(text, resolved)
        if not wrong:
            return value
        if self._lacking is None or not is_secret(path):
            self.errors += wrong
            return value
        self._lacking[path] = "; ".join(map(str, wrong))
        return _leading_nowhere(value) if path[-1] == "dsn" else value


def _leading_nowhere(dsn: str) -> str:
    """A connection string with placeholders, or another that leads nowhere too."""
    with suppress(SettingError):
        check(dsn)
        return dsn
    return f"dbname={UNRESOLVED}"


def is_secret(path: Path) -> bool:
    """Whether a value at a path is one: a connection string, the token, a webhook, a header."""
    return path[-1:] in {("token",), ("dsn",)} or path == ("notify", "url") or path[-2:-1] == ("headers",)


def _unresolved(_: str) -> str:
    return UNRESOLVED


def _taken_out(values: object) -> Iterator[tuple[Path, str]]:
    """Take the keys out that mean nothing any more: which were there, and why they do not."""
    for path, why in _WITHOUT_MEANING.items():
        section: Any = values
        name = path[-1]
        for key in path[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section:
            del section[name]
            yield path, why


def _errors_of(details: ErrorDetails) -> Iterator[SettingError]:
    """The errors in one of pydantic's. Its input is never looked at."""
    path: Path = tuple(key for key in details["loc"] if key != "[key]")
    wrong = details.get("ctx", {}).get("error")
    if isinstance(wrong, SeveralSettingsError):
        yield from (replace(each, path=(*path, *each.path)) for each in wrong.errors)
    elif isinstance(wrong, SettingError):
        yield replace(wrong, path=(*path, *wrong.path))
    elif wrong is not None:
        yield SettingError(str(wrong), path=path)
    elif details["type"] == "extra_forbidden":
        yield SettingError(f"unknown key{did_you_mean(str(path[-1]), _keys_at(path[:-1]))}", path=path)
    else:
        yield SettingError(details["msg"], path=path)


def _keys_at(path: Path) -> list[str]:
    """The keys of the section at a path."""
    sections: list[type[Section]] = [Config]
    for key in path:
        fields = _fields(sections)
        if str(key) in fields:
            sections = list(_sections_in(fields[str(key)].annotation))
        # Else it is a name that people choose, or a position in a list.
    return list(_fields(sections))


def _fields(sections: list[type[Section]]) -> dict[str, Any]:
    return {each.alias or name: each for section in sections for name, each in section.model_fields.items()}


def _sections_in(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)


def _problem(error: SettingError, document: Document, line: int | None = None) -> Problem:
    path, parts = error.path, document.parts
    reached = next(path[:length] for length in range(len(path), -1, -1) if path[:length] in parts)
    if isinstance(parts[reached].value, str | bool):
        path = reached  # a column's name is short for a section: an error of its key is one of the name
    shown = tuple(_shown(path[:length], parts.get(path[:length])) for length in range(1, len(path) + 1))
    return Problem(path_text(shown), line or parts[reached].line, error.message)


def _shown(path: Path, part: Part | None) -> str | int:
    key = path[-1]
    if isinstance(key, int) or key in _KNOWN:
        return key
    return key if part and part.value is not None and _WORD.fullmatch(key) else HIDDEN


def _all_keys(section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield field.alias or name
        for below in _sections_in(field.annotation):
            yield from _all_keys(below)


_KNOWN = frozenset(_all_keys(Config))
