"""`cdc-sync resend`: say once more what HelloWork was told last."""

from typing import Annotated

import typer

from cdc_sync.cli.context import WatchOption, in_store, invocation
from cdc_sync.cli.saying import say
from cdc_sync.store.store import Store


def resend(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="APPLICATION_ID…", show_default=False)],
    watch: WatchOption = None,
) -> None:
    """Tell HelloWork these applications' present state once more. Works with the daemon up or down."""
    config = invocation(context).config()

    async def resent(store: Store) -> list[tuple[str, str]]:
        if watch is not None and watch not in config.watches:
            raise typer.BadParameter(
                f"the watch {watch!r} is configured no more: what it told last may not be the present state. Give it "
                f"its name back, or name another watch: {', '.join(config.watches)}"
            )
        # Of the configured watches only, for the same reason.
        watches = list(config.watches) if watch is None else [watch]
        return [each for name in watches for each in await store.resend(name, ids, store.clock.for_people())]

    found = in_store(config, watch, resent, writes=True)
    for name, application_id in found:
        say(f"to be sent: {name} {application_id}")
    missing = sorted(set(ids) - {application_id for _, application_id in found})
    for application_id in missing:
        say(
            f"{application_id} cannot be resent: it is unknown, held or a dead letter; "
            f"`cdc-sync explain {application_id}` tells which",
            err=True,
        )
    if missing:
        raise typer.Exit(1)
