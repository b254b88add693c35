"""What is wrong with a value, and with a configuration: for people and for programs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import yaml

from cdc_sync.core.visible import visible

_LONGEST = 100

Path: TypeAlias = tuple[str | int, ...]
"""From the top of the document to a part of it: keys and positions in lists."""


class Place(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


@dataclass(eq=False)
class Mistake(ValueError):  # noqa: N818 - the people who read it made one; the program has no error
    """What is wrong with a part of the file, before it is decided how much of the file may be shown.

    The readers of single values raise it without a path. The message says what was expected, never what was found: the
    value may be a secret that was put in from the environment.

    Attributes:
        message: what was expected.
        suggestion: how to repair it, if there is more to say than that.
        path: where.
        about_key: whether the key is wrong (or missing), and not its value.
        place: where exactly, if the path does not tell.
    """

    message: str
    suggestion: str | None = None
    path: Path = field(default=(), kw_only=True)
    about_key: bool = field(default=False, kw_only=True)
    place: Place | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        return self.message

    def in_full(self) -> str:
        """What was expected, and how to repair it."""
        return f"{self.message}; {self.suggestion}" if self.suggestion else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or suspicious.

    Attributes:
        path: where, as `watches.applications.capture.mode`; empty for the file as a whole.
        line: the line in the file, from 1; None if there is none.
        column: the column in that line, from 1; None if there is none.
        found: what the file has there, as it is written (`${NAME}`, not its value), `(hidden)` if it may be a secret,
            or for a list or a section that it is one; None if the key alone tells enough.
        message: what was expected.
        suggestion: how to repair it, if there is more to say than that.
        code: what is suspicious, as a stable name; None for what is wrong.
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
    """The configuration cannot be used; `problems` has everything that is wrong, in the order of the file."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
        super().__init__(name, self.problems)

    def __str__(self) -> str:
        """Every problem on a line of its own, in the form that editors and terminals make links of."""
        return "\n".join(
            visible(f"{self.name}:{problem.line}: {problem}" if problem.line else f"{self.name}: {problem}")
            for problem in self.problems
        )


def mistake(
    name: str, /, *, path: Path = (), about_key: bool = False, place: Place | None = None, **facts: object
) -> Mistake:
    """One of the mistakes in `messages.yaml`, `otherwise` if it is none; facts are what its texts have in braces."""
    known = messages()["mistakes"]
    said = known.get(name, known["otherwise"])
    texts = [text.format_map(facts) for text in ([said] if isinstance(said, str) else said)]
    return Mistake(*texts, path=path, about_key=about_key, place=place)


def did_you_mean(text: str, known: Iterable[str]) -> str | None:
    """What was meant most likely; None if nothing is like it."""
    close = get_close_matches(text, known, n=1)
    return f'did you mean "{close[0]}"?' if close else None


def printable(text: str) -> str:
    """Text from a file, safe for a terminal: one line, of bounded length, without control characters."""
    shortened = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in shortened)


@cache
def data(name: str) -> dict[str, Any]:
    """What stands in one of the YAML files beside this module."""
    found: dict[str, Any] = yaml.safe_load(files("cdc_sync.config").joinpath(name).read_text("utf-8"))
    return found


def messages() -> dict[str, Any]:
    """What stands in `messages.yaml`."""
    return data("messages.yaml")
