"""From a file to a configuration, or to all its errors at once; and what is suspicious in a valid one.

The errors are pydantic's own, each with its line. None shows a value, whatever it is: it may be a secret in the wrong
place. A key is shown if the configuration has one of that name, or if it is a word with a value: `{token: SEC,RET}` has
a key `RET` without one.

YAML is read with these differences from YAML 1.1 libraries:

- Only `true` and `false` are booleans, only `null`, `~` and nothing at all are null; everything else, and every key, is
  text. So a label `no`, a job id `0123` and a date stay as they are.
- A key that stands twice is an error, and so is a tag: some make a library do more than read.

Anchors, aliases and the merge key `<<` work.

`${NAME}` and `${file:PATH}` are replaced in values; `$${` stands for `${`. Replacements are not searched again, so a
secret may contain `${`. A PATH may contain `${NAME}`, and in a watch's header `{tenant}`: then it is read for each one.
"""

import re
import stat
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.core.visible import HIDDEN, visible

from .models import Config
from .values import (
    KEYS,
    UNRESOLVED,
    Path,
    References,
    SettingError,
    is_for_each_tenant,
    read_text,
    references_in,
    substitute,
)

_SCALARS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_UNTAGGED = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")

_QUOTED = re.compile(r"('\\?[^']')|'[^']+'")
"""What PyYAML's messages quote; a single character is a sign that it did, or did not, expect."""


class Problem(NamedTuple):
    """An error or a warning.

    Attributes:
        path: as `watches.applications.capture.mode`; empty for the file as a whole.
        message: what was expected.
        remedy: the repair, if it is more than that.
        line: of its key, from 1.
    """

    path: str
    message: str
    remedy: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{remedy}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has every error, in the order of the file."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__(name, self.problems)

    def __str__(self) -> str:
        """Every problem on a line of its own, in a form that editors and terminals turn into links."""
        return "\n".join(
            visible(f"{self.name}:{problem.line}: {problem}" if problem.line else f"{self.name}: {problem}")
            for problem in self.problems
        )


class Part(NamedTuple):
    """What stands at a path.

    Attributes:
        line: of its key; its own in a list.
        value: with references not replaced; an empty list or section in the place of one.
    """

    line: int
    value: object


def _unreadable(message: str, line: int | None = None) -> ConfigurationError:
    """The error of a text that is no document."""
    return ConfigurationError("", [Problem("", message, line=line)])


class Document:
    """A text that was read.

    Attributes:
        values: all of it, references replaced.
        parts: what stands at each path.
        twice: the paths of keys that stand for a second time, and what is wrong with that.
    """

    def __init__(self, text: str, replace: Callable[[str, Path], str] = lambda text, _: text) -> None:
        """Read one YAML document; `replace` replaces the references in a value.

        Raises:
            ConfigurationError: the text is not YAML, or has something that is refused here.
        """
        self.parts: dict[Path, Part] = {}
        self.twice: list[tuple[Path, str]] = []
        self._replace = replace
        try:
            root = _compose(text)
            self.values = None if root is None else self._value(root, (), _line(root))
        except RecursionError:
            raise _unreadable("is nested too deeply") from None

    def _value(self, node: yaml.Node, path: Path, line: int) -> object:
        if node.tag not in _UNTAGGED:
            raise _unreadable("tags are not used here", _line(node))
        match node:
            case yaml.ScalarNode(value=text, style=style):
                value = text if style else _SCALARS.get(text, text)
                self.parts[path] = Part(line, value)
                return self._replace(value, path) if isinstance(value, str) else value
            case yaml.SequenceNode():
                self.parts[path] = Part(line, [])
                return [self._value(item, (*path, at), _line(item)) for at, item in enumerate(node.value)]
        self.parts[path] = Part(line, {})
        return {name: self._value(below, (*path, name), at) for name, (at, below) in self._entries(node, path).items()}

    def _entries(self, node: yaml.Node, path: Path) -> dict[str, tuple[int, yaml.Node]]:
        """The values by key, with the keys' lines; merged ones, unless the section has one of its own."""
        own: dict[str, tuple[int, yaml.Node]] = {}
        merged: dict[str, tuple[int, yaml.Node]] = {}
        for key, value in node.value:
            line, name = _line(key), key.value
            if not isinstance(key, yaml.ScalarNode):
                raise _unreadable("a key must be text", line)
            if name == "<<" and not key.style:
                for source in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    if not isinstance(source, yaml.MappingNode):
                        raise _unreadable("`<<` takes a section, or a list of them", line)
                    merged = self._entries(source, path) | merged
            else:
                if name in own:
                    self.twice.append(((*path, name), f"stands twice, first on line {own[name][0]}"))
                own[name] = line, value
        return merged | own


def _compose(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _unreadable("expected UTF-8 text without control characters", line) from None
    except yaml.MarkedYAMLError as error:
        # Without what it quotes of the file.
        mark = error.problem_mark or error.context_mark
        message = _QUOTED.sub(lambda quoted: quoted[1] or "…", error.problem or "")
        raise _unreadable(f"not YAML: {message}", mark.line + 1 if mark else None) from None
    except (ValueError, OverflowError):
        # PyYAML reports an escape that is no character ("\Uffffffff") as a ValueError.
        raise _unreadable("not YAML: an escape stands for no character") from None


def _line(part: Any) -> int:
    line: int = part.start_mark.line + 1
    return line


# The configuration.

_EXPECTED = {
    **dict.fromkeys(("byte_size", "byte_size_unit"), "expected a size such as 256MB or 64KiB"),
    **dict.fromkeys(("dict_type", "model_type"), "expected a section with keys"),
    "tuple_type": "expected a list",
}
"""By pydantic's types of errors whose texts quote the value, or speak of Python."""

_CLOSE, _CLOSE_IF_SHORT, _SHORT = 0.75, 0.6, 3
"""Similarity from which keys may have been meant, of other sections too; in a short one a letter is a third of it."""

_WORD = re.compile(r"[\w. -]{1,60}")


def load(path: FilePath, environ: Mapping[str, str], *, needs_secrets: bool = True) -> Config:
    """Read the configuration from a file; relative `${file:PATH}` in it are relative to its folder. See `parse`.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    try:
        text = read_text(path)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}; name another with --config"
        raise ConfigurationError(str(path), [Problem("", wrong)]) from None
    return parse(text, name=str(path), environ=environ, folder=path.parent, needs_secrets=needs_secrets)


def parse(
    text: str, *, name: str, environ: Mapping[str, str], folder: FilePath = FilePath(), needs_secrets: bool = True
) -> Config:
    """Read the configuration from text.

    Args:
        text: YAML.
        name: for messages.
        environ: the values of `${NAME}`.
        folder: of relative `${file:PATH}`.
        needs_secrets: without, one whose reference has no value is `UNRESOLVED`: to print SQL, none is needed.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    found = _read(text, References(environ, folder), needs_secrets=needs_secrets)
    # Raised here, so that no exception with the file's content is its context.
    if isinstance(found, Config):
        return found
    raise ConfigurationError(name, found)


def _read(text: str, references: References, *, needs_secrets: bool) -> Config | list[Problem]:
    no_value: list[tuple[Path, str]] = []
    try:
        document = Document(text, partial(_replaced, references, no_value))
    except ConfigurationError as error:
        return list(error.problems)
    if document.values is None:
        return [Problem("", "there is nothing in it: `cdc-sync config example` prints an annotated one")]
    no_value = [each for each in no_value if needs_secrets or not is_secret(each[0])]
    problems = [_problem(document, path, message) for path, message in document.twice + no_value]
    try:
        reveal = references if needs_secrets else lambda _: UNRESOLVED
        config = Config.model_validate(document.values, context=reveal)
    except ValidationError as error:
        for details in error.errors():
            where = tuple(key for key in details["loc"] if key != "[key]")
            # A missing value is not validated too: it would be reported twice.
            if not any(where[: len(path)] == path for path, _ in no_value):
                problems.append(_problem(document, where, _message(details)))
        return problems
    return problems or config


def _replaced(references: References, no_value: list[tuple[Path, str]], text: str, path: Path) -> str:
    """A value with its references replaced; those without a value are noted."""
    # A tenant's own header is replaced with the tenant's watch.
    if path[:1] == ("watches",) and path[-2:-1] == ("headers",) and is_for_each_tenant(text):
        return text

    def resolved(body: str) -> str:
        try:
            return references.resolve(body)
        except SettingError as error:
            no_value.append((path, str(error)))
            return UNRESOLVED

    return substitute(text, resolved)


def is_secret(path: Path) -> bool:
    """Whether a value at a path is one: a connection string, the token, a webhook, a header."""
    return path[-1:] in {("token",), ("dsn",)} or path == ("notify", "url") or path[-2:-1] == ("headers",)


def _message(details: ErrorDetails) -> str:
    """An error's message, without the value."""
    if details["type"] != "extra_forbidden":
        return _EXPECTED.get(details["type"], details["msg"].removeprefix("Value error, "))
    key = str(details["loc"][-1])
    unknown = "unknown key here: another section has it" if key in KEYS else "unknown key"
    close = get_close_matches(key, KEYS - {key}, cutoff=_CLOSE if len(key) > _SHORT else _CLOSE_IF_SHORT)
    meant = '" or "'.join(close)
    return f'{unknown}; did you mean "{meant}"?' if close else unknown


def _problem(document: Document, path: Path, message: str) -> Problem:
    parts = document.parts
    reached = next(path[:length] for length in range(len(path), -1, -1) if path[:length] in parts)
    if isinstance(parts[reached].value, str | bool):
        path = reached  # a column's name is short for a section: an error of its key is one of the name
    shown = [_shown(document, path[:length]) for length in range(1, len(path) + 1)]
    return Problem(path_text(tuple(shown)), message, line=parts[reached].line)


def _shown(document: Document, path: Path) -> str | int:
    key, part = path[-1], document.parts.get(path)
    if isinstance(key, int) or key in KEYS:
        return key
    return key if part and part.value is not None and _WORD.fullmatch(key) else HIDDEN


def path_text(path: Path) -> str:
    """Format a path: `watches.applications.related[0].table`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


# What is valid and hardly ever meant, without lines of the file.


def undecided(config: Config) -> list[Problem]:
    """What `cdc-sync init` left to a person: `run` refuses it."""
    remedy = "decide it, correct the file, and remove the entry: `cdc-sync run` refuses before"
    return [Problem(f"undecided[{number}]", doubt, remedy) for number, doubt in enumerate(config.undecided)]


_OF_HELLOWORK = {"sending", "sent", "error", "not_found", "unknown"}
"""Statuses by which HelloWork describes its own side of the exchange."""


def warnings(config: Config) -> list[Problem]:
    """What is suspicious in a valid configuration."""
    found = undecided(config)
    if "metrics" in config.model_fields_set:
        why = "/metrics has each watch by itself where there are at most ten"
        found.append(Problem("metrics", f"means nothing any more: {why}", "remove it: from 0.4 on it is an error"))
    for name, watch in {**config.watches, **config.templates}.items():
        sent = {f"map.{label}": status for label, status in watch.status.map.items()}
        for place, status in {**sent, "deleted": watch.status.deleted}.items():
            if status in _OF_HELLOWORK:
                wrong = "is HelloWork's own code for its side of the exchange"
                remedy = "send the ATS's label, or what a recruiter did"
                found.append(Problem(f"watches.{name}.status.{place}", wrong, remedy))
    return found


_PASSWORD = re.compile(r"password\s*=\s*'?[^\s'&\0]|:[^/@\0]+@")
"""In a connection string, where NUL stands for a reference."""


def exposures(path: FilePath, config: Config) -> list[Problem]:
    """What every user of this host can read or write and should not: the configuration's file, the store.

    A file's group is trusted: that is how a file is shared on purpose.
    """
    found = _written_out(path) if _is_open(path) else []
    if _is_open(path, stat.S_IWOTH):
        message = f"every user of this host may write {path}, and so decide where credentials are sent"
        found.append(Problem("", message, f"chmod o-w {path}"))
    store = config.state.path
    if config.state.backend == "sqlite" and _is_open(store):
        message = f"every user of this host may read or write {store}, with what was sent and answered"
        found.append(Problem("state.path", message, f"chmod o-rwx {store}*"))
    return found


def _is_open(path: FilePath, rights: int = stat.S_IROTH | stat.S_IWOTH) -> bool:
    """Whether every user of this host has one of these rights to a file."""
    try:
        real = path.resolve(strict=True)
        # Users who may not search a folder above cannot reach the file.
        is_reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
        return is_reached and real.stat().st_mode & rights != 0
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


def _written_out(path: FilePath) -> list[Problem]:
    """The values in the file itself that may be secrets."""
    try:
        parts = Document(read_text(path)).parts
    except (OSError, ConfigurationError):
        return []  # it has changed since it was loaded; a reload checks it
    message = f"may be a secret, and every user of this host may read or write {path}"
    return [
        Problem(path_text(where), message, f"chmod o-rwx {path}", line)
        for where, (line, value) in parts.items()
        if isinstance(value, str) and is_secret(where) and _may_be_secret(where, value)
    ]


def _may_be_secret(where: Path, text: str) -> bool:
    """Whether a text is one by itself: a reference is not, nor is a connection string without a password."""
    if where[-1] == "dsn":
        # Its host may be a reference beside a password that is none.
        return _PASSWORD.search(substitute(text, lambda _: "\0")) is not None
    return bool(text) and not references_in(text)
