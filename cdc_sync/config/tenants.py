"""From a template to watches: a watch with `for_each` becomes one for each tenant, a customer of the ATS's vendor.

Tenants are found in the databases after the file is checked. A tenant's watch shares unchanged objects with the
template, so that a thousand of them take little memory.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from psycopg.sql import Identifier, Literal
from pydantic import SecretStr

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.core.watch_names import SEPARATOR

from .models import Config, with_own, wrong_accounts
from .sections import OwnHelloWork
from .values import SettingError, header_value, is_for_each_tenant
from .watch import ExtraField, SqlColumn, Status, Watch

_LIKE = {"%": ".*", "_": "."}


class Tenant(NamedTuple):
    """What a template's watch is made for; None stands for the template's own database, and for no schema."""

    database: str | None
    schema: str | None

    @property
    def name(self) -> str:
        """What follows the @ in a watch's name."""
        return ".".join(filter(None, self))


def watch_name(template: str, tenant: Tenant) -> str:
    """The name of a tenant's watch."""
    return f"{template}{SEPARATOR}{tenant.name}"


def tenants_named(config: Config, names: Iterable[str]) -> dict[str, list[Tenant]]:
    """The tenants for whom watches of these names are made, by template; other names stand for none."""
    found: dict[str, list[Tenant]] = {template: [] for template in config.templates}
    databases = {template: config.databases_of(watch) for template, watch in config.templates.items()}
    for name in names:
        template, _, rest = name.partition(SEPARATOR)
        watch = config.templates.get(template)
        if watch is None or not rest:
            continue
        database, _, schema = rest.partition(".") if watch.tenants.databases else (None, "", rest)
        if database in (None, *databases[template]) and _is_like(schema, watch.tenants.schemas):
            found[template].append(Tenant(database, schema or None))
    return found


def _is_like(schema: str, pattern: str | None) -> bool:
    """Whether a schema's name matches a template's pattern as LIKE decides; without a pattern there is no schema."""
    if pattern is None or not schema:
        return pattern is None and not schema
    parts = re.findall(r"\\?.", pattern, re.DOTALL)
    return bool(re.fullmatch("".join(_LIKE.get(part) or re.escape(part[-1]) for part in parts), schema, re.DOTALL))


def unused_overrides(config: Config, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """By template, the tenants with overrides that have no watch among these names."""
    there = set(names)
    return {
        template: unused
        for template, watch in config.templates.items()
        if (unused := tuple(tenant for tenant in watch.overrides if f"{template}{SEPARATOR}{tenant}" not in there))
    }


def expanded(
    config: Config, found: Mapping[str, Iterable[Tenant]], reveal: Callable[[str], str]
) -> tuple[Config, dict[str, str]]:
    """The configuration with a watch for each tenant, and why some have none, by the watch's name.

    `config` may come from an earlier call: a tenant's watch stays as it is, with its credentials. `found` are the
    tenants by template; `reveal` is as `config.reveal`.
    """
    watches = {name: watch for name, watch in config.watches.items() if SEPARATOR not in name}
    failed: dict[str, str] = {}
    for template, tenants in found.items():
        for tenant in sorted(tenants, key=lambda tenant: tenant.name):
            name = watch_name(template, tenant)
            try:
                watches[name] = config.watches.get(name) or watch_for(config.templates[template], tenant, reveal)
            except SettingError as error:
                failed[name] = str(error)
    failed |= wrong_accounts(config.hellowork, watches)
    return config.with_watches({name: watch for name, watch in watches.items() if name not in failed}), failed


def watch_for(template: Watch, tenant: Tenant, reveal: Callable[[str], str]) -> Watch:
    """A template's watch for one tenant; `reveal` replaces the references in a text.

    Raises:
        SettingError: a header's file is not there, the tenant's name cannot be a part of its path, or its account would
            be the default one.
    """
    account = template.account and template.account.replace("{tenant}", tenant.name)
    if account == DEFAULT_ACCOUNT != template.account:
        raise SettingError("a tenant's account cannot be default, which is section hellowork itself")
    own = template.overrides.get(tenant.name)
    headers = with_own(template.hellowork.headers, own.hellowork.headers if own else {})
    return template.model_copy(
        update={
            "for_each": None,
            "overrides": {},
            "database": tenant.database or template.database,
            "table": _in_schema(template.table, tenant),
            "related": tuple(
                each.model_copy(update={"table": _in_schema(each.table, tenant)}) for each in template.related
            ),
            "columns": template.columns.model_copy(
                update={name: _mapped(mapped, tenant) for name, mapped in template.columns}
            ),
            "extra": {name: _mapped(field, tenant) for name, field in template.extra.items()},
            "where": _mapped(template.where, tenant),
            "account": account,
            "timezone": (own and own.timezone) or template.timezone,
            "status": _overridden(template.status, own.status) if own else template.status,
            "hellowork": OwnHelloWork.model_construct(
                headers={name: _revealed(value, tenant, reveal) for name, value in headers.items()}
            ),
        }
    )


def _in_schema(table: QualifiedName, tenant: Tenant) -> QualifiedName:
    return QualifiedName(tenant.schema, table.name) if tenant.schema and table.schema is None else table


def _mapped(mapped: Any, tenant: Tenant) -> Any:
    """A column or a further field; the same object, unless it has a placeholder."""
    if not isinstance(mapped, SqlColumn | ExtraField) or not mapped.sql:
        return mapped
    schema = "{schema}" if tenant.schema is None else Identifier(tenant.schema).as_string()
    written = {"{tenant}": Literal(tenant.name).as_string().strip(), "{schema}": schema}
    # At once: a schema may be called {schema}.
    sql = re.sub(r"\{(tenant|schema)\}", lambda placeholder: written[placeholder[0]], mapped.sql)
    return mapped if sql == mapped.sql else mapped.model_copy(update={"sql": sql})


def _overridden(status: Status, own: Status) -> Status:
    return status.model_copy(update=own.model_dump(exclude_unset=True) | {"map": {**status.map, **own.map}})


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
    return header_value(SecretStr(reveal(text.replace("{tenant}", tenant.name))))
