"""Whether the store belongs to the database that the configuration names."""

from cdc_sync.core.findings import Finding

_CHECK = "identity"


def judged(bound: str | None, found: str) -> Finding:
    """The finding about it.

    Args:
        bound: the identity that the store remembers; None if it remembers none yet.
        found: the database's.
    """
    if bound is None:
        return Finding(_CHECK, "ok", f"the store belongs to no database yet; the first start binds it to {found}")
    if bound == found:
        return Finding(_CHECK, "ok", f"the store belongs to this database, {found}")
    return Finding(
        _CHECK,
        "failed",
        f"the store belongs to the database {bound}, and database.dsn leads to {found}: a restored copy, a renamed "
        f"clone or another cluster. The daemon refuses to send from it.",
        "Correct database.dsn; or, if this database is meant, give it a store of its own, or let it "
        "take this one over: cdc-sync adopt-database",
    )
