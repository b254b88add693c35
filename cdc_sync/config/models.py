"""The sections of the configuration, but for the watches: what the keys are, and what each must be."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, WithJsonSchema, field_validator

from cdc_sync.config import values
from cdc_sync.config.dsn import check, place, shown
from cdc_sync.config.problems import Mistake
from cdc_sync.config.values import HostPort, Section
from cdc_sync.config.watch import Watch

SHORTEST_TOKEN = 16
"""Characters of `admin.token` that nobody guesses."""

HOW_TO_MAKE_ONE = "`openssl rand -hex 16` prints a good one"


def _dsn(dsn: SecretStr) -> SecretStr:
    check(dsn.get_secret_value())
    return dsn


_PREFIX = "(/[A-Za-z0-9._~-]+)*"
_WATCH_NAME = "^[a-z][a-z0-9_]{0,39}$"

# PostgreSQL's names have 63 bytes, and the watch's name becomes part of several (bell_…, record_…).
WatchName = Annotated[
    str,
    values.must(
        lambda name: re.fullmatch(_WATCH_NAME, name),
        "a watch's name has lower case letters, digits and _, begins with a letter, and has at most 40 of them",
    ),
    WithJsonSchema({"type": "string", "pattern": _WATCH_NAME}),
]

Dsn = Annotated[SecretStr, AfterValidator(_dsn)]

FilePath = Annotated[Path, values.must(lambda path: path.name.strip(), "expected a file's path"), values.NOT_EMPTY]

Token = Annotated[
    SecretStr,
    values.must(lambda token: token.get_secret_value(), "must not be empty", HOW_TO_MAKE_ONE),
    values.must(
        lambda token: re.fullmatch("[!-~]*", token.get_secret_value()),
        "expected letters, digits and signs without blanks and accents: it travels in a header",
    ),
]


Prefix = Annotated[
    str,
    values.must(
        lambda prefix: re.fullmatch(_PREFIX, prefix) and not {".", ".."} & set(prefix.split("/")),
        "expected a path that begins with / and does not end with it, of letters, digits, - . _ and ~",
        "prefix: /cdc-sync",
    ),
    WithJsonSchema({"type": "string", "pattern": f"^{_PREFIX}$"}),
]


class Database(Section):
    """The ATS's database.

    Attributes:
        dsn: Where the ATS's database is: a libpq connection string, as a URI or as key=value pairs. What it leaves out
            comes from the PG* environment variables and ~/.pgpass, so a password need not stand here; in a URI's, @ is
            written %40, / %2F and % %25. Empty by default: those say it all. A pooler in transaction mode is refused:
            the daemon's lock and LISTEN need a session of their own.
        pool: How many connections may read at the same time, 1 to 100, for all watches together; one more, which lasts,
            listens and holds their locks. 4 by default: watches are busy for moments. Slow reads and sweeps leave one
            of them to the others.
    """

    dsn: Dsn = Field(default=SecretStr(""), examples=["postgresql://cdc_sync@/ats"])

    pool: values.WholeNumber = Field(default=4, ge=1, le=100)

    def shown(self) -> str:
        """The DSN for people: without its password and whatever else may be secret."""
        return shown(self.dsn.get_secret_value())

    def place(self) -> str | None:
        """The database and its host, in short; None if that is not known."""
        return place(self.dsn.get_secret_value())


class Retry(Section):
    """When a call that failed is made again, and when it is given up.

    Attributes:
        first: The longest wait after the first failure; it doubles with each further one, and the actual wait is drawn
            between zero and it. 1s by default: a connection that was reset is mostly back by then.
        max: The longest wait between two tries of one call. 15m by default: four tries an hour cost nothing, and an
            outage of hours is noticed to be over within that time.
        for: How long a call that keeps failing is tried before it becomes a dead letter, for a person to look at.
            Counted from its first try; of a time for which it could not be tried (its endpoint was paused, throttled or
            down, or the daemon was), 15 minutes count. 7d by default: longer than any outage, weekend included.
    """

    first: values.PositiveDuration = timedelta(seconds=1)
    max: values.PositiveDuration = Field(default=timedelta(minutes=15), validate_default=True)
    for_: values.PositiveDuration = Field(default=timedelta(days=7), alias="for")

    @field_validator("max")
    @classmethod
    def _is_not_below_first(cls, longest: timedelta, info: ValidationInfo) -> timedelta:
        first = info.data.get("first")
        if first is not None and longest < first:
            raise Mistake(f"must not be below first, which is {values.format_duration(first)}")
        return longest


class HelloWork(Section):
    """How HelloWork's status API is called.

    Attributes:
        base_url: Where calls go for rows that have no status URL of their own: the call for an application is
            `{base_url}/v1/applications/{applicationId}/status`. The default is HelloWork's production API. Must be
            https; http is accepted for a loopback address, which is where the emulator listens.
        headers: Request headers sent with every call; this is where credentials go, best as `${NAME}` or `${file:PATH}`
            (a credential of systemd: `${file:${CREDENTIALS_DIRECTORY}/NAME}`). Values never appear in logs or messages.
            None by default, since HelloWork's pages do not say how the call is authenticated. The headers that cdc-sync
            sets itself (Host, Content-Type, Content-Length, Transfer-Encoding, Connection, Idempotency-Key) are
            refused.
        allowed_hosts: Where a row's status URL may lead, beside base_url's own scheme, host and port: `host` (the
            scheme's default port, 443 for https) or `host:port`. Empty by default: a URL is data of the ATS's database,
            and nothing, our credentials above all, may be sent to a host or a port that nobody named here.
        timeout: How long one call may take in all, from connecting to the reply's last byte; then it counts as failed
            and is retried. 10s by default: well beyond any healthy reply.
        concurrency: How many calls may be under way at the same time, 1 to 1000; for one application there is never
            more than one. 16 by default: at 100 ms a call that is 160 calls a second.
        rate_limit: How many calls may be started per second at most; decimals are allowed (0.5 is a call every two
            seconds). Null, the default, sets no limit beside `concurrency`: HelloWork documents none, and a reply that
            asks to slow down is obeyed in any case.
        retry: When a call that failed is made again, and when it is given up. May be left out.
        not_found_retry: How long a call is retried that HelloWork answers with 404, before it becomes a dead letter:
            HelloWork may not have finished registering the application. 15m by default; 0 gives up at once.
    """

    base_url: values.BaseUrl = "https://ats-partner.hellowork.com"
    headers: Mapping[values.HeaderName, values.HeaderValue] = Field(
        default_factory=dict, examples=[{"X-Api-Key": "${HELLOWORK_API_KEY}"}]
    )
    allowed_hosts: tuple[values.AllowedHost, ...] = ()
    timeout: values.PositiveDuration = timedelta(seconds=10)
    concurrency: values.WholeNumber = Field(default=16, ge=1, le=1000)
    rate_limit: values.PositiveNumber | None = None
    retry: Retry = Field(default_factory=Retry)
    not_found_retry: values.Duration = timedelta(minutes=15)

    @field_validator("headers")
    @classmethod
    def _names_differ(cls, headers: Mapping[str, values.HeaderValue]) -> Mapping[str, values.HeaderValue]:
        if len({name.lower() for name in headers}) < len(headers):
            raise Mistake("two headers have the same name: HTTP does not tell upper case from lower case")
        return headers


class State(Section):
    """Where the daemon keeps what it must remember.

    Attributes:
        backend: Where the daemon keeps what HelloWork was told, what is to be sent, and how far it has read: `sqlite`,
            one file on this host, which needs nothing else; `postgres`, for several daemons on several hosts that share
            it. Neither holds personal data.
        path: The file of backend sqlite; its folder must be writable, as two more files stand beside it. The default is
            in the folder that the systemd unit sets up.
        dsn: The database of backend postgres: a libpq connection string; the encoding there must be UTF8. Null, the
            default: database.dsn, in the schema cdc_sync. `cdc-sync sql install --store` and `sql grants --store` print
            what the DBA runs.
        history: How long what was seen, sent and answered is kept for `cdc-sync explain`. 30d by default; of more than
            a million events (300 MB) the oldest go earlier. What HelloWork was told last is kept for ever: it is what
            changes are measured against.
    """

    backend: Literal["sqlite", "postgres"] = "sqlite"
    path: FilePath = Path("/var/lib/cdc-sync/state.db")
    dsn: Dsn | None = None
    history: values.PositiveDuration = timedelta(days=30)


class Admin(Section):
    """Health, metrics and the page.

    Attributes:
        listen: Where health, metrics and the page are served: host:port, IPv6 in brackets. Null: nowhere. This machine
            only by default; any other address needs a token.
        token: The secret that requests must bring, and with which one logs in to the page. Of fewer than 16 characters
            it could be guessed: that is an error on another than a loopback address, and warned of on one. Null, the
            default: none is asked for, which is accepted on a loopback address only, and nothing can be released,
            discarded or retried on the page.
        title: What the page calls this installation, where one has several. Null, the default: the database and its
            host, as DATABASE@HOST.
        prefix: The path at which a reverse proxy shows the page, such as `/cdc-sync`: links, redirects and cookies
            begin with it. The proxy takes it off what it passes on, so that the daemon answers at its own paths,
            `/healthz` and `/metrics` among them. Empty by default: no proxy, or one that shows the page at `/`.
    """

    listen: values.Listen | None = HostPort("127.0.0.1", 8765)
    token: Token | None = Field(default=None, validate_default=True)
    title: values.Text | None = None
    prefix: Prefix = ""

    @field_validator("token")
    @classmethod
    def _others_need_a_token(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        listen, text = info.data.get("listen"), "" if token is None else token.get_secret_value()
        if listen is not None and not listen.is_loopback and len(text) < SHORTEST_TOKEN:
            raise Mistake(
                f"listen on another than a loopback address needs a token of at least {SHORTEST_TOKEN} characters: a "
                f"shorter one could be guessed",
                f"set it ({HOW_TO_MAKE_ONE}), or listen on 127.0.0.1",
            )
        return token


class Log(Section):
    """What is logged, and how.

    Attributes:
        level: The least important level that is logged: debug, info, warning or error. At info, the default, every call
            and every change of the daemon's own state has a line.
        format: How lines are written: `text` for people, `journal` with the fields of systemd's journal, `json` an
            object per line. `auto`, the default: text on a terminal, journal under systemd, else json.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "journal", "json"] = "auto"


class Config(Section):
    """The configuration of cdc-sync.

    Attributes:
        database: Where the ATS's database is. May be left out: the PG* environment variables then say it all.
        hellowork: How HelloWork's status API is called. May be left out, though most likely HelloWork wants to see
            credentials in `headers`.
        state: Where the daemon keeps what it must remember, and for how long. May be left out.
        watches: What is watched, by name: at least one. A name has lower case letters, digits and `_`, begins with a
            letter and has at most 40 of them; it appears in commands, metrics and names in the database. Required.
        admin: Where health, metrics and the page are served, and to whom. May be left out.
        log: What is logged, and how it is written. May be left out.
        undecided: What `cdc-sync init` could not decide and what would send wrong things, each in words. Decide it,
            correct the file, and remove the entry. While there is one `cdc-sync run` refuses, with exit code 78; `run
            --dry-run`, `check` and `plan` work. Empty by default.
    """

    database: Database = Field(default_factory=Database)
    hellowork: HelloWork = Field(default_factory=HelloWork)
    state: State = Field(default_factory=State)
    watches: Annotated[Mapping[WatchName, Watch], Field(min_length=1)] = Field(
        json_schema_extra={"additionalProperties": False}
    )
    admin: Admin = Field(default_factory=Admin)
    log: Log = Field(default_factory=Log)
    undecided: tuple[values.Text, ...] = ()
