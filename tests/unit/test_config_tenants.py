"""From a template to watches: names, schemas, expressions, credentials, and what is wrong with a template."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from typer.testing import CliRunner

from cdc_sync.cli import app
from cdc_sync.cli.sql import Target
from cdc_sync.config import Config, ConfigurationError, SqlColumn, parse
from cdc_sync.config.models import account_of, accounts
from cdc_sync.config.tenants import Tenant, expanded, tenants_named
from cdc_sync.config.values import UNRESOLVED, SettingError
from cdc_sync.core.failures import OperationError

DATABASES = 'databases: {one: {dsn: "host=a"}, two: {dsn: "host=b"}}\n'
TEMPLATE = """
watches:
  applications:
    for_each: {schemas: "tenant_%"}
    overrides:
      tenant_2:
        timezone: Europe/Paris
        status: {map: {Seen: READ}, unmapped: reject}
        hellowork: {headers: {x-api-key: "${OTHER}"}}
    hellowork: {headers: {X-Api-Key: "${file:/nowhere/{tenant}}", X-Vendor: "${KEY}"}}
    table: applications
    key: [id]
    columns:
      application_id: hellowork_id
      status: {sql: "(SELECT s.label FROM {schema}.stages s WHERE s.id = t.stage AND {tenant} <> '{}')"}
      job_id: job
      created: created_at
    where: "t.customer = {tenant}"
    related: [{table: stages, key: []}, {table: shared.labels, key: []}]
    status: {map: {New: NEW, Seen: SEEN}}
    extra: {customer: {sql: "{tenant}"}}
"""
ENVIRON = {"KEY": "the vendor's", "OTHER": "the customer's"}


def _config(text: str = TEMPLATE) -> Config:
    return parse(text, name="a file", environ=ENVIRON)


def test_each_tenant_has_a_watch_of_its_own() -> None:
    config, failed = expanded(_config(), {"applications": [Tenant(None, "tenant_2"), Tenant(None, "tenant_1")]}, str)
    assert not failed
    one, two = config.watches["applications@tenant_1"], config.watches["applications@tenant_2"]
    assert str(one.table) == "tenant_1.applications"
    assert [str(each.table) for each in one.related] == ["tenant_1.stages", "shared.labels"]
    assert one.where == SqlColumn(sql="t.customer = 'tenant_1'")
    assert one.columns.status.sql == (  # type: ignore[union-attr]
        """(SELECT s.label FROM "tenant_1".stages s WHERE s.id = t.stage AND 'tenant_1' <> '{}')"""
    )
    assert one.extra["customer"].sql == "'tenant_1'"
    assert one.for_each is None
    assert (one.timezone, dict(one.status.map), one.status.unmapped) == ("UTC", {"New": "NEW", "Seen": "SEEN"}, "send")
    assert (two.timezone, dict(two.status.map), two.status.unmapped) == (
        "Europe/Paris",
        {"New": "NEW", "Seen": "READ"},
        "reject",
    )
    assert one.columns.job_id is two.columns.job_id is config.templates["applications"].columns.job_id


def test_each_tenant_has_credentials_of_its_own() -> None:
    asked = []

    def reveal(text: str) -> str:
        asked.append(text)
        return "a file's"

    config, _ = expanded(_config(), {"applications": [Tenant(None, "tenant_1"), Tenant(None, "tenant_2")]}, reveal)
    revealed = {
        name: {header: value.get_secret_value() for header, value in watch.hellowork.headers.items()}
        for name, watch in config.watches.items()
    }
    assert revealed == {
        "applications@tenant_1": {"X-Api-Key": "a file's", "X-Vendor": "the vendor's"},
        "applications@tenant_2": {"x-api-key": "the customer's", "X-Vendor": "the vendor's"},
    }
    assert asked == ["${file:/nowhere/tenant_1}"]


def test_a_tenant_without_credentials_concerns_no_other() -> None:
    def reveal(text: str) -> str:
        if text.endswith("/tenant_1}"):
            raise SettingError("there is no such file")
        return "two\nlines" if "tenant_3" in text else "a key"

    tenants = [Tenant(None, f"tenant_{name}") for name in ("1", "2", "3", "4", "../x")]
    config, failed = expanded(_config(), {"applications": tenants}, reveal)
    assert list(config.watches) == ["applications@tenant_2", "applications@tenant_4"]
    assert {name: str(why)[:20] for name, why in failed.items()} == {
        "applications@tenant_../x": "the tenant's name ca",
        "applications@tenant_1": "there is no such fil",
        "applications@tenant_3": "must be one line, an",
    }


@pytest.mark.parametrize("name", ["tenant_1}${ADMIN_TOKEN", "tenant_1}${file:admin-token", "${ADMIN_TOKEN}"])
def test_a_tenants_name_names_no_other_secret(tmp_path: Path, name: str) -> None:
    """Whoever may create a schema would have our secrets sent."""
    (tmp_path / "tenant_1").write_text("a key")
    (tmp_path / "admin-token").write_text("a secret")
    text = TEMPLATE.replace("${file:/nowhere/{tenant}}", "${file:{tenant}}")
    config = parse(text, name="a file", environ={**ENVIRON, "ADMIN_TOKEN": "a secret"}, folder=tmp_path)
    found, failed = expanded(config, {"applications": [Tenant(None, name)]}, config.reveal)
    assert not found.watches
    assert "cannot be a part of a file's path" in str(failed[f"applications@{name}"])


def test_odd_names_are_quoted() -> None:
    schema = """ten"ant'\\_%"""
    config, _ = expanded(_config(), {"applications": [Tenant(None, schema)]}, lambda _: "a key")
    (watch,) = config.watches.values()
    assert str(watch.table) == """"ten""ant'\\_%".applications"""
    assert watch.where == SqlColumn(sql="""t.customer = E'ten"ant''\\\\_%'""")


GROUP = """\
databases:
  one: {dsn: "host=a"}
  customers:
    dsn: "postgresql://cdc_sync@b/{database}?application_name={database}"
    pool: 2
    names: [customer_1, customer_2]
"""


def test_a_group_stands_for_a_database_of_each_of_its_names() -> None:
    config = _config(GROUP + TEMPLATE.replace("{schemas:", "{databases: [one, customers, customer_1], schemas:"))
    assert (
        config.databases
        == _config(
            """\
databases:
  one: {dsn: "host=a"}
  customer_1: {dsn: "postgresql://cdc_sync@b/customer_1?application_name=customer_1", pool: 2}
  customer_2: {dsn: "postgresql://cdc_sync@b/customer_2?application_name=customer_2", pool: 2}
"""
            + TEMPLATE.replace("table:", "database: one\n    table:", 1)
        ).databases
    )
    assert config.databases_of(config.templates["applications"]) == ("one", "customer_1", "customer_2")
    of_one, _ = expanded(config, {"applications": [Tenant("customer_2", "tenant_1")]}, lambda _: "a key")
    assert (
        of_one.all_databases[of_one.database_name("applications@customer_2.tenant_1")] == config.databases["customer_2"]
    )


def test_a_group_without_its_secret_leads_to_no_database(tmp_path: Path) -> None:
    """libpq takes what a connection string leaves out from the environment: that may lead to another server."""
    file = tmp_path / "config.yaml"
    text = GROUP.replace("postgresql://cdc_sync@b/{database}?application_name={database}", "${NOT_THERE}")
    file.write_text(text + TEMPLATE.replace("{schemas:", "{databases: [customers], schemas:"))
    context = cast("typer.Context", SimpleNamespace(obj=file))

    target = Target(context, None, database="customer_1")
    with pytest.raises(OperationError, match=r"databases\.customers\.dsn has a reference that has no value"):
        target.connection()
    assert UNRESOLVED in target.config.database.dsn.get_secret_value()


@pytest.mark.parametrize(
    ("old", "new", "wrong", "line"),
    [
        ("{database}", "ats", "databases.customers.names: expected {database} in dsn", 6),
        ("    names: [customer_1, customer_2]\n", "", "databases.customers.names: expected {database} in dsn", 3),
        ("customer_2]", "customer_1]", "databases: has two databases, or groups, with", 1),
        ("customer_2]", "'host=h password=geheim']", "databases.customers.names[1]: ", 6),
        ("databases:", "database: {names: [b]}\ndatabases:", "database.names: unknown key", 1),
        ("    table:", "    database: customers\n    table:", "applications.database: expected", 17),
        ("    table:", "    database: customer_2\n    table:", None, None),
    ],
)
def test_an_error_of_a_group_is_reported_at_its_place(old: str, new: str, wrong: str | None, line: int | None) -> None:
    template = TEMPLATE if "database: " in new else TEMPLATE.replace("{schemas:", "{databases: [customers], schemas:")
    text = (GROUP + template).replace(old, new)
    if wrong is None:
        assert list(_config(text).databases) == ["one", "customer_1", "customer_2"]
        return
    with pytest.raises(ConfigurationError) as refused:
        _config(text)
    problem = refused.value.problems[0]
    assert wrong in str(problem)
    assert problem.line == line


def test_tenants_are_known_again_by_their_watches_names() -> None:
    names = ["applications@tenant_1", "applications@tenant_a.b", "applications@", "applications", "others@tenant_1"]
    assert tenants_named(_config(), names) == {"applications": [Tenant(None, "tenant_1"), Tenant(None, "tenant_a.b")]}
    in_databases = _config(DATABASES + TEMPLATE.replace('{schemas: "tenant_%"}', "{schemas: '%', databases: [one]}"))
    names = ["applications@one.a.b", "applications@one", "applications@one.", "applications@two.a"]
    assert tenants_named(in_databases, names) == {"applications": [Tenant("one", "a.b")]}


def test_a_tenant_keeps_its_watch() -> None:
    one, two = Tenant(None, "tenant_1"), Tenant(None, "tenant_2")
    before, _ = expanded(_config(), {"applications": [one]}, str)
    after, _ = expanded(before, {"applications": [two, one]}, str)
    assert after.watches["applications@tenant_1"] is before.watches["applications@tenant_1"]
    assert list(expanded(after, {"applications": [two]}, str)[0].watches) == ["applications@tenant_2"]


WATCH_OF_T = "{table: t, key: [id], columns: {application_id: a, status: s, job_id: j, created: c}"


def test_a_watchs_own_headers_are_an_account_of_its_name() -> None:
    config = _config(
        f"""
hellowork: {{headers: {{X-Api-Key: shared, X-Vendor: v}}, accounts: {{acme: {{headers: {{X-Api-Key: theirs}}}}}}}}
watches:
  b: {WATCH_OF_T}, hellowork: {{headers: {{x-api-key: own}}}}}}
  c: {WATCH_OF_T}, account: b}}
  d: {WATCH_OF_T}, account: acme}}
  e: {WATCH_OF_T}}}
"""
    )

    assert {name: account_of(config, name) for name in config.watches} == {
        "b": "b",
        "c": "b",
        "d": "acme",
        "e": "default",
    }
    assert accounts(config) == {
        "default": {"X-Api-Key": "shared", "X-Vendor": "v"},
        "b": {"X-Vendor": "v", "x-api-key": "own"},
        "acme": {"X-Api-Key": "theirs"},
    }
    assert "theirs" not in repr(config)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("watches: {a: WATCH, account: nobody}}", "expected the name of one of hellowork.accounts"),
        ("watches: {a: WATCH, account: '{tenant}'}}", "expected the name of one of hellowork.accounts"),
        ("watches: {default: WATCH, hellowork: {headers: {A: b}}}}", "the account gets headers in two places"),
        (
            "watches: {a: WATCH, hellowork: {headers: {A: b}}}}\nhellowork: {accounts: {a: {headers: {A: c}}}}",
            "the account gets headers in two places",
        ),
        (
            "watches: {a: WATCH, account: b}, b: WATCH, hellowork: {headers: {A: c}}}, c: WATCH, account: b, OWN}}",
            "the account gets headers in two places",
        ),
        (
            "watches: {a: WATCH, for_each: {schemas: x}, account: y, hellowork: {headers: {A: b}}}}",
            "expected the name of one of",
        ),
        ("watches: {a: COLUMN, account: default}}", "the rows name their accounts"),
        ("watches: {a: COLUMN, hellowork: {headers: {A: b}}}}", "the rows name their accounts"),
        ("watches: {a: WATCH}}\nhellowork: {accounts: {default: {}}}", "the account default has hellowork.headers"),
        ("watches: {a: WATCH}}\nhellowork: {accounts: {' a': {}}}", "String should match pattern"),
    ],
)
def test_an_account_is_defined_once_and_named_rightly(sections: str, message: str) -> None:
    by_column = WATCH_OF_T.removesuffix("}") + ", account: tenant}"
    sections = sections.replace("OWN", "hellowork: {headers: {A: d}}")
    text = sections.replace("WATCH", WATCH_OF_T).replace("COLUMN", by_column)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        _config(text)


def test_a_pattern_whose_last_backslash_takes_nothing_is_refused() -> None:
    _config(f"watches: {{a: {WATCH_OF_T}, for_each: {{schemas: 'a\\_b%'}}}}}}")
    with pytest.raises(ConfigurationError, match="expected a character after the backslash"):
        _config(f"watches: {{a: {WATCH_OF_T}, for_each: {{schemas: 'tenant\\'}}}}}}")


@pytest.mark.parametrize("headers", ["", ", hellowork: {headers: {X-Api-Key: key}}"])
def test_a_tenant_called_default_does_not_get_the_common_headers(headers: str) -> None:
    config = _config(
        f"""
hellowork: {{headers: {{X-Api-Key: common}}}}
watches:
  a: {WATCH_OF_T}, for_each: {{schemas: '%'}}, account: '{{tenant}}'{headers}}}
"""
    )

    found, failed = expanded(config, {"a": [Tenant(None, "default")]}, str)

    assert str(failed["a@default"]) == "a tenant's account cannot be default, which is section hellowork itself"
    assert list(found.watches) == []


def test_a_template_gives_each_tenant_its_account() -> None:
    tenants = [Tenant(None, "t1"), Tenant(None, "t2"), Tenant(None, "t3")]
    config = _config(
        f"""
hellowork: {{accounts: {{hw-t1: {{headers: {{X-Api-Key: one}}}}, hw-t2: {{headers: {{X-Api-Key: two}}}}}}}}
watches:
  a: {WATCH_OF_T}, for_each: {{schemas: 't%'}}, account: 'hw-{{tenant}}'}}
  b: {WATCH_OF_T}, for_each: {{schemas: 't%'}}, account: 'own-{{tenant}}',
      hellowork: {{headers: {{X-Api-Key: '${{file:/keys/{{tenant}}}}'}}}}}}
  c: {WATCH_OF_T}, for_each: {{schemas: 't%'}}, account: 'own-{{tenant}}',
      hellowork: {{headers: {{X-Api-Key: '${{file:/keys/{{tenant}}}}'}}}},
      overrides: {{t2: {{hellowork: {{headers: {{X-Api-Key: another}}}}}}}}}}
  d: {WATCH_OF_T}, for_each: {{schemas: 't%'}}, hellowork: {{headers: {{X-Api-Key: common}}}}}}
"""
    )

    found, failed = expanded(config, dict.fromkeys("abcd", tenants), lambda text: f"of {text[-3:-1]}")

    assert {name: str(why) for name, why in failed.items()} == {
        "a@t3": "expected the name of one of hellowork.accounts",
        "c@t2": "the account gets headers in two places",
    }
    assert [account_of(found, name) for name in ("a@t1", "b@t1", "c@t1", "d@t1")] == [
        "hw-t1",
        "own-t1",
        "own-t1",
        "d@t1",
    ]
    assert {name: headers["X-Api-Key"] for name, headers in accounts(found).items() if headers} == {
        "hw-t1": "one",
        "hw-t2": "two",
        "own-t1": "of t1",
        "own-t2": "of t2",
        "own-t3": "of t3",
        "d@t1": "common",
        "d@t2": "common",
        "d@t3": "common",
    }


def test_a_database_has_the_templates_with_tenants_in_it_alone(tmp_path: Path) -> None:
    """Nor is another one's template, here without depends_on, in the way of its scripts."""
    mapped = "table: t, key: [id], columns: {application_id: a, job_id: j, created: c, status:"
    file = tmp_path / "config.yaml"
    file.write_text(
        f"{DATABASES}watches:\n"
        f"  first: {{for_each: {{schemas: x%}}, database: one, {mapped} {{sql: upper(t.s)}}}}}}\n"
        f"  second: {{for_each: {{databases: [two], schemas: x%}}, {mapped} s}}}}\n"
    )
    run = CliRunner().invoke(app, ["--config", str(file), "sql", "install", "--function", "--database", "two"])
    assert run.exit_code == 0
    assert "install_second$two" in run.stdout
    assert "install_first" not in run.stdout
