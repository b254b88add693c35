"""From YAML to plain values: each part's place is known, and references are replaced.

Differences from YAML 1.1 libraries:

- Only `true` and `false` are booleans, only `null`, `~` and nothing at all are null; everything else, and every key, is
  text. So a label `no`, a job id `0123` and a date stay as they are.
- A key that stands twice is an error, and so is a tag: some make a library do more than read.
- Messages are ours: a library's quote the file, and the file has secrets.

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

from cdc_sync.config.problems import Path, Place, SettingError, messages, printable, setting_error

_LARGEST = 2**20
"""Bytes of a file (1 MiB)."""
_MOST_PARTS = 20_000
_DEEPEST = 32

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SAYS = re.compile(r"\s*[^\s#]")
_HAS_A_COLON = re.compile(r":(\s|$)")
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL, file systems or terminals refuse these."""


class Part(NamedTuple):
    """What stands at a path.

    Attributes:
        key: the place of its key; its own in a list.
        value: with references not replaced.
        text: a scalar as it is written.
    """

    key: Place
    place: Place
    value: object
    text: str | None


class Document:
    """A text that was read.

    Attributes:
        values: all of it, references replaced.
        parts: what stands at each path.
        errors: those that did not prevent reading on.
    """

    def __init__(self, text: str, replace: Callable[[str, Path], str] = lambda text, _: text) -> None:
        """Read one YAML document; `replace` replaces the references in a value.

        Raises:
            SettingError: the text is not YAML, or has something that is refused here.
        """
        self.parts: dict[Path, Part] = {}
        self.errors: dict[Place, SettingError] = {}
        self._replace = replace
        self._count = 0
        self._furthest = Place(1, 1)
        root = _compose(text)
        self.values = None if root is None else self._value(root, (), _place(root))

    def _value(self, node: yaml.Node, path: Path, key: Place) -> object:
        place = self._reach(node, path)
        match node:
            case yaml.ScalarNode(value=text, style=style):
                value = text if style else None if text in _NULLS else _BOOLEANS.get(text, text)
                self.parts[path] = Part(key, place, value, text)
                return self._replace(value, path) if isinstance(value, str) else value
            case yaml.SequenceNode():
                self.parts[path] = Part(key, place, [], None)
                return [self._value(item, (*path, at), _place(item)) for at, item in enumerate(node.value)]
        self.parts[path] = Part(key, place, {}, None)
        return {name: self._value(below, (*path, name), at) for name, at, below in self._entries(node, path)}

    def _entries(self, node: yaml.Node, path: Path, deep: int = 0) -> Iterator[tuple[str, Place, yaml.Node]]:
        """The keys with places and values, merged ones last; `deep` counts nested merges."""
        _check_extent(self._count, len(path) + deep, self._furthest)
        own: dict[str, Place] = {}
        merged: dict[str, tuple[Place, yaml.Node]] = {}
        for key, value in node.value:
            place = self._reach(key, path)
            if not isinstance(key, yaml.ScalarNode):
                raise self._refusal("key-no-text", path)
            if key.value == "<<" and not key.style:
                for source in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    if not isinstance(source, yaml.MappingNode):
                        raise self._refusal("merged-no-section", path)
                    merged = {name: (at, below) for name, at, below in self._entries(source, path, deep + 1)} | merged
            elif key.value in own:
                line, at = own[key.value].line, (*path, key.value)
                twice = setting_error("key-twice", path=at, about_key=True, place=place, line=line)
                self.errors.setdefault(place, twice)
            else:
                own[key.value] = place
                yield key.value, place, value
        yield from ((name, *entry) for name, entry in merged.items() if name not in own)

    def _reach(self, node: yaml.Node, path: Path) -> Place:
        """Count one more part; an alias counts at each use, with all its content."""
        place = _place(node)
        self._furthest = max(self._furthest, place)
        self._count += 1
        _check_extent(self._count, len(path), self._furthest)
        if node.tag:
            raise self._refusal("tag", path)
        if isinstance(node, yaml.ScalarNode) and _UNUSABLE.search(node.value):
            raise self._refusal("unusable", path)
        return place

    def _refusal(self, name: str, path: Path) -> SettingError:
        return setting_error(name, path=path, about_key=True, place=self._furthest)


def _check_extent(count: int, depth: int, place: Place) -> None:
    for name, reached, most in (("too-many", count, _MOST_PARTS), ("too-deep", depth, _DEEPEST)):
        if reached > most:
            raise setting_error(name, about_key=True, place=place, most=most)


class _Loader(yaml.BaseLoader):
    """Composes nodes; refuses large documents early, and allows an anchor to be redefined."""

    _count = _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._count += 1
        _check_extent(self._count, self._depth, _place(event))
        if isinstance(event, yaml.AliasEvent):
            return super().compose_node(parent, index)
        self.anchors.pop(event.anchor, None)
        self._depth += 1
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        # As written: PyYAML adds a tag where there is none.
        node.tag = event.tag or ""
        return node  # type: ignore[no-any-return]


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, error.position - before.rfind("\n"))
        if _UNUSABLE.match(text, error.position):
            raise setting_error("no-text", place=place) from None
        raise setting_error("character", place=place, code=ord(text[error.position])) from None
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text) from None
    except SettingError:
        raise
    except (ValueError, OverflowError):
        # PyYAML reports an escape that is no character ("\Uffffffff") as a ValueError.
        raise setting_error("escape", place=Place(loader.line + 1, loader.column + 1)) from None


def _place(part: Any) -> Place:
    mark = getattr(part, "start_mark", part)
    return Place(mark.line + 1, mark.column + 1)


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> SettingError:
    problem, began, place = error.problem or "", error.context_mark, _place(error.problem_mark or error.context_mark)
    before = [each for each in enumerate(text.splitlines()[: place.line - 1], 1) if _SAYS.match(each[1])]
    if "mapping values are not allowed" in problem and before and not _HAS_A_COLON.search(before[-1][1]):
        # A key without its colon continues until the next line's colon.
        problem, began, place = "could not find expected ':'", None, Place(before[-1][0], 1)
    meant = next(meaning for meaning in messages()["yaml"] if meaning["sign"] in problem)
    if meant.get("began") and began:
        place = _place(began)
    return SettingError(f"not YAML: {meant['message']}".removesuffix(": "), meant["remedy"], place=place)


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
        return substitute(text, lambda body: resolve(body, self.environ, self.folder))


def files_named(text: str) -> list[str]:
    """The paths of a value's files, as they are written."""
    bodies = [match["body"] or "" for match in _REFERENCE.finditer(text)]
    return [body.removeprefix("file:") for body in bodies if body.startswith("file:")]


def is_for_each_tenant(text: str) -> bool:
    """Whether a reference in a value has `{tenant}` in it."""
    return any("{tenant}" in (match["body"] or "") for match in _REFERENCE.finditer(text))


def is_reference_alone(text: str) -> bool:
    """Whether a value is one reference and nothing else, so that it can be shown."""
    match = _REFERENCE.fullmatch(text)
    body = match and match["body"]
    return bool(body and (_NAME.fullmatch(body) or body.startswith("file:")))


def resolve(body: str, environ: Mapping[str, str], folder: FilePath) -> str:
    """The value of a reference; a relative PATH is relative to the folder.

    Raises:
        SettingError: it has none.
    """
    if not body.startswith("file:"):
        return _variable(body, environ)
    path = re.sub(r"\$\{([^{}]*)\}", lambda match: _variable(match[1], environ), body.removeprefix("file:"))
    shown, file = printable(path), folder / path
    try:
        # A pipe could block the daemon's start.
        if stat.S_ISFIFO(file.stat().st_mode):
            raise setting_error("pipe", file=shown)
        text = read_text(file)
    except OSError as error:
        raise setting_error("file-unreadable", file=shown, reason=error.strerror) from None
    if _UNUSABLE.search(text):
        raise setting_error("file-no-text", file=shown)
    # One newline, which editors and `echo` add; a second is content.
    return re.sub(r"\r?\n\Z", "", text)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        raise setting_error("reference")
    if name not in environ:
        raise setting_error("credentials" if name == "CREDENTIALS_DIRECTORY" else "variable", name=printable(name))
    if _UNUSABLE.search(environ[name]):
        raise setting_error("variable-no-text", name=printable(name))
    return environ[name]


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
