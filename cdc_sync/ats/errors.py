"""Errors of the ATS's database, with their remedies; `errors.yaml` has the texts."""

import re
from collections.abc import Awaitable
from typing import Self, TypeVar

import psycopg
from psycopg import errors

from cdc_sync.core.failures import CodedError
from cdc_sync.core.reasons import Reason, filled
from cdc_sync.core.visible import visible
from cdc_sync.packaged import data

T = TypeVar("T")

TEXTS = data("ats/errors.yaml")
"""The driver's `meanings`, our own `messages`, and `reasons`."""

# fmt: off
UNREACHABLE = frozenset({
    "lock-foreign", "lock-taken", "server-behind", "server-may-lag", "standby", "system-refused", "table-locked",
    "table-replaced", "unanswered", "unreachable",
})
# fmt: on
"""Codes of errors that pass by themselves; here, since the system may refuse to open a file."""


class SourceError(CodedError):
    """The database cannot be used as configured."""

    @property
    def kind(self) -> str:
        """Unreachable if it passes by itself, else misconfigured."""
        return "unreachable" if self.code in UNREACHABLE else "misconfigured"

    def followed_by(self, sentences: str) -> Self:
        """The same error with further sentences."""
        return type(self)(self.code, reason("followed", reason=self.message, reason_more=sentences))


class RowError(SourceError):
    """A single row's contents may be the cause."""


_OF_THE_SERVER = frozenset({"08", "25", "40", "53", "55", "57"})
"""Classes of SQLSTATEs that say nothing of a row: of connections, transactions, resources, locks, operators."""

_QUOTED = re.compile('["«].*["»]', re.DOTALL)
"""From the first quote to the last, in any language: maybe a row's value."""

_BYTES = re.compile(r"0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*")


def source_error(name: str, kind: type[SourceError] = SourceError, **facts: object) -> SourceError:
    """The error with one of the messages, by its code and maybe a `/` and more."""
    return _error(kind, name, TEXTS["messages"][name], **facts)


def reason(name: str, /, **facts: object) -> Reason:
    """One of the reasons, by its code."""
    return filled(name, TEXTS["reasons"][name], **facts)


def refused_by_system(error: OSError) -> SourceError:
    """The error for a lack of open files or the like, which may pass."""
    return source_error("system-refused", message=error)


def _error(kind: type[SourceError], name: str, text: str, /, **facts: object) -> SourceError:
    return kind(name.partition("/")[0], filled(name, text, **facts))


def unwritable(error: UnicodeEncodeError) -> SourceError:
    """The error for a name outside the connection's encoding."""
    return source_error("name-not-encodable", character=f"{ord(error.object[error.start]):04X}")


def translate(error: psycopg.Error, doing: str) -> SourceError:
    """The driver's error during an operation, as ours."""
    line = visible(_first_line(error))
    names = {kind.__name__ for kind in type(error).__mro__}
    names |= {"text"} if error.sqlstate is None else set()
    is_of_the_server = error.sqlstate is None or error.sqlstate[:2] in _OF_THE_SERVER
    kind = SourceError if is_of_the_server else RowError
    for meaning in TEXTS["meanings"]:
        match = re.search("|".join(meaning.get("found", ())), line)
        if match is not None and names.intersection(meaning["of"]):
            facts = {"message": line, "found": line[match.start() :], "doing": doing}
            return _error(kind, meaning["code"], meaning["text"], **facts)
    raise AssertionError("the last one is of every error")


async def unless_a_row_fails(asked: Awaitable[T]) -> T | None:
    """The answer; None if a row's contents prevent it."""
    try:
        return await asked
    except RowError:
        return None


def row_error_text(error: RowError) -> str:
    """The text of an error, without the row's values."""
    cause = error.__cause__
    if not isinstance(cause, psycopg.Error):
        return error.message
    return _BYTES.sub("…", _QUOTED.sub("…", _first_line(cause)))


def _first_line(error: psycopg.Error) -> str:
    """The server's primary message; its details can quote a row's values."""
    text = error.diag.message_primary or str(error)
    if isinstance(error, psycopg.DataError):
        text = _QUOTED.sub("…", text)
    elif isinstance(error, psycopg.ProgrammingError | errors.ObjectNotInPrerequisiteState) and error.diag.message_hint:
        text = f"{text} ({error.diag.message_hint.rstrip('.')})"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL:" in line]
    return (fatal or lines or [type(error).__name__])[0].rstrip(".")
