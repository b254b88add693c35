"""Sections `hellowork`: how its status API is called, for all watches and for one."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, TypeAlias

from pydantic import Field

from cdc_sync.config import values
from cdc_sync.config.values import Section
from cdc_sync.core.status_url import DEFAULT_ACCOUNT

Headers: TypeAlias = Mapping[values.HeaderName, values.HeaderValue]


class Account(Section):
    """A customer's calls.

    Attributes:
        headers: All request headers of this account's calls; those of the section `hellowork` are not among them.
    """

    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${file:/etc/cdc-sync/keys/acme}"}])


class OwnHelloWork(Section):
    """How HelloWork is called for one watch.

    Attributes:
        headers: Request headers of this watch's calls, beside those of the section `hellowork` and in place of those
            with the same name. They make an account with the watch's name, or the one that `account` gives. In a watch
            with `for_each`, `${file:/etc/cdc-sync/keys/{tenant}}` is a file for each tenant. None by default.
    """

    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${file:/etc/cdc-sync/keys/{tenant}}"}])


class Retry(Section):
    """When a failed call is made again, and when it is given up.

    Attributes:
        first: The longest wait after the first failure. It doubles with each further one; the actual wait is random,
            from zero to it. A reset connection is mostly back within the default.
        max: The longest wait between two tries of one call. The default is four tries an hour, which cost nothing and
            notice the end of a long outage in time.
        for: How long a failing call is tried before it becomes a dead letter, for a person to look at. Counted from its
            first try; of a time in which it could not be tried (its endpoint was paused, throttled or down, or the
            daemon was), 15 minutes count. The default is longer than any outage, weekend included.
    """

    first: values.PositiveDuration = timedelta(seconds=1)
    max: values.PositiveDuration = Field(default=timedelta(minutes=15), validate_default=True)
    for_: values.PositiveDuration = Field(default=timedelta(days=7), alias="for")

    _max_is_not_below_first = values.refuse(
        "max", lambda longest, given: longest < given["first"], "must not be below first"
    )


class HelloWork(Section):
    """How HelloWork's status API is called.

    Attributes:
        base_url: Where calls go for rows without a status URL of their own: the call for an application is
            `{base_url}/v1/applications/{applicationId}/status`. The default is HelloWork's production API. Must be
            https; http is accepted for a loopback address only, for the emulator.
        headers: Request headers of the calls of the account `default`: credentials go here, best as `${NAME}` or
            `${file:PATH}` (a credential of systemd: `${file:${CREDENTIALS_DIRECTORY}/NAME}`). Values never appear in
            logs or messages. None by default, since HelloWork's pages do not describe how calls are authenticated.
            Headers that cdc-sync sets itself (Host, Content-Type, Content-Length, Transfer-Encoding, Connection,
            Idempotency-Key) are refused.
        accounts: Further accounts, by name: each a named set of headers, a customer's credentials. A watch names the
            account of its calls (`account`), or a column of its rows does (`columns.account`). If an account's headers
            are refused, only its calls pause. Entries of an account that is no longer here wait until it is again, or
            until `cdc-sync forget --account`.
        allowed_hosts: Where a row's status URL may lead, beside base_url's own scheme, host and port: `host` (the
            scheme's default port, 443 for https) or `host:port`. Empty by default: a URL is data of the ATS's database,
            and our credentials must not go to a host or a port that nobody named here.
        timeout: How long one call may take in all, from connecting to the reply's last byte; then it counts as failed
            and is retried. The default is well beyond any healthy reply.
        concurrency: How many calls may be under way at the same time, 1 to 1000; for one application never more than
            one. At 100 ms a call the default is 160 calls a second.
        rate_limit: How many calls may be started per second at most; decimals are allowed (0.5 is a call every two
            seconds). Null: no limit beside `concurrency`, since HelloWork documents none. A reply that asks to slow
            down is obeyed in any case.
        retry: When a failed call is made again, and when it is given up.
        not_found_retry: How long a call that HelloWork answers with 404 is retried before it becomes a dead letter:
            HelloWork may not have registered the application yet. 0 gives up at once.
    """

    base_url: values.BaseUrl = "https://ats-partner.hellowork.com"
    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${HELLOWORK_API_KEY}"}])
    accounts: Annotated[
        Mapping[values.AccountName, Account],
        values.must(lambda accounts: DEFAULT_ACCOUNT not in accounts, "the account default has hellowork.headers"),
    ] = Field(default_factory=dict, examples=[{"acme": {"headers": {"X-Api-Key": "${file:/etc/cdc-sync/keys/acme}"}}}])
    allowed_hosts: tuple[values.AllowedHost, ...] = ()
    timeout: values.PositiveDuration = timedelta(seconds=10)
    concurrency: int = Field(default=16, ge=1, le=1000)
    rate_limit: float | None = Field(default=None, ge=1e-15, allow_inf_nan=False)
    retry: Retry = Field(default_factory=Retry)
    not_found_retry: values.Duration = timedelta(minutes=15)
