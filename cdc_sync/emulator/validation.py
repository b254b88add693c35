"""Checks a call against HelloWork's page "Envoi changements de statut".

Without code of the side that builds calls: shared code would accept its own mistakes.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic.alias_generators import to_camel


def _real(date: str) -> str:
    datetime.strptime(date, "%Y-%m-%dT%H:%M:%S.%f%z")
    return date


_Text = Annotated[str, Field(min_length=1)]
_Date = Annotated[
    str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"), AfterValidator(_real)
]


class _Body(BaseModel, strict=True, extra="allow", alias_generator=to_camel):
    status: _Text
    event_date: _Date
    created: _Date
    job_id: _Text
    source: str | dict[str, Any] = ""


def violations(body: object, content_type: str) -> Iterator[str]:
    """What HelloWork would refuse: of a parsed body, and the type that its request names."""
    if content_type != "application/json":
        yield f"Content-Type: expected application/json, not {content_type}"
    try:
        _Body.model_validate(body)
    except ValidationError as error:
        for each in error.errors():
            yield f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}"
    if isinstance(body, dict) and "applicationId" in body:
        yield "applicationId: it belongs in the URL only"
