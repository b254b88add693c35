"""From a file to a configuration, or to everything that is wrong with it at once, in our words."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from operator import eq, itemgetter
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.config.disclosure import ANY_NAME, all_sections, at, disclose, is_like_a_key, path_text
from cdc_sync.config.document import UNRESOLVED, Document, read_text, resolve, substitute
from cdc_sync.config.dsn import check
from cdc_sync.config.models import Config
from cdc_sync.config.problems import ConfigurationError, Mistake, Path, Problem, did_you_mean, messages
from cdc_sync.config.schema import flow

_WHERE_TO_BEGIN = "`cdc-sync config example` prints an annotated configuration to begin with"

_ABOUT_KEY = {"too_short", "extra_forbidden", "missing"}

OTHERWISE = "is not what is expected here"
"""For a type that a later version of the validator may bring: vague, and better than none."""


def load(path: FilePath, environ: Mapping[str, str], lacking: dict[Path, str] | None = None) -> Config:
    """Read the configuration from a file.

    Args:
        path: the file; a relative `${file:PATH}` in it is relative to its folder.
        environ: where `${NAME}` is looked up.
        lacking: see `parse`.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    try:
        text = read_text(path)
    except OSError as error:
        message, remedy = f"cannot be read: {error.strerror}", "cdc-sync's user must be able to read it"
        if isinstance(error, FileNotFoundError):
            message, remedy = "there is no such file", f"name another with --config; {_WHERE_TO_BEGIN}"
        raise ConfigurationError(str(path), [disclose(Mistake(message, remedy), {})]) from None
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
        name: what messages call it.
        environ: where `${NAME}` is looked up.
        folder: what a relative `${file:PATH}` is relative to.
        lacking: for printing SQL, where a secret whose variable or file is not there is no error: gets what each lacks,
            by its path. In its place is a placeholder then, or for a connection string that says nothing without it,
            nothing.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    found = _read(text, environ, folder, lacking)
    # Raised out here, so that no exception with the file's content in it hangs on to this one.
    if isinstance(found, Config):
        return found
    raise ConfigurationError(name, found)


def _read(
    text: str, environ: Mapping[str, str], folder: FilePath, lacking: dict[Path, str] | None
) -> Config | list[Problem]:
    unreplaced: list[Mistake] = []

    def replaced(text: str, path: Path) -> str:
        may_lack = lacking is not None and "${" in text and at(path).is_secret
        wrong: list[Mistake] = []

        def resolved(body: str) -> str:
            try:
                return resolve(body, environ, folder)
            except Mistake as mistake:
                wrong.append(replace(mistake, path=path))
                return UNRESOLVED if may_lack else ""

        value = substitute(text, resolved)
        if lacking is None or not may_lack:
            unreplaced.extend(wrong)
        elif wrong:
            lacking[path] = "; ".join(mistake.message for mistake in wrong)
            with suppress(Mistake):
                check(value if path[-1] == "dsn" else "")
                return value
            return ""
        return value

    try:
        document = Document(text, replaced)
    except Mistake as mistake:
        return [disclose(mistake, {})]
    if document.values is None:
        return [disclose(Mistake("there is nothing in it", _WHERE_TO_BEGIN), {})]
    mistakes = [*document.mistakes.values(), *unreplaced]
    try:
        config = Config.model_validate(document.values)
        if not mistakes:
            return config
    except ValidationError as error:
        # What could not be put in is not judged as well: it would be called wrong twice.
        missing = {mistake.path for mistake in unreplaced}
        mistakes += [
            found
            for found in map(_mistake, error.errors(include_url=False))
            if not any(found.path[:length] in missing for length in range(len(found.path) + 1))
        ]
    return list(dict.fromkeys(disclose(mistake, document.parts) for mistake in mistakes))


def _mistake(details: ErrorDetails) -> Mistake:
    """Say what a validation found wrong. The value that was validated is only compared, never shown."""
    path: Path = details["loc"]
    context: dict[str, Any] = details.get("ctx", {})
    about_key = path[-1:] == ("[key]",)
    if about_key:
        path = path[:-1]
    wrong = context.get("error")
    if isinstance(wrong, Mistake):
        return replace(wrong, path=path, about_key=about_key)
    kind = details["type"]
    message, suggestion = messages()["models"].get(kind, OTHERWISE).format_map(context), None
    if kind == "missing":
        message += _meaning(path)
    elif kind == "extra_forbidden":
        suggestion = _likely(path)
    elif kind == "literal_error":
        message = message.replace("'", "")
        suggestion = did_you_mean(str(details["input"]), re.findall(r"'([^']*)'", context["expected"]))
    elif kind in {"dict_type", "mapping_type"}:
        examples = [example for spot in at(path).kinds for example in spot.get("examples", ())]
        suggestion = f"for example {path[-1]}: {flow(examples[0])}" if examples else None
    elif kind == "string_type" and isinstance(details["input"], bool):
        suggestion = "put it in quotes to make it text"
    return Mistake(message, suggestion, path=path, about_key=kind in _ABOUT_KEY)


def _meaning(path: Path) -> str:
    description = at(path[:-1]).keys.get(str(path[-1]), {}).get("description", "")
    text = re.split(r"[.:] ", description)[0].rstrip(".")
    return f" ({text[0].lower()}{text[1:]})" if text else ""


def _likely(path: Path) -> str | None:
    """Which key was meant: one of another section that is spelled just so, else one of this section nearly so."""
    key = str(path[-1])
    if not is_like_a_key(key):
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
