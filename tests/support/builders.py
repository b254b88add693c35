"""The core's values for tests: a test names what it is about, and the rest is filled in.

The dates are those of HelloWork's documented examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cdc_sync.core.batch import Batch, Resolved
from cdc_sync.core.content import Content
from cdc_sync.core.outbox import Entry, EntryState, Skip
from cdc_sync.core.rows import (
    FirstStatus,
    FusePolicy,
    Key,
    Observation,
    Origin,
    OutOfScope,
    Reportable,
    StatusRules,
    Unreportable,
    WatchRules,
)
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, AllowedHosts, build

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

CREATED = 1_672_563_600_000
"""2023-01-01T09:00:00.000Z"""
NOW = 1_673_341_200_000
"""2023-01-10T09:00:00.000Z"""

WATCH = "applications"
HOST = "ats-partner.hellowork.com"
BASE_URL = f"https://{HOST}"
ENDPOINT = f"{BASE_URL}:443"
LANE = ENDPOINT, WATCH


def a_content(
    status: str = "applied",
    job_id: str = "J1",
    *,
    application_id: str = "a1",
    deleted: bool = False,
    event_date: int = NOW,
    source: str | None = None,
    base_url: str = BASE_URL,
    account: str = DEFAULT_ACCOUNT,
) -> Content:
    """What a call would tell of one application."""
    return Content(
        status=status,
        job_id=job_id,
        deleted=deleted,
        created=CREATED,
        event_date=event_date,
        source=source,
        extra=None,
        url=build(base_url, application_id),
        account=account,
    )


TRANSITIONS = [
    (None, a_content("new"), "(new) → new"),
    (a_content("seen"), a_content("hired"), "seen → hired"),
    (a_content("seen"), a_content("seen", job_id="job-2"), "job J1 → job-2"),
    (a_content("seen"), a_content("hired", job_id="job-2"), "seen → hired, job J1 → job-2"),
    (a_content("seen"), a_content("deleted", deleted=True), "deleted"),
    (None, a_content("deleted", deleted=True), "deleted"),
    (a_content("deleted", deleted=True), a_content("seen", job_id="job-2"), "deleted → seen"),
    (a_content("deleted", deleted=True), a_content("purged", deleted=True), "deleted → purged"),
    (a_content("seen"), a_content("seen"), "seen → seen"),
]
"""What HelloWork knows, what it is to be sent, and what people call that."""


def an_observation(
    application_id: str = "a1",
    status: str = "applied",
    job_id: str = "J1",
    *,
    deleted: bool = False,
    event_date: int = NOW,
    base_url: str = BASE_URL,
    key: Key | None = None,
    refused: str | None = None,
    changed_at: int = NOW,
    account: str = DEFAULT_ACCOUNT,
) -> Reportable:
    """A row that says this of one application; its key is the application's own id unless another is given."""
    content = a_content(
        status,
        job_id,
        application_id=application_id,
        deleted=deleted,
        event_date=event_date,
        base_url=base_url,
        account=account,
    )
    return Reportable(application_id, key or (application_id,), content, refused, changed_at=changed_at)


def moved(observation: Reportable, *key: str) -> Resolved:
    """The same application in another row, which is the only one that carries its id."""
    row = replace(observation, key=key)
    return Resolved(row.application_id, row.changed_at, row, frozenset({key}))


class _Allowed(AllowedHosts):
    """Also every server of a test."""

    def refusal(self, url: str) -> str | None:
        """None for a loopback address with any port."""
        return None if url.startswith(("http://127.0.0.1:", "https://127.0.0.1:")) else super().refusal(url)


def some_rules(
    watch: str = WATCH,
    *,
    settle: Mapping[str, int] | None = None,
    default_settle: int = 0,
    max_changes: int = 1000,
    max_deletions: int = 100,
    window: int = 10 * MINUTE,
) -> WatchRules:
    """A watch's rules: the configuration's defaults, but that dates stay as they are given, whatever their order."""
    return WatchRules(
        watch=watch,
        status=StatusRules(map={}, unmapped="send", deleted="deleted"),
        baseline="adopt",
        first_status="send",
        settle=settle or {},
        default_settle=default_settle,
        deletion_grace=5 * SECOND,
        extra={},
        base_url=BASE_URL,
        own_urls=True,
        allowed=_Allowed(frozenset({HOST, "right.example", "mistyped.example"})),
        fuse=FusePolicy(max_changes, max_deletions, window),
        ordered_dates=False,
    )


def rules_by_row(*, max_changes: int = 1000) -> WatchRules:
    """The rules of a watch whose rows name their accounts, `acme` or `beta`."""
    return replace(some_rules(max_changes=max_changes), account=None, accounts=frozenset({"acme", "beta"}))


def a_known_entry(
    content: Content, *, attempted: bool = False, state: EntryState = "pending", queued_at: int = NOW
) -> Entry:
    """What decisions know of an application's entry."""
    return Entry(WATCH, "a1", content, frozenset(), state, 1, queued_at, queued_at, attempted)


def a_batch(
    *found: Observation | Resolved,
    now: int = NOW,
    origin: Origin = "notify",
    first_status: FirstStatus = "send",
    skips: Sequence[Skip] = (),
    out_of_scope: Sequence[str] = (),
    answered: Sequence[str] = (),
    positions: Mapping[str, str] | None = None,
    doubt: str | None = None,
) -> Batch:
    """One step of capture.

    Args:
        found: rows, and what all rows of an application say together.
        now: the time.
        origin: which part of capture it is.
        first_status: what an application gets of which nothing is known.
        skips: rows that cannot be reported; without a reason, rows that are gone and could not.
        out_of_scope: applications whose only row, of the key that `an_observation` gives it, is out of scope.
        answered: applications that no row carries any more, after the grace.
        positions: what it reaches.
        doubt: why no deletion is believed.
    """
    rows = [each for each in found if not isinstance(each, Resolved)]
    rows += [Unreportable(skip.application_id, skip.key, skip.reason) for skip in skips if skip.reason is not None]
    gone = {skip.key: now for skip in skips if skip.reason is None}
    return Batch(
        origin="deletion" if answered else origin,
        now=now,
        first_status=first_status,
        observations=rows,
        gone=gone,
        resolved=[
            *(each for each in found if isinstance(each, Resolved)),
            *(Resolved(id_, now, OutOfScope(id_, (id_,)), frozenset({(id_,)})) for id_ in out_of_scope),
            *(Resolved(id_, now, None) for id_ in answered),
        ],
        skipped=dict.fromkeys(gone, "it could not be reported"),
        positions=positions or {},
        doubt=doubt,
    )


def a_suspicion(*ids: str, at: int = NOW, due_at: int = NOW + 5 * SECOND, key: Key | None = None) -> Batch:
    """Applications whose row is softly deleted, which `some_rules` suspect until `due_at`."""
    rows = [an_observation(id_, deleted=True, changed_at=at, key=key) for id_ in ids]
    return a_batch(*rows, now=due_at - 5 * SECOND)


def a_baseline(*observations: Observation | Resolved, now: int = NOW) -> Batch:
    """The first start's silent adoption."""
    return a_batch(*observations, now=now, origin="baseline", first_status="adopt")
