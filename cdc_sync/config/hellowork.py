"""The section `hellowork`: how HelloWork's status API is called."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from cdc_sync.config.addresses import AllowedHost, BaseUrl, HeaderName, HeaderValue
from cdc_sync.config.mistakes import Mistake
from cdc_sync.config.quantities import Duration, PositiveDuration, format_duration
from cdc_sync.config.section import Bounds, PositiveNumber, Section, WholeNumber


class Retry(Section):
    """When a call that failed is made again, and when it is given up."""

    first: PositiveDuration = timedelta(seconds=1)
    """The longest wait after the first failure; it doubles with each further one, and the actual wait is drawn between
    zero and it. 1s by default: a connection that was reset is mostly back by then.
    """

    max: PositiveDuration = Field(default=timedelta(minutes=15), validate_default=True)
    """The longest wait between two tries of one call. 15m by default: four tries an hour cost nothing, and an outage of
    hours is noticed to be over within that time.
    """

    for_: PositiveDuration = Field(default=timedelta(days=7), alias="for")
    """How long a call that keeps failing is tried before it becomes a dead letter, for a person to look at. Counted
    from its first try; of a time for which it could not be tried (its endpoint was paused, throttled or down, or the
    daemon was), 15 minutes count. 7d by default: longer than any outage, weekend included.
    """

    @field_validator("max")
    @classmethod
    def _is_not_below_first(cls, longest: timedelta, info: ValidationInfo) -> timedelta:
        first = info.data.get("first")
        if first is not None and longest < first:
            raise Mistake(f"must not be below first, which is {format_duration(first)}")
        return longest


class HelloWork(Section):
    """How HelloWork's status API is called."""

    base_url: BaseUrl = Field(default="https://ats-partner.hellowork.com", title="http only for a loopback address")
    """Where calls go for rows that have no status URL of their own: the call for an application is
    `{base_url}/v1/applications/{applicationId}/status`. The default is HelloWork's production API. Must be https; http
    is accepted for a loopback address, which is where the emulator listens.
    """

    headers: Mapping[HeaderName, HeaderValue] = Field(
        default_factory=dict,
        title="how we prove who we are: whatever HelloWork agreed with you",
        examples=[{"X-Api-Key": "${HELLOWORK_API_KEY}"}],
    )
    """Request headers sent with every call; this is where credentials go, best as `${NAME}` or `${file:PATH}` (a
    credential of systemd: `${file:${CREDENTIALS_DIRECTORY}/NAME}`). Values never appear in logs or messages. None by
    default, since HelloWork's pages do not say how the call is authenticated. The headers that cdc-sync sets itself
    (Host, Content-Type, Content-Length, Transfer-Encoding, Connection, Idempotency-Key) are refused.
    """

    allowed_hosts: tuple[AllowedHost, ...] = Field(
        default=(), title="beside base_url's own, host or host:port of rows' status URLs"
    )
    """Where a row's status URL may lead, beside base_url's own scheme, host and port: `host` (the scheme's default
    port, 443 for https) or `host:port`. Empty by default: a URL is data of the ATS's database, and nothing, our
    credentials above all, may be sent to a host or a port that nobody named here.
    """

    timeout: PositiveDuration = Field(
        default=timedelta(seconds=10), title="of one call, from connecting to the reply's last byte"
    )
    """How long one call may take in all, from connecting to the reply's last byte; then it counts as failed and is
    retried. 10s by default: well beyond any healthy reply.
    """

    concurrency: Annotated[WholeNumber, Bounds(1, 1000)] = Field(
        default=16, title="calls at the same time; never two for one application"
    )
    """How many calls may be under way at the same time, 1 to 1000; for one application there is never more than one. 16
    by default: at 100 ms a call that is 160 calls a second.
    """

    rate_limit: PositiveNumber | None = Field(default=None, title="calls per second")
    """How many calls may be started per second at most; decimals are allowed (0.5 is a call every two seconds). Null,
    the default, sets no limit beside `concurrency`: HelloWork documents none, and a reply that asks to slow down is
    obeyed in any case.
    """

    retry: Retry = Field(default_factory=Retry, title="waits between tries grow from first to max; then a dead letter")
    """When a call that failed is made again, and when it is given up. May be left out."""

    not_found_retry: Duration = Field(
        default=timedelta(minutes=15), title="HelloWork may not have registered a new application yet"
    )
    """How long a call is retried that HelloWork answers with 404, before it becomes a dead letter: HelloWork may not
    have finished registering the application. 15m by default; 0 gives up at once.
    """

    @field_validator("headers")
    @classmethod
    def _names_differ(cls, headers: Mapping[str, HeaderValue]) -> Mapping[str, HeaderValue]:
        if len({name.lower() for name in headers}) < len(headers):
            raise Mistake("two headers have the same name: HTTP does not tell upper case from lower case")
        return headers
