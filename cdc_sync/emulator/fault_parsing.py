"""From JSON to faults, with every mistake named, and a near miss where there is one. Pure."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.emulator.errors import FaultError
from cdc_sync.emulator.faults import AnyFault, Fault, Random

_FAULTS: TypeAdapter[list[AnyFault]] = TypeAdapter(list[AnyFault])
_CLASSES: Mapping[str, type[Fault]] = {each.model_fields["kind"].default: each for each in Fault.__subclasses__()}
_RANDOM = Random.model_fields["kind"].default


def parse_faults(document: object) -> tuple[Fault, ...]:
    """Read one fault, or a list of them, from parsed JSON; faults that are made already pass as they are.

    Raises:
        FaultError: Something is wrong; the message names all of it.
    """
    faults = document if isinstance(document, list | tuple) else [document]
    try:
        return tuple(_FAULTS.validate_python(list(faults)))
    except ValidationError as error:
        raise FaultError("; ".join(map(_explain, error.errors(include_url=False)))) from None


def _explain(error: ErrorDetails) -> str:
    where, kind = _place(error["loc"])
    found = error["input"]
    match error["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            problem = f": {_unknown_kind(found, [each for each in _CLASSES if not (kind == _RANDOM == each)])}"
        case "extra_forbidden":
            where, _, name = where.rpartition(".")
            problem = f": {_unknown(name, f'field of {kind}', list(_CLASSES[kind].model_fields))}"
        case "missing":
            problem = f" is missing: {kind} needs it"
        case "model_attributes_type":
            problem = f': expected an object with a kind, such as {{"kind": "reset"}}, not {found!r}'
        case "value_error":
            problem = f": {error['ctx']['error']}"
        case _:
            problem = f": {error['msg'].removeprefix('Input ')}, not {found!r}"
    return where + problem


def _place(location: tuple[int | str, ...]) -> tuple[str, str]:
    """Tell where in the document a mistake is, and in a fault of which kind."""
    where, kind, after_index = "fault", "", False
    for step in location:
        if isinstance(step, int):
            where += f"[{step}]"
        elif after_index:
            # The validator puts the kind that it chose behind the index; it is no step in the document.
            kind = step
        else:
            where += f".{step}"
        after_index = isinstance(step, int)
    return where, kind


def _unknown_kind(found: object, allowed: Sequence[str]) -> str:
    if isinstance(found, Mapping) and "kind" in found:
        return _unknown(found["kind"], "kind of fault", allowed)
    return f"kind is missing. Allowed: {', '.join(allowed)}"


def _unknown(found: object, what: str, allowed: Sequence[str]) -> str:
    near = get_close_matches(str(found), allowed, n=1)
    hint = f", did you mean {near[0]}?" if near else "."
    return f"{found!r} is no {what}{hint} Allowed: {', '.join(allowed)}"
