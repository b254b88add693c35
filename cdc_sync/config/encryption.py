"""Whether a connection string lets anybody on the way read along, or stand in for the server.

libpq's own default, `sslmode=prefer`, is to encrypt if the server offers it: whoever stands in between offers none, and
may then ask for the password in clear text (documentation of libpq, "SSL Support" and "Parameter Key Words").
"""

import ipaddress
from collections.abc import Mapping

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from cdc_sync.core.findings import Finding

_VERIFIED = "sslmode=verify-full sslrootcert=system"
_REMEDY = (
    "Add {what} to {name}: {verified} (libpq 16 or newer), or with the certificate of your own authority "
    "sslmode=verify-full sslrootcert=/etc/cdc-sync/ca.pem; sslmode=require at least.\n"
    "And require_auth=scram-sha-256, so that no server is given the password in clear text."
)


def judged(check: str, name: str, dsn: str) -> Finding:
    """What `check` tells of it.

    Args:
        check: the finding's name.
        name: the key that the connection string stands under.
        dsn: the connection string; what it leaves open, the environment says.
    """
    given = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    if "service" in given and "sslmode" not in given:
        return Finding(check, "ok", f"{name} names a service, whose file says whether the connection is encrypted")
    settings = _from_environment() | given
    far = [host for host in _hosts(settings) if not _is_here(host)]
    if not far:
        return Finding(check, "ok", f"{name} leads nowhere beyond this machine")
    mode = settings.get("sslmode") or ("verify-full" if settings.get("sslrootcert") == "system" else "prefer")
    if mode == "verify-full" or settings.get("gssencmode") == "require":
        return Finding(check, "ok", f"{name}: the connection is encrypted, and the server is verified")
    if mode in {"require", "verify-ca"}:
        return Finding(
            check,
            "ok",
            f"{name}: the connection is encrypted (sslmode={mode}); verify-full would also verify the server",
        )
    return Finding(
        check,
        "warning",
        f"{name} lets the connection to {', '.join(far)} go unencrypted (sslmode={mode}): who is on the way may read "
        f"along, or stand in for the server and be given the password",
        _REMEDY.format(what="this", name=name, verified=_VERIFIED),
    )


def _from_environment() -> dict[str, str]:
    # What libpq was compiled with is no decision: sslmode depends on sslrootcert, if nobody sets it.
    return {
        each.keyword.decode(): each.val.decode(errors="replace")
        for each in pq.Conninfo.get_defaults()
        if each.val is not None and each.val != each.compiled
    }


def _hosts(settings: Mapping[str, str]) -> list[str]:
    """Where it connects to; of each an address, where one is given."""
    return (settings.get("hostaddr") or settings.get("host") or "").split(",")


def _is_here(host: str) -> bool:
    """A socket (a path, an abstract one, or the default), or loopback."""
    if not host or host[0] in "/@" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
