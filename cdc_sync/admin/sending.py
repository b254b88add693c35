"""Pausing and resuming sending through the page, or by a script with the token."""

from collections.abc import Mapping, Sequence

from cdc_sync.admin.actions import CannotActError, Done
from cdc_sync.core.delivery import ALL_ENDPOINTS
from cdc_sync.store.store import Store


async def pause(store: Store, fields: Mapping[str, Sequence[str]]) -> Done:
    """Begin no calls to the form's endpoint, or to any.

    Raises:
        CannotActError: it names none, or one for which nothing was ever queued.
    """
    await store.pause(await _named(store, fields))
    return Done("paused", 1, {"paused": sorted(await store.paused())})


async def resume(store: Store, fields: Mapping[str, Sequence[str]]) -> Done:
    """End the pause of the form's endpoint, or every pause.

    Raises:
        CannotActError: it names none, or one for which nothing was ever queued.
    """
    return Done("resumed", 1, {"paused": sorted(await store.resume(await _named(store, fields)))})


async def _named(store: Store, fields: Mapping[str, Sequence[str]]) -> str:
    endpoint = fields.get("endpoint", [""])[0]
    if not endpoint and not fields.get("all", [""])[0]:
        raise CannotActError("Name an endpoint, or say all=1.")
    if endpoint and endpoint not in await store.endpoints():
        raise CannotActError(f"There is no endpoint {endpoint!r}.")
    return endpoint or ALL_ENDPOINTS
