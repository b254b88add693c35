"""From a file to a configuration, or to all its errors at once, in our words.

An error shows a value only where the schema (`Spot`) expects a scalar that is no secret. Everything else, such as a
password under a misspelt key, is hidden or described by its kind.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from itertools import takewhile
from json import dumps
from operator import eq, itemgetter
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.config.document import (
    UNRESOLVED,
    Document,
    Part,
    References,
    is_for_each_tenant,
    is_reference_alone,
    read_text,
    resolve,
    substitute,
)
from cdc_sync.config.dsn import check
from cdc_sync.config.json_schema import Schema, flow, written_out
from cdc_sync.config.models import Config
from cdc_sync.config.problems import (
    ConfigurationError,
    Path,
    Problem,
    SettingError,
    did_you_mean,
    printable,
    setting_error,
)
from cdc_sync.config.tenants import expanded
from cdc_sync.core.visible import HIDDEN

_ABOUT_KEY = {"too_short", "extra_forbidden", "missing"}

_SIMPLE = re.compile(r"[A-Za-z0-9_-]+")
_LIKE_A_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")
"""An unknown key that can be shown; `token:SECRET` without its blank is one."""
_CREDENTIALS = re.compile(r":.*@|password\s*=", re.DOTALL)

ANY_NAME = "*"
"""In a path of `all_sections`: a key that people choose, such as a watch's name."""


def load(path: FilePath, environ: Mapping[str, str], lacking: dict[Path, str] | None = None) -> Config:
    """Read the configuration from a file; relative `${file:PATH}` in it are relative to its folder. See `parse`.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    try:
        text = read_text(path)
    except OSError as error:
        what = "not-there" if isinstance(error, FileNotFoundError) else "unreadable"
        raise ConfigurationError(str(path), [disclose(setting_error(what, reason=error.strerror), {})]) from None
    return parse(text, name=str(path), environ=environ, folder=path.parent, lacking=lacking)


def parse(
    text: str,
    *,
    name: str,
    environ: Mapping[str, str],
    folder: FilePath = FilePath(),
    lacking: dict[Path, str] | None = None,
) -> Config:
    """Read the configuration from text.

    Args:
        text: YAML.
        name: for messages.
        environ: the values of `${NAME}`.
        folder: of relative `${file:PATH}`.
        lacking: for printing SQL, where a secret may be missing: gets what is missing, by path. The value is a
            placeholder then, or "" for a connection string that makes no sense without it.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    found = _read(text, environ, folder, lacking)
    # Raised here, so that no exception with the file's content is its context.
    if isinstance(found, Config):
        return found
    raise ConfigurationError(name, found)


def _read(
    text: str, environ: Mapping[str, str], folder: FilePath, lacking: dict[Path, str] | None
) -> Config | list[Problem]:
    unreplaced: list[SettingError] = []

    def replaced(text: str, path: Path) -> str:
        may_lack = lacking is not None and "${" in text and at(path).is_secret
        wrong: list[SettingError] = []

        def resolved(body: str) -> str:
            try:
                return resolve(body, environ, folder)
            except SettingError as error:
                wrong.append(replace(error, path=path))
                return UNRESOLVED if may_lack else ""

        # A tenant's own header is replaced with the tenant's watch.
        value = text if _is_of_tenants(path, text) else substitute(text, resolved)
        if lacking is None or not may_lack:
            unreplaced.extend(wrong)
        elif wrong:
            lacking[path] = "; ".join(error.message for error in wrong)
            with suppress(SettingError):
                check(value if path[-1] == "dsn" else "")
                return value
            # It leads nowhere, also after a group's names are put into it.
            return f"dbname={UNRESOLVED}" if path[-1] == "dsn" else ""
        return value

    try:
        document = Document(text, replaced)
    except SettingError as error:
        return [disclose(error, {})]
    if document.values is None:
        return [disclose(setting_error("nothing"), {})]
    errors = [*document.errors.values(), *unreplaced, *_of_no_tenants(document.parts)]
    try:
        config = Config.model_validate(document.values)
        if not errors:
            # Where secrets may be missing, none is needed.
            reveal = References(environ, folder) if lacking is None else _unresolved
            return expanded(config.revealing(reveal), {}, reveal)[0]
    except ValidationError as error:
        # A missing value is not validated too: it would be reported twice.
        missing = {error.path for error in unreplaced}
        errors += [
            found
            for found in map(_translated, error.errors(include_url=False))
            if not any(found.path[:length] in missing for length in range(len(found.path) + 1))
        ]
    return list(dict.fromkeys(disclose(error, document.parts) for error in errors))


def _is_of_tenants(path: Path, value: object) -> bool:
    is_header = path[:1] == ("watches",) and path[-3:-1] == ("hellowork", "headers")
    return is_header and isinstance(value, str) and is_for_each_tenant(value)


def _of_no_tenants(parts: Mapping[Path, Part]) -> list[SettingError]:
    """The errors of headers that differ by tenant, in watches without `for_each`."""
    paths = [path for path, part in parts.items() if path[2:3] == ("hellowork",) and _is_of_tenants(path, part.value)]
    templates = {path[:2] for path, part in parts.items() if path[2:] == ("for_each",) and part.value is not None}
    return [setting_error("tenant-of-nothing", path=path) for path in paths if path[:2] not in templates]


def _unresolved(_: str) -> str:
    return UNRESOLVED


def _translated(details: ErrorDetails) -> SettingError:
    """A validation error in our words. Its input is only compared, never shown."""
    path: Path = details["loc"]
    context: dict[str, Any] = details.get("ctx", {})
    path, about_key = (path[:-1], True) if path[-1:] == ("[key]",) else (path, False)
    wrong, kind = context.get("error"), details["type"]
    if isinstance(wrong, SettingError):
        return replace(wrong, path=(*path, *wrong.path), about_key=about_key)
    found = setting_error(kind, path=path, about_key=kind in _ABOUT_KEY, **context)
    match kind:
        case "missing":
            found.message += _meaning(path)
        case "extra_forbidden":
            found.suggestion = _likely(path)
        case "literal_error":
            found.message = found.message.replace("'", "")
            found.suggestion = did_you_mean(str(details["input"]), re.findall(r"'([^']*)'", context["expected"]))
        case "dict_type" | "mapping_type":
            examples = [example for spot in at(path).kinds for example in spot.get("examples", ())]
            found.suggestion = f"for example {path[-1]}: {flow(examples[0])}" if examples else None
        case "string_type" if isinstance(details["input"], bool):
            found.suggestion = "put it in quotes to make it text"
    return found


def _meaning(path: Path) -> str:
    description = at(path[:-1]).keys.get(str(path[-1]), {}).get("description", "")
    text = re.split(r"[.:] ", description)[0].rstrip(".")
    return f" ({text[0].lower()}{text[1:]})" if text else ""


def _likely(path: Path) -> str | None:
    """The key that was meant: the same one elsewhere, else a similar one here."""
    key = str(path[-1])
    if not _LIKE_A_KEY.fullmatch(key):
        return "write `key: value`, with a blank after the colon"
    here = tuple(ANY_NAME if at(path[:depth]).names_are_free else str(name) for depth, name in enumerate(path[:-1]))
    elsewhere = [(sum(takewhile(bool, map(eq, place, here))), place) for place, keys in all_sections() if key in keys]
    if elsewhere:
        shared, place = max(elsewhere, key=itemgetter(0))
        if not place:
            return "it belongs at the top of the file, without indentation"
        rest = ["NAME" if name == ANY_NAME else name for name in place[shared:]]
        return f"it belongs in {'.'.join(rest) if shared == len(here) else path_text((*path[:shared], *rest), {})}"
    known_keys = list(at(path[:-1]).keys)
    return did_you_mean(key, known_keys) or (f"known here: {', '.join(known_keys)}" if known_keys else None)


# What may be shown of the file.


class Spot:
    """What the schema allows at one path.

    `has_scalars`: anything but a section, a mapping or a list. `names_are_free`: people choose the keys below.
    """

    def __init__(self, kinds: Iterable[Schema]) -> None:
        self.kinds = tuple(kinds)
        self.keys: Schema = {key: below for kind in self.kinds for key, below in kind.get("properties", {}).items()}
        # Not a set: a type may be a list of types.
        self.has_scalars = any(kind.get("type") not in ("object", "array") for kind in self.kinds)
        self.names_are_free = any(kind.get("type") == "object" and "properties" not in kind for kind in self.kinds)
        self.is_secret = any(kind.get("writeOnly") for kind in self.kinds)
        self.may_be_shown = self.has_scalars and not self.is_secret

    def below(self, key: str | int) -> "Spot":
        """What is allowed at a key, or at a position in a list."""
        found = [*filter(None, [self.keys.get(str(key))])]
        for kind in self.kinds:
            further = (kind.get("items"), kind.get("additionalProperties"), *kind.get("patternProperties", {}).values())
            found += filter(None, further)
        return Spot(kind for schema in found for kind in schema.get("anyOf", [schema]))


@cache
def at(path: Path) -> Spot:
    """What is allowed at a path."""
    return at(path[:-1]).below(path[-1]) if path else Spot([{"type": "object", "properties": written_out()}])


@cache
def all_sections() -> tuple[tuple[tuple[str, ...], Schema], ...]:
    """Every section at a fixed place or under a free name: its path and its keys, in order.

    Without long forms of a scalar (`{sql: …}` for a column's name).
    """
    return tuple(_sections_from(at(()), ()))


def _sections_from(spot: Spot, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    keys = {} if spot.has_scalars else spot.keys
    if keys:
        yield path, keys
    for key in (*keys, *([ANY_NAME] if spot.names_are_free else [])):
        yield from _sections_from(spot.below(key), (*path, key))


def disclose(error: SettingError, parts: Mapping[Path, Part]) -> Problem:
    """Make the problem that people see."""
    path, found = error.path, None
    reached, part = _locate(path, parts)
    place = error.place or (part and part.key)
    # A column's name is short for a section: an error of its key is one of the name.
    if reached == path or (part and part.text is not None and part.value is not None):
        path = reached
        if part is not None and not error.about_key:
            found = _found(part, at(path))
            place = error.place or (part.key if part.text is None else part.place)
    line, column = place or (None, None)
    return Problem(path_text(path, parts), line, column, found, error.message, error.suggestion)


def path_text(path: Path, parts: Mapping[Path, Part]) -> str:
    """Format a path: `watches.applications.related[0].table`, odd keys in quotes, possible secrets hidden."""
    text = ""
    for depth, key in enumerate(path):
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = _name(key, at(path[:depth]), _locate(path[: depth + 1], parts)[1])
            text += f".{name}" if text else name
    return text


def _name(key: str, spot: Spot, part: Part | None) -> str:
    below = spot.below(key)
    if _CREDENTIALS.search(key):
        return HIDDEN
    if not spot.names_are_free or not (below.may_be_shown or below.keys):
        # {SECRET}, {token=SECRET} and the end of {token: SEC,RET} are keys without a value.
        has_value = part is None or part.value is not None
        known = [] if spot.names_are_free else [*spot.keys, *(name for _, keys in all_sections() for name in keys)]
        if not _LIKE_A_KEY.fullmatch(key) or not (has_value or get_close_matches(key, known, n=1)):
            return HIDDEN
    return key if _SIMPLE.fullmatch(key) else dumps(printable(key), ensure_ascii=False)


def _locate(path: Path, parts: Mapping[Path, Part]) -> tuple[Path, Part | None]:
    """The longest part of a path that is in the document, and what stands there."""
    reached = next((path[:length] for length in range(len(path), 0, -1) if path[:length] in parts), ())
    return reached, parts.get(reached)


def _found(part: Part, spot: Spot) -> str:
    if part.text is None:
        return "a list" if isinstance(part.value, list) else "a section"
    if not part.text.strip():
        return "nothing"
    if part.value is None or isinstance(part.value, bool) or is_reference_alone(part.text):
        return part.text
    if not spot.may_be_shown:
        return HIDDEN if spot.has_scalars or not spot.kinds else "text"
    # A URL or a DSN in the wrong place may have a password.
    return HIDDEN if _CREDENTIALS.search(part.text) else part.text
