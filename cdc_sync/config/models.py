"""The configuration as a whole, and what the core makes of it."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator

from cdc_sync.config import values
from cdc_sync.config.daemon import Admin, Database, Log, Metrics, NamedDatabase, State
from cdc_sync.config.hellowork import HelloWork
from cdc_sync.config.problems import SettingError, did_you_mean, setting_error
from cdc_sync.config.values import Section
from cdc_sync.config.watch import Watch
from cdc_sync.core.content import milliseconds
from cdc_sync.core.diff import FusePolicy
from cdc_sync.core.outbox import ANSWERED_WITHIN
from cdc_sync.core.replies import Credentials, RetryPolicy
from cdc_sync.core.rows import StatusRules, WatchRules
from cdc_sync.core.status_url import AllowedHosts, endpoint_of
from cdc_sync.core.watch_names import SEPARATOR


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
        metrics: Whether `/metrics` has each watch by itself.
        log: What is logged, and how it is written.
        undecided: What `cdc-sync init` could not decide and what would send wrong things, each in words. Decide it,
            correct the file, and remove the entry. While there is one, `cdc-sync run` refuses with exit code 78; `run
            --dry-run`, `check` and `plan` work.
    """

    database: Database = Field(default_factory=Database)
    databases: Mapping[values.DatabaseName, NamedDatabase] = Field(
        default_factory=dict, json_schema_extra={"additionalProperties": False}
    )
    hellowork: HelloWork = Field(default_factory=HelloWork)
    state: State = Field(default_factory=State, validate_default=True)
    watches: Annotated[Mapping[values.WatchName, Watch], Field(min_length=1)] = Field(
        json_schema_extra={"additionalProperties": False}
    )
    admin: Admin = Field(default_factory=Admin)
    metrics: Metrics = Field(default_factory=Metrics)
    log: Log = Field(default_factory=Log)
    undecided: tuple[values.Text, ...] = ()
    _group_of: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _templates: Mapping[str, Watch] = PrivateAttr(default_factory=dict)
    _reveal: Callable[[str], str] = PrivateAttr(default=str)

    @field_validator("databases")
    @classmethod
    def _each_has_its_name(
        cls, databases: Mapping[str, NamedDatabase], info: ValidationInfo
    ) -> Mapping[str, NamedDatabase]:
        if databases and info.data.get("database", Database()) != Database():
            raise setting_error("database-and-databases")
        taken = set(databases)
        for group, section in databases.items():
            for at, name in enumerate(section.names):
                if name in taken:
                    raise setting_error("database-twice", path=(group, "names", at))
                taken.add(name)
        return databases

    @field_validator("state")
    @classmethod
    def _store_is_somewhere(cls, state: State, info: ValidationInfo) -> State:
        known = _each_of(info.data.get("databases", {}))
        if state.backend == "postgres" and state.dsn is None and len(known) > 1:
            raise setting_error("store-of-several", path=("dsn",), known=", ".join(known))
        return state

    @field_validator("watches")
    @classmethod
    def _databases_are_known(cls, watches: Mapping[str, Watch], info: ValidationInfo) -> Mapping[str, Watch]:
        if "databases" not in info.data:
            return watches  # its own error is reported
        entries, known = info.data["databases"], _each_of(info.data["databases"])
        with_groups = {**known, **entries}
        for name, watch in watches.items():
            several = watch.for_each is not None and watch.for_each.databases
            if several and watch.database is not None:
                raise setting_error("for-each-database", path=(name, "database"))
            for database in several or ((watch.database,) if watch.database is not None else ()):
                there = with_groups if several else known
                if database not in there:
                    at = ("for_each", "databases") if several else ("database",)
                    # Not by its name: it may be a secret in the wrong place.
                    wrong = setting_error("database-group" if database in entries else "database-unknown")
                    meant = did_you_mean(database, there) or f"known: {', '.join(there)}"
                    raise SettingError(str(wrong), meant, path=(name, *at))
            if watch.database is None and not several and len(known) > 1:
                raise setting_error("database-of-watch", path=(name, "database"), known=", ".join(known))
        return watches

    @field_validator("watches")
    @classmethod
    def _tenants_have_what_expressions_name(cls, watches: Mapping[str, Watch]) -> Mapping[str, Watch]:
        for name, watch in watches.items():
            if watch.for_each is not None and watch.for_each.schemas is None:
                texts: dict[tuple[str, ...], str | None] = {("where",): getattr(watch.where, "sql", None)}
                for section, fields in (("columns", vars(watch.columns)), ("extra", watch.extra)):
                    texts |= {(section, of, "sql"): getattr(field, "sql", None) for of, field in fields.items()}
                for path, text in texts.items():
                    if text and "{schema}" in text:
                        raise setting_error("schema-of-database", path=(name, *path))
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

    def database_of(self, watch: str) -> Database:
        """The database of a configured watch."""
        return self.all_databases[self.database_name(watch)]

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

    def revealing(self, reveal: Callable[[str], str]) -> Self:
        """The same configuration, with `reveal` for references of single tenants."""
        config = self.model_copy()
        config._reveal = reveal  # noqa: SLF001 - it is one of these
        return config

    def with_watches(self, watches: Mapping[str, Watch], templates: Mapping[str, Watch]) -> "Config":
        """The same configuration with other watches; see `config.tenants`."""
        config = self.model_copy(update={"watches": watches})
        config._templates = templates  # noqa: SLF001 - it is one of these
        return config


def _each_of(databases: Mapping[str, NamedDatabase]) -> dict[str, NamedDatabase]:
    """The databases by name, with those of groups."""
    return {name: each for entry, of in databases.items() for name, each in (of.members() or {entry: of}).items()}


# For the core: without YAML's syntax, in milliseconds.
_DEFAULT = "default"
"""The key of `settle` for every other status."""

_SLACK = 60_000
"""Milliseconds by which clocks may differ without a due time looking wrong."""


def allowed_hosts(config: Config) -> AllowedHosts:
    """Where calls may go."""
    return AllowedHosts(frozenset(config.hellowork.allowed_hosts), endpoint_of(config.hellowork.base_url))


def own_credentials(config: Config) -> dict[str, Credentials]:
    """The credentials of each watch whose headers differ from the shared ones."""
    found: dict[str, Credentials] = {}
    of_headers: dict[frozenset[tuple[str, str]], Credentials] = {}
    shared = _by_name(config.hellowork.headers)
    for name in sorted(name for name, watch in config.watches.items() if watch.hellowork.headers):
        own = _by_name(config.watches[name].hellowork.headers)
        # However a name is spelled.
        if any(value != shared.get(lower, ("", None))[1] for lower, (_, value) in own.items()):
            headers = {**shared, **own}
            same = frozenset((lower, value) for lower, (_, value) in headers.items())
            found[name] = of_headers.setdefault(same, Credentials(_owner(config, name), dict(headers.values())))
    return found


def _owner(config: Config, name: str) -> str:
    """The name for a watch's own credentials: its template's if all its tenants have them."""
    kind = name.partition(SEPARATOR)[0]
    template = config.templates.get(kind)
    is_common = template is not None and template.hellowork.headers == config.watches[name].hellowork.headers
    return kind if is_common else name


def _by_name(headers: Mapping[str, SecretStr]) -> dict[str, tuple[str, str]]:
    return {name.lower(): (name, value.get_secret_value()) for name, value in headers.items()}


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
    )


def built_urls(config: Config) -> dict[str, str]:
    """The base URL of each watch whose rows have no URLs."""
    return {
        name: config.hellowork.base_url for name, watch in config.watches.items() if watch.columns.status_url is None
    }


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
