"""Errors of a value and of a configuration, for people and for programs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeAlias

from cdc_sync.core.visible import visible
from cdc_sync.packaged import data

_LONGEST = 100

Path: TypeAlias = tuple[str | int, ...]
"""From the top of the document to a part of it: keys and positions in lists."""


class Place(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


@dataclass(eq=False)
class SettingError(ValueError):
    """An error in a part of the file, before it is decided what of the file may be shown.

    Attributes:
        message: what was expected; never the value, which may be a secret.
        suggestion: the repair, if it is more than that.
        path: readers of single values do not know it.
        about_key: whether the key is wrong or missing, and not its value.
        place: if the path does not show it.
    """

    message: str
    suggestion: str | None = None
    path: Path = field(default=(), kw_only=True)
    about_key: bool = field(default=False, kw_only=True)
    place: Place | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        return self.message

    def in_full(self) -> str:
        """What was expected, and the repair."""
        return f"{self.message}; {self.suggestion}" if self.suggestion else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """An error or a warning.

    Attributes:
        path: as `watches.applications.capture.mode`; empty for the file as a whole.
        line: from 1, as `column`.
        found: the text of the file (`${NAME}`, not its value), `(hidden)` if it may be a secret, or the kind of a list
            or a section; None if the key is enough.
        message: what was expected.
        code: a warning's stable name.
    """

    path: str
    line: int | None
    column: int | None
    found: str | None
    message: str
    suggestion: str | None = None
    code: str | None = None

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        found = f" (found: {printable(self.found)})" if self.found is not None else ""
        suggestion = f"; {self.suggestion}" if self.suggestion else ""
        return f"{where}{self.message}{found}{suggestion}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has every error, in the order of the file."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
        super().__init__(name, self.problems)

    def __str__(self) -> str:
        """Every problem on a line of its own, in a form that editors and terminals turn into links."""
        return "\n".join(
            visible(f"{self.name}:{problem.line}: {problem}" if problem.line else f"{self.name}: {problem}")
            for problem in self.problems
        )


def setting_error(
    name: str, /, *, path: Path = (), about_key: bool = False, place: Place | None = None, **facts: object
) -> SettingError:
    """An error of `messages.yaml`, or `otherwise`; facts replace the names in braces."""
    known = messages()["errors"]
    texts = known.get(name, known["otherwise"])
    texts = [text.format_map(facts) for text in ([texts] if isinstance(texts, str) else texts)]
    return SettingError(*texts, path=path, about_key=about_key, place=place)


def did_you_mean(text: str, known: Iterable[str]) -> str | None:
    """The most likely intention, if something is similar."""
    close = get_close_matches(text, known, n=1)
    return f'did you mean "{close[0]}"?' if close else None


def printable(text: str) -> str:
    """Text from a file, safe for a terminal: one line, shortened, without control characters."""
    shortened = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in shortened)


def messages() -> dict[str, Any]:
    """The content of `messages.yaml`."""
    found: dict[str, Any] = data("config/messages.yaml")
    return found
