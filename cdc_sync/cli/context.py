"""The commands' common parts: configuration, store, options, printing.

No outside text controls the terminal or forges a line. Failures are exceptions: `cli.main` makes exit codes of them.
"""

import asyncio
import json
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cdc_sync.ats.connection import Connection, connected
from cdc_sync.ats.discovery import Discovery, discover
from cdc_sync.cli.asking import Asking, asking
from cdc_sync.config import Config, Problem, exposures, load, warnings
from cdc_sync.config.tenants import databases_of, expanded, tenants_named
from cdc_sync.core.events import PersonActed
from cdc_sync.core.visible import HIDDEN, visible, visible_json, visible_lines
from cdc_sync.core.watch_names import listed, matches
from cdc_sync.store import Store
from cdc_sync.store.opening import opened_beside

_Found = TypeVar("_Found")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", metavar="NAME", help="Which of `databases`, where there are several.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def decodable(given: str | list[str] | None) -> str | list[str] | None:
    """A text of the command line; raises `BadParameter` for bytes that no store or database accepts."""
    text = given if isinstance(given, str) else " ".join(given or ())
    try:
        text.encode()
    except UnicodeEncodeError:
        raise misused(f"this is no text in the locale's encoding: {text}") from None
    return given


def misused(message: str, option: str | None = None) -> typer.BadParameter:
    """The error for a wrong command line or option."""
    return typer.BadParameter(visible(message), param_hint=option)


WatchOption = Annotated[
    str | None,
    typer.Option(
        "--watch", metavar="NAME", help="Only this watch; % or * in it stands for any characters.", callback=decodable
    ),
]


def configured(context: typer.Context) -> Config:
    """The configuration."""
    return load(context.obj, os.environ)


def with_tenants(config: Config, watch: str | None = None) -> Config:
    """The configuration with a watch for each tenant, if `watch` may be one; prints why others have none."""
    if not config.templates or watch in config.watches:
        return config
    found = _discovered(config)
    for name, reason in found.refused.items():
        say(f"{name}: {reason}", err=True)
    return found.config


def _discovered(config: Config) -> Discovery:
    """The databases' tenants; raises `SourceError`."""
    found = asyncio.run(discover(config))
    for error in found.unasked.values():
        raise error
    return found


def is_there(config: Config, watch: str) -> bool:
    """Whether a database has this watch's tenant, even one that cannot be watched."""
    found = _discovered(config)
    return watch in found.config.watches or watch in found.refused


def with_known_tenants(config: Config) -> Config:
    """The configuration with the store's tenants; does not query the ATS."""
    if not config.templates:
        return config

    async def known() -> Config:
        async with opened_beside(config) as store:
            # This user may be unable to read credentials.
            return expanded(config, tenants_named(config, await store.report.counts()), lambda _: HIDDEN)[0]

    return asyncio.run(known())


def suspicious(config: Config, path: Path) -> list[Problem]:
    """Suspicious settings, and rights on the file."""
    return [*warnings(config), *exposures(path, config)]


def in_store(config: Config, watch: str | None, work: Callable[[Store], Awaitable[_Found]]) -> _Found:
    """Read the store, beside a running daemon.

    Raises:
        typer.BadParameter: the watch is neither configured nor in the store.
    """

    async def found() -> _Found:
        async with opened_beside(config) as store:
            if watch is not None and not any(matches(watch, name) for name in config.watches):
                former = [one.watch for one in await store.report.unconfigured(config.watches)]
                if not any(matches(watch, name) for name in former):
                    known = f"; no longer configured, and known to the store: {listed(former)}" if former else ""
                    raise no_such_watch(config, watch, known)
            return await work(store)

    return asyncio.run(found())


def by_requests(config: Config, work: Callable[[Asking], Awaitable[_Found]]) -> _Found:
    """Have the store changed, by the daemon or without one.

    Raises:
        OperationError: it was refused, or nobody has done it; then it is not done later either.
    """

    async def done() -> _Found:
        async with asking(config) as asked:
            return await work(asked)

    return asyncio.run(done())


def in_database(dsn: str, work: Callable[[Connection], Awaitable[_Found]]) -> _Found:
    """Work on a connection to the ATS's database."""

    async def found() -> _Found:
        async with connected(dsn) as connection:
            return await work(connection)

    return asyncio.run(found())


def acting(store: Store, action: str, on: str | None = None) -> PersonActed:
    """A person's action now."""
    return PersonActed(store.driver.clock.for_people(), action, _operator(), 1, on)


def _operator() -> str:
    """The user, and the one before sudo."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"uid {os.geteuid()}"  # as in a container
    sudo = os.environ.get("SUDO_USER")
    return visible(f"{sudo} as {name}" if sudo and sudo != name else name)


def no_such_watch(config: Config, watch: str, more: str = "") -> typer.BadParameter:
    """The error for a watch that is not configured."""
    there = listed(config.watches) or "none: no tenant is known of the templates " + ", ".join(config.templates)
    return misused(f"no watch is called {watch!r}; there is {there}{more}")


def chosen(config: Config, watch: str | None) -> list[str]:
    """The configured watches of a name or pattern (None: all); raises `BadParameter` if there are none."""
    if watch is None or watch in config.watches:
        return list(config.watches) if watch is None else [watch]
    found = [name for name in config.watches if matches(watch, name)]
    if not found:
        raise no_such_watch(config, watch)
    return found


def the_database(config: Config, name: str | None, watch: str | None = None) -> str:
    """The database of this name, or of a watch or tenant, or the only one.

    Raises:
        typer.BadParameter: there is none, the watch is in another one, or there are several and none is named.
    """
    known = config.all_databases
    of_watch = None if watch is None else _database_of(config, watch)
    if name is None and (of_watch is not None or len(known) == 1):
        return next(iter(known)) if of_watch is None else of_watch
    if of_watch is not None and name in known and name != of_watch:
        raise misused(f"the watch {watch} is in the database {of_watch}", "--database")
    if not name or name not in known:
        there = ", ".join(filter(None, known))
        what = "there are several" if name is None else f"no database is called {name!r}; there is"
        raise misused(f"{what}: {there}" if there else f"{what} none with a name", "--database")
    return name


def _database_of(config: Config, watch: str) -> str | None:
    """The database of a watch or of a tenant, which need not exist yet; None for other names."""
    if watch in config.watches:
        return config.database_name(watch)
    if set("%*") & set(watch):
        return None
    for template, tenants in tenants_named(config, [watch]).items():
        for tenant in tenants:
            return tenant.database or databases_of(config, config.templates[template])[0]
    return None


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
