"""From a file to a configuration, or to everything that is wrong with it at once, in our words."""

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.config.disclosure import ANY_NAME, all_sections, at, disclose, is_like_a_key, path_text
from cdc_sync.config.document import LARGEST, UNRESOLVED, Document, substitute
from cdc_sync.config.dsn import check
from cdc_sync.config.models import Config
from cdc_sync.config.problems import ConfigurationError, Mistake, Path, Place, Problem, messages
from cdc_sync.config.schema import flow

_WHERE_TO_BEGIN = "`cdc-sync config example` prints an annotated configuration to begin with"

_ABOUT_KEY = {"too_short", "extra_forbidden", "missing"}

OTHERWISE = "is not what is expected here"
"""For a type that a later version of the validator may bring: vague, and better than none."""


def load(path: FilePath, environ: Mapping[str, str]) -> Config:
    """Read the configuration from a file.

    Args:
        path: the file; a relative `${file:PATH}` in it is relative to its folder.
        environ: where `${NAME}` is looked up.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    return _config_of(str(path), _Loading(environ, path.parent).file(path))


def load_without_secrets(path: FilePath, environ: Mapping[str, str]) -> tuple[Config, Mapping[Path, str]]:
    """Read the configuration for printing SQL: a secret whose variable or file is not there is no error.

    Returns the configuration, with a placeholder in such a secret's place (a connection string is empty where it says
    nothing without), and what each lacks by its path.

    Raises:
        ConfigurationError: it cannot be read, or something else in it is wrong.
    """
    loading = _Loading(environ, path.parent, secrets_may_lack=True)
    return _config_of(str(path), loading.file(path)), loading.lacking


def parse(text: str, *, name: str, environ: Mapping[str, str], folder: FilePath | None = None) -> Config:
    """Read the configuration from text.

    Args:
        text: YAML.
        name: what messages call it.
        environ: where `${NAME}` is looked up.
        folder: what a relative `${file:PATH}` is relative to; the current folder if it is not given.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    return _config_of(name, _Loading(environ, folder or FilePath()).text(text))


def _config_of(name: str, outcome: Config | list[Problem]) -> Config:
    # Raised out here, so that no exception with the file's content in it hangs on to this one.
    if isinstance(outcome, Config):
        return outcome
    raise ConfigurationError(name, outcome)


class _Loading:
    """One reading; `lacking` is what secrets lack, by their paths, if they may."""

    def __init__(self, environ: Mapping[str, str], folder: FilePath, *, secrets_may_lack: bool = False) -> None:
        self.lacking: dict[Path, str] = {}
        self._secrets_may_lack = secrets_may_lack
        self._environ = environ
        self._folder = folder
        self._unreplaced: list[Mistake] = []

    def file(self, path: FilePath) -> Config | list[Problem]:
        try:
            return self.text(_text_of(path))
        except Mistake as mistake:
            return [disclose(mistake, {})]

    def text(self, text: str) -> Config | list[Problem]:
        try:
            document = Document(text, self._replaced)
        except Mistake as mistake:
            return [disclose(mistake, {})]
        if document.values is None:
            return [disclose(Mistake("there is nothing in it", _WHERE_TO_BEGIN), {})]
        mistakes = [*document.mistakes.values(), *self._unreplaced]
        try:
            config = Config.model_validate(document.values)
        except ValidationError as error:
            # What could not be put in is not judged as well: it would be called wrong twice.
            missing = {mistake.path for mistake in self._unreplaced}
            mistakes += [
                found
                for found in map(_mistake, error.errors(include_url=False))
                if not any(found.path[:length] in missing for length in range(len(found.path) + 1))
            ]
        else:
            if not mistakes:
                return config
        return list(dict.fromkeys(disclose(mistake, document.parts) for mistake in mistakes))

    def _replaced(self, text: str, path: Path) -> str:
        may_lack = self._secrets_may_lack and "${" in text and at(path).is_secret
        replaced, mistakes = substitute(text, self._environ, self._folder, UNRESOLVED if may_lack else "")
        if mistakes and may_lack:
            self.lacking[path] = "; ".join(mistake.message for mistake in mistakes)
            if path[-1:] == ("dsn",):
                try:
                    check(replaced)
                except Mistake:
                    return ""
        else:
            self._unreplaced += [replace(each, path=path) for each in mistakes]
        return replaced


def _text_of(path: FilePath) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise Mistake("there is no such file", f"name another with --config; {_WHERE_TO_BEGIN}") from None
    except IsADirectoryError:
        raise Mistake("expected a file, and it is a folder", "name the file in it with --config") from None
    except UnicodeDecodeError as error:
        place = Place(error.object.count(b"\n", 0, error.start) + 1, 1)
        raise Mistake("expected UTF-8 text", "save the file as UTF-8", place=place) from None
    except OSError as error:
        remedy = "it must be readable by the user that cdc-sync runs as"
        raise Mistake(f"cannot be read: {error.strerror}", remedy) from None
    if len(content) > LARGEST:
        raise Mistake("expected a file of at most 1 MiB: this is no configuration")
    return text


def _mistake(details: ErrorDetails) -> Mistake:
    """Say what a validation found wrong. The value that was validated is only compared, never shown."""
    path: Path = details["loc"]
    context: dict[str, Any] = details.get("ctx", {})
    about_key = path[-1:] == ("[key]",)
    if about_key:
        path = path[:-1]
    wrong = context.get("error")
    if isinstance(wrong, Mistake):
        path = path[:-1] if wrong.about_section else path
        return replace(wrong, path=path, about_key=about_key or wrong.about_section)
    kind = details["type"]
    message, suggestion = messages()["models"].get(kind, OTHERWISE).format_map(context), None
    if kind == "missing":
        message += _meaning(path)
    elif kind == "extra_forbidden":
        suggestion = _likely(path)
    elif kind == "literal_error":
        message = message.replace("'", "")
        close = get_close_matches(str(details["input"]), re.findall(r"'([^']*)'", context["expected"]), n=1)
        suggestion = f'did you mean "{close[0]}"?' if close else None
    elif kind in {"dict_type", "mapping_type"} and (examples := at(path).examples):
        suggestion = f"for example {path[-1]}: {flow(examples[0])}"
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
    elsewhere = [place for place, keys in all_sections() if key in keys and place != here]
    if elsewhere:
        nearest = max(elsewhere, key=lambda place: _in_common(place, here))
        shared = _in_common(nearest, here)
        rest = tuple("NAME" if name == ANY_NAME else name for name in nearest[shared:])
        if not nearest:
            return "it belongs at the top of the file, without indentation"
        return f"it belongs in {'.'.join(rest) if shared == len(here) else path_text((*path[:shared], *rest), {})}"
    known_keys = list(at(path[:-1]).keys)
    close = get_close_matches(key, known_keys, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known here: {', '.join(known_keys)}" if known_keys else None


def _in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
