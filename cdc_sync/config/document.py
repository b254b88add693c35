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
_TOO_MANY = f"expected at most {_MOST_NODES} keys and values, with aliases written out"

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
    size: int = 1
    height: int = 0

    @property
    def value(self) -> str | bool | None:
        """What it stands for."""
        if not self.plain:
            return self.text
        return None if self.text in _NULLS else _BOOLEANS.get(self.text, self.text)


@dataclass(frozen=True, slots=True)
class Items:
    """A list. `size` counts the parts it expands to, `height` how deep they are nested."""

    place: Place
    items: tuple["Node", ...]
    size: int
    height: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value."""

    place: Place
    node: "Node"


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping, in the order of the file. `size` and `height` as for `Items`."""

    place: Place
    entries: dict[str, Entry]
    size: int
    height: int


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
        self._work = 0

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

    def _count(self, parts: int) -> None:
        """Refuse what takes long to read as soon as it has taken long, and not when all of it is read."""
        self._work += parts
        if self._work > _MOST_NODES:
            raise self._refusal((), _TOO_MANY)

    def _node(self, path: Path, event: yaml.Event, depth: int) -> Node:
        self._count(1)
        if depth > _DEEPEST:
            raise self._refusal((), f"expected at most {_DEEPEST} levels of nesting")
        match event:
            case yaml.AliasEvent() if event.anchor in self._anchors:
                return self._anchors[event.anchor]
            case yaml.ScalarEvent(tag=None):
                node: Node = self._scalar(path, event)
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
        return Items(place, tuple(items), *self._extent(items))

    def _entries(self, path: Path, depth: int) -> Entries:
        start = self.place
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            place = self.place
            key = self._node(path, event, depth + 1)
            if not isinstance(key, Scalar):
                raise self._refusal(
                    path, "a key must be text", "write `key: value`; quote text that begins with [ or {"
                )
            node = self._node((*path, key.text), self._next(), depth + 1)
            if key.text == "<<" and key.plain:
                merged = self._merged(path, node) | merged
                continue
            if key.text in entries:
                message = f"stands twice, first on line {lines[key.text]}"
                self.troubles.append(Trouble((*path, key.text), message, "remove one", about_key=True, place=place))
            lines.setdefault(key.text, place.line)
            entries[key.text] = Entry(place, node)
        entries |= {name: entry for name, entry in merged.items() if name not in entries}
        return Entries(start, entries, *self._extent([entry.node for entry in entries.values()]))

    def _merged(self, path: Path, node: Node) -> dict[str, Entry]:
        merged: dict[str, Entry] = {}
        for source in node.items if isinstance(node, Items) else (node,):
            if not isinstance(source, Entries):
                raise self._refusal(path, "`<<` takes a section, or a list of them", "write `<<: *name`")
            self._count(len(source.entries))
            merged = source.entries | merged
        return merged

    def _extent(self, children: list[Node]) -> tuple[int, int]:
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        if size > _MOST_NODES:
            raise self._refusal((), _TOO_MANY)
        if height > _DEEPEST:
            raise self._refusal((), f"expected at most {_DEEPEST} levels of nesting, with aliases written out")
        return size, height

    def _refusal(self, path: Path, message: str, suggestion: str | None = None) -> NotYamlError:
        return NotYamlError(Trouble(path, message, suggestion, about_key=True, place=self.place))


def _place(mark: yaml.Mark | yaml._yaml.Mark | None) -> Place | None:
    return None if mark is None else Place(mark.line + 1, mark.column + 1)


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return Place(before.count("\n") + 1, position - before.rfind("\n"))


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a problem of PyYAML's, known by a part of its text, is in our words.

    `began`: it is told where the part began that is not right, not where the scanner gave up, lines later.
    """

    sign: str
    message: str
    suggestion: str
    began: bool = False


_MEANINGS = (
    _Meaning(
        "mapping values are not allowed",
        "a colon stands where no key can be",
        "quote a value that has `: ` in it, or correct the indentation",
    ),
    _Meaning(
        "could not find expected ':'",
        "a key without its colon",
        "write `key: value`, with a blank after the colon",
        began=True,
    ),
    _Meaning(
        "cannot start any token",
        "a value cannot begin with this character",
        "quote the value; indent with blanks, not with tabs",
    ),
    _Meaning(
        "expected <block end>",
        "does not line up with the lines above, or follows a closing quote",
        "correct the indentation, or put the whole value in quotes",
    ),
    _Meaning(
        "expected ',' or",
        "brackets are not closed, or a comma is missing",
        "inside brackets quote a value that has brackets itself, as `${NAME}` has",
        began=True,
    ),
    _Meaning(
        "found unexpected end of stream",
        "a quote is never closed",
        "close it; inside '…' a quote is written twice",
        began=True,
    ),
    _Meaning(
        "unknown escape",
        "an unknown escape",
        "inside \"…\" a backslash is written twice; inside '…' it stands for itself",
    ),
)


def _not_yaml(error: yaml.MarkedYAMLError) -> Trouble:
    place = _place(error.problem_mark or error.context_mark)
    for meaning in _MEANINGS:
        if meaning.sign in (error.problem or ""):
            began = _place(error.context_mark) if meaning.began else None
            return Trouble((), f"not YAML: {meaning.message}", meaning.suggestion, place=began or place)
    return Trouble((), "not YAML", "check the indentation, the quotes and the brackets near here", place=place)
