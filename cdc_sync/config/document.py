"""From YAML to plain values: the line of each part is known, and references are replaced.

Differences from YAML 1.1 libraries:

- Only `true` and `false` are booleans, only `null`, `~` and nothing at all are null; everything else, and every key, is
  text. So a label `no`, a job id `0123` and a date stay as they are.
- A key that stands twice is an error, and so is a tag: some make a library do more than read.

Anchors, aliases and the merge key `<<` work.

`${NAME}` and `${file:PATH}` are replaced in values; `$${` stands for `${`. Replacements are not searched again, so a
secret may contain `${`. A PATH may contain `${NAME}`, and in a watch's header `{tenant}`: then it is read for each one.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from cdc_sync.config.problems import Path, Problem, SettingError

_SCALARS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_UNTAGGED = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")

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
        twice: the paths of keys that stand for a second time, and what is wrong with that.
    """

    def __init__(self, text: str, replace: Callable[[str, Path], str] = lambda text, _: text) -> None:
        """Read one YAML document; `replace` replaces the references in a value.

        Raises:
            DocumentError: the text is not YAML, or has something that is refused here.
        """
        self.parts: dict[Path, Part] = {}
        self.twice: list[tuple[Path, str]] = []
        self._replace = replace
        try:
            root = _compose(text)
            self.values = None if root is None else self._value(root, (), _line(root))
        except RecursionError:
            raise DocumentError("is nested too deeply") from None

    def _value(self, node: yaml.Node, path: Path, line: int) -> object:
        if node.tag not in _UNTAGGED:
            raise DocumentError("tags are not used here", _line(node))
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
                raise DocumentError("a key must be text", line)
            if name == "<<" and not key.style:
                for source in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                    if not isinstance(source, yaml.MappingNode):
                        raise DocumentError("`<<` takes a section, or a list of them", line)
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
        raise DocumentError("expected UTF-8 text without control characters", line) from None
    except yaml.MarkedYAMLError as error:
        # Without what it quotes of the file.
        mark = error.problem_mark or error.context_mark
        message = _QUOTED.sub(lambda quoted: quoted[1] or "…", error.problem or "")
        raise DocumentError(f"not YAML: {message}", mark.line + 1 if mark else None) from None
    except (ValueError, OverflowError):
        # PyYAML reports an escape that is no character ("\Uffffffff") as a ValueError.
        raise DocumentError("not YAML: an escape stands for no character") from None


def _line(part: Any) -> int:
    line: int = part.start_mark.line + 1
    return line


_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>file:(?:[^{}]|\$\{[^{}]*\}|\{tenant\})*|[^{}]*)\}|\$\{")

UNRESOLVED = "dbname=cdc-sync-has-no-value-for-this-reference"
"""In place of a reference without a value; long enough for any secret, and a connection string that leads nowhere."""


def substitute(text: str, resolved: Callable[[str], str]) -> str:
    """Replace every reference in a value by `resolved` of the text in its braces (of "" if they are open)."""
    return _REFERENCE.sub(lambda match: "${" if match[0] == "$${" else resolved(match["body"] or ""), text)


def references_in(text: str) -> list[str]:
    """The texts in the braces of a value's references."""
    return [match["body"] for match in _REFERENCE.finditer(text) if match["body"]]


def is_for_each_tenant(text: str) -> bool:
    """Whether a reference in a value has `{tenant}` in it."""
    return any("{tenant}" in body for body in references_in(text))


class References(NamedTuple):
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
            text = read_text(file)
        except OSError as error:
            raise SettingError(f"cannot read {written}: {error.strerror}") from None
        # One newline, which editors and `echo` add; a second is content.
        return re.sub(r"\r?\n\Z", "", text)

    def _variable(self, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise SettingError("expected ${NAME} or ${file:PATH}, complete; a literal ${ is written $${")
        if name not in self.environ:
            how = "Environment=, EnvironmentFile= or LoadCredential="
            raise SettingError(f"the environment variable {name} is not set (systemd: {how})")
        return self.environ[name]


def read_text(path: FilePath) -> str:
    """The text of a file; bytes that are no UTF-8 become halves of surrogate pairs, which no value takes.

    Raises:
        OSError: it cannot be read.
    """
    return path.read_text("utf-8-sig", "surrogateescape")
