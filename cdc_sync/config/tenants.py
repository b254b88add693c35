"""From a template to watches: a watch with `for_each` becomes one for each tenant, a customer of the ATS's vendor.

Tenants are found in the databases after the file is checked. A tenant's watch shares unchanged objects with the
template, so that a thousand of them take little memory.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr, TypeAdapter, ValidationError

from cdc_sync.config.columns import ExtraField, SqlColumn
from cdc_sync.config.document import is_for_each_tenant
from cdc_sync.config.hellowork import Headers, OwnHelloWork
from cdc_sync.config.models import Config, check_account, define_account, headers_of_accounts, with_own
from cdc_sync.config.problems import SettingError
from cdc_sync.config.values import HeaderValue
from cdc_sync.config.watch import Status, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.core.watch_names import SEPARATOR

_HEADER_VALUE = TypeAdapter[SecretStr](HeaderValue)

_LIKE = {"%": ".*", "_": "."}

_PLACEHOLDER = re.compile(r"\{(schema|tenant)\}")


@dataclass(frozen=True, slots=True, order=True)
class Tenant:
    """What a template's watch is made for; None stands for the template's own database, and for no schema."""

    database: str | None
    schema: str | None

    @property
    def name(self) -> str:
        """What follows the @ in a watch's name."""
        return ".".join(part for part in (self.database, self.schema) if part is not None)


def watch_name(template: str, tenant: Tenant) -> str:
    """The name of a tenant's watch."""
    return f"{template}{SEPARATOR}{tenant.name}"


def databases_of(config: Config, template: Watch) -> tuple[str, ...]:
    """The databases of this configuration that a template's tenants are in; "" is the section `database`."""
    several = template.for_each.databases if template.for_each is not None else ()
    databases = several or (template.database or next(iter(config.databases), ""),)
    return tuple(name for name in databases if name in config.all_databases)


def tenants_named(config: Config, names: Iterable[str]) -> dict[str, list[Tenant]]:
    """The tenants for whom watches of these names are made, by template; other names stand for none."""
    found: dict[str, list[Tenant]] = {template: [] for template in config.templates}
    for name in names:
        template, _, rest = name.partition(SEPARATOR)
        watch = config.templates.get(template)
        if watch is None or watch.for_each is None or not rest:
            continue
        databases, has_schemas = watch.for_each.databases, watch.for_each.schemas is not None
        database, _, schema = rest.partition(".") if databases else (None, "", rest)
        is_in = database is None or database in databases
        if is_in and bool(schema) == has_schemas and is_like(schema, watch.for_each.schemas):
            found[template].append(Tenant(database, schema or None))
    return found


def is_like(schema: str, pattern: str | None) -> bool:
    """Whether a schema's name matches a template's pattern as LIKE decides; without a pattern any does."""
    if pattern is None:
        return True
    parts = re.findall(r"\\?.", pattern, re.DOTALL)
    return bool(re.fullmatch("".join(_LIKE.get(part) or re.escape(part[-1]) for part in parts), schema, re.DOTALL))


def unused_overrides(config: Config, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """By template, the tenants with overrides that have no watch among these names."""
    unused = dict[str, tuple[str, ...]]()
    for template, tenants in tenants_named(config, names).items():
        there = {tenant.name for tenant in tenants}
        if others := [name for name in config.templates[template].overrides if name not in there]:
            unused[template] = tuple(others)
    return unused


def expanded(
    config: Config, found: Mapping[str, Iterable[Tenant]], reveal: Callable[[str], str]
) -> tuple[Config, dict[str, SettingError]]:
    """The configuration with a watch for each tenant, and why some have none, by the watch's name.

    `config` may come from an earlier call: a tenant's watch stays as it is, with its credentials. `found` are the
    tenants by template; `reveal` is as `config.reveal`.
    """
    from_file = {name: watch for name, watch in config.watches.items() if SEPARATOR not in name} | dict(
        config.templates
    )
    templates = {name: watch for name, watch in from_file.items() if watch.for_each is not None}
    watches = {name: watch for name, watch in from_file.items() if watch.for_each is None}
    headers_of, failed = headers_of_accounts(config.hellowork, watches), dict[str, SettingError]()
    for template, tenants in found.items():
        for tenant in sorted(tenants, key=lambda tenant: tenant.name):
            name = watch_name(template, tenant)
            try:
                watch = config.watches.get(name) or watch_for(templates[template], tenant, reveal)
                define_account(headers_of, watch, name)
                watches[name] = watch
            except SettingError as error:
                failed[name] = error
    # Another template's headers may make the account that one names.
    for name, watch in list(watches.items()):
        try:
            check_account(headers_of, watch, name)
        except SettingError as error:
            failed[name] = error
            del watches[name]
    return config.with_watches(watches, templates), failed


def watch_for(template: Watch, tenant: Tenant, reveal: Callable[[str], str]) -> Watch:
    """A template's watch for one tenant; `reveal` replaces the references in a text.

    Raises:
        SettingError: a header's file is not there, the tenant's name cannot be a part of its path, or its account would
            be the default one.
    """
    changes: dict[str, Any] = {"for_each": None, "overrides": {}}
    if tenant.database is not None:
        changes["database"] = tenant.database
    if tenant.schema is not None:
        changes["table"] = _in_schema(template.table, tenant.schema)
        changes["related"] = tuple(
            each.model_copy(update={"table": _in_schema(each.table, tenant.schema)}) for each in template.related
        )
    columns = {name: _mapped(getattr(template.columns, name), tenant) for name in type(template.columns).model_fields}
    changes["columns"] = template.columns.model_copy(update=columns)
    changes["extra"] = {name: _mapped(field, tenant) for name, field in template.extra.items()}
    changes["where"] = _mapped(template.where, tenant)
    changes["account"] = template.account and template.account.replace("{tenant}", tenant.name)
    if changes["account"] == DEFAULT_ACCOUNT != template.account:
        raise SettingError("a tenant's account cannot be default, which is section hellowork itself")
    own = template.overrides.get(tenant.name)
    headers: Headers = template.hellowork.headers
    if own is not None:
        changes["timezone"] = own.timezone or template.timezone
        changes["status"] = _overridden(template.status, own.status)
        headers = with_own(headers, own.hellowork.headers)
    changes["hellowork"] = OwnHelloWork.model_construct(
        headers={name: _revealed(value, tenant, reveal) for name, value in headers.items()}
    )
    return template.model_copy(update=changes)


def _in_schema(table: QualifiedName, schema: str) -> QualifiedName:
    return QualifiedName(schema, table.name) if table.schema is None else table


def _mapped(mapped: Any, tenant: Tenant) -> Any:
    """A column or a further field; the same object, unless it has a placeholder."""
    if not isinstance(mapped, SqlColumn | ExtraField) or not mapped.sql:
        return mapped
    sql = _filled_in(mapped.sql, tenant)
    return mapped if sql == mapped.sql else mapped.model_copy(update={"sql": sql})


def _filled_in(sql: str, tenant: Tenant) -> str:
    """An expression with the tenant's schema and name in it, as SQL writes a name and a text."""
    schema, name = tenant.schema, tenant.name
    identifier = None if schema is None else '"' + schema.replace('"', '""') + '"'
    literal = "'" + name.replace("'", "''") + "'"
    if "\\" in name:  # whatever standard_conforming_strings is
        literal = "E" + literal.replace("\\", "\\\\")
    values = {"schema": identifier, "tenant": literal}
    return _PLACEHOLDER.sub(lambda match: values[match[1]] or match[0], sql)


def _overridden(status: Status, own: Status) -> Status:
    given = {name: getattr(own, name) for name in own.model_fields_set}
    if "map" in given:
        given["map"] = {**status.map, **own.map}
    return status.model_copy(update=given)


def _revealed(value: SecretStr, tenant: Tenant, reveal: Callable[[str], str]) -> SecretStr:
    """A header's value; one that differs by tenant is read now.

    Raises:
        SettingError: it cannot be.
    """
    text = value.get_secret_value()
    if not is_for_each_tenant(text):
        return value
    # A brace would end the reference, or begin another one.
    if set("/{}") & set(tenant.name) or tenant.name in (".", ".."):
        raise SettingError("the tenant's name cannot be a part of a file's path, as {tenant} in a header wants it")
    try:
        return _HEADER_VALUE.validate_python(reveal(text.replace("{tenant}", tenant.name)))
    except ValidationError as error:
        raise error.errors()[0]["ctx"]["error"] from None
