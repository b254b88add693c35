"""Is a call what HelloWork's page "Envoi changements de statut" asks for?

Pure. Deliberately shares nothing with the code that builds the calls: a judge who reads from the accused's notes
would find every mistake of theirs correct.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote

MAX_BODY_BYTES = 64 * 1024
"""Bodies above this are refused. HelloWork documents no limit; a status call has a few hundred bytes."""

MAX_NESTING = 64
"""Levels of nesting above this are refused: the parser's own limit depends on how deep its caller stands."""

OWN_SIDE_STATUSES = frozenset({"sending", "sent", "error", "not_found", "unknown"})
"""HelloWork's codes for its own side of the exchange; an ATS that sends one is almost surely misconfigured."""

_PREFIX = "/v1/applications/"
_SUFFIX = "/status"
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.[0-9]{3}Z")
_SHOWN_CHARACTERS = 60


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


class _NotJsonError(ValueError):
    """Python's parser takes more than JSON: it is told off through this."""


def read_target(path: str) -> Target | None:
    """Read the application's id from a path as received (percent-encoded, perhaps with a query).

    Returns:
        The target, or None if this is not the path of a status call.
    """
    path = path.partition("?")[0]
    if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
        return None
    segment = path[len(_PREFIX) : -len(_SUFFIX)]
    if not segment or "/" in segment:
        return None
    if not segment.isascii() or _BROKEN_ESCAPE.search(segment):
        return Target(segment, (f"applicationId in the path must be percent-encoded, not {_shown(segment)}",))
    try:
        return Target(unquote(segment, errors="strict"))
    except UnicodeDecodeError:
        return Target(segment, (f"applicationId in the path must be percent-encoded UTF-8, not {_shown(segment)}",))


def read_body(raw: bytes, content_type: str | None) -> Reading:
    """Read a body and name every violation in it, not only the first."""
    violations = []
    wrong_type = _content_type_violation(content_type)
    if wrong_type:
        violations.append(wrong_type)
    if len(raw) > MAX_BODY_BYTES:
        violations.append(f"the body must not exceed {MAX_BODY_BYTES} bytes")
        return Reading(None, raw[:MAX_BODY_BYTES].decode(errors="replace"), tuple(violations))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        violations.append(f"the body must be UTF-8: byte {error.start} is not")
        return Reading(None, raw.decode(errors="replace"), tuple(violations))
    try:
        body = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        violations.append(f"the body must be JSON: {_why_not_json(error)}")
        return Reading(None, text, tuple(violations))
    # A nesting of n levels has n opening brackets: that spares every ordinary body the walk.
    if text.count("{") + text.count("[") > MAX_NESTING and _nesting(body) > MAX_NESTING:
        violations.append(f"the body must not be nested deeper than {MAX_NESTING} levels")
        return Reading(None, text, tuple(violations))
    if not isinstance(body, dict):
        violations.append(f"the body must be a JSON object, not {_kind(body)}")
        return Reading(body, text, tuple(violations))
    violations.extend(_field_violations(body))
    return Reading(body, text, tuple(violations), _warnings(body))


def _field_violations(body: dict[str, object]) -> Iterator[str]:
    for name in ("status", "jobId"):
        value = body.get(name)
        if not isinstance(value, str) or not value:
            yield _wanted(body, name, "a non-empty string")
    for name in ("eventDate", "created"):
        value = body.get(name)
        match = _DATE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            yield _wanted(body, name, "a date like 2023-01-10T09:00:00.000Z (UTC, milliseconds, Z)")
        elif not _is_real(match):
            yield f"{name} must be a real date, not {_shown(value)}"
    if not isinstance(body.get("source", ""), str | dict):
        yield _wanted(body, "source", "a string or an object, or left out")
    if "applicationId" in body:
        yield "applicationId must not be in the body: it travels in the URL only"


def _warnings(body: dict[str, object]) -> tuple[str, ...]:
    status = body.get("status")
    if isinstance(status, str) and status in OWN_SIDE_STATUSES:
        return (
            f"status {_shown(status)} describes HelloWork's own side of the exchange: an ATS has no reason to send it",
        )
    return ()


def _wanted(body: dict[str, object], name: str, expected: str) -> str:
    if name not in body:
        return f"{name} is missing: it must be {expected}"
    value = body[name]
    found = _shown(value) if isinstance(value, str) else _kind(value)
    return f"{name} must be {expected}, not {found}"


def _is_real(match: re.Match[str]) -> bool:
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        # The constructor and not fromisoformat, which takes 24:00 as midnight since Python 3.14.
        datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return False
    return True


# Few values occur, and each call brings one.
@lru_cache(maxsize=64)
def _content_type_violation(value: str | None) -> str | None:
    if value is None:
        return "Content-Type is missing: it must be application/json"
    media_type, *parameters = (part.strip().lower() for part in value.split(";"))
    if media_type != "application/json":
        return f"Content-Type must be application/json, not {_shown(value)}"
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip().strip('"') not in {"utf-8", "utf8"}:
            return f"Content-Type must not name another charset than utf-8: {_shown(value)}"
    return None


def _unique_members(members: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(members)
    if len(unique) != len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotJsonError(f"{_shown(twice)} occurs more than once in an object")
    return unique


def _no_constant(name: str) -> object:
    raise _NotJsonError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        # It could not be shown again as JSON.
        raise _NotJsonError(f"{_shown(digits)} is too big a number")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_no_constant, parse_float=_finite)


def _why_not_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {MAX_NESTING} levels"
    return str(error)


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
