"""The fuse: does a person decide first?

It counts an account's new entries within a watch, and deletions among them; ten times as many pass for the whole watch.
An entry that replaces a pending one counts too, once in a window: while HelloWork is away, a mass change may find one
for each application.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .outbox import Entry
from .reasons import coded
from .rows import FusePolicy

_ACCOUNTS = 10
"""Times an account's limits: those of a watch whose rows name their accounts."""


class Fuse(NamedTuple):
    """The fuse of a watch, or the buckets of an account within one: both fill with each new entry, and drain evenly.

    Attributes:
        at: when the buckets had these contents.
        blown_at: since when entries are held.
        reason: the limit that was crossed first.
        holds_all: whether every new entry is held, whatever the buckets contain.
        decided_at: when a person last released or discarded entries; earlier ones do not count.
    """

    at: int = 0
    changes: float = 0
    deletions: float = 0
    blown_at: int | None = None
    reason: str | None = None
    holds_all: bool = False
    decided_at: int = 0


def count(fuse: Fuse, policy: FusePolicy, now: int, *, deletion: bool) -> tuple[Fuse, str | None]:
    """Count one new entry. Returns the fuse, and why the entry is held; None if it passes.

    A held entry fills nothing, so the next ordinary change finds room. But draining restarts: a mass change that goes
    on is held to its end. A clock that was set back empties the buckets.
    """
    elapsed = now - fuse.at
    if not 0 <= elapsed < policy.window:
        fuse, elapsed = fuse._replace(changes=0, deletions=0), 0
    drained = elapsed / policy.window
    changes = max(fuse.changes - drained * policy.max_changes, 0.0)
    deletions = max(fuse.deletions - drained * policy.max_deletions, 0.0)
    reason = None
    if deletion and deletions + 1 > policy.max_deletions:
        reason = coded(
            "fuse-deletions", "more than %(limit)s deletions at once (fuse.max_deletions)", limit=policy.max_deletions
        )
        deletions = policy.max_deletions
    elif changes + 1 > policy.max_changes:
        reason = coded(
            "fuse-changes", "more than %(limit)s changes at once (fuse.max_changes)", limit=policy.max_changes
        )
        changes = policy.max_changes
    else:
        changes += 1
        deletions += deletion
    counted = fuse._replace(at=now, changes=changes, deletions=deletions)
    return counted if reason is None else blow(counted, now, reason), reason


def has_counted(fuse: Fuse, policy: FusePolicy, now: int, entry: Entry | None) -> bool:
    """Whether an entry is pending and was counted within the last window."""
    if entry is None or entry.state != "pending":
        return False
    return entry.queued_at >= fuse.decided_at and 0 <= now - entry.queued_at < policy.window


def blow(fuse: Fuse, now: int, reason: str) -> Fuse:
    """Blow the fuse; a blown one keeps its first reason, which people look for."""
    return fuse if fuse.blown_at is not None else fuse._replace(blown_at=now, reason=reason)


@dataclass(slots=True)
class Fuses:
    """The fuses of a watch, as a batch counts its entries.

    Attributes:
        policy: of an account.
        before: the accounts' fuses; None if rows name none.
        own: the watch's.
        of_accounts: the accounts' that counted something.
    """

    policy: FusePolicy
    own: Fuse
    before: Mapping[str, Fuse] | None = None
    of_accounts: dict[str, Fuse] = field(default_factory=dict)

    def count(self, account: str, now: int, *, deletion: bool) -> str | None:
        """Count an entry, by its account first; why it is held."""
        policy = self.policy
        if self.before is not None:
            of_account = self.of_accounts.get(account) or self.before.get(account, Fuse())
            self.of_accounts[account], reason = count(of_account, policy, now, deletion=deletion)
            if reason is not None:
                reason = coded("fuse-account", "%(reason)s, of the account %(account)s", reason=reason, account=account)
                self.own = blow(self.own, now, reason)
                return reason
            policy = FusePolicy(_ACCOUNTS * policy.max_changes, _ACCOUNTS * policy.max_deletions, policy.window)
        self.own, reason = count(self.own, policy, now, deletion=deletion)
        return reason
