"""`cdc-sync pause` and `resume`: send nothing for a while, on purpose."""

from typing import Annotated

import typer

from cdc_sync.cli.context import in_store, invocation, record, say
from cdc_sync.core.delivery import ALL_ENDPOINTS
from cdc_sync.store.store import Store

EndpointArgument = Annotated[
    str | None, typer.Argument(metavar="[ENDPOINT]", help="As `status` shows it. [default: all]", show_default=False)
]


def pause(context: typer.Context, endpoint: EndpointArgument = None) -> None:
    """Send nothing until `resume`, also after a restart. Nothing is lost. Works with the daemon up or down."""

    async def work(store: Store) -> None:
        await store.pause(await _named(store, endpoint))
        await record(store, "pause", 1, endpoint)

    in_store(invocation(context).config(), None, work, writes=True)
    say(f"sending {_to(endpoint)}is paused: calls under way end, the rest waits for `cdc-sync resume`")


def resume(context: typer.Context, endpoint: EndpointArgument = None) -> None:
    """Send again after `pause`. Works with the daemon up or down."""

    async def work(store: Store) -> frozenset[str]:
        left = await store.resume(await _named(store, endpoint))
        await record(store, "resume", 1, endpoint)
        return left

    left = in_store(invocation(context).config(), None, work, writes=True)
    say(f"sending {_to(endpoint)}is resumed")
    if left:
        paused = ", ".join(name or "all endpoints" for name in sorted(left))
        say(f"still paused: {paused}; `cdc-sync resume` ends every pause", err=True)


async def _named(store: Store, endpoint: str | None) -> str:
    """The endpoint that is meant.

    Raises:
        typer.BadParameter: nothing was ever queued for it.
    """
    known = [ALL_ENDPOINTS, *await store.endpoints()]
    if (endpoint or ALL_ENDPOINTS) not in known:
        raise typer.BadParameter(f"nothing is sent to {endpoint}: name one of {', '.join(known[1:]) or '(none yet)'}")
    return endpoint or ALL_ENDPOINTS


def _to(endpoint: str | None) -> str:
    """Which sending is meant, before a verb."""
    return f"to {endpoint} " if endpoint else ""
