"""The commands' common parts: configuration, store, options, printing.

No outside text controls the terminal or forges a line. Failures are exceptions: `cli.main` makes exit codes of them.
"""

import json
import os
import pwd
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cdc_sync.ats.discovery import Discovery, discover
from cdc_sync.config import Config, Problem, exposures, load, warnings
from cdc_sync.config.tenants import expanded, tenants_named
from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError
from cdc_sync.core.visible import HIDDEN, visible, visible_json, visible_lines
from cdc_sync.core.watch_names import listed, matches
from cdc_sync.store import Store
from cdc_sync.store.opening import opened_beside

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DatabaseOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which of `databases`, where there are several.")
]
WatchOption = Annotated[
    str | None, typer.Option("--watch", metavar="NAME", help="Only this watch; % or * in it stands for any characters.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirm(what: str, *, yes: bool) -> None:
    """Ask, unless the answer is given; raises `Abort`, or `BadParameter` without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise misused(f"{what} Nothing is done yet: there is no terminal to ask on, so say --yes")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the event loop's would wait for the answer
    typer.confirm(visible(f"{what} Go on?"), abort=True, err=True)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Around the writing of a file, or of files in a folder; raises `OperationError`."""
    try:
        yield
    except OSError as error:
        raise OperationError(
            f"{error.filename or place} cannot be written: {error.strerror}. Name another place."
        ) from None


def misused(message: str, option: str | None = None) -> typer.BadParameter:
    """The error for a wrong command line or option."""
    return typer.BadParameter(visible(message), param_hint=option)


def configured(context: typer.Context) -> Config:
    """The configuration."""
    return load(context.obj, os.environ)


async def with_tenants(config: Config, watch: str | None = None) -> Config:
    """The configuration with a watch for each tenant, if `watch` may be one; prints why others have none.

    Raises:
        SourceError: a database cannot be asked.
    """
    if not config.templates or watch in config.watches:
        return config
    found = await discovered(config)
    for name, reason in found.refused.items():
        say(f"{name}: {reason}", err=True)
    return found.config


async def discovered(config: Config) -> Discovery:
    """The tenants; raises `SourceError` if a database cannot be asked."""
    found = await discover(config)
    for error in found.unasked.values():
        raise error
    return found


def suspicious(config: Config, path: Path) -> list[Problem]:
    """Suspicious settings, and rights on the file."""
    return [*warnings(config), *exposures(path, config)]


@asynccontextmanager
async def opened(context: typer.Context, watch: str | None = None) -> AsyncIterator[tuple[Config, Store]]:
    """The configuration with the tenants in the store, and the store beside a running daemon; does not query the ATS.

    Raises:
        typer.BadParameter: the watch is neither configured nor in the store.
    """
    config = configured(context)
    async with opened_beside(config) as store:
        names = await store.report.counts()
        # This user may be unable to read credentials.
        config, _ = expanded(config, tenants_named(config, names), lambda _: HIDDEN)
        matching(watch, [*config.watches, *names])
        yield config, store


def acting(store: Store, action: str, on: str | None = None) -> PersonActed:
    """A person's action now: of this process's user, and of the one before sudo."""
    name, sudo = user(), os.environ.get("SUDO_USER")
    who = visible(f"{sudo} as {name}" if sudo and sudo != name else name)
    return PersonActed(store.driver.clock.for_people(), action, who, 1, on)


def user() -> str:
    """The name of this process's user, or its number, as in a container."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def matching(watch: str | None, names: Iterable[str]) -> list[str]:
    """Those of these watches that a name or pattern means (None: all); raises `BadParameter` if it means none."""
    there = list(dict.fromkeys(names))
    found = [name for name in there if watch is None or matches(watch, name)]
    if watch is not None and not found:
        raise misused(f"no watch is called {watch!r}; there is {listed(there) or 'none yet'}")
    return found


def is_pattern(watch: str) -> bool:
    """Whether it may stand for several watches."""
    return bool(set("%*") & set(watch))


def the_database(config: Config, name: str | None) -> str:
    """The database of this name, or the only one.

    Raises:
        typer.BadParameter: there is none, or there are several and none is named.
    """
    known = config.all_databases
    if name is None and len(known) == 1:
        return next(iter(known))
    if name is None or name not in known:
        raise misused(f"name one of databases: {', '.join(filter(None, known)) or 'there is none'}", "--database")
    return name


def say(text: str, *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(visible(text), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print a text of ours, with its lines."""
    typer.echo(visible_lines(text), err=err)


def put_out(document: str) -> None:
    """Print a script, a configuration or JSON: in UTF-8, whatever the locale."""
    typer.echo(document.encode(), nl=False)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    put_out(visible_json(json.dumps(value, ensure_ascii=False, indent=2)) + "\n")
