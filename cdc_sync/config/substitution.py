"""`${NAME}` and `${file:PATH}` inside values.

Only values are replaced, not keys; what is put in is not looked at again, so a secret may contain `${`. `$${` stands
for `${` itself. A PATH may have `${NAME}` in it: systemd tells by `CREDENTIALS_DIRECTORY` where it has put credentials.
"""

import re
from collections.abc import Mapping
from errno import EFBIG, EINVAL
from pathlib import Path

from cdc_sync.config.document import LARGEST, UNUSABLE
from cdc_sync.config.problems import Mistake, printable

_MOST_MISTAKES = 100
"""In one value; more tell nobody anything."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_IN_PATH = re.compile(r"\$\{(?P<name>[^{}]*)\}")
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>file:(?:[^{}]|\$\{[^{}]*\})*|[^{}]*)\}|\$\{")


UNRESOLVED = "cdc-sync-has-no-value-for-this-reference"
"""What stands for a reference that cannot be replaced, where only names are wanted: long enough for any secret."""


def substitute(text: str, environ: Mapping[str, str], folder: Path, instead: str = "") -> tuple[str, list[Mistake]]:
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


def _resolve(body: str | None, environ: Mapping[str, str], folder: Path) -> str:
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
    if UNUSABLE.search(environ[name]):
        raise Mistake(f"the environment variable {printable(name)} is not UTF-8 text")
    return environ[name]


def _content(path: str, folder: Path) -> str:
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


def _read(file: Path) -> bytes:
    # A pipe without a writer would keep the daemon from ever starting.
    if file.exists() and not file.is_file():
        raise OSError(EINVAL, "it is not a plain file")
    with file.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(EFBIG, "it is larger than 1 MiB")
    return content
