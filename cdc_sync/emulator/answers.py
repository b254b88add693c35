"""The answers that HelloWork documents, and those in its style for what it leaves open. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType

JSON_HEADERS: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json; charset=utf-8"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer, but for the headers that the server adds."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)


UPDATED = Answer(200, b'{"result": "Status was updated successfully"}')
"""The documented success."""


def unknown_application(application_id: str, ats_name: str) -> Answer:
    """The documented 404."""
    return refusal(404, f"Could not find applicationInfo with id {application_id} for ATS {ats_name}")


def invalid(violations: Sequence[str]) -> Answer:
    """A 400 that names everything that is wrong with the call."""
    return refusal(400, "; ".join(violations))


def unauthorized(header: str) -> Answer:
    """A 401 that names the header; its value, wanted or found, is nobody's business."""
    return refusal(401, f"Header {header} is missing or wrong")


def no_such_path(expected: str) -> Answer:
    """A 404 that cannot be taken for the documented one."""
    return refusal(404, f"No such path; expected {expected}")


def wrong_method(method: str, allowed: Sequence[str]) -> Answer:
    """A 405 with its mandatory Allow."""
    allow = ", ".join(allowed)
    answer = refusal(405, f"Method {method} is not allowed here; expected {allow}")
    return Answer(answer.status, answer.body, {**JSON_HEADERS, "Allow": allow})


def refusal(status: int, message: str) -> Answer:
    """An error in the shape of the documented one."""
    return Answer(status, json.dumps({"statusCode": status, "error": phrase(status), "message": message}).encode())


def phrase(status: int) -> str:
    """The standard reason phrase; a status may be scripted that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
