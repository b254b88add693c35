"""What every command has: the configuration, the store, and ways to print."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cdc_sync.config import Config, ConfigurationError, Problem, exposures, load, load_without_secrets, warnings
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.store.opening import opened_beside as opened
from cdc_sync.store.store import Store
from cdc_sync.store.unconfigured import unconfigured

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

    def config_without_secrets(self) -> tuple[Config, Mapping[tuple[str | int, ...], str]]:
        """Load the configuration for what needs no secret, with what each secret lacks that cannot be had.

        Raises:
            ConfigurationError: it cannot be read, or is not valid.
        """
        return load_without_secrets(self.config_path, self.environ)

    def warnings(self, config: Config, path: Path | None = None) -> list[Problem]:
        """What is suspicious in a configuration, and in who may read it; in another file's if one is given."""
        return [*warnings(config), *exposures(path or self.config_path, config)]


def invocation(context: typer.Context) -> Invocation:
    """The invocation of this command."""
    found = context.obj
    assert isinstance(found, Invocation)  # noqa: S101 - the callback sets it; this tells the type checker
    return found


def check_watch(config: Config, watch: str | None) -> None:
    """Refuse a watch that the configuration does not have.

    Raises:
        typer.BadParameter: there is no such watch.
    """
    if watch is not None and watch not in config.watches:
        raise typer.BadParameter(f"no watch is called {watch!r}; there is {', '.join(config.watches)}")


async def check_watch_in(store: Store, config: Config, watch: str | None) -> None:
    """Refuse a watch that neither the configuration nor the store has: for what acts on the store alone.

    Raises:
        typer.BadParameter: there is no such watch.
        StoreError: the store cannot be read.
    """
    if watch is None or watch in config.watches:
        return
    former = [one.watch for one in await unconfigured(store, config.watches)]
    if watch not in former:
        more = f"; configured no more, and known to the store: {visible(', '.join(former))}" if former else ""
        raise typer.BadParameter(f"no watch is called {watch!r}; there is {', '.join(config.watches)}{more}")


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(visible_json(json.dumps(value, ensure_ascii=False, indent=2)) + "\n")


__all__ = [
    "DEFAULT_PATH",
    "ConfigurationError",
    "IdsArgument",
    "Invocation",
    "JsonOption",
    "Problem",
    "WatchOption",
    "check_watch",
    "check_watch_in",
    "invocation",
    "opened",
    "print_json",
]
