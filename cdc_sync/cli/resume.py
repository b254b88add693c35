"""`cdc-sync resume`: end what `cdc-sync pause` began."""

import typer

from cdc_sync.cli.context import in_store, invocation
from cdc_sync.cli.pause import EndpointArgument, named, to
from cdc_sync.cli.saying import say
from cdc_sync.store.store import Store


def resume(context: typer.Context, endpoint: EndpointArgument = None) -> None:
    """Send again after `pause`. Works with the daemon up or down."""

    async def work(store: Store) -> frozenset[str]:
        return await store.resume(await named(store, endpoint))

    left = in_store(invocation(context).config(), None, work, writes=True)
    say(f"sending {to(endpoint)}is resumed")
    if left:
        paused = ", ".join(name or "all endpoints" for name in sorted(left))
        say(f"still paused: {paused}; `cdc-sync resume` ends every pause", err=True)
