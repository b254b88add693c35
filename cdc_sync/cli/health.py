"""Whether a configuration's daemon is alive: what `cdc-sync status --healthy` answers, for a container's engine."""

import http.client

from cdc_sync.config import Config
from cdc_sync.store.lock import holder_of

_WITHIN = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how a wildcard address is reached from here
"""Whoever listens everywhere is reached here too."""


def what_is_wrong(config: Config) -> str | None:
    """Why the daemon is not alive, or None: it has the store, and says itself that all its loops get round.

    A database or a HelloWork that is down is no reason: a new process would not mend it.
    """
    if config.state.backend == "sqlite" and holder_of(config.state.path) is None:
        return f"no daemon works on the store {config.state.path}"
    listen = config.admin.listen
    if listen is None or not listen.port:
        return None
    connection = http.client.HTTPConnection(_EVERYWHERE.get(listen.host, listen.host), listen.port, timeout=_WITHIN)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        text = answer.read(1000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"the daemon does not answer on {listen}: {error}"
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"the daemon says: {text}"
