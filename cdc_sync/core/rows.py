"""A row of the ATS's table, as the mapping's SQL returns it, and its meaning by the watch's rules."""

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cdc_sync.core import status_url
from cdc_sync.core.content import FIRST, LATEST, Content, NotAnInstant, within_range
from cdc_sync.core.diff import FusePolicy, Unseen
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, LONGEST_ID, AllowedHosts

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

Origin = Literal["notify", "poll", "sweep", "baseline", "deletion", "resend"]
"""The part of capture that saw a change."""

Unmapped = Literal["send", "ignore", "reject"]


@dataclass(frozen=True, slots=True)
class StatusRules:
    """How labels become statuses: section `status` of a watch."""

    map: Mapping[str, str]
    unmapped: Unmapped
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
        built_refusal: why no built URL may be called.
    """

    watch: str
    status: StatusRules
    baseline: Unseen
    first_status: Unseen
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
    built_refusal: str | None = field(init=False)

    def __post_init__(self) -> None:
        """Find out once what would be asked for each row."""
        object.__setattr__(self, "built_refusal", self.allowed.refusal(status_url.build(self.base_url, "id")))

    def extra_fields_of(self, status: str) -> frozenset[str]:
        """The extra fields that are sent with a status."""
        return frozenset(name for name, only_for in self.extra.items() if not only_for or status in only_for)


class Row(NamedTuple):
    """One row. Dates are microseconds since the epoch as text (or `infinity`); `source` and extras are JSON text.

    A tuple, which is made in a quarter of an object's time. Texts may be cut to one character more than the limits
    above.

    `digest` covers the rules and all of the row but the event's date. `unreadable` explains which expression of the
    configuration fails on the row; its field is None then, and the row is in scope if `where` fails. `id_unreadable`:
    that expression gives the id.
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
    """The application's state by this row; `refused` explains why it must not be sent."""

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
    """The row does not match `where`."""

    application_id: str
    key: Key
    changed_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Ignored:
    """The row's label is unmapped and ignored: only the application's deletion is a call."""

    application_id: str
    key: Key
    digest: str | None = None
    changed_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Foreign:
    """The row is not HelloWork's: it has no id, or an unusable one and is out of scope."""

    key: Key
    changed_at: int = field(default=0, compare=False)
    application_id: None = field(default=None, init=False)


Observation = Reportable | Unreportable | OutOfScope | Ignored | Foreign
"""A row as read and interpreted. `changed_at` is when the change was recorded or read."""


def has_no_id(observation: Observation) -> bool:
    """Whether a row has no usable id: that is no deletion."""
    return isinstance(observation, Foreign | Unreportable)


def content_of(observation: Observation | None) -> Content | None:
    """The content of a row's call, maybe without what the last known one has."""
    row = observation.incomplete if isinstance(observation, Unreportable) else observation
    return row.content if isinstance(row, Reportable) else None


Mapped = tuple[str, str | None]
"""The status to send, and why it must not be sent."""


def map_status(rules: StatusRules, label: str | None, *, deleted: bool = False) -> Mapped | None:
    """The status for a label; None if the label is ignored.

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


def from_microseconds(text: str) -> int:
    """A row's date, rounded down, never later than it was.

    Raises:
        NotAnInstant: for `infinity`, `-infinity` and years outside 1 to 9999.
    """
    try:
        instant = int(text) // 1000
    except ValueError:
        raise NotAnInstant(
            coded("not-a-date", "%(date)s is not a date that can be written as YYYY-MM-DDTHH:MM:SS.mmmZ", date=text)
        ) from None
    return instant if FIRST <= instant <= LATEST else within_range(instant)


def interpret(row: Row, rules: WatchRules, changed_at: int) -> Observation:
    """Interpret one row by itself; `outbox.completed` adds what is known already.

    `changed_at` is also the event's date if the row has none.
    """
    identified = _identify(row, changed_at)
    if not isinstance(identified, str):
        # `where` leaves out rows of others' applications, whose ids are no error.
        return identified if row.in_scope else Foreign(row.key, changed_at)
    if not row.in_scope:
        return OutOfScope(identified, row.key, changed_at)
    if row.unreadable is not None:
        return Unreportable(identified, row.key, row.unreadable, unreadable=True, changed_at=changed_at)
    return _observation_of(identified, row, rules, changed_at)


class _LacksError(Exception):
    """The row lacks something that every call needs; the argument is the reason."""


def _observation_of(application_id: str, row: Row, rules: WatchRules, changed_at: int) -> Observation:
    mapped = map_status(rules.status, row.status, deleted=row.deleted)
    if mapped is None:
        return Ignored(application_id, row.key, row.digest, changed_at)
    status, unmapped = mapped
    try:
        content = _content(application_id, row, rules, status, changed_at)
    except _LacksError as error:
        return Unreportable(application_id, row.key, error.args[0], changed_at=changed_at)
    refusal = rules.built_refusal if _value(row.status_url) is None else rules.allowed.refusal(content.url)
    refused = unmapped or (refusal and status_url.refused(content.url, refusal))
    reportable = Reportable(application_id, row.key, content, refused, row.digest, changed_at)
    lacks = _no_account(row.account or "") if not content.account else None if content.job_id else _NO_JOB
    if lacks is None:
        return reportable
    incomplete = reportable if content.job_id or rules.last_known_job else None
    return Unreportable(application_id, row.key, lacks, incomplete=incomplete, changed_at=changed_at)


def _content(application_id: str, row: Row, rules: WatchRules, status: str, changed_at: int) -> Content:
    """The content of the row's call, maybe without a job; of a deletion also without an account."""
    if not status or status.isspace():
        raise _LacksError(coded("no-status", "it has no status"))
    if rules.extra or len(status) + len(row.job_id or "") + len(row.source or "") > LONGEST_TEXT:
        _insist_on_lengths(row, rules, status)
    created = _creation_date(row)
    account = rules.account or _own_account(row, rules)
    try:
        event_date = changed_at if row.event_date is None else from_microseconds(row.event_date)
    except NotAnInstant:
        event_date = changed_at
    job_id = row.job_id if row.job_id and not row.job_id.isspace() else ""
    url = _value(row.status_url) or status_url.build(rules.base_url, application_id)
    extra = _extra(row, rules, status) if rules.extra else None
    source = row.source if row.source is None or row.source[:1] in ("{", '"') else _source(row.source)
    # By position, since it runs for each row.
    return Content(status, job_id, row.deleted, created, event_date, source, extra, url, account)


def _insist_on_lengths(row: Row, rules: WatchRules, status: str) -> None:
    texts = [
        ("status", status, LONGEST_TEXT),
        ("job id", row.job_id, LONGEST_TEXT),
        ("source", row.source, LONGEST_JSON),
    ]
    for name, text in zip(rules.extra, row.extra, strict=True):
        texts.append((f"extra field {name}", text, LONGEST_JSON))
    for name, text, longest in texts:
        if text is not None and len(text) > longest:
            raise _LacksError(_beyond(name, longest))


def _creation_date(row: Row) -> int:
    if row.created is None:
        raise _LacksError(coded("no-creation-date", "it has no creation date"))
    try:
        return from_microseconds(row.created)
    except NotAnInstant as error:
        reason = coded("creation-date", "its creation date cannot be sent: %(reason)s", reason=error.args[0])
        raise _LacksError(reason) from None


def _own_account(row: Row, rules: WatchRules) -> str:
    account = row.account or ""
    if account in rules.accounts:
        return account
    if row.deleted:
        return ""
    raise _LacksError(_no_account(account))


def _no_account(account: str) -> Reason:
    if not account.strip():
        return coded("no-account", "it names no account")
    return coded(
        "account-unknown",
        "its account %(account)s is not in hellowork.accounts",
        account=repr(account[:_SHOWN]),
    )


def created_of(row: Row) -> int | None:
    """A row's creation date; None if it has none that can be sent."""
    try:
        return _creation_date(row)
    except _LacksError:
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
        identified = _identify(row, 0)
        id_ = identified if isinstance(identified, str) else identified.application_id
        if id_ is not None and id_ in application_ids:
            found.setdefault(id_, []).append(row)
    return found


def _precedence(row: Row) -> tuple[bool, bool, int]:
    created = created_of(row)
    if created is None:
        created = -(2**63) if row.unreadable is None else 2**63
    return (not row.deleted, row.in_scope, created)


_NO_JOB = coded("no-job", "it has no job id")


def _beyond(field: str, longest: int) -> Reason:
    return coded(
        "too-long",
        "its %(field)s has more than %(longest)s characters, which no call can be expected to carry; correct it in the "
        "ATS",
        field=field,
        longest=longest,
    )


def _identify(row: Row, changed_at: int) -> str | Foreign | Unreportable:
    if row.id_unreadable:
        return Unreportable(None, row.key, row.unreadable or "", unreadable=True, changed_at=changed_at)
    application_id, url = _value(row.application_id), _value(row.status_url)
    if application_id is None and url is None:
        return Foreign(row.key, changed_at)
    if url is not None and len(url) > LONGEST_TEXT:
        # A cut URL may be the beginning of several ids'.
        return Unreportable(None, row.key, _beyond("status URL", LONGEST_TEXT), changed_at=changed_at)
    if application_id is None:
        application_id = status_url.id_in(url or "")
        if application_id is None:
            reason = coded(
                "url-without-id", "its status URL has no application id: expected …/v1/applications/{id}/status"
            )
            return Unreportable(None, row.key, reason, changed_at=changed_at)
    refusal = None if status_url.PLAIN_ID.fullmatch(application_id) else status_url.id_refusal(application_id)
    if refusal is not None:
        # A longer one may have been cut, and no index of the store need hold it.
        known_as = application_id if len(application_id) <= LONGEST_ID else None
        return Unreportable(known_as, row.key, refusal, changed_at=changed_at)
    return application_id


def _value(text: str | None) -> str | None:
    return text if text is not None and text.strip(BLANKS) else None


def _source(text: str) -> str | None:
    """HelloWork accepts a string or an object; any other JSON is sent as a string of its text."""
    if text.strip() == "null":
        return None
    return text if text.lstrip()[:1] in ('"', "{") else json.dumps(text)


def _extra(row: Row, rules: WatchRules, status: str) -> str | None:
    fields = [
        f"{json.dumps(name)}: {value}"
        for (name, only_for), value in zip(rules.extra.items(), row.extra, strict=True)
        if value is not None and value.strip() != "null" and (not only_for or status in only_for)
    ]
    return f"{{{', '.join(fields)}}}" if fields else None
