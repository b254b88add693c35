"""From YAML to plain values: the line of each part is known, and references are replaced.

Differences from YAML 1.1 libraries:

- Only `true` and `false` are booleans, only `null`, `~` and nothing at all are null; everything else, and every key, is
  text. So a label `no`, a job id `0123` and a date stay as they are.
- A key that stands twice is an error, and so is a tag: some make a library do more than read.

Anchors, aliases and the merge key `<<` work; their expansion is bounded.

`${NAME}` and `${file:PATH}` are replaced in values; `$${` stands for `${`. Replacements are not searched again, so a
secret may contain `${`. A PATH may contain `${NAME}`, and in a watch's header `{tenant}`: then it is read for each one.
"""

import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from errno import EFBIG
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from cdc_sync.config.problems import Path, Problem, SettingError

_LARGEST = 2**20
"""Bytes of a file (1 MiB)."""
_MOST_PARTS = 20_000
_DEEPEST = 32

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL, file systems or terminals refuse these."""

_QUOTED = re.compile(r"('[^']')|'[^']+'")
"""What PyYAML's messages quote; a single character is a sign that it did, or did not, expect."""


class Part(NamedTuple):
    """What stands at a path.

    Attributes:
        line: of its key; its own in a list.
        value: with references not replaced; an empty list or section in the place of one.
    """

    line: int
    value: object


class DocumentError(Exception):
    """A document that cannot be read."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem("", line, message)


class Document:
    """A text that was read.

    Attributes:
        values: all of it, references replaced.
        parts: what stands at each path.
        twice: the errors of keys that stand for a second time, by line and key.
    """

    def __init__(self, text: str, replace: Callable[[str, Path], str] = lambda text, _: text) -> None:
        """Read one YAML document; `replace` replaces the references in a value.

        Raises:
            DocumentError: the text is not YAML, or has something that is refused here.
        """
        self.parts: dict[Path, Part] = {}
        self.twice: dict[tuple[int, str], SettingError] = {}
        self._replace = replace
        self._count = 0
        self._line = 1
        try:
            root = _compose(text)
            self.values = None if root is None else self._value(root, (), _line(root))
        except RecursionError:
            raise self._too_deep() from None

    def _value(self, node: yaml.Node, path: Path, line: int) -> object:
        self._reach(node, path)
        match node:
            case yaml.ScalarNode(value=text, style=style):
                value = text if style else None if text in _NULLS else _BOOLEANS.get(text, text)
                self.parts[path] = Part(line, value)
                return self._replace(value, path) if isinstance(value, str) else value
            case yaml.SequenceNode():
                self.parts[path] = Part(line, [])
                return [self._value(item, (*path, at), _line(item)) for at, item in enumerate(node.value)]
        self.parts[path] = Part(line, {})
        return {name: self._value(below, (*path, name), at) for name, at, below in self._entries(node, path)}

    def _entries(self, node: yaml.Node, path: Path) -> Iterator[tuple[str, int, yaml.Node]]:
        """The keys with lines and values, merged ones last."""
        own: dict[str, int] = {}
        merged: dict[str, tuple[int, yaml.Node]] = {}
        for key, value in node.value:
            line = self._reach(key, path)
            if not isinstance(key, yaml.ScalarNode):
                raise DocumentError("a key must be text", line)
            if key.value == "<<" and not key.style:
                for source in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    if not isinstance(source, yaml.MappingNode):
                        raise DocumentError("`<<` takes a section, or a list of them", line)
                    merged = {name: (at, below) for name, at, below in self._entries(source, path)} | merged
            elif key.value in own:
                message = f"stands twice, first on line {own[key.value]}"
                self.twice.setdefault((line, key.value), SettingError(message, path=(*path, key.value)))
            else:
                own[key.value] = line
                yield key.value, line, value
        yield from ((name, *entry) for name, entry in merged.items() if name not in own)

    def _reach(self, node: yaml.Node, path: Path) -> int:
        """The line of one more part; an alias counts at each use, with all its content."""
        line = _line(node)
        self._line = max(self._line, line)
        self._count += 1
        _check_count(self._count, self._line)
        if len(path) > _DEEPEST:
            raise self._too_deep()
        if not node.tag.startswith(_PLAIN):
            raise DocumentError("tags are not used here", line)
        if isinstance(node, yaml.ScalarNode) and _UNUSABLE.search(node.value):
            raise DocumentError("has a character that cannot be used: NUL, or half of a surrogate pair", line)
        return line

    def _too_deep(self) -> DocumentError:
        return DocumentError(f"expected at most {_DEEPEST} levels of nesting, with aliases written out", self._line)


def _check_count(parts: int, line: int) -> None:
    if parts > _MOST_PARTS:
        raise DocumentError(f"expected at most {_MOST_PARTS} keys and values, with aliases written out", line)


_PLAIN = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
"""The tags of what has none."""


class _Loader(yaml.BaseLoader):
    """Refuses a large document early, and allows an anchor to be redefined."""

    _count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._count += 1
        _check_count(self._count, _line(event))
        if not isinstance(event, yaml.AliasEvent):
            self.anchors.pop(event.anchor, None)
        return super().compose_node(parent, index)


def _compose(text: str) -> yaml.Node | None:
    try:
        return _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise DocumentError("expected UTF-8 text without control characters", line) from None
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error) from None
    except (ValueError, OverflowError):
        # PyYAML reports an escape that is no character ("\Uffffffff") as a ValueError.
        raise DocumentError("not YAML: an escape stands for no character") from None


def _line(part: Any) -> int:
    line: int = part.start_mark.line + 1
    return line


def _not_yaml(error: yaml.MarkedYAMLError) -> DocumentError:
    """PyYAML's own words, without what they quote of the file."""
    mark, began = error.problem_mark or error.context_mark, error.context_mark
    message = f"not YAML: {_QUOTED.sub(lambda quoted: quoted[1] or '…', error.problem or '')}"
    if error.context and began:
        message += f" ({error.context} from line {began.line + 1} on)"
    return DocumentError(message, mark.line + 1 if mark else None)


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>file:(?:[^{}]|\$\{[^{}]*\}|\{tenant\})*|[^{}]*)\}|\$\{")

UNRESOLVED = "cdc-sync-has-no-value-for-this-reference"
"""In place of a reference without a value; long enough for any secret."""


def substitute(text: str, resolved: Callable[[str], str]) -> str:
    """Replace every reference in a value by `resolved` of the text in its braces (of "" if they are open)."""
    return _REFERENCE.sub(lambda match: "${" if match[0] == "$${" else resolved(match["body"] or ""), text)


@dataclass(frozen=True, slots=True)
class References:
    """The values of references: variables of an environment, and files, relative ones in a folder."""

    environ: Mapping[str, str]
    folder: FilePath

    def __call__(self, text: str) -> str:
        """A text with its references replaced.

        Raises:
            SettingError: a reference has no value.
        """
        return substitute(text, self.resolve)

    def resolve(self, body: str) -> str:
        """The value of a reference, by the text in its braces.

        Raises:
            SettingError: it has none.
        """
        if not body.startswith("file:"):
            return self._variable(body)
        written = body.removeprefix("file:")
        file = self.folder / re.sub(r"\$\{([^{}]*)\}", lambda match: self._variable(match[1]), written)
        try:
            # A pipe could block the daemon's start.
            if stat.S_ISFIFO(file.stat().st_mode):
                raise SettingError(f"cannot read {written}: it is a pipe")
            text = read_text(file)
        except OSError as error:
            raise SettingError(f"cannot read {written}: {error.strerror}") from None
        if _UNUSABLE.search(text):
            raise SettingError(f"{written} is not UTF-8 text without NUL characters")
        # One newline, which editors and `echo` add; a second is content.
        return re.sub(r"\r?\n\Z", "", text)

    def _variable(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise SettingError("expected ${NAME} or ${file:PATH}, complete; a literal ${ is written $${")
        if name not in self.environ:
            how = "LoadCredential=" if name == "CREDENTIALS_DIRECTORY" else "Environment= or EnvironmentFile="
            raise SettingError(f"the environment variable {name} is not set (systemd: {how})")
        if _UNUSABLE.search(self.environ[name]):
            raise SettingError(f"the environment variable {name} is not UTF-8 text")
        return self.environ[name]


def files_named(text: str) -> list[str]:
    """The paths of a value's files, as they are written."""
    bodies = [match["body"] or "" for match in _REFERENCE.finditer(text)]
    return [body.removeprefix("file:") for body in bodies if body.startswith("file:")]


def is_for_each_tenant(text: str) -> bool:
    """Whether a reference in a value has `{tenant}` in it."""
    return any("{tenant}" in (match["body"] or "") for match in _REFERENCE.finditer(text))


def read_text(path: FilePath) -> str:
    """The text of a file; bytes that are no UTF-8 become halves of surrogate pairs, which are refused later.

    Raises:
        OSError: it cannot be read, or is too large.
    """
    with path.open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OSError(EFBIG, "it is larger than 1 MiB")
    return content.decode("utf-8-sig", "surrogateescape")
