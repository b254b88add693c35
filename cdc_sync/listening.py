"""What HTTP servers of ours share: bounded connections, the limit of open files, and who may ask.

At most so many connections are open: a new one takes the place of the oldest, so silent ones keep nobody out.
"""

import asyncio
import errno
import logging
import resource
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http import HttpProcessingError


def bugs_alone(record: logging.LogRecord) -> bool:
    """A filter for a server's logger: requests that are no HTTP are not logged, or a port scanner fills the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError))


def allow_all_descriptors() -> None:
    """Raise the process's soft limit of open files, which systemd sets to 1,024, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A sandbox that forbids it (systemd's filter @resources) has a deliberate limit.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def names_loopback(host: str) -> bool:
    """Whether a `Host` header or an address names this machine's loopback."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def comes_from_ourselves(request: web.BaseRequest, sites: Collection[str] = ("same-origin",)) -> bool:
    """Whether no other origin's page sends this; `sites` are the allowed `Sec-Fetch-Site`."""
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in sites:
        return False
    return origin is None or origin.partition("://")[2] == request.headers.get("Host")


async def listening_at(
    server: web.Server, host: str, port: int, places: int, displaced: Callable[[], None]
) -> asyncio.Server:
    """Listen for a server with so many places, which a burst may exceed until the next connection.

    `displaced` is called for each connection that loses its place. Raises `OSError` if the address does not permit it.
    """

    def connected() -> web.RequestHandler:
        for oldest in server.connections[: max(len(server.connections) + 1 - places, 0)]:
            if oldest.transport is not None and not oldest.transport.is_closing():
                displaced()
                oldest.transport.abort()
        return server()

    try:
        return await asyncio.get_running_loop().create_server(connected, host, port)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"{host} is no host name") from error
