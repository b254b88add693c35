"""YAML as a tree that knows where each part stands, read so that nothing in it is a surprise.

Differences from what YAML 1.1 libraries do, each because of what people write in such a file:

- only `true` and `false` are booleans and only `null`, `~` and nothing at all are null; everything else is text as it
  is written, and the model makes a number of it where it wants one. So a label `no`, a job id `0123` and a date stay
  what they are; and a key is always text.
- a key that stands twice is an error, not a silent choice.
- tags are refused: nothing here needs them, and some make a library do more than read.
- messages are ours: a library's quote the file, and the file has secrets.

Anchors, aliases and the merge key `<<` work; what they expand to is bounded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import yaml

LARGEST = 2**20
"""Bytes of a file (1 MiB); no configuration is larger."""
_MOST_NODES = 20_000
_DEEPEST = 32

Path: TypeAlias = tuple[str | int, ...]
"""From the top of the document to a part of it: keys and positions in lists."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
UNUSABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that YAML and an environment can have, and neither PostgreSQL nor a file system nor a terminal takes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong at a path, before it is decided how much of the file may be shown.

    Attributes:
        path: where.
        message: what was expected.
        suggestion: how to repair it.
        about_key: whether the key is wrong (or missing), and not its value.
        place: where exactly, if the path does not tell.
    """

    path: Path
    message: str
    suggestion: str | None = None
    about_key: bool = False
    place: Place | None = None


class NotYamlError(Exception):
    """The text cannot be read at all; `trouble` says why."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text, or with `plain` (no quotes) perhaps a boolean or null."""

    place: Place
    text: str
    plain: bool

    @property
    def value(self) -> str | bool | None:
        """What it stands for."""
        if not self.plain:
            return self.text
        return None if self.text in _NULLS else _BOOLEANS.get(self.text, self.text)


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value."""

    place: Place
    node: "Node"


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping, in the order of the file."""

    place: Place
    entries: dict[str, Entry]


Node: TypeAlias = Scalar | Items | Entries


def read(text: str) -> tuple[Node | None, list[Trouble]]:
    """Read one document; None if there is none. The troubles are those that do not prevent reading on.

    Raises:
        NotYamlError: the text is not YAML, or has what is refused here.
    """
    reader = _Reader(yaml.parse(text, Loader=yaml.SafeLoader))
    try:
        return reader.document(), reader.troubles
    except yaml.reader.ReaderError as error:
        place = _place_of(text, error.position)
        message = f"not YAML: the character U+{ord(text[error.position]):04X} cannot stand in it"
        raise NotYamlError(Trouble((), message, "remove it", place=place)) from None
    except yaml.MarkedYAMLError as error:
        raise NotYamlError(_not_yaml(error)) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # An escape such as "\Uffffffff" is no character, and PyYAML does not say so in its own way.
        message = "not YAML: an escape or a number after this cannot be read"
        raise NotYamlError(Trouble((), message, place=reader.place)) from None


class _Reader:
    """Builds the tree from PyYAML's events: its scanner and parser are used, its ideas of types are not."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self.troubles: list[Trouble] = []
        self.place = Place(1, 1)
        self._events = events
        self._anchors: dict[str | None, Node] = {}
        self._parts = 0

    def document(self) -> Node | None:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        node = self._node((), self._next(), depth=0)
        self._next()  # the document's end
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise self._refusal((), "expected one document", "remove the second `---` and what follows it")
        return node

    def _next(self) -> yaml.Event:
        event = next(self._events)
        self.place = _place(event.start_mark) or self.place
        return event

    def _count(self, depth: int, node: Node | None = None) -> None:
        """Refuse what takes long to read as soon as it has taken long, and not when all of it is read.

        Args:
            depth: how deep the part is nested.
            node: what an alias stands for; it counts as often as it is used, with all that is in it.
        """
        self._parts += 1
        if self._parts > _MOST_NODES:
            raise self._refusal((), f"expected at most {_MOST_NODES} keys and values, with aliases written out")
        if depth > _DEEPEST:
            raise self._refusal((), f"expected at most {_DEEPEST} levels of nesting, with aliases written out")
        if isinstance(node, Entries):
            for entry in node.entries.values():
                self._count(depth + 1, entry.node)
        elif isinstance(node, Items):
            for item in node.items:
                self._count(depth + 1, item)

    def _node(self, path: Path, event: yaml.Event, depth: int) -> Node:
        node = self._anchors.get(event.anchor) if isinstance(event, yaml.AliasEvent) else None
        self._count(depth, node)
        if node is not None:
            return node
        match event:
            case yaml.ScalarEvent(tag=None):
                node = self._scalar(path, event)
            case yaml.SequenceStartEvent(tag=None):
                node = self._items(path, depth)
            case yaml.MappingStartEvent(tag=None):
                node = self._entries(path, depth)
            case yaml.AliasEvent():
                message = "an alias (*name) needs its anchor (&name) before it"
                raise self._refusal(path, message, "quote text that begins with *")
            case _:
                raise self._refusal(path, "tags are not used here", "quote text that begins with !")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, path: Path, event: yaml.ScalarEvent) -> Scalar:
        if UNUSABLE.search(event.value):
            raise self._refusal(path, "has a character that cannot be used: NUL, or half of a surrogate pair")
        return Scalar(self.place, event.value, plain=event.implicit[0])

    def _items(self, path: Path, depth: int) -> Items:
        place = self.place
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node((*path, len(items)), event, depth + 1))
        return Items(place, tuple(items))

    def _entries(self, path: Path, depth: int) -> Entries:
        start = self.place
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            place = self.place
            key = self._node(path, event, depth + 1)
            if not isinstance(key, Scalar):
                remedy = "write `key: value`; quote text that begins with [ or {"
                raise self._refusal(path, "a key must be text", remedy)
            node = self._node((*path, key.text), self._next(), depth + 1)
            if key.text == "<<" and key.plain:
                merged = self._merged(path, node) | merged
                continue
            if key.text in entries:
                message = f"stands twice, first on line {entries[key.text].place.line}"
                self.troubles.append(Trouble((*path, key.text), message, "remove one", about_key=True, place=place))
            else:
                entries[key.text] = Entry(place, node)
        entries |= {name: entry for name, entry in merged.items() if name not in entries}
        return Entries(start, entries)

    def _merged(self, path: Path, node: Node) -> dict[str, Entry]:
        merged: dict[str, Entry] = {}
        for source in node.items if isinstance(node, Items) else (node,):
            if not isinstance(source, Entries):
                raise self._refusal(path, "`<<` takes a section, or a list of them", "write `<<: *name`")
            merged = source.entries | merged
        return merged

    def _refusal(self, path: Path, message: str, suggestion: str | None = None) -> NotYamlError:
        return NotYamlError(Trouble(path, message, suggestion, about_key=True, place=self.place))


def _place(mark: yaml.Mark | yaml._yaml.Mark | None) -> Place | None:
    return None if mark is None else Place(mark.line + 1, mark.column + 1)


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return Place(before.count("\n") + 1, position - before.rfind("\n"))


_MEANINGS = {
    "mapping values are not allowed": (
        "a colon stands where no key can be; quote a value that has `: ` in it, or correct the indentation"
    ),
    "could not find expected ':'": "a key without its colon; write `key: value`, with a blank after the colon",
    "cannot start any token": (
        "a value cannot begin with this character; quote the value; indent with blanks, not with tabs"
    ),
    "expected <block end>": (
        "does not line up with the lines above, or follows a closing quote; correct the indentation, or put the whole "
        "value in quotes"
    ),
    "expected ',' or": (
        "brackets are not closed, or a comma is missing; inside brackets quote a value that has brackets itself, as "
        "`${NAME}` has"
    ),
    "found unexpected end of stream": "a quote is never closed; close it; inside '…' a quote is written twice",
    "unknown escape": ("an unknown escape; inside \"…\" a backslash is written twice; inside '…' it stands for itself"),
}
"""What a problem of PyYAML's, known by a part of its text, is in our words; behind the first `;` how it is repaired."""

_TOLD_WHERE_IT_BEGAN = {"could not find expected ':'", "expected ',' or", "found unexpected end of stream"}
"""The scanner gives up lines behind what is not right."""


def _not_yaml(error: yaml.MarkedYAMLError) -> Trouble:
    place = _place(error.problem_mark or error.context_mark)
    for sign, meaning in _MEANINGS.items():
        if sign in (error.problem or ""):
            began = _place(error.context_mark) if sign in _TOLD_WHERE_IT_BEGAN else None
            message, _, suggestion = meaning.partition("; ")
            return Trouble((), f"not YAML: {message}", suggestion, place=began or place)
    return Trouble((), "not YAML", "check the indentation, the quotes and the brackets near here", place=place)
