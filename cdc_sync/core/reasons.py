"""Reasons: English sentences with a code and values, so that the page can show them in French.

The store keeps all three. A reason of an earlier version is a plain sentence and stays one.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_BEGINNING = '{"reason":'
_NAMES = {"reason", "code", "values"}
_PLACE = re.compile(r"\{(\w+)\}")


class Reason(str):
    """A reason; outside the page it is the English sentence. `values` are texts, numbers and other reasons by name."""

    __slots__ = ("code", "values")

    code: str
    values: Mapping[str, Any]

    def __new__(cls, sentence: str, code: str, values: Mapping[str, Any]) -> Self:
        """See the class."""
        made = super().__new__(cls, sentence)
        made.code, made.values = code, values
        return made

    def __deepcopy__(self, _: object) -> Self:
        return self


def coded(code: str, text: str, /, **values: object) -> Reason:
    """A reason; `%(name)s` in its text is replaced by the value of that name."""
    values = {name: round(value) if isinstance(value, float) else value for name, value in values.items()}
    kept = {name: value if isinstance(value, (int, Reason)) else str(value) for name, value in values.items()}
    return Reason(text % kept, code, kept)


def filled(code: str, text: str, /, **values: object) -> Reason:
    """As `coded`, with `{name}` in place of `%(name)s`, as YAML files have it."""
    return coded(code, _PLACE.sub(r"%(\1)s", text), **values)


def fields_of(reason: str) -> dict[str, Any]:
    """The fields of a reason, for JSON."""
    if not isinstance(reason, Reason):
        return {"reason": reason}
    values = {name: fields_of(value) if isinstance(value, Reason) else value for name, value in reason.values.items()}
    return {"reason": reason, "code": reason.code, "values": values}


def as_text(reason: str | None) -> str | None:
    """A reason as one text for the store."""
    return _encode(fields_of(reason)) if isinstance(reason, Reason) else reason


def from_text(text: str | None) -> str | None:
    """The inverse of `as_text`; a plain sentence stays as it is."""
    if text is None or not text.startswith(_BEGINNING):
        return text
    try:
        found = json.loads(text, object_hook=restored)
    except ValueError:
        return text
    return found if isinstance(found, Reason) else text


def restored(found: dict[str, Any]) -> Any:
    """A JSON object as a reason, if it has exactly the fields of one with a code."""
    return Reason(found["reason"], found["code"], found["values"]) if found.keys() == _NAMES else found


def joined(reasons: Sequence[str]) -> str:
    """At least one reason, joined to one."""
    first, *others = reasons
    for other in others:
        first = coded("and", "%(reason)s; %(reason_other)s", reason=first, reason_other=other)
    return first
