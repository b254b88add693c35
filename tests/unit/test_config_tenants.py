"""From a template to watches: names, schemas, expressions, credentials, and what is wrong with a template."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer

from cdc_sync.cli.sql import _target
from cdc_sync.config import Config, ConfigurationError, SqlColumn, parse
from cdc_sync.config.document import UNRESOLVED
from cdc_sync.config.models import account_of, accounts
from cdc_sync.config.problems import SettingError
from cdc_sync.config.sessions import Sessions, sessions_at_server
from cdc_sync.config.tenants import Tenant, databases_of, expanded, tenants_named
from cdc_sync.core.failures import OperationError
from cdc_sync.daemon.watching import make_database
from cdc_sync.store import Store

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


def test_a_template_is_no_watch_until_its_tenants_are_known() -> None:
    config = _config()
    assert (list(config.watches), list(config.templates)) == ([], ["applications"])


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


def test_tenants_may_be_databases_and_schemas_of_databases() -> None:
    text = DATABASES + TEMPLATE.replace("{schemas:", "{databases: [one, two], schemas:")
    config, _ = expanded(_config(text), {"applications": [Tenant("two", "tenant_1")]}, lambda _: "a key")
    assert config.all_databases[config.database_name("applications@two.tenant_1")].dsn.get_secret_value() == "host=b"
    text = DATABASES + TEMPLATE.replace('{schemas: "tenant_%"}', "{databases: [one, two]}").replace("tenant_2", "two")
    text = text.replace("{schema}.", "")
    config, _ = expanded(_config(text), {"applications": [Tenant("one", None), Tenant("two", None)]}, lambda _: "a key")
    assert list(config.watches) == ["applications@one", "applications@two"]
    watch = config.watches["applications@two"]
    assert (str(watch.table), watch.timezone, watch.database) == ("applications", "Europe/Paris", "two")


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
    assert databases_of(config, config.templates["applications"]) == ("one", "customer_1", "customer_2")
    of_one, _ = expanded(config, {"applications": [Tenant("customer_2", "tenant_1")]}, lambda _: "a key")
    assert (
        of_one.all_databases[of_one.database_name("applications@customer_2.tenant_1")] == config.databases["customer_2"]
    )


@pytest.mark.parametrize(
    ("dsn", "of_customer_1"),
    [
        ("host=b dbname={database} user='a b'", "host=b dbname=customer_1 user='a b'"),
        ("host={database}.example.org dbname=ats", "host=customer_1.example.org dbname=ats"),
        ("postgresql:///{database}", "postgresql:///customer_1"),
        ("", "dbname=customer_1"),
    ],
)
def test_a_group_has_the_name_where_its_dsn_wants_it(dsn: str, of_customer_1: str) -> None:
    text = f'databases: {{customers: {{dsn: "{dsn}", names: [customer_1, customer_2]}}}}\n'
    config = _config(text + TEMPLATE.replace("table:", "database: customer_1\n    table:", 1))
    assert config.databases["customer_1"].dsn.get_secret_value() == of_customer_1
    assert databases_of(config, config.templates["applications"]) == ("customer_1",)


def test_a_group_without_its_secrets_has_its_databases_all_the_same() -> None:
    lacking: dict[tuple[str | int, ...], str] = {}
    text = GROUP.replace("postgresql://cdc_sync@b/{database}?application_name={database}", "${NOT_THERE}")
    text += TEMPLATE.replace("{schemas:", "{databases: [customers], schemas:")
    config = parse(text, name="a file", environ=ENVIRON, lacking=lacking)
    assert list(lacking) == [("databases", "customers", "dsn")]
    assert list(config.databases) == ["one", "customer_1", "customer_2"]
    assert [config.section_of(name) for name in config.databases] == [
        "databases.one",
        "databases.customers",
        "databases.customers",
    ]


def test_a_database_of_the_daemon_knows_the_section_of_its_group() -> None:
    config = _config(GROUP + TEMPLATE.replace("{schemas:", "{databases: [customers], schemas:"))

    made = {name: make_database(config, name, cast("Store", None)) for name in config.databases}

    assert {name: database.section for name, database in made.items()} == {
        "one": "databases.one",
        "customer_1": "databases.customers",
        "customer_2": "databases.customers",
    }


def test_a_group_without_its_secret_leads_to_no_database(tmp_path: Path) -> None:
    """libpq takes what a connection string leaves out from the environment: that may lead to another server."""
    file = tmp_path / "config.yaml"
    text = GROUP.replace("postgresql://cdc_sync@b/{database}?application_name={database}", "${NOT_THERE}")
    file.write_text(text + TEMPLATE.replace("{schemas:", "{databases: [customers], schemas:"))
    context = cast("typer.Context", SimpleNamespace(obj=file))

    target = _target(context, None, database="customer_1")
    with pytest.raises(OperationError, match=r"databases\.customers\.dsn is not known: .*NOT_THERE"):
        target.connection()
    assert UNRESOLVED in target.config.database.dsn.get_secret_value()


@pytest.mark.parametrize(
    ("old", "new", "wrong", "line"),
    [
        ("{database}", "ats", "databases.customers.names: expected {database} in dsn", 6),
        ("    names: [customer_1, customer_2]\n", "", "databases.customers.names: expected {database} in dsn", 3),
        ("[customer_1, customer_2]", "[]", "databases.customers.names: expected {database} in dsn", 6),
        ("customer_2]", "customer_1]", "databases: has two databases, or groups, with", 1),
        ("customer_2]", "one]", "databases: has two databases, or groups, with", 1),
        ("customer_2]", "customers]", "databases: has two databases, or groups, with", 1),
        ("customer_2]", "'host=h password=geheim']", "databases.customers.names[1]: ", 6),
        ("customer_2]", "'b-2']", "databases.customers.names[1]: String should match", 6),
        ("databases:", "database: {names: [b]}\ndatabases:", "database.names: unknown key", 1),
        ("watches:", "watches:", None, None),
        (
            "    table:",
            "    database: customers\n    table:",
            "applications.database: expected",
            17,
        ),
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


def test_expanding_again_forgets_the_tenants_before() -> None:
    config = _config()
    once, _ = expanded(config, {"applications": [Tenant(None, "tenant_1")]}, lambda _: "a key")
    again, _ = expanded(once, {"applications": [Tenant(None, "tenant_9")]}, lambda _: "a key")
    assert list(again.watches) == ["applications@tenant_9"]
    assert expanded(again, {}, str)[0] == config


def test_one_database_need_not_be_named() -> None:
    tenants = {"applications": [Tenant(None, "tenant_1")]}
    alone, _ = expanded(_config('database: {dsn: "host=c"}' + TEMPLATE), tenants, lambda _: "a key")
    named, _ = expanded(_config('databases: {main: {dsn: "host=d"}}' + TEMPLATE), tenants, lambda _: "a key")
    for config, name, dsn in ((alone, "", "host=c"), (named, "main", "host=d")):
        assert config.database_name("applications@tenant_1") == name
        assert config.all_databases[name].dsn.get_secret_value() == dsn


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("table: applications", "table: x.applications", "watches.applications.for_each: schemas selects"),
        ('schemas: "tenant_%"', "", "watches.applications.for_each.databases: expected schemas or databases"),
        (
            'schemas: "tenant_%"',
            "databases: [ona]",
            "for_each.databases: expected names of databases or of groups; did",
        ),
        ("table:", "database: one\n    table:", None),
        ("table:", "database: three\n    table:", "applications.database: expected"),
        ("databases:", 'database: {dsn: "host=c"}\ndatabases:', "databases: expected database or databases, not both"),
        ("one:", "One:", "databases.One: "),
        ("watches:", "watches:", "watches.applications.database: required"),
    ],
)
def test_an_error_is_reported_at_its_place(old: str, new: str, wrong: str | None) -> None:
    text = (DATABASES + TEMPLATE).replace(old, new, 1)
    if wrong is None:
        assert _config(text).templates["applications"].database == "one"
        return
    with pytest.raises(ConfigurationError) as refused:
        _config(text)
    (problem,) = refused.value.problems
    assert wrong in str(problem)
    assert problem.line


WITHOUT_TENANTS = """
watches:
  applications:
    table: applications
    key: [id]
    columns: {application_id: hellowork_id, status: status, job_id: job, created: created_at}
"""


def test_what_is_of_tenants_needs_tenants() -> None:
    with pytest.raises(ConfigurationError) as refused:
        _config(TEMPLATE.replace('    for_each: {schemas: "tenant_%"}\n', ""))
    overrides, header = refused.value.problems
    assert str(overrides).startswith("watches.applications.overrides: expected for_each")
    assert str(header).startswith("watches.applications.hellowork: expected for_each beside")
    assert (overrides.line, header.line) == (4, 9)


@pytest.mark.parametrize(
    "key", ["where: %s", "status: {deleted: %s}", "overrides: {tenant_1: {status: {deleted: %s}}}"]
)
def test_only_a_header_may_have_a_file_for_each_tenant(key: str) -> None:
    text = f'{WITHOUT_TENANTS}    for_each: {{schemas: "tenant_%"}}\n    '
    with pytest.raises(ConfigurationError, match=r"cannot read /nowhere/\{tenant\}: No such file"):
        _config(text + key % '"${file:/nowhere/{tenant}}"')
    with pytest.raises(ConfigurationError, match=r"hellowork\.headers\.X: cannot read /nowhere/\{tenant\}"):
        _config('hellowork: {headers: {X: "${file:/nowhere/{tenant}}"}}' + WITHOUT_TENANTS)


def test_a_configuration_of_one_of_several_databases() -> None:
    text = DATABASES + TEMPLATE.replace("table:", "database: one\n    table:", 1)
    tenants = {"applications": [Tenant("one", "a"), Tenant("two", "b")]}
    config, _ = expanded(_config(text), tenants, lambda _: "a key")
    of_two = config.of_database("two")
    assert list(of_two.watches) == ["applications@two.b"]
    assert (
        of_two.all_databases[of_two.database_name("applications@two.b")] == of_two.database == config.databases["two"]
    )
    assert list(of_two.all_databases) == ["two"]
    alone = _config('database: {dsn: "host=c"}' + TEMPLATE)
    assert alone.of_database("") is alone


def test_the_store_of_several_databases_has_a_place_of_its_own() -> None:
    text = DATABASES + TEMPLATE.replace("table:", "database: one\n    table:", 1) + "state: {backend: postgres}\n"
    with pytest.raises(ConfigurationError) as refused:
        _config(text)
    (problem,) = refused.value.problems
    assert (problem.path, problem.line) == ("state", 1 + text.count("\n", 0, text.index("state: ")))
    assert "host=s" in _config(text.replace("postgres}", 'postgres, dsn: "host=s"}')).state.dsn.get_secret_value()  # type: ignore[union-attr]


def test_databases_of_one_server_take_their_sessions_together() -> None:
    databases = 'databases: {a: {dsn: "host=x dbname=a"}, b: {dsn: "host=x dbname=b", pool: 1}, c: {dsn: "host=y"}}\n'
    config = _config(databases + TEMPLATE.replace("table:", "database: a\n    table:", 1))
    assert [sessions_at_server(config, name) for name in "abc"] == [Sessions(4, 7), Sessions(4, 7), Sessions(2, 5)]


def test_a_server_is_known_again_without_its_port_or_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "x")
    databases = 'databases: {a: {dsn: "host=x"}, b: {dsn: "host=x port=5432"}, c: {dsn: "port=5432"}, '
    databases += 'd: {dsn: "host=x port="}, e: {dsn: "host=x port=5433"}}\n'
    config = _config(databases + TEMPLATE.replace("table:", "database: a\n    table:", 1))
    assert [sessions_at_server(config, name) for name in "abcd"] == [Sessions(8, 20)] * 4
    assert sessions_at_server(config, "e") == Sessions(2, 5)


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


def test_credentials_of_tenants_are_read_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "tenant_1").write_text("secret\n")
    text = TEMPLATE.replace("${file:/nowhere/{tenant}}", "${file:${FOLDER}/{tenant}}")
    config = parse(text, name="a file", environ={**ENVIRON, "FOLDER": "."}, folder=tmp_path)
    found, failed = expanded(config, {"applications": [Tenant(None, "tenant_1")]}, config.reveal)
    assert not failed
    assert found.watches["applications@tenant_1"].hellowork.headers["X-Api-Key"].get_secret_value() == "secret"


def test_where_secrets_may_lack_those_of_tenants_may(tmp_path: Path) -> None:
    config = parse(TEMPLATE, name="a file", environ=ENVIRON, folder=tmp_path, lacking={})
    assert not expanded(config, {"applications": [Tenant(None, "tenant_1")]}, config.reveal)[1]


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
        ("watches: {a: WATCH, account: acmi}}\nhellowork: {accounts: {acme: {}}}", 'did you mean "acme"'),
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


@pytest.mark.parametrize("headers_in", ["a", "b"])
def test_a_template_names_the_account_that_another_ones_headers_make(headers_in: str) -> None:
    headers = ", hellowork: {headers: {X-Api-Key: '${file:/keys/{tenant}}'}}"
    own = {name: headers if name == headers_in else "" for name in "ab"}
    config = _config(
        f"""
watches:
  a: {WATCH_OF_T}, for_each: {{schemas: 't%'}}, account: '{{tenant}}'{own["a"]}}}
  b: {WATCH_OF_T}, for_each: {{schemas: 't%'}}, account: '{{tenant}}'{own["b"]}}}
"""
    )

    found, failed = expanded(config, {"a": [Tenant(None, "t1")], "b": [Tenant(None, "t1")]}, lambda _: "key")

    assert failed == {}
    assert [account_of(found, name) for name in ("a@t1", "b@t1")] == ["t1", "t1"]


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
        "a@t3": 'expected the name of one of hellowork.accounts; did you mean "hw-t2"?',
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


def test_where_secrets_may_lack_a_webhook_may() -> None:
    lacking: dict[tuple[str | int, ...], str] = {}
    text = f"notify: {{url: '${{CHAT_HOOK}}'}}\n{TEMPLATE}"
    assert parse(text, name="a file", environ=ENVIRON, lacking=lacking).notify.url is not None
    assert list(lacking) == [("notify", "url")]
