"""The configuration as a whole, and what the core makes of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from cdc_sync.core.content import milliseconds
from cdc_sync.core.replies import RetryPolicy
from cdc_sync.core.rows import FusePolicy, StatusRules, WatchRules
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, AllowedHosts, endpoint_name, endpoint_of

from . import values
from .dsn import place, settings_of
from .sections import Admin, Database, Headers, HelloWork, Log, NamedDatabase, Notify, State
from .values import Path, Section
from .watch import Watch


class Config(Section):
    """The configuration of cdc-sync."""

    database: Database = Field(default_factory=Database)
    """Where the ATS's database is. Without it the PG* environment variables have everything."""
    databases: Mapping[values.PlainName, NamedDatabase] = Field(
        default_factory=dict, json_schema_extra={"additionalProperties": False}
    )
    """Where the ATS's databases are, by name, if there are several; instead of `database`. A name has lower case
    letters, digits and `_`, begins with a letter and has at most 40 of them. An entry with `names` is a group of
    databases."""
    hellowork: HelloWork = Field(default_factory=HelloWork)
    """How HelloWork's status API is called. Most likely HelloWork wants credentials in `headers`."""
    state: State = Field(default_factory=State)
    """Where the daemon keeps its state, and for how long."""
    watches: Annotated[Mapping[values.PlainName, Watch], Field(min_length=1)] = Field(
        json_schema_extra={"additionalProperties": False}
    )
    """What is watched, by name: at least one. A name has lower case letters, digits and `_`, begins with a letter and
    has at most 40 of them; it appears in commands, metrics and names in the database. Required."""
    admin: Admin = Field(default_factory=Admin)
    """Where health, metrics and the page are served, and to whom."""
    log: Log = Field(default_factory=Log)
    """What is logged, and how it is written."""
    notify: Notify = Field(default_factory=Notify)
    """Who gets to know what needs a person."""
    undecided: tuple[values.Text, ...] = ()
    """What `cdc-sync init` could not decide and what would send wrong things, each in words. Decide it, correct the
    file, and remove the entry. While there is one, `cdc-sync run` refuses with exit code 78; `check`, `plan` and `run
    --dry-run` start, but need real columns, and the last two the grants."""
    metrics: SkipJsonSchema[Any] = Field(default=None, exclude=True)
    _group_of: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _templates: Mapping[str, Watch] = PrivateAttr(default_factory=dict)
    _reveal: Callable[[str], str] = PrivateAttr(default=str)

    _database_or_databases = values.refuse(
        "databases",
        lambda databases, given: databases and given["database"] != Database(),
        "expected database or databases, not both",
    )
    _each_has_its_name = values.refuse(
        "databases",
        lambda databases, _: _has_a_name_twice(databases),
        "has two databases, or groups, with the same name",
    )
    _store_is_somewhere = values.refuse(
        "state",
        lambda state, given: state.is_in_ats and len(_each_of(given["databases"])) > 1,
        "dsn is required where there are several databases: the one that has the store",
    )

    @field_validator("watches")
    @classmethod
    def _watches_fit_the_rest(cls, watches: Mapping[str, Watch], info: ValidationInfo) -> Mapping[str, Watch]:
        # If a section is not there, its own error is reported.
        databases, hellowork = info.data.get("databases"), info.data.get("hellowork")
        errors = [] if databases is None else list(_wrong_databases(watches, databases))
        if hellowork is not None:
            errors += [((name, "account"), why) for name, why in wrong_accounts(hellowork, watches)]
        if errors:
            wrong = [
                InitErrorDetails(type=PydanticCustomError("part", "{why}", {"why": why}), loc=path, input=None)
                for path, why in errors
            ]
            raise ValidationError.from_exception_data("watches", wrong)
        return watches

    @model_validator(mode="after")
    def _without_groups_and_templates(self, info: ValidationInfo) -> "Config":
        self._group_of = {name: group for group, section in self.databases.items() for name in section.names}
        self._templates = {name: watch for name, watch in self.watches.items() if watch.for_each is not None}
        self._reveal = info.context or str
        watches = {name: watch for name, watch in self.watches.items() if name not in self._templates}
        return self.model_copy(update={"databases": _each_of(self.databases), "watches": watches})

    @property
    def templates(self) -> Mapping[str, Watch]:
        """The watches with `for_each`, by name; `watches` has those of their tenants, and the ordinary ones."""
        return self._templates

    def database_name(self, watch: str) -> str:
        """The name of a watch's database; "" for the section `database`."""
        return self.watches[watch].database or next(iter(self.databases), "")

    @property
    def all_databases(self) -> Mapping[str, Database]:
        """Every database by its name; the section `database` is called ""."""
        return self.databases or {"": self.database}

    def dsn_of(self, database: str) -> str:
        """A database's connection string, which may have a password."""
        return self.all_databases[database].dsn.get_secret_value()

    def section_of(self, database: str) -> str:
        """The section with a database's `dsn`: its own, or its group's."""
        return f"databases.{self._group_of.get(database, database)}" if self.databases else "database"

    def place(self) -> str | None:
        """The database and its host, in short; of several their names. None if unknown."""
        first, *others = self.all_databases
        return ", ".join(self.all_databases) if others else place(self.dsn_of(first))

    def databases_of(self, template: Watch) -> tuple[str, ...]:
        """The databases that a template's tenants are in."""
        named = template.tenants.databases or (template.database or next(iter(self.databases), ""),)
        return tuple(name for name in self.all_databases if name in named or self._group_of.get(name) in named)

    def of_database(self, name: str) -> "Config":
        """The configuration of one database's watches and templates, with that database as `database` too."""
        if not self.databases:
            return self
        section = self.databases[name]
        watches = {watch: each for watch, each in self.watches.items() if self.database_name(watch) == name}
        config = self.model_copy(update={"database": section, "databases": {name: section}, "watches": watches})
        config._templates = {each: of for each, of in self.templates.items() if name in self.databases_of(of)}  # noqa: SLF001
        return config

    def reveal(self, text: str) -> str:
        """A text with its references replaced, as where the file was read.

        Raises:
            SettingError: a reference has no value.
        """
        return self._reveal(text)

    def with_watches(self, watches: Mapping[str, Watch]) -> "Config":
        """The same configuration with other watches; see `config.tenants`."""
        return self.model_copy(update={"watches": watches})


def _has_a_name_twice(databases: Mapping[str, NamedDatabase]) -> bool:
    names = [*databases, *(name for section in databases.values() for name in section.names)]
    return len(names) != len(set(names))


def _each_of(databases: Mapping[str, NamedDatabase]) -> dict[str, NamedDatabase]:
    """The databases by name, with those of groups."""
    return {name: each for entry, of in databases.items() for name, each in (of.members() or {entry: of}).items()}


def _wrong_databases(
    watches: Mapping[str, Watch], databases: Mapping[str, NamedDatabase]
) -> Iterator[tuple[Path, str]]:
    """What is wrong with watches that name no database, or one that there is not."""
    each = _each_of(databases)
    for name, watch in watches.items():
        of_tenants = watch.tenants.databases
        if not of_tenants and watch.database is None and len(each) > 1:
            yield (name, "database"), "required where there are several databases"
        if watch.database is not None and watch.database not in each:
            yield (name, "database"), "expected the name of one of databases, not of a group"
        for database in of_tenants:
            if database not in {*each, *databases}:
                yield (name, "for_each", "databases"), "expected names of databases or of groups"


def wrong_accounts(hellowork: HelloWork, watches: Mapping[str, Watch]) -> Iterator[tuple[str, str]]:
    """The watches of which the account is wrong, and why.

    A watch's own headers make an account, which others may name.
    """
    headers_of = {DEFAULT_ACCOUNT: hellowork.headers} | {
        name: account.headers for name, account in hellowork.accounts.items()
    }
    for name, watch in watches.items():
        own, account = watch.hellowork.headers, watch.account or name
        if own and watch.for_each is None and headers_of.setdefault(account, own) != own:
            yield name, "the account gets headers in two places"
    for name, watch in watches.items():
        account = watch.account or DEFAULT_ACCOUNT
        if watch.columns.account is not None and (watch.account is not None or watch.hellowork.headers):
            yield name, "the rows name their accounts, so the watch has none"
        elif account not in headers_of and (watch.for_each is None or "{tenant}" not in account):
            yield name, "expected the name of one of hellowork.accounts"


class Sessions(NamedTuple):
    """How many sessions of the ATS's database a daemon needs, and takes at most."""

    least: int
    most: int


def sessions_at_server(config: Config, database: str) -> Sessions:
    """The sessions at the server of one of a configuration's databases: each has one that listens, and a pool.

    Databases are on one server if their connection strings name the same host and port. A store in the only database
    has one session.
    """
    here = _server(config, database)
    pools = [each.pool for name, each in config.all_databases.items() if _server(config, name) == here]
    others = len(pools) + config.state.is_in_ats
    return Sessions(len(pools) + others, sum(pools) + others)


def _server(config: Config, database: str) -> list[str | None]:
    settings = settings_of(config.dsn_of(database))
    return [settings.get("port") or "5432", *(settings.get(name) for name in ("service", "host", "hostaddr"))]


# For the core: without YAML's syntax, in milliseconds.


_CLOCKS_DIFFER = 60_000
"""Milliseconds by which the clocks of two leaders may."""


def allowed_hosts(config: Config) -> AllowedHosts:
    """Where calls may go."""
    return AllowedHosts(frozenset(config.hellowork.allowed_hosts), endpoint_of(config.hellowork.base_url))


def account_of(config: Config, name: str) -> str | None:
    """The account of a watch's calls; None if each row names its own."""
    watch = config.watches[name]
    if watch.columns.account is not None:
        return None
    return watch.account or (name if watch.hellowork.headers else DEFAULT_ACCOUNT)


def has_several_accounts(config: Config) -> bool:
    """Whether the watches call with more than one account."""
    used = {account_of(config, name) for name in config.watches}
    return len(used) > 1 or None in used


def accounts(config: Config) -> dict[str, dict[str, str]]:
    """The headers of each account's calls, by its name."""
    shared = config.hellowork.headers
    found = {DEFAULT_ACCOUNT: shared}
    for name, watch in config.watches.items():
        if watch.hellowork.headers:
            found[watch.account or name] = with_own(shared, watch.hellowork.headers)
    found |= {name: account.headers for name, account in config.hellowork.accounts.items()}
    return {name: {key: value.get_secret_value() for key, value in headers.items()} for name, headers in found.items()}


def with_own(shared: Headers, own: Headers) -> Headers:
    """Headers, with others in the place of those with the same name, however it is spelled."""
    given = {name.lower() for name in own}
    return {name: value for name, value in shared.items() if name.lower() not in given} | {**own}


def watch_rules(config: Config, name: str) -> WatchRules:
    """A watch's rules."""
    watch = config.watches[name]
    settle = {status: milliseconds(wait) for status, wait in watch.settle.items()}
    settle_of_others = settle.pop("default", 0)
    return WatchRules(
        watch=name,
        status=StatusRules(dict(watch.status.map), watch.status.unmapped, watch.status.deleted),
        baseline=watch.baseline,
        first_status=watch.first_status,
        settle=settle,
        default_settle=settle_of_others,
        deletion_grace=milliseconds(watch.deletion_grace),
        extra={name: frozenset(extra.only_for) for name, extra in watch.extra.items()},
        base_url=config.hellowork.base_url,
        own_urls=watch.columns.status_url is not None,
        allowed=allowed_hosts(config),
        fuse=FusePolicy(watch.fuse.max_changes, watch.fuse.max_deletions, milliseconds(watch.fuse.window)),
        last_known_job=watch.last_known_job,
        ordered_dates=watch.ordered_dates,
        account=account_of(config, name),
        accounts=frozenset() if watch.columns.account is None else frozenset(accounts(config)),
    )


def built_urls(config: Config) -> dict[str, str]:
    """The base URL of each watch whose rows have no URLs."""
    return {
        name: config.hellowork.base_url for name, watch in config.watches.items() if watch.columns.status_url is None
    }


def expected_endpoints(config: Config) -> set[str]:
    """The endpoints of watches whose rows have neither URLs nor accounts of their own."""
    origin = endpoint_of(config.hellowork.base_url)
    of_watches = {account_of(config, name) for name in built_urls(config)}
    return {endpoint_name(origin, account) for account in of_watches if account is not None}


def retry_policy(config: Config) -> RetryPolicy:
    """When deliveries are tried again."""
    retry = config.hellowork.retry
    return RetryPolicy(
        first=milliseconds(retry.first),
        max=milliseconds(retry.max),
        give_up_after=milliseconds(retry.for_),
        not_found_for=milliseconds(config.hellowork.not_found_retry),
    )


def longest_wait(config: Config) -> int:
    """The longest that an entry, or a suspected deletion, can seem to wait, in milliseconds."""
    settles = [milliseconds(wait) for watch in config.watches.values() for wait in watch.settle.values()]
    graces = [milliseconds(watch.deletion_grace) for watch in config.watches.values()]
    return max([retry_policy(config).max, *settles, *graces]) + _CLOCKS_DIFFER
