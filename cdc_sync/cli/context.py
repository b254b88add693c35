"""What every command has: the configuration, the store, and the options that several have."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cdc_sync.config import Config, Problem, exposures, load, warnings
from cdc_sync.core.visible import visible
from cdc_sync.store.opening import opened_beside
from cdc_sync.store.store import Store
from cdc_sync.store.unconfigured import unconfigured

_Found = TypeVar("_Found")

DEFAULT_PATH = Path("/etc/cdc-sync/config.yaml")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WatchOption = Annotated[str | None, typer.Option("--watch", metavar="NAME", help="Only this watch.")]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="APPLICATION_ID…", show_default=False)]


@dataclass(frozen=True, slots=True)
class Invocation:
    """The command line's common part."""

    path: Path | None
    environ: Mapping[str, str]

    @property
    def config_path(self) -> Path:
        """`--config`, else `$CDC_SYNC_CONFIG`, else the default."""
        given = self.environ.get("CDC_SYNC_CONFIG")
        return self.path or (Path(given) if given else DEFAULT_PATH)

    def config(self) -> Config:
        """Load the configuration.

        Raises:
            ConfigurationError: it cannot be read, or is not valid.
        """
        return load(self.config_path, self.environ)

    def warnings(self, config: Config, path: Path | None = None) -> list[Problem]:
        """What is suspicious in a configuration, and in who may read it; in another file's if one is given."""
        return [*warnings(config), *exposures(path or self.config_path, config)]


def invocation(context: typer.Context) -> Invocation:
    """The invocation of this command."""
    found = context.obj
    assert isinstance(found, Invocation)  # noqa: S101 - the callback sets it; this tells the type checker
    return found


def in_store(
    config: Config, watch: str | None, work: Callable[[Store], Awaitable[_Found]], *, writes: bool = False
) -> _Found:
    """Do something in the store, beside daemons that may be running.

    Raises:
        typer.BadParameter: neither the configuration nor the store has such a watch.
        StoreError: the store cannot be used, or does not exist yet.
    """

    async def found() -> _Found:
        async with opened_beside(config, read_only=not writes) as store:
            await _check_watch_in(store, config, watch)
            return await work(store)

    return asyncio.run(found())


async def _check_watch_in(store: Store, config: Config, watch: str | None) -> None:
    if watch is None or watch in config.watches:
        return
    former = [one.watch for one in await unconfigured(store, config.watches)]
    if watch not in former:
        more = f"; configured no more, and known to the store: {visible(', '.join(former))}" if former else ""
        raise typer.BadParameter(f"no watch is called {watch!r}; there is {', '.join(config.watches)}{more}")
