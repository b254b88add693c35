"""From YAML to plain values: each part's place is known, references are replaced, and nothing is a surprise.

Differences from what YAML 1.1 libraries do, each because of what people write in such a file:

- only `true` and `false` are booleans and only `null`, `~` and nothing at all are null; everything else is text as it
  is written, and the model makes a number of it where it wants one. So a label `no`, a job id `0123` and a date stay
  what they are; and a key is always text.
- a key that stands twice is an error, not a silent choice.
- tags are refused: nothing here needs them, and some make a library do more than read.
- messages are ours: a library's quote the file, and the file has secrets.

Anchors, aliases and the merge key `<<` work; what they expand to is bounded.

`${NAME}` and `${file:PATH}` are replaced in values, not in keys; what is put in is not looked at again, so a secret may
contain `${`. `$${` stands for `${` itself. A PATH may have `${NAME}` in it: systemd tells by `CREDENTIALS_DIRECTORY`
where it has put credentials.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from errno import EFBIG, EINVAL
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from cdc_sync.config.problems import Mistake, Path, Place, messages, printable

LARGEST = 2**20
"""Bytes of a file (1 MiB); no configuration is larger."""
_MOST_PARTS = 20_000
_DEEPEST = 32

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that YAML and an environment can have, and neither PostgreSQL nor a file system nor a terminal takes."""


class Part(NamedTuple):
    """What stands at a path.

    Attributes:
        key: the place of its key; its own in a list.
        place: its own.
        value: what it stands for, as it is written: references are not replaced.
        text: a scalar as it is written; None for a list or a section.
    """

    key: Place
    place: Place
    value: object
    text: str | None


class Document:
    """A text that was read.

    Attributes:
        values: all of it, references replaced.
        parts: what stands at each path; empty if there is nothing in the text.
        mistakes: those that did not prevent reading on, by place.
    """

    def __init__(self, text: str, replace: Callable[[str, Path], str] = lambda text, _: text) -> None:
        """Read one document.

        Args:
            text: YAML.
            replace: makes of a value what it stands for.

        Raises:
            Mistake: the text is not YAML, or has what is refused here.
        """
        self.parts: dict[Path, Part] = {}
        self.mistakes: dict[Place, Mistake] = {}
        self._replace = replace
        self._count = 0
        self._furthest = Place(1, 1)
        root = _compose(text)
        self.values = None if root is None else self._value(root, (), _place(root))

    def _value(self, node: yaml.Node, path: Path, key: Place) -> object:
        place = self._reach(node, path)
        match node:
            case yaml.ScalarNode(value=text, style=style):
                self._check_usable(text, path)
                # In quotes it is always text.
                value = text if style else None if text in _NULLS else _BOOLEANS.get(text, text)
                self.parts[path] = Part(key, place, value, text)
                return self._replace(value, path) if isinstance(value, str) else value
            case yaml.SequenceNode():
                self.parts[path] = Part(key, place, [], None)
                return [self._value(item, (*path, at), _place(item)) for at, item in enumerate(node.value)]
        self.parts[path] = Part(key, place, {}, None)
        return {name: self._value(below, (*path, name), at) for name, at, below in self._entries(node, path)}

    def _entries(self, node: yaml.Node, path: Path, deep: int = 0) -> Iterator[tuple[str, Place, yaml.Node]]:
        """A section's keys with their places and values; after its own those that are merged, `deep` in each other."""
        _check_extent(self._count, len(path) + deep, self._furthest)
        own: dict[str, Place] = {}
        merged: dict[str, tuple[Place, yaml.Node]] = {}
        for key, value in node.value:
            place = self._reach(key, path)
            self._check_usable(key.value, path)
            if key.value == "<<" and not key.style:
                for source in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    if not isinstance(source, yaml.MappingNode):
                        raise self._refusal("`<<` takes a section, or a list of them", "write `<<: *name`", path)
                    merged = {name: (at, below) for name, at, below in self._entries(source, path, deep + 1)} | merged
            elif key.value in own:
                message = f"stands twice, first on line {own[key.value].line}"
                twice = Mistake(message, "remove one", path=(*path, key.value), about_key=True, place=place)
                self.mistakes.setdefault(place, twice)
            else:
                own[key.value] = place
                yield key.value, place, value
        yield from ((name, *entry) for name, entry in merged.items() if name not in own)

    def _reach(self, node: yaml.Node, path: Path) -> Place:
        """Count one more part; an alias counts as often as it is used, with all that is in it."""
        place = _place(node)
        self._furthest = max(self._furthest, place)
        self._count += 1
        _check_extent(self._count, len(path), self._furthest)
        return place

    def _check_usable(self, text: str, path: Path) -> None:
        if _UNUSABLE.search(text):
            raise self._refusal("has a character that cannot be used: NUL, or half of a surrogate pair", None, path)

    def _refusal(self, message: str, suggestion: str | None, path: Path) -> Mistake:
        return Mistake(message, suggestion, path=path, about_key=True, place=self._furthest)


class _Loader(yaml.SafeLoader):
    """Composes nodes, and refuses what takes long to read as soon as it has taken long."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.place = Place(1, 1)
        self._path: list[str | int | None] = []
        self._count = 0
        self._whole: set[str | None] = set()

    def document(self) -> yaml.Node | None:
        root = self.get_node() if self.check_node() else None
        if root is not None and self.check_node():
            message, remedy = "expected one document", "remove the second `---` and what follows it"
            raise Mistake(message, remedy, about_key=True, place=_place(self.current_event))
        return root

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        self.place = _place(event)
        self._path.append(index.value if isinstance(index, yaml.ScalarNode) else index)
        self._count += 1
        _check_extent(self._count, len(self._path) - 1, self.place)
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if anchor not in self._whole:
                remedy = "quote text that begins with *"
                raise self._refusal("an alias (*name) needs its anchor (&name) before it", remedy)
        else:
            # The same name may be given again; until its part is whole, it stands for nothing.
            self.anchors.pop(anchor, None)
            self._whole.discard(anchor)
        is_scalar = isinstance(event, yaml.ScalarEvent) or isinstance(self.anchors.get(anchor), yaml.ScalarNode)
        if isinstance(parent, yaml.MappingNode) and index is None and not is_scalar:
            raise self._refusal("a key must be text", "write `key: value`; quote text that begins with [ or {")
        if getattr(event, "tag", None) is not None:
            raise self._refusal("tags are not used here", "quote text that begins with !")
        node = super().compose_node(parent, index)
        self._whole.add(anchor)
        self._path.pop()
        return node

    def _refusal(self, message: str, suggestion: str) -> Mistake:
        path = tuple(step for step in self._path if isinstance(step, (str, int)))
        return Mistake(message, suggestion, path=path, about_key=True, place=self.place)


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        before, character = text[: error.position], ord(text[error.position])
        place = Place(before.count("\n") + 1, error.position - before.rfind("\n"))
        message = f"not YAML: the character U+{character:04X} cannot stand in it"
        raise Mistake(message, "remove it", place=place) from None
    try:
        return loader.document()
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text, loader.place) from None
    except Mistake:
        raise
    except (yaml.YAMLError, ValueError, OverflowError):
        # An escape such as "\Uffffffff" is no character, and PyYAML does not say so in its own way.
        message = "not YAML: an escape or a number after this cannot be read"
        raise Mistake(message, place=loader.place) from None


def _check_extent(count: int, depth: int, place: Place) -> None:
    if count > _MOST_PARTS:
        message = f"expected at most {_MOST_PARTS} keys and values, with aliases written out"
        raise Mistake(message, about_key=True, place=place)
    if depth > _DEEPEST:
        message = f"expected at most {_DEEPEST} levels of nesting, with aliases written out"
        raise Mistake(message, about_key=True, place=place)


def _place(part: Any) -> Place:
    """Where a node, an event or (as its mark) an error of PyYAML's is."""
    mark = getattr(part, "start_mark", part)
    return Place(mark.line + 1, mark.column + 1)


def _not_yaml(error: yaml.MarkedYAMLError, text: str, last: Place) -> Mistake:
    """What an error of PyYAML's is in our words; `last` is where the last part begins that could be read."""
    problem, began, place = error.problem or "", error.context_mark, _place(error.problem_mark or error.context_mark)
    if "mapping values are not allowed" in problem and last.line < place.line:
        # A key without its colon goes on, as text does, until the next line's colon.
        begins_line = not text.splitlines()[last.line - 1][: last.column - 1].strip(" -")
        if begins_line:
            problem, began, place = "could not find expected ':'", None, last
    meant = next(meaning for meaning in messages()["yaml"] if meaning["sign"] in problem)
    if meant.get("began") and began:
        place = _place(began)
    return Mistake(f"not YAML: {meant['message']}".removesuffix(": "), meant["remedy"], place=place)


_MOST_MISTAKES = 100
"""In one value; more tell nobody anything."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_IN_PATH = re.compile(r"\$\{(?P<name>[^{}]*)\}")
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>file:(?:[^{}]|\$\{[^{}]*\})*|[^{}]*)\}|\$\{")

UNRESOLVED = "cdc-sync-has-no-value-for-this-reference"
"""What stands for a reference that cannot be replaced, where only names are wanted: long enough for any secret."""


def substitute(text: str, environ: Mapping[str, str], folder: FilePath, instead: str = "") -> tuple[str, list[Mistake]]:
    """Replace every reference in a value; with the mistakes, one for each reference that stands for nothing.

    Args:
        text: the value as it is written.
        environ: the environment.
        folder: what a relative PATH is relative to.
        instead: what stands in the place of a reference that stands for nothing.
    """
    mistakes: list[Mistake] = []

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        try:
            return _resolve(match["body"], environ, folder)
        except Mistake as mistake:
            if len(mistakes) < _MOST_MISTAKES:
                mistakes.append(mistake)
            return instead

    return _REFERENCE.sub(replacement, text), mistakes


def with_stand_ins(text: str, stand_in: str) -> str:
    """A value as it is written, with something else in the place of each reference."""
    return _REFERENCE.sub(lambda match: "${" if match[0] == "$${" else stand_in, text)


def is_reference_alone(text: str) -> bool:
    """Whether a value is made of one reference and nothing else, so that it can be shown though it is a secret."""
    match = _REFERENCE.fullmatch(text)
    body = match["body"] if match else None
    return body is not None and (_NAME.fullmatch(body) is not None or body.startswith("file:"))


def _resolve(body: str | None, environ: Mapping[str, str], folder: FilePath) -> str:
    if body is not None and body.startswith("file:"):
        path = _NAME_IN_PATH.sub(lambda match: _variable(match["name"], environ), body.removeprefix("file:"))
        return _content(path, folder)
    return _variable(body, environ)


def _variable(name: str | None, environ: Mapping[str, str]) -> str:
    if name is None or _NAME.fullmatch(name) is None:
        raise Mistake("expected ${NAME} or ${file:PATH}, complete and without a default", "for a literal ${ write $${")
    if name not in environ:
        remedy = "set it for the daemon (systemd: Environment= or EnvironmentFile=)"
        if name == "CREDENTIALS_DIRECTORY":
            remedy = "systemd sets it for a service with LoadCredential=; outside the service set it yourself"
        raise Mistake(f"the environment variable {printable(name)} is not set", remedy)
    if _UNUSABLE.search(environ[name]):
        raise Mistake(f"the environment variable {printable(name)} is not UTF-8 text")
    return environ[name]


def _content(path: str, folder: FilePath) -> str:
    shown = printable(path)
    try:
        text = _read(folder / path).decode()
    except UnicodeDecodeError:
        raise Mistake(f"{shown} is not UTF-8 text") from None
    except OSError as error:
        raise Mistake(
            f"cannot read {shown}: {error.strerror}", "it must be readable by the user that cdc-sync runs as"
        ) from None
    if "\0" in text:
        raise Mistake(f"{shown} is not text: it has NUL characters")
    # One newline, which editors and `echo` put there; a second one is content.
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _read(file: FilePath) -> bytes:
    # A pipe without a writer would keep the daemon from ever starting.
    if file.exists() and not file.is_file():
        raise OSError(EINVAL, "it is not a plain file")
    with file.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(EFBIG, "it is larger than 1 MiB")
    return content
