"""The configuration as a whole, and what the core makes of it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from cdc_sync.config import values
from cdc_sync.config.daemon import Admin, Database, Log, NamedDatabase, Notify, State
from cdc_sync.config.hellowork import Headers, HelloWork
from cdc_sync.config.problems import Path, SettingError, SeveralSettingsError, did_you_mean
from cdc_sync.config.values import Section
from cdc_sync.config.watch import Watch
from cdc_sync.core.content import milliseconds
from cdc_sync.core.diff import FusePolicy
from cdc_sync.core.outbox import ANSWERED_WITHIN
from cdc_sync.core.replies import RetryPolicy
from cdc_sync.core.rows import StatusRules, WatchRules
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, AllowedHosts, endpoint_name, endpoint_of


class Config(Section):
    """The configuration of cdc-sync.

    Attributes:
        database: Where the ATS's database is. Without it the PG* environment variables have everything.
        databases: Where the ATS's databases are, by name, if there are several; instead of `database`. A name has lower
            case letters, digits and `_`, begins with a letter and has at most 40 of them. An entry with `names` is a
            group of databases.
        hellowork: How HelloWork's status API is called. Most likely HelloWork wants credentials in `headers`.
        state: Where the daemon keeps its state, and for how long.
        watches: What is watched, by name: at least one. A name has lower case letters, digits and `_`, begins with a
            letter and has at most 40 of them; it appears in commands, metrics and names in the database. Required.
        admin: Where health, metrics and the page are served, and to whom.
        log: What is logged, and how it is written.
        notify: Who gets to know what needs a person.
        undecided: What `cdc-sync init` could not decide and what would send wrong things, each in words. Decide it,
            correct the file, and remove the entry. While there is one, `cdc-sync run` refuses with exit code 78; `run
            --dry-run`, `check` and `plan` work.
    """

    database: Database = Field(default_factory=Database)
    databases: Mapping[values.PlainName, NamedDatabase] = Field(
        default_factory=dict, json_schema_extra={"additionalProperties": False}
    )
    hellowork: HelloWork = Field(default_factory=HelloWork)
    state: State = Field(default_factory=State, validate_default=True)
    watches: Annotated[Mapping[values.PlainName, Watch], Field(min_length=1)] = Field(
        json_schema_extra={"additionalProperties": False}
    )
    admin: Admin = Field(default_factory=Admin)
    log: Log = Field(default_factory=Log)
    notify: Notify = Field(default_factory=Notify)
    undecided: tuple[values.Text, ...] = ()
    _group_of: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _templates: Mapping[str, Watch] = PrivateAttr(default_factory=dict)
    _reveal: Callable[[str], str] = PrivateAttr(default=str)
    _without_meaning: Mapping[Path, str] = PrivateAttr(default_factory=dict)

    @field_validator("databases")
    @classmethod
    def _each_has_its_name(
        cls, databases: Mapping[str, NamedDatabase], info: ValidationInfo
    ) -> Mapping[str, NamedDatabase]:
        if databases and info.data.get("database", Database()) != Database():
            raise SettingError("expected database or databases, not both")
        taken = set(databases)
        for group, section in databases.items():
            for at, name in enumerate(section.names):
                if name in taken:
                    raise SettingError("databases has this name already", path=(group, "names", at))
                taken.add(name)
        return databases

    @field_validator("state")
    @classmethod
    def _store_is_somewhere(cls, state: State, info: ValidationInfo) -> State:
        if state.backend == "postgres" and state.dsn is None and len(_each_of(info.data.get("databases", {}))) > 1:
            raise SettingError("required where there are several databases: the one that has the store", path=("dsn",))
        return state

    @field_validator("watches")
    @classmethod
    def _watches_fit_the_rest(cls, watches: Mapping[str, Watch], info: ValidationInfo) -> Mapping[str, Watch]:
        # If a section is not there, its own error is reported.
        databases, hellowork = info.data.get("databases"), info.data.get("hellowork")
        errors = [] if databases is None else list(_wrong_databases(watches, databases))
        if hellowork is not None:
            errors += _wrong_accounts(watches, headers_of_accounts(hellowork, watches))
        if errors:
            raise SeveralSettingsError(errors)
        return watches

    @model_validator(mode="after")
    def _groups_become_databases(self) -> Self:
        groups = {name: section.names for name, section in self.databases.items() if section.names}
        if not groups:
            return self
        watches = {name: watch.with_members(groups) for name, watch in self.watches.items()}
        config = self.model_copy(update={"databases": _each_of(self.databases), "watches": watches})
        config._group_of = {name: group for group, names in groups.items() for name in names}  # noqa: SLF001
        return config

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

    def section_of(self, database: str) -> str:
        """The section with a database's `dsn`: its own, or its group's."""
        return f"databases.{self._group_of.get(database, database)}" if self.databases else "database"

    def place(self) -> str | None:
        """The database and its host, in short; of several their names. None if unknown."""
        if len(self.all_databases) == 1:
            return next(iter(self.all_databases.values())).place()
        return ", ".join(self.all_databases)

    def of_database(self, name: str) -> "Config":
        """The configuration of one database's watches, with that database as `database` too."""
        if not self.databases:
            return self
        section = self.databases[name]
        watches = {watch: each for watch, each in self.watches.items() if self.database_name(watch) == name}
        config = self.model_copy(update={"database": section, "databases": {name: section}})
        return config.with_watches(watches, self.templates)

    def reveal(self, text: str) -> str:
        """A text with its references replaced, as where the file was read.

        Raises:
            SettingError: a reference has no value.
        """
        return self._reveal(text)

    @property
    def without_meaning(self) -> Mapping[Path, str]:
        """The file's keys that mean nothing any more, and why."""
        return self._without_meaning

    def of_file(self, reveal: Callable[[str], str], without_meaning: Mapping[Path, str]) -> Self:
        """The same configuration, with `reveal` for references of single tenants."""
        config = self.model_copy()
        config._reveal, config._without_meaning = reveal, without_meaning  # noqa: SLF001 - it is one of these
        return config

    def with_watches(self, watches: Mapping[str, Watch], templates: Mapping[str, Watch]) -> "Config":
        """The same configuration with other watches; see `config.tenants`."""
        config = self.model_copy(update={"watches": watches})
        config._templates = templates  # noqa: SLF001 - it is one of these
        return config


def _each_of(databases: Mapping[str, NamedDatabase]) -> dict[str, NamedDatabase]:
    """The databases by name, with those of groups."""
    return {name: each for entry, of in databases.items() for name, each in (of.members() or {entry: of}).items()}


def _wrong_databases(watches: Mapping[str, Watch], databases: Mapping[str, NamedDatabase]) -> Iterator[SettingError]:
    """The errors of watches that name no database, or one that there is not."""
    each = _each_of(databases)
    for name, watch in watches.items():
        path: Path = (name, "database")
        several = watch.for_each is not None and watch.for_each.databases
        if several and watch.database is not None:
            yield SettingError("for_each.databases names the watch's databases already", path=path)
        if several:
            path, named, known = (name, "for_each", "databases"), several, {*each, *databases}
        else:
            named, known = (watch.database,) if watch.database is not None else (), {*each}
            if not named and len(each) > 1:
                yield SettingError("required where there are several databases", path=path)
        for database in named:
            if database not in known:
                meant = did_you_mean(database, known)
                yield SettingError(f"expected the name of one of databases, not of a group{meant}", path=path)


def _wrong_accounts(watches: Mapping[str, Watch], headers_of: Mapping[str, Headers]) -> Iterator[SettingError]:
    for name, watch in watches.items():
        try:
            check_account(headers_of, watch, name)
        except SettingError as error:
            yield error


# For the core: without YAML's syntax, in milliseconds.
_DEFAULT = "default"
"""The key of `settle` for every other status."""

_SLACK = 60_000
"""Milliseconds by which clocks may differ without a due time looking wrong."""


def allowed_hosts(config: Config) -> AllowedHosts:
    """Where calls may go."""
    return AllowedHosts(frozenset(config.hellowork.allowed_hosts), endpoint_of(config.hellowork.base_url))


def define_account(headers_of: dict[str, Headers], watch: Watch, name: str) -> None:
    """Add the account that a watch's own headers make.

    Raises:
        SettingError: it has other headers already.
    """
    own, account = watch.hellowork.headers, watch.account or name
    if not own or watch.for_each is not None:
        return
    if account == DEFAULT_ACCOUNT or headers_of.setdefault(account, own) != own:
        raise SettingError("the account gets headers in two places", path=(name, "account"))


def check_account(known: Collection[str], watch: Watch, name: str) -> None:
    """Check what a watch says of its account; `known` are all but the default one.

    Raises:
        SettingError: it names none, or two.
    """
    has_own, account = bool(watch.hellowork.headers), watch.account
    if watch.columns.account is not None and (account is not None or has_own):
        raise SettingError("the rows name their accounts, so the watch has none", path=(name, "columns", "account"))
    of_tenants, is_template = "{tenant}" in (account or ""), watch.for_each is not None
    path = (name, "account")
    if of_tenants and not is_template:
        raise SettingError("expected for_each beside it: {tenant} stands for nothing", path=path)
    if has_own and account is not None and is_template and not of_tenants:
        raise SettingError("expected {tenant} in it: each tenant's headers are an account of its own", path=path)
    if account not in (None, DEFAULT_ACCOUNT, *known) and not of_tenants:
        meant = did_you_mean(account or "", known)
        raise SettingError(f"expected the name of one of hellowork.accounts{meant}", path=path)


def account_of(config: Config, name: str) -> str | None:
    """The account of a watch's calls; None if each row names its own."""
    watch = config.watches[name]
    if watch.columns.account is not None:
        return None
    return watch.account or (name if watch.hellowork.headers else DEFAULT_ACCOUNT)


def has_several_accounts(config: Config) -> bool:
    """Whether the watches call with more than one account."""
    return len({account_of(config, name) for name in config.watches}) > 1 or any(
        watch.columns.account is not None for watch in config.watches.values()
    )


def accounts(config: Config) -> dict[str, dict[str, str]]:
    """The headers of each account's calls, by its name."""
    shared, of_file = config.hellowork.headers, config.hellowork.accounts
    found = headers_of_accounts(config.hellowork, config.watches)
    found = {name: headers if name in of_file else with_own(shared, headers) for name, headers in found.items()}
    return {
        name: {header: value.get_secret_value() for header, value in headers.items()}
        for name, headers in ({DEFAULT_ACCOUNT: shared} | found).items()
    }


def headers_of_accounts(hellowork: HelloWork, watches: Mapping[str, Watch]) -> dict[str, Headers]:
    """The headers of all accounts but the default one, those of watches without the shared ones.

    Raises:
        SettingError: one has two.
    """
    found = {name: account.headers for name, account in hellowork.accounts.items()}
    for name, watch in watches.items():
        define_account(found, watch, name)
    return found


def with_own(shared: Headers, own: Headers) -> Headers:
    """Headers, with others in the place of those with the same name, however it is spelled."""
    given = {name.lower() for name in own}
    return {name: value for name, value in shared.items() if name.lower() not in given} | {**own}


def watch_rules(config: Config, name: str) -> WatchRules:
    """A watch's rules."""
    watch = config.watches[name]
    return WatchRules(
        watch=name,
        status=StatusRules(dict(watch.status.map), watch.status.unmapped, watch.status.deleted),
        baseline=watch.baseline,
        first_status=watch.first_status,
        settle={status: milliseconds(wait) for status, wait in watch.settle.items() if status != _DEFAULT},
        default_settle=milliseconds(watch.settle.get(_DEFAULT, timedelta(0))),
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
    names = {name for name in built_urls(config) if account_of(config, name) is not None}
    return {endpoint_name(origin, account_of(config, name) or DEFAULT_ACCOUNT) for name in names}


def retry_policy(config: Config) -> RetryPolicy:
    """When deliveries are tried again."""
    retry = config.hellowork.retry
    return RetryPolicy(
        first=milliseconds(retry.first),
        max=milliseconds(retry.max),
        give_up_after=milliseconds(retry.for_),
        not_found_for=milliseconds(config.hellowork.not_found_retry),
    )


def sender_horizon(config: Config) -> int:
    """The longest that an entry can wait, in milliseconds: a later due time comes from a wrong clock."""
    settles = [milliseconds(wait) for watch in config.watches.values() for wait in watch.settle.values()]
    answers = [milliseconds(watch.deletion_grace) + ANSWERED_WITHIN for watch in config.watches.values()]
    return max([retry_policy(config).max, *settles, *answers]) + _SLACK
