"""Is a call what HelloWork's page "Envoi changements de statut" requires?

Pure. Deliberately shares nothing with the code that builds the calls: a judge who reads from the accused's notes
would find every mistake of theirs correct.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from functools import lru_cache
from urllib.parse import unquote

MAX_BODY_BYTES = 64 * 1024
"""Bodies above this are refused. HelloWork documents no limit; a status call has a few hundred bytes."""

MAX_NESTING = 64
"""Levels of nesting above this are refused: the parser's own limit depends on how deep its caller stands."""

OWN_SIDE_STATUSES = frozenset({"sending", "sent", "error", "not_found", "unknown"})
"""HelloWork's codes for its own side of the exchange; an ATS that sends one is almost surely misconfigured."""

_PATH = re.compile(r"/v1/applications/([^/?]+)/status(?:\?.*)?", re.DOTALL)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_SHOWN_CHARACTERS = 60

_A_TEXT = ("a non-empty string", lambda value: isinstance(value, str) and value != "")
_A_DATE = (
    "a date like 2023-01-10T09:00:00.000Z (UTC, milliseconds, Z)",
    lambda value: isinstance(value, str) and _DATE.fullmatch(value) is not None,
)
_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "status": _A_TEXT,
    "jobId": _A_TEXT,
    "eventDate": _A_DATE,
    "created": _A_DATE,
    "source": ("a string or an object, or left out", lambda value: isinstance(value, str | dict)),
}


@dataclass(frozen=True, slots=True)
class Target:
    """The application that a path names."""

    application_id: str
    violations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a call's body turned out to be.

    Attributes:
        body: The parsed JSON; None if it could not be parsed.
        text: The body as received.
        violations: Everything that HelloWork would refuse; empty for a good call.
        warnings: What is accepted and yet looks like a mistake.
    """

    body: object
    text: str
    violations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class _UnreadableError(Exception):
    """The body is not what `read_body` can take; the text is the violation."""


def read_target(path: str) -> Target | None:
    """Read the application's id from a path as received (percent-encoded, perhaps with a query).

    Returns:
        The target, or None if this is not the path of a status call.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    segment = match[1]
    if not segment.isascii() or _BROKEN_ESCAPE.search(segment):
        return Target(segment, (f"applicationId in the path must be percent-encoded, not {_shown(segment)}",))
    try:
        return Target(unquote(segment, errors="strict"))
    except UnicodeDecodeError:
        return Target(segment, (f"applicationId in the path must be percent-encoded UTF-8, not {_shown(segment)}",))


def read_body(raw: bytes, content_type: str | None) -> Reading:
    """Read a body and name every violation in it, not only the first."""
    wrong_type = _content_type_violation(content_type)
    violations = [wrong_type] if wrong_type else []
    text = raw[:MAX_BODY_BYTES].decode(errors="replace")
    try:
        body = _parsed(raw)
    except _UnreadableError as error:
        return Reading(None, text, (*violations, str(error)))
    if not isinstance(body, dict):
        return Reading(body, text, (*violations, f"the body must be a JSON object, not {_kind(body)}"))
    return Reading(body, text, (*violations, *_field_violations(body)), tuple(_warnings(body)))


def _parsed(raw: bytes) -> object:
    if len(raw) > MAX_BODY_BYTES:
        raise _UnreadableError(f"the body must not exceed {MAX_BODY_BYTES} bytes")
    try:
        text = raw.decode()
        body = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise _UnreadableError(f"the body must be UTF-8: byte {error.start} is not") from None
    except json.JSONDecodeError as error:
        why = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise _UnreadableError(f"the body must be JSON: {why}") from None
    except RecursionError:
        raise _UnreadableError(f"the body must be JSON: it is nested deeper than {MAX_NESTING} levels") from None
    except ValueError as error:  # a number of thousands of digits
        raise _UnreadableError(f"the body must be JSON: {error}") from None
    # A nesting of n levels has n opening brackets: that spares every ordinary body the walk.
    if text.count("{") + text.count("[") > MAX_NESTING and _nesting(body) > MAX_NESTING:
        raise _UnreadableError(f"the body must not be nested deeper than {MAX_NESTING} levels")
    return body


def _field_violations(body: dict[str, object]) -> Iterator[str]:
    for name, (expected, fits) in _FIELDS.items():
        value = body.get(name)
        if name not in body:
            if name != "source":
                yield f"{name} is missing: it must be {expected}"
        elif not fits(value):
            yield f"{name} must be {expected}, not {_shown(value) if isinstance(value, str) else _kind(value)}"
        elif expected is _A_DATE[0] and not _is_real(str(value)):
            yield f"{name} must be a real date, not {_shown(value)}"
    if "applicationId" in body:
        yield "applicationId must not be in the body: it travels in the URL only"


def _warnings(body: dict[str, object]) -> Iterator[str]:
    status = body.get("status")
    if isinstance(status, str) and status in OWN_SIDE_STATUSES:
        yield f"status {_shown(status)} describes HelloWork's own side of the exchange: an ATS has no reason to send it"


def _is_real(date: str) -> bool:
    try:
        # Not fromisoformat, which takes 24:00 as midnight since Python 3.14.
        datetime.strptime(date, "%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: DTZ007 - only whether it exists is of interest
    except ValueError:
        return False
    return True


# Few values occur, and each call brings one.
@lru_cache(maxsize=64)
def _content_type_violation(value: str | None) -> str | None:
    if value is None:
        return "Content-Type is missing: it must be application/json"
    header = Message()
    header["Content-Type"] = value
    if header.get_content_type() != "application/json":
        return f"Content-Type must be application/json, not {_shown(value)}"
    # `get_content_charset` takes the first of several.
    if len([name for name, _ in header.get_params([]) if name.lower() == "charset"]) > 1:
        return f"Content-Type must not name more than one charset: {_shown(value)}"
    if header.get_content_charset("utf-8") not in {"utf-8", "utf8"}:
        return f"Content-Type must not name another charset than utf-8: {_shown(value)}"
    return None


def _unique_members(members: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(members)
    if len(unique) != len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise _UnreadableError(f"the body must be JSON: {_shown(twice)} occurs more than once in an object")
    return unique


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _UnreadableError(f"the body must be JSON: {text} is no finite number")
    return number


# Python's parser takes more than JSON.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_finite, parse_float=_finite)


def _nesting(value: object) -> int:
    levels = 0
    here = [value]
    while here := [item for item in here if isinstance(item, dict | list)]:
        levels += 1
        here = [child for item in here for child in (item.values() if isinstance(item, dict) else item)]
    return levels


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", str: "a string", list: "an array", dict: "an object", type(None): "null"}
    return kinds.get(type(value), "a number")


def _shown(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f'{shown[:_SHOWN_CHARACTERS]}…"'
