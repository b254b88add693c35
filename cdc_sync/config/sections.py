"""The sections beside `watches`: databases, HelloWork's API, state, admin server, log, notices."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, IPvAnyAddress, SecretStr

from cdc_sync.core.status_url import DEFAULT_ACCOUNT

from . import dsn, values
from .values import UNRESOLVED, Section, default

_LONG_ENOUGH = "expected at least 16 letters, digits and signs: `openssl rand -hex 16` prints a good token"

_PLACE = "{database}"
"""Replaced by each name of a group in its connection string."""


def _usable(text: SecretStr) -> SecretStr:
    if mistake := dsn.mistake_in(text.get_secret_value()):
        raise values.SettingError(mistake)
    return text


Dsn = Annotated[SecretStr, AfterValidator(_usable)]

Token = Annotated[
    SecretStr, values.must(lambda token: re.fullmatch("[!-~]{16,}", token.get_secret_value()), _LONG_ENOUGH)
]

Url = Annotated[
    SecretStr,
    values.must(
        lambda url: re.match(f"https?://|.*{UNRESOLVED}", url.get_secret_value()),
        "expected a URL that begins with http:// or https://",
    ),
]


class Database(Section):
    """The ATS's database."""

    dsn: Dsn = default("", examples=["postgresql://cdc_sync@/ats"])
    """Where the ATS's database is: a libpq connection string, as a URI or as key=value pairs. The PG* environment
    variables and ~/.pgpass complete it, also with the password; if it is empty, they have everything. In a URI's
    password, @ is written %40, / %2F and % %25. A pooler in transaction mode is refused: the daemon's lock and LISTEN
    need a session of their own."""
    pool: int = Field(default=4, ge=1, le=100)
    """How many connections may read at the same time, 1 to 100, for all watches together. One more listens and holds
    their locks. Slow reads and sweeps leave one connection to the others."""

    def shown(self) -> str:
        """The DSN for people: without its password and other secrets."""
        return dsn.shown(self.dsn.get_secret_value())


def _lacks_place(dsn: str, names: tuple[str, ...]) -> bool:
    return bool(dsn) and UNRESOLVED not in dsn and (_PLACE in dsn) != bool(names)


class NamedDatabase(Database):
    """An entry of `databases`: a database, or a group of them."""

    names: tuple[values.PlainName, ...] = Field(default=(), examples=[["customer_1", "customer_2"]])
    """The names of a group's databases: there is one for each, with its name in place of `{database}` in `dsn`
    (`dbname={database}` without one) and with the entry's other keys. In `for_each` the group's own name stands for all
    of them. Empty: the entry is one database."""

    _names_have_their_place = values.refuse(
        "names",
        lambda names, given: _lacks_place(given["dsn"].get_secret_value(), names),
        f"expected {_PLACE} in dsn, for each of the names: both or neither",
    )

    def members(self) -> dict[str, "NamedDatabase"]:
        """A group's databases by name."""
        # A name needs no quotes and no escapes in a connection string.
        dsn = self.dsn.get_secret_value() or f"dbname={_PLACE}"
        return {
            name: self.model_copy(update={"dsn": SecretStr(dsn.replace(_PLACE, name)), "names": ()})
            for name in self.names
        }


Headers: TypeAlias = Mapping[values.HeaderName, values.HeaderValue]


class Account(Section):
    """A customer's calls."""

    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${file:/etc/cdc-sync/keys/acme}"}])
    """All request headers of this account's calls; those of the section `hellowork` are not among them."""


class OwnHelloWork(Section):
    """How HelloWork is called for one watch."""

    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${file:/etc/cdc-sync/keys/{tenant}}"}])
    """Request headers of this watch's calls, beside those of the section `hellowork` and in place of those with the
    same name. They make an account with the watch's name, or the one that `account` gives. In a watch with `for_each`,
    `${file:/etc/cdc-sync/keys/{tenant}}` is a file for each tenant. None by default."""


class Retry(Section):
    """The tries of a failed call."""

    first: values.PositiveDuration = default("1s")
    """The longest wait after the first failure. It doubles with each further one; the actual wait is random, from zero
    to it. A reset connection is mostly back within the default."""
    max: values.PositiveDuration = default("15m")
    """The longest wait between two tries of one call. The default is four tries an hour, which cost nothing and notice
    the end of a long outage in time."""
    for_: values.PositiveDuration = default("7d", alias="for")
    """How long a failing call is tried before it becomes a dead letter, for a person to look at. Counted from its first
    try; of a time in which it could not be tried (its endpoint was paused, throttled or down, or the daemon was), 15
    minutes count. The default is longer than any outage, weekend included."""


class HelloWork(Section):
    """How HelloWork's status API is called."""

    base_url: values.BaseUrl = "https://ats-partner.hellowork.com"
    """Where calls go for rows without a status URL of their own: the call for an application is
    `{base_url}/v1/applications/{applicationId}/status`. The default is HelloWork's production API. Must be https; http
    is accepted for a loopback address only, for the emulator."""
    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${HELLOWORK_API_KEY}"}])
    """Request headers of the calls of the account `default`: credentials go here, best as `${NAME}` or `${file:PATH}`
    (a credential of systemd: `${file:${CREDENTIALS_DIRECTORY}/NAME}`). Values never appear in logs or messages. None by
    default, since HelloWork's pages do not describe how calls are authenticated. Headers that cdc-sync sets itself
    (Host, Content-Type, Content-Length, Transfer-Encoding, Connection, Idempotency-Key) are refused."""
    accounts: Annotated[
        Mapping[values.AccountName, Account],
        values.must(lambda accounts: DEFAULT_ACCOUNT not in accounts, "the account default has hellowork.headers"),
    ] = Field(default_factory=dict, examples=[{"acme": {"headers": {"X-Api-Key": "${file:/etc/cdc-sync/keys/acme}"}}}])
    """Further accounts, by name: each a named set of headers, a customer's credentials. A watch names the account of
    its calls (`account`), or a column of its rows does (`columns.account`). If an account's headers are refused, only
    its calls pause. Entries of an account that is no longer here wait until it is again, or until `cdc-sync forget
    --account`."""
    allowed_hosts: tuple[values.AllowedHost, ...] = ()
    """Where a row's status URL may lead, beside base_url's own scheme, host and port: `host` (the scheme's default
    port, 443 for https) or `host:port`. Empty by default: a URL is data of the ATS's database, and our credentials must
    not go to a host or a port that nobody named here."""
    timeout: values.PositiveDuration = default("10s")
    """How long one call may take in all, from connecting to the reply's last byte; then it counts as failed and is
    retried. The default is well beyond any healthy reply."""
    concurrency: int = Field(default=16, ge=1, le=1000)
    """How many calls may be under way at the same time, 1 to 1000; for one application never more than one. At 100 ms a
    call the default is 160 calls a second."""
    rate_limit: float | None = Field(default=None, ge=1e-15, allow_inf_nan=False)
    """How many calls may be started per second to each endpoint (an origin and an account); decimals are allowed (0.5
    is a call every two seconds). Null: no limit beside `concurrency`, since HelloWork documents none. A reply that asks
    to slow down is obeyed in any case."""
    retry: Retry = Field(default_factory=Retry)
    """When a failed call is made again, and when it is given up."""
    not_found_retry: values.Duration = default("15m")
    """How long a call that HelloWork answers with 404 is retried before it becomes a dead letter: HelloWork may not
    have registered the application yet. 0 gives up at once."""


class State(Section):
    """Where the daemon keeps its state."""

    backend: Literal["sqlite", "postgres"] = "sqlite"
    """Where the daemon keeps what HelloWork acknowledged, what is to be sent, and how far it has read: `sqlite`, one
    file on this host, which needs nothing else; `postgres`, for daemons on several hosts, of which one works and the
    others stand by. What it holds leads to persons: see docs/personal-data.md."""
    path: Path = Path("/var/lib/cdc-sync/state.db")
    """The file of backend sqlite; its folder must be writable, since three more files are beside it. The systemd unit
    sets up the default's folder. Write the whole path: a relative one begins a new store in another folder."""
    dsn: Dsn | None = None
    """The database of backend postgres: a libpq connection string to the server itself, since a pooler is refused; the
    encoding there must be UTF8. Null: the ATS's database, in the schema cdc_sync. Required if there are several.
    `cdc-sync sql install --store` and `sql grants --store` print what the DBA runs."""
    history: values.PositiveDuration = default("30d")
    """How long `cdc-sync explain` knows what was seen, sent and answered. Of more than a million events (300 MB) the
    oldest go earlier. The last acknowledged state stays, since changes are measured against it."""
    forget_after: values.PositiveDuration = default("365d")
    """How long after HelloWork acknowledged an application's deletion a running daemon removes what the store has of
    it, if no row has its id. An application that comes back later is like a new one."""

    @property
    def is_in_ats(self) -> bool:
        """Whether the ATS's database has it."""
        return self.backend == "postgres" and self.dsn is None


class Admin(Section):
    """Health, metrics and the page."""

    listen: values.Listen | None = default("127.0.0.1:8765")
    """Where health, metrics and the page are served: host:port, IPv6 in brackets. Null: nowhere. Any address but this
    machine's own loopback needs a token."""
    token: Token | None = None
    """The secret that requests must bring, of at least 16 characters: in a browser as the password of any user, by
    scripts as `Authorization: Bearer`. Null: no token is needed, which only a loopback address allows, and nothing can
    be released, discarded or retried on the page."""
    title: values.Text | None = None
    """What the page calls this installation, for those who have several. Null: DATABASE@HOST; of several databases
    their names."""
    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """The path at which a reverse proxy shows the page, such as `/cdc-sync`: links and redirects begin with it. The
    proxy must remove it: the daemon answers at its own paths, such as `/healthz` and `/metrics`. Empty: no proxy, or
    one that shows the page at `/`."""
    user_header: values.Text | None = Field(default=None, examples=["X-Remote-User"])
    """The header in which a reverse proxy names the person, such as `X-Remote-User`: that name stands in histories and
    in the log. The proxy must set it in every request. Null: the user name that was given with the token."""
    proxies: tuple[IPvAnyAddress, ...] = default(["127.0.0.1", "::1"])
    """The addresses of the proxies whose `user_header` is believed."""

    _others_need_a_token = values.refuse(
        "token",
        lambda token, given: token is None and given["listen"] is not None and not given["listen"].is_loopback,
        f"{_LONG_ENOUGH}; or listen on a loopback address",
    )


class Notify(Section):
    """Who gets to know what needs a person: something is held or given up, an account is refused, a watch is late."""

    command: tuple[values.Text, ...] | None = Field(
        default=None, min_length=1, examples=[["/usr/local/bin/tell", "ats-team@example.com"]]
    )
    """A program and its arguments, without a shell. It gets a message as JSON on standard input, and has ten seconds.
    Its environment has only PATH. Null: none."""
    url: Url | None = Field(default=None, examples=["https://chat.example.com/hooks/${file:secrets/chat-hook}"])
    """Where a message is POSTed as JSON: a chat tool's incoming webhook, which shows its field `text`. Null:
    nowhere."""


class Log(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is logged: debug, info, warning or error. At info each call has a line (of one
    that fails again, its first attempt), and each change of the daemon's own state."""
    format: Literal["auto", "text", "journal", "json"] = "auto"
    """How lines are written: `text` for people, `journal` with priorities for systemd, `json` an object per line.
    `auto`: text on a terminal, journal under systemd, else json."""
