"""Errors of a value and of a configuration. None shows a value of the file, which may be a secret."""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from cdc_sync.core.visible import visible

Path: TypeAlias = tuple[str | int, ...]
"""From the top of the document to a part of it: keys and positions in lists."""


class SettingError(ValueError):
    """What is wrong with a value, without the value."""


def wrong_parts(errors: Iterable[tuple[Path, str]]) -> ValidationError:
    """What is wrong with parts of a value, as an error of pydantic's."""
    return ValidationError.from_exception_data(
        "parts",
        [
            InitErrorDetails(type=PydanticCustomError("part", "{message}", {"message": message}), loc=path, input=None)
            for path, message in errors
        ],
    )


class Problem(NamedTuple):
    """An error or a warning.

    Attributes:
        path: as `watches.applications.capture.mode`; empty for the file as a whole.
        message: what was expected.
        remedy: the repair, if it is more than that.
        line: of its key, from 1.
    """

    path: str
    message: str
    remedy: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{remedy}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has every error, in the order of the file."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__(name, self.problems)

    def __str__(self) -> str:
        """Every problem on a line of its own, in a form that editors and terminals turn into links."""
        return "\n".join(
            visible(f"{self.name}:{problem.line}: {problem}" if problem.line else f"{self.name}: {problem}")
            for problem in self.problems
        )


def path_text(path: Path) -> str:
    """Format a path: `watches.applications.related[0].table`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
