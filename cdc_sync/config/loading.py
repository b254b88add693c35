"""From a file to a configuration, or to everything that is wrong with it at once, in our words."""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.config import outline
from cdc_sync.config.disclosure import disclose, is_like_a_key, path_text
from cdc_sync.config.document import LARGEST, Entries, Items, Node, NotYamlError, Path, Place, Scalar, Trouble, read
from cdc_sync.config.dsn import check
from cdc_sync.config.models import Config
from cdc_sync.config.problems import ConfigurationError, Mistake, Problem
from cdc_sync.config.substitution import UNRESOLVED, substitute

_WHERE_TO_BEGIN = "`cdc-sync config example` prints an annotated configuration to begin with"

_A_SECTION = "expected a section: `key: value` lines beneath this key"
_A_LIST = "expected a list, such as [first, second]"

_MESSAGES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "model_type": lambda _: _A_SECTION,
    "dict_type": lambda _: _A_SECTION,
    "mapping_type": lambda _: _A_SECTION,
    "tuple_type": lambda _: _A_LIST,
    "string_type": lambda _: "expected text",
    "bool_type": lambda _: "expected true or false",
    "bool_parsing": lambda _: "expected true or false",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "literal_error": lambda context: f"expected {context['expected'].replace(chr(39), '')}",
}
"""Every type of error that the models bring about, beside those that have a case of their own below."""

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
    return _config_of(str(path), _read_file(path, environ))


def load_without_secrets(path: FilePath, environ: Mapping[str, str]) -> tuple[Config, Mapping[Path, str]]:
    """Read the configuration for printing SQL: a secret whose variable or file is not there is no error.

    Returns the configuration, with a placeholder in such a secret's place (a connection string is empty where it says
    nothing without), and what each lacks by its path.

    Raises:
        ConfigurationError: it cannot be read, or something else in it is wrong.
    """
    lacking: dict[Path, str] = {}
    return _config_of(str(path), _read_file(path, environ, lacking)), lacking


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
    return _config_of(name, _read_text(text, environ, folder or FilePath()))


def _config_of(name: str, outcome: Config | list[Problem]) -> Config:
    # Raised out here, so that no exception with the file's content in it hangs on to this one.
    if isinstance(outcome, Config):
        return outcome
    raise ConfigurationError(name, outcome)


def _read_file(
    path: FilePath, environ: Mapping[str, str], lacking: dict[Path, str] | None = None
) -> Config | list[Problem]:
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        trouble = Trouble((), "there is no such file", f"name another with --config; {_WHERE_TO_BEGIN}")
    except IsADirectoryError:
        trouble = Trouble((), "expected a file, and it is a folder", "name the file in it with --config")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        trouble = Trouble((), "expected UTF-8 text", "save the file as UTF-8", place=Place(line, 1))
    except OSError as error:
        remedy = "it must be readable by the user that cdc-sync runs as"
        trouble = Trouble((), f"cannot be read: {error.strerror}", remedy)
    else:
        if len(content) <= LARGEST:
            return _read_text(text, environ, path.parent, lacking)
        trouble = Trouble((), "expected a file of at most 1 MiB: this is no configuration")
    return _disclosed([trouble], None)


def _read_text(
    text: str, environ: Mapping[str, str], folder: FilePath, lacking: dict[Path, str] | None = None
) -> Config | list[Problem]:
    try:
        root, found = read(text)
    except NotYamlError as error:
        return _disclosed([error.trouble], None)
    if root is None or (isinstance(root, Scalar) and root.value is None):
        return _disclosed([Trouble((), "there is nothing in it", _WHERE_TO_BEGIN)], None)
    values = _Values(environ, folder, lacking)
    try:
        config = Config.model_validate(values.of(root, ()))
    except ValidationError as error:
        # What could not be put in is not judged as well: it would be called wrong twice.
        found += [
            trouble
            for trouble in map(_trouble, error.errors(include_url=False))
            if not any(trouble.path[:length] in values.missing for length in range(len(trouble.path) + 1))
        ]
    else:
        if not found and not values.troubles:
            return config
    return _disclosed([*found, *values.troubles], root)


class _Values:
    """Turns the tree into plain values, references replaced; what secrets lack goes to `lacking`, if it is given."""

    def __init__(self, environ: Mapping[str, str], folder: FilePath, lacking: dict[Path, str] | None) -> None:
        self.troubles: list[Trouble] = []
        self.missing: set[Path] = set()
        self._environ = environ
        self._folder = folder
        self._lacking = lacking

    def of(self, node: Node, path: Path) -> object:
        match node:
            case Entries():
                return {key: self.of(entry.node, (*path, key)) for key, entry in node.entries.items()}
            case Items():
                return [self.of(item, (*path, position)) for position, item in enumerate(node.items)]
            case Scalar():
                value = node.value
                return self._replaced(value, path) if isinstance(value, str) else value

    def _replaced(self, text: str, path: Path) -> str:
        may_lack = self._lacking is not None and outline.at(path).is_secret
        replaced, mistakes = substitute(text, self._environ, self._folder, UNRESOLVED if may_lack else "")
        if mistakes and self._lacking is not None and may_lack:
            self._lacking[path] = "; ".join(mistake.message for mistake in mistakes)
            if path[-1:] == ("dsn",):
                try:
                    check(replaced)
                except Mistake:
                    return ""
        elif mistakes:
            self.missing.add(path)
            self.troubles += [Trouble(path, mistake.message, mistake.suggestion) for mistake in mistakes]
        return replaced


def _disclosed(troubles: Iterable[Trouble], root: Node | None) -> list[Problem]:
    return list(dict.fromkeys(disclose(trouble, root) for trouble in troubles))


def _trouble(details: ErrorDetails) -> Trouble:
    """Say what a validation found wrong. The value that was validated is only compared, never shown."""
    path: Path = details["loc"]
    context = details.get("ctx", {})
    about_key = bool(path) and path[-1] == "[key]"
    if about_key:
        path = path[:-1]
    mistake = context.get("error")
    if isinstance(mistake, Mistake):
        path = path[:-1] if mistake.about_section else path
        return Trouble(path, mistake.message, mistake.suggestion, about_key=about_key or mistake.about_section)
    match details["type"]:
        case "missing":
            return Trouble(path, f"required key is missing{_meaning(path)}", about_key=True)
        case "extra_forbidden":
            return Trouble(path, "unknown key", _likely(path), about_key=True)
        case "too_short":
            return Trouble(path, "expected at least one entry", about_key=True)
        case "literal_error":
            options = re.findall(r"'([^']*)'", context["expected"])
            close = get_close_matches(str(details["input"]), options, n=1)
            suggestion = f'did you mean "{close[0]}"?' if close else None
        case "string_type" if isinstance(details["input"], bool):
            suggestion = "put it in quotes to make it text"
        case _:
            suggestion = None
    message = _MESSAGES[details["type"]](context) if details["type"] in _MESSAGES else OTHERWISE
    return Trouble(path, message, suggestion)


def _meaning(path: Path) -> str:
    for section in outline.at(path[:-1]).sections:
        # A key that is required has no alias: only `for` has one.
        text = re.split(r"[.:] ", outline.descriptions_of(section).get(str(path[-1]), ""))[0].rstrip(".")
        if text:
            return f" ({text[0].lower()}{text[1:]})"
    return ""


def _likely(path: Path) -> str | None:
    """Which key was meant: one of another section that is spelled just so, else one of this section nearly so."""
    key = str(path[-1])
    if not is_like_a_key(key):
        return "write `key: value`, with a blank after the colon"
    here = tuple(
        outline.ANY_NAME if outline.at(path[:depth]).names_are_free else str(name)
        for depth, name in enumerate(path[:-1])
    )
    elsewhere = [
        place for place, section in outline.all_sections() if key in outline.fields_of(section) and place != here
    ]
    if elsewhere:
        nearest = max(elsewhere, key=lambda place: _in_common(place, here))
        shared = _in_common(nearest, here)
        rest = tuple("NAME" if name == outline.ANY_NAME else name for name in nearest[shared:])
        if not nearest:
            return "it belongs at the top of the file, without indentation"
        return f"it belongs in {'.'.join(rest) if shared == len(here) else path_text((*path[:shared], *rest))}"
    known_keys = [name for section in outline.at(path[:-1]).sections for name in outline.fields_of(section)]
    close = get_close_matches(key, known_keys, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known here: {', '.join(known_keys)}" if known_keys else None


def _in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
