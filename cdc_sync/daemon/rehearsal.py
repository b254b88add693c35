"""The other end in a dry run: shows each call, makes none, and answers as if it had been heard."""

from collections.abc import Callable

from cdc_sync.core import payload
from cdc_sync.core.delivery import Reply
from cdc_sync.core.outbox import Entry
from cdc_sync.core.visible import visible, visible_json


class Rehearsal:
    """A `Caller` that calls nobody; `show` gets each call as text."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `delivery.client.Caller`."""
        kinds = ", ".join(sorted(entry.kinds)) or "resend"
        body = payload.body(entry.content).decode()
        url = visible(entry.content.url)
        self._show(f"would POST {url}\n           {visible_json(body)}\n           because: {kinds}")
        return Reply(status=200), ""
