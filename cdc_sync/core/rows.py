"""A row of the ATS's table, as the mapping's SQL returns it, and its meaning by the watch's rules."""

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from . import status_url
from .content import FIRST, LATEST, Content
from .reasons import Reason, coded
from .status_url import DEFAULT_ACCOUNT, LONGEST_ID, AllowedHosts

LONGEST_TEXT = 10_000
"""Most characters of a status, a job or a URL; no real one comes near."""

LONGEST_JSON = 100_000
"""Most characters of `source` or an extra field as JSON."""

_SHOWN = 100
"""Characters of an unknown account's name."""

BLANKS = " \t\n\r\f\v"
"""An id or a URL of blanks means NULL. `ats.mapping` has the same rule in SQL."""

Key = tuple[str, ...]
"""Each key column's text, in the configured order."""

Origin = Literal["notify", "poll", "sweep", "baseline", "deletion"]
"""The part of capture that saw a change."""

FirstStatus = Literal["send", "adopt"]


class FusePolicy(NamedTuple):
    """How many new entries, and deletions among them, pass within `window` milliseconds."""

    max_changes: int
    max_deletions: int
    window: int


class StatusRules(NamedTuple):
    """How labels become statuses: section `status` of a watch."""

    map: Mapping[str, str]
    unmapped: Literal["send", "ignore", "reject"]
    deleted: str


@dataclass(frozen=True, slots=True)
class WatchRules:
    """How one watch's rows become calls; most fields are as in `config.watch.Watch`.

    Attributes:
        settle: by status as sent.
        extra: the payload's further fields, in the order of the row's values: name → the statuses with which it is sent
            (empty: with all).
        own_urls: whether rows may have a status URL of their own.
        fuse: of an account.
        account: of every row; None: each row names its own.
        accounts: those that rows may name.
    """

    watch: str
    status: StatusRules
    baseline: FirstStatus
    first_status: FirstStatus
    settle: Mapping[str, int]
    default_settle: int
    deletion_grace: int
    extra: Mapping[str, frozenset[str]]
    base_url: str
    own_urls: bool
    allowed: AllowedHosts
    fuse: FusePolicy
    last_known_job: bool = True
    ordered_dates: bool = True
    account: str | None = DEFAULT_ACCOUNT
    accounts: frozenset[str] = frozenset()

    def extra_fields_of(self, status: str) -> frozenset[str]:
        """The extra fields that are sent with a status."""
        return frozenset(name for name, only_for in self.extra.items() if not only_for or status in only_for)

    def addressed(self, application_id: str, content: Content) -> Content:
        """The content with the URL that the application has now; the acknowledged one may be of an earlier base_url."""
        return content if self.own_urls else content._replace(url=status_url.build(self.base_url, application_id))

    def refusal(self, row: "Reportable") -> str | None:
        """Why a row's state must not be sent."""
        return row.refused or self.allowed.refusal(row.content.url)


class Row(NamedTuple):
    """One row. Dates are microseconds since the epoch as text (or `infinity`); `source` and extras are JSON text.

    A tuple, which is made in a quarter of an object's time. Texts may be cut to one character more than the limits
    above.

    `digest` covers the rules and all of the row but the event's date. `unreadable` says why an expression of the
    configuration fails on the row: it has its scope, id, creation date and deletion then, as far as they can be read,
    and is in scope if `where` fails. `id_unreadable`: an expression of the id fails.
    """

    key: Key
    in_scope: bool
    application_id: str | None
    status_url: str | None
    status: str | None
    job_id: str | None
    created: str | None
    event_date: str | None
    source: str | None
    deleted: bool
    extra: tuple[str | None, ...]
    digest: str | None = None
    unreadable: str | None = None
    id_unreadable: bool = False
    account: str | None = None


@dataclass(slots=True)  # not frozen: one is made for each row, in a third of the time
class Reportable:
    """The application's state by this row; `refused` explains why its label must not be sent."""

    application_id: str
    key: Key
    content: Content
    refused: str | None
    digest: str | None = None
    changed_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Unreportable:
    """The row lacks something that every call needs.

    Attributes:
        unreadable: an expression fails on the row, so the value may exist.
        incomplete: the state without what is missing, a job or a deletion's account, if the last known one may take its
            place.
    """

    application_id: str | None
    key: Key
    reason: str
    unreadable: bool = False
    incomplete: Reportable | None = field(default=None, compare=False)
    changed_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """The row does not match `where`, or is not HelloWork's: it has no id."""

    application_id: str | None
    key: Key
    changed_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Ignored:
    """The row's label is unmapped and ignored: only the application's deletion is a call."""

    application_id: str
    key: Key
    digest: str | None = None
    changed_at: int = field(default=0, compare=False)


Observation = Reportable | Unreportable | OutOfScope | Ignored
"""A row as read and interpreted. `changed_at` is when the change was recorded or read."""


def content_of(observation: Observation | None) -> Content | None:
    """The content of a row's call, maybe without what the last known one has."""
    row = observation.incomplete if isinstance(observation, Unreportable) else observation
    return row.content if isinstance(row, Reportable) else None


def map_status(rules: StatusRules, label: str | None, *, deleted: bool = False) -> tuple[str, str | None] | None:
    """The status to send for a label, and why it must not be sent; None if the label is ignored.

    NULL and blanks are the one label "", which has a status only if the map has it.
    """
    if deleted:
        return rules.deleted, None
    if not label or label.isspace():
        return rules.map.get("", ""), None
    status = rules.map.get(label)
    if status is not None:
        return status, None
    if rules.unmapped == "ignore":
        return None
    if rules.unmapped == "reject":
        return label, coded(
            "label-unmapped",
            "the label %(label)s is not in status.map, and status.unmapped is reject",
            label=repr(label),
        )
    return label, None


def from_microseconds(text: str | None) -> int | None:
    """A row's date, rounded down, never later than it was.

    None for `infinity`, `-infinity` and years outside 1 to 9999, which HelloWork's format cannot express.
    """
    try:
        instant = int(text or "") // 1000
    except ValueError:
        return None
    return instant if FIRST <= instant <= LATEST else None


def interpret(row: Row, rules: WatchRules, changed_at: int) -> Observation:
    """Interpret one row by itself; `outbox.completed` adds what is known already.

    `changed_at` is also the event's date if the row has none.
    """
    application_id, refusal = _identify(row)
    if not row.in_scope or (application_id is None and refusal is None):
        # `where` leaves out rows of others' applications, whose ids are no error.
        return OutOfScope(None if refusal else application_id, row.key, changed_at)
    refusal = refusal or row.unreadable
    if application_id is None or refusal is not None:
        return Unreportable(application_id, row.key, refusal or "", row.unreadable is not None, changed_at=changed_at)
    return _observation(application_id, row, rules, changed_at)


def _observation(application_id: str, row: Row, rules: WatchRules, changed_at: int) -> Observation:
    """The meaning of a row in scope that can be read."""
    mapped = map_status(rules.status, row.status, deleted=row.deleted)
    if mapped is None:
        return Ignored(application_id, row.key, row.digest, changed_at)
    status, unmapped = mapped
    created, event_date = from_microseconds(row.created), from_microseconds(row.event_date)
    lack = _lack(row, rules, status)
    if lack is not None or created is None:
        return Unreportable(application_id, row.key, lack or _UNDATED, changed_at=changed_at)
    job_id = row.job_id if row.job_id and not row.job_id.isspace() else ""
    account = rules.account or (row.account if row.account in rules.accounts else None)
    url = _value(row.status_url) or status_url.build(rules.base_url, application_id)
    content = Content(  # by position, since it runs for each row
        status,
        job_id,
        row.deleted,
        created,
        changed_at if event_date is None else event_date,
        row.source and _source(row.source),
        _extra(row, rules, status) if rules.extra else None,
        url,
        account or "",
    )
    reportable = Reportable(application_id, row.key, content, unmapped, row.digest, changed_at)
    if job_id and account:
        return reportable
    # HelloWork's last known account takes a deletion.
    is_completed = (job_id or rules.last_known_job) and (account or row.deleted)
    incomplete = reportable if is_completed else None
    lack = _NO_JOB if account else _no_account(row.account)
    return Unreportable(application_id, row.key, lack, incomplete=incomplete, changed_at=changed_at)


def _lack(row: Row, rules: WatchRules, status: str) -> Reason | None:
    """What the row lacks that every call needs, and that the last known state does not replace."""
    if not status or status.isspace():
        return coded("no-status", "it has no status")
    for name, text in (("status", status), ("job id", row.job_id)):
        if text is not None and len(text) > LONGEST_TEXT:
            return _beyond(name, LONGEST_TEXT)
    for name, text in zip(("source", *rules.extra), (row.source, *row.extra), strict=True):
        if text is not None and len(text) > LONGEST_JSON:
            return _beyond(name if name == "source" else f"extra field {name}", LONGEST_JSON)
    if row.created is None:
        return coded("no-creation-date", "it has no creation date")
    return None


def current(rows: Iterable[Row]) -> Row | None:
    """The canonical row of those that carry one application's id.

    A live row wins over a deleted one, one in scope over one out of it, the later created over the earlier. Ties go to
    the last in key order, so that the choice is stable. A row with an unreadable creation date may be the latest: it
    wins, and nothing is sent until it can be read.
    """
    return max(reversed([*rows]), key=_precedence, default=None)


def by_application(rows: Iterable[Row], application_ids: Container[str]) -> dict[str, list[Row]]:
    """The rows that carry one of these ids, by id."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        id_, _ = _identify(row)
        if id_ is not None and id_ in application_ids:
            found.setdefault(id_, []).append(row)
    return found


def _precedence(row: Row) -> tuple[bool, bool, int]:
    created = from_microseconds(row.created)
    if created is None:
        created = FIRST - 1 if row.unreadable is None else LATEST + 1
    return (not row.deleted, row.in_scope, created)


_NO_JOB = coded("no-job", "it has no job id")
_UNDATED = coded("creation-date", "its creation date is infinite, or its year is outside 1 to 9999")


def _no_account(account: str | None) -> Reason:
    if account is None or not account.strip():
        return coded("no-account", "it names no account")
    return coded(
        "account-unknown", "its account %(account)s is not in hellowork.accounts", account=repr(account[:_SHOWN])
    )


def _beyond(field: str, longest: int) -> Reason:
    return coded("too-long", "its %(field)s has more than %(longest)s characters", field=field, longest=longest)


def _identify(row: Row) -> tuple[str | None, str | None]:
    """The application's id, and why the row cannot be reported by it. Neither: the row is not HelloWork's."""
    if row.id_unreadable:
        return None, row.unreadable or ""
    application_id, url = _value(row.application_id), _value(row.status_url)
    if url is not None and len(url) > LONGEST_TEXT:
        # A cut URL may be the beginning of several ids'.
        return None, _beyond("status URL", LONGEST_TEXT)
    if application_id is None:
        if url is None:
            return None, None
        application_id = status_url.id_in(url)
        if application_id is None:
            return None, coded(
                "url-without-id", "its status URL has no application id: expected …/v1/applications/{id}/status"
            )
    # A longer one may have been cut, and no index of the store need hold it.
    known_as = application_id if len(application_id) <= LONGEST_ID else None
    is_plain = status_url.PLAIN_ID.fullmatch(application_id)
    return known_as, None if is_plain else status_url.id_refusal(application_id)


def _value(text: str | None) -> str | None:
    return text if text is not None and text.strip(BLANKS) else None


def _source(text: str) -> str | None:
    """HelloWork accepts a string or an object; any other JSON is sent as a string of its text."""
    if text.lstrip()[:1] in ('"', "{"):
        return text
    return None if text.strip() == "null" else json.dumps(text)


def _extra(row: Row, rules: WatchRules, status: str) -> str | None:
    fields = [
        f"{json.dumps(name)}: {value}"
        for (name, only_for), value in zip(rules.extra.items(), row.extra, strict=True)
        if value is not None and value.strip() != "null" and (not only_for or status in only_for)
    ]
    return f"{{{', '.join(fields)}}}" if fields else None
