"""Each daemon's configuration: as in `torture`, on a shared store, with its own choice of servers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torture import configuration
from torture.ats import ROLE, tenants

from torture_cluster.machine import ATS, DAEMONS, HELLOWORK_PORT, STORE
from torture_cluster.options import ClusterOptions

TOKEN = "of-the-torture-of-several-hosts"
_ADMIN_PORT = 8765
_BALANCED = "load_balance_hosts=random"

_PRIMARY = f"host={ATS[0]}"
_STANDBYS = f"host={','.join(ATS)} target_session_attrs=standby {_BALANCED}"
_ANY = f"host={','.join(ATS)} {_BALANCED}"

_READS: tuple[str, ...] = (_STANDBYS, _ANY, _STANDBYS)
"""Where the daemons read in poll mode: a new session often leads to another server.

All name the primary: daemons of one store know their database by common hosts.
"""


def admin(number: int) -> str:
    return f"{DAEMONS[number]}:{_ADMIN_PORT}"


def watches(options: ClusterOptions) -> list[str]:
    if options.tenants:
        return [f"{configuration.WATCH}@{tenant}" for tenant in tenants(options.tenants)]
    if options.watches == 1:
        return [configuration.WATCH]
    return [f"{configuration.WATCH}_{number}" for number in range(1, options.watches + 1)]


def document(options: ClusterOptions, number: int) -> Mapping[str, Any]:
    reads = _READS[number] if options.replicas else _PRIMARY
    made = dict(
        configuration.document(
            options.mode,
            "postgres",
            dsn=f"{reads} user={ROLE} dbname=postgres connect_timeout=3",
            hellowork=f"http://127.0.0.1:{HELLOWORK_PORT}",
            store=Path("unused"),
            admin_port=_ADMIN_PORT,
        )
    )
    store = f"host={','.join(STORE)} user={ROLE} dbname=postgres connect_timeout=3 target_session_attrs=read-write"
    made["state"] = {"backend": "postgres", "dsn": store}
    made["admin"] = {"listen": admin(number), "token": TOKEN}
    if options.tenants:
        template = {"table": "applications", "for_each": {"schemas": r"tenant\_%"}}
        made["watches"] = {configuration.WATCH: {**made["watches"][configuration.WATCH], **template}}
    elif options.watches > 1:
        # An application's rows are all of one watch.
        watch, part = made["watches"][configuration.WATCH], f"ascii(right(t.hellowork_id, 1)) % {options.watches}"
        conditions = ({"sql": f"{part} = {place}", "depends_on": ["hellowork_id"]} for place in range(options.watches))
        made["watches"] = {
            name: {**watch, "where": where} for name, where in zip(watches(options), conditions, strict=True)
        }
    return made
