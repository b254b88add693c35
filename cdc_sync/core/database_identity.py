"""Whether the store belongs to the database that the configuration names.

Its identity is its name, the cluster's system identifier, and where it is: a physical copy (a standby of its own, a
restored snapshot of a disk) has the other two. So the store remembers under which hosts the database was reached.
"""

import json
from dataclasses import asdict, dataclass

from cdc_sync.core.findings import Finding

_CHECK = "identity"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a database was reached.

    Attributes:
        hosts: those that the configuration names, each with its port, or the folder of a socket in a host's place.
        started: when the server was started that answered, in microseconds since the epoch. A server that runs has this
            in common with no other, and with no copy: it proves that a new name is one more of the same server.
    """

    hosts: tuple[str, ...]
    started: str

    def to_text(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> "Whereabouts":
        """The inverse of `to_text`."""
        fields = json.loads(text)
        return cls(tuple(fields["hosts"]), fields["started"])

    def has(self, other: "Whereabouts") -> bool:
        """Whether another one shares a host or the running server, and so is the same database."""
        return self.started == other.started or not set(self.hosts).isdisjoint(other.hosts)

    def joined(self, other: "Whereabouts") -> "Whereabouts":
        """Another one's server, under the hosts of both."""
        return Whereabouts(tuple(dict.fromkeys((*self.hosts, *other.hosts))), other.started)

    def __str__(self) -> str:
        """The hosts, for people."""
        return ", ".join(self.hosts)


def elsewhere(identity: str, before: Whereabouts, now: Whereabouts) -> str:
    """Why a database of the store's identity is taken for another one."""
    return (
        f"The store belongs to the database {identity} on {before}, but database.dsn leads to {now}: a physical copy "
        f"(a standby, a restored backup, a disk snapshot), or the same by another name. Nothing is sent, since "
        f"HelloWork would get a copy's states. Correct database.dsn; or, if this database has taken over, stop the "
        f"daemon and run `cdc-sync adopt-database`. Give a copy for tests a store of its own (state.path, state.dsn)."
    )


def judged(bound: str | None, found: str, why_not: str | None = None) -> Finding:
    """The finding about it.

    Args:
        bound: the identity that the store remembers; None if it remembers none yet.
        found: the database's.
        why_not: why it is another database though the identity is the same; None if it is not.
    """
    if bound is None:
        return Finding(_CHECK, "ok", f"the store belongs to no database yet; the first start binds it to {found}")
    if bound == found and why_not is None:
        return Finding(_CHECK, "ok", f"the store belongs to this database, {found}")
    another = (
        f"the store belongs to the database {bound}, and database.dsn leads to {found}: a restored copy, a renamed "
        f"clone or another cluster. The daemon refuses to send from it."
    )
    remedy = (
        "Correct database.dsn; or, if this database is meant, give it a store of its own, or let it take this one "
        "over: cdc-sync adopt-database"
    )
    return Finding(_CHECK, "failed", why_not or another, remedy)
