"""Checks a call against HelloWork's page "Envoi changements de statut".

Without code of the side that builds calls: shared code would accept its own mistakes.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote

MAX_BODY_BYTES = 64 * 1024
"""HelloWork documents no limit; a call has a few hundred bytes."""

MAX_NESTING = 64
"""Deeper nesting is refused: the parser's limit depends on its caller's depth."""

OWN_SIDE_STATUSES = frozenset({"sending", "sent", "error", "not_found", "unknown"})
"""HelloWork's codes for its own side; an ATS that sends one is probably misconfigured."""

_PATH = re.compile(r"/v1/applications/([^/?]+)/status(?:\?.*)?", re.DOTALL)
_ENCODED = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})+")
# Other parameters mean nothing; the charset may be given once.
_JSON_TYPE = re.compile(
    r'application/json\s*(?:;\s*charset="?utf-?8"?(?!.*;\s*charset)\s*|;(?!\s*charset)[^;]*)*', re.IGNORECASE
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_SHOWN_CHARACTERS = 60


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_date(value: object) -> bool:
    try:
        # Not fromisoformat, which accepts 24:00 as midnight since Python 3.14.
        return bool(_DATE.fullmatch(str(value)) and datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%S.%f%z"))
    except ValueError:
        return False


_A_TEXT = ("a non-empty string", _is_text)
_A_DATE = ("a real date like 2023-01-10T09:00:00.000Z (UTC, milliseconds, Z)", _is_date)
_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "status": _A_TEXT,
    "jobId": _A_TEXT,
    "eventDate": _A_DATE,
    "created": _A_DATE,
    "source": ("a string or an object, or left out", lambda value: isinstance(value, str | dict)),
}


class Reading(NamedTuple):
    """A call as read; the fields are those of `Call`."""

    application_id: str | None
    body: object
    raw: str
    violations: tuple[str, ...]
    warnings: tuple[str, ...]


def read_call(path: str, raw: bytes, content_type: str | None) -> Reading:
    """Read a call, and name every violation; `path` is percent-encoded, with its query."""
    violations: list[str] = []
    application_id = None
    if match := _PATH.fullmatch(path):
        application_id = _decoded(match[1])
        if application_id is None:
            application_id = match[1]
            violations.append(f"applicationId in the path must be percent-encoded UTF-8, not {_shown(match[1])}")
    if not _JSON_TYPE.fullmatch(content_type or ""):
        violations.append(f"Content-Type must be application/json, in UTF-8, not {_shown(content_type)}")
    body: object = None
    if len(raw) > MAX_BODY_BYTES:
        violations.append(f"the body must not exceed {MAX_BODY_BYTES} bytes")
    else:
        try:
            body = _parsed(raw)
            violations += _body_violations(body)
        except (ValueError, RecursionError) as error:
            violations.append(f"the body must be JSON: {error}")
    status = body.get("status") if isinstance(body, dict) else None
    own = f"status {_shown(status)} describes HelloWork's own side of the exchange: an ATS has no reason to send it"
    warnings = (own,) if isinstance(status, str) and status in OWN_SIDE_STATUSES else ()
    text = raw[:MAX_BODY_BYTES].decode(errors="replace")
    return Reading(application_id, body, text, tuple(violations), warnings)


def _decoded(segment: str) -> str | None:
    try:
        return unquote(segment, errors="strict") if _ENCODED.fullmatch(segment) else None
    except UnicodeDecodeError:
        return None


def _body_violations(body: object) -> Iterator[str]:
    if not isinstance(body, dict):
        yield f"the body must be a JSON object, not {_shown(body)}"
        return
    for name, (expected, fits) in _FIELDS.items():
        if name in body:
            if not fits(body[name]):
                yield f"{name} must be {expected}, not {_shown(body[name])}"
        elif name != "source":
            yield f"{name} is missing: it must be {expected}"
    if "applicationId" in body:
        yield "applicationId must not be in the body: it travels in the URL only"


def _unique_members(members: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(members)
    if len(unique) != len(members):
        [(twice, _)] = Counter(name for name, _ in members).most_common(1)
        raise ValueError(f"{_shown(twice)} occurs more than once in an object")
    return unique


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _parsed(raw: bytes) -> object:
    # Python's parser accepts more than JSON.
    body: object = json.loads(
        raw.decode(), object_pairs_hook=_unique_members, parse_constant=_finite, parse_float=_finite
    )
    levels, here = 0, [body]
    while here := [item for item in here if isinstance(item, dict | list)]:
        levels += 1
        here = [child for item in here for child in (item.values() if isinstance(item, dict) else item)]
    if levels > MAX_NESTING:
        raise ValueError(f"it is nested deeper than {MAX_NESTING} levels")
    return body


def _shown(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}…"
