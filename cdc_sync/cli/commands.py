"""The commands, each loaded when it is asked for: the daemon keeps what it has loaded, and is none of the others."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_NAMES = (
    "run",
    "check",
    "init",
    "plan",
    "status",
    "explain",
    "resend",
    "adopt-database",
    "emulator",
    "demo",
    "sql",
    "dead-letters",
    "fuse",
    "config",
)
"""In the order of the help. A command is the function of that name in the module of that name, or an `app` in it."""


class _Loaded(Mapping[str, Any]):
    """Commands by name; looking one up imports its module."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in _NAMES:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = _make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


class Commands(TyperGroup):
    """The command line's group."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": None})
        self.commands = _Loaded()  # type: ignore[assignment] # it is never written to


def _make(name: str) -> Any:
    function = name.replace("-", "_")
    module = import_module(f"cdc_sync.cli.{function}")
    alone = typer.Typer(rich_markup_mode="rich")
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
    else:
        alone.command(name)(getattr(module, function))
    return typer.main.get_group(alone).commands[name]
