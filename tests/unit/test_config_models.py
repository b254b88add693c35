"""What each key takes, what it is by default, and what it refuses."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.configurations import WATCH, a_config, a_text, a_watch, problems_of

from cdc_sync.config import (
    Admin,
    Capture,
    Database,
    HostPort,
    Log,
    PlainColumn,
    SqlColumn,
    Watch,
    format_duration,
)
from cdc_sync.config.columns import Columns, ExtraField
from cdc_sync.config.daemon import State
from cdc_sync.config.hellowork import HelloWork
from cdc_sync.config.watch import Fuse, Status
from cdc_sync.core.identifiers import QualifiedName

TOKEN = "0123456789abcdef"


def test_the_defaults_are_those_of_the_contract() -> None:
    config = a_config()
    assert config.database == Database()
    assert config.hellowork == HelloWork()
    assert config.state == State()
    assert config.admin == Admin()
    assert config.log == Log()
    assert config.database.dsn.get_secret_value() == ""
    hellowork = config.hellowork
    assert (hellowork.base_url, hellowork.headers) == ("https://ats-partner.hellowork.com", {})
    assert (hellowork.allowed_hosts, hellowork.timeout) == ((), timedelta(seconds=10))
    assert (hellowork.concurrency, hellowork.rate_limit) == (16, None)
    assert [format_duration(d) for d in (hellowork.retry.first, hellowork.retry.max, hellowork.retry.for_)] == [
        "1s",
        "15m",
        "7d",
    ]
    assert hellowork.not_found_retry == timedelta(minutes=15)
    state = config.state
    assert (state.backend, state.path, state.dsn) == ("sqlite", Path("/var/lib/cdc-sync/state.db"), None)
    assert state.history == timedelta(days=30)
    assert (config.admin.listen, config.admin.token) == (HostPort("127.0.0.1", 8765), None)
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_the_defaults_of_a_watch_are_those_of_the_contract() -> None:
    watch = a_watch()
    assert (watch.where, watch.timezone, watch.related) == (None, "UTC", ())
    capture = watch.capture
    assert (capture.mode, capture.wakeup, capture.watermark) == ("notify", "notify", None)
    durations = (capture.poll_interval, capture.lookback, capture.drain_interval, capture.sweep, watch.deletion_grace)
    assert [format_duration(duration) for duration in durations] == ["2s", "5m", "1s", "15m", "5s"]
    assert capture.max_backlog == 256_000_000
    assert watch.status == Status()
    assert (watch.status.map, watch.status.unmapped, watch.status.deleted) == ({}, "send", "deleted")
    assert (watch.baseline, watch.first_status) == ("adopt", "send")
    assert watch.settle == {}
    assert watch.extra == {}
    assert watch.fuse == Fuse(max_changes=1000, max_deletions=100, window=timedelta(minutes=10))
    columns = watch.columns
    assert (columns.application_id, columns.status) == (PlainColumn("hellowork_id"), PlainColumn("status"))
    assert (columns.status_url, columns.event_date, columns.source, columns.deleted) == (None, None, None, None)


def test_a_section_whose_keys_are_all_commented_out_has_its_defaults() -> None:
    config = a_config({"database": None, "hellowork.retry": None, "admin": None, f"{WATCH}.capture": None})
    assert config == a_config()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("status", PlainColumn("status")),
        ('"Statut"', PlainColumn("Statut")),
        ({"sql": "t.a || '%'"}, SqlColumn(sql="t.a || '%'")),
        ({"sql": "lower(t.a)", "depends_on": ["A", '"B"']}, SqlColumn(sql="lower(t.a)", depends_on=("a", '"B"'))),
        ({"sql": "1", "depends_on": []}, SqlColumn(sql="1", depends_on=())),
    ],
)
def test_a_column_is_a_name_or_an_expression(written: Any, read: PlainColumn | SqlColumn) -> None:
    assert a_watch({"columns.status": written}).columns.status == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("t.a > 1", SqlColumn(sql="t.a > 1")),
        ({"sql": "t.a > 1", "depends_on": ["A"]}, SqlColumn(sql="t.a > 1", depends_on=("a",))),
        (None, None),
    ],
)
def test_a_condition_is_a_text_or_has_its_columns_beside_it(written: Any, read: SqlColumn | None) -> None:
    assert a_watch({"where": written}).where == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("delay", (PlainColumn("delay"), ())),
        ({"column": '"Delai"', "only_for": ["rejected"]}, (PlainColumn("Delai"), ("rejected",))),
        ({"sql": "t.a", "depends_on": ['"A"']}, (SqlColumn(sql="t.a", depends_on=('"A"',)), ())),
        ({"sql": "t.a", "only_for": ["x", "y"]}, (SqlColumn(sql="t.a"), ("x", "y"))),
    ],
)
def test_an_extra_field_has_a_column_or_an_expression_and_its_statuses(written: Any, read: object) -> None:
    (field,) = a_watch({"extra": {"communicationDelay": written}}).extra.values()
    assert (field.mapped, field.only_for) == read


def test_what_can_be_given_is_read() -> None:
    watch = a_watch(
        {
            "table": '"ATS"."Candidatures"',
            "key": ["Id", '"Site"'],
            "timezone": "Europe/Paris",
            "where": "t.origin = 'hellowork'",
            "related": [
                {"table": "rejections", "key": ["application_id", "site"]},
                {"table": "a.stages", "key": [], "columns": ["Label"]},
            ],
            "capture": {"mode": "poll", "watermark": '"MAJ"', "max_backlog": "64KiB", "poll_interval": "10ms"},
            "status": {"map": {"Embauché": "hired"}, "unmapped": "reject", "deleted": "gone"},
            "settle": {"rejected": "5m"},
        }
    )
    assert watch.table == QualifiedName("ATS", "Candidatures")
    assert watch.key == ("id", "Site")
    assert [(other.table, other.key, other.columns) for other in watch.related] == [
        (QualifiedName(None, "rejections"), ("application_id", "site"), ()),
        (QualifiedName("a", "stages"), (), ("label",)),
    ]
    assert (watch.capture.watermark, watch.capture.max_backlog) == ("MAJ", 65536)
    assert watch.status.map == {"Embauché": "hired"}
    assert watch.settle == {"rejected": timedelta(minutes=5)}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://hw.example/", "https://hw.example"),
        ("https://hw.example:8443/proxy//", "https://hw.example:8443/proxy"),
        ("https://proxy.example/v1", "https://proxy.example/v1"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_base_url_loses_its_last_slash(written: str, kept: str) -> None:
    assert a_config({"hellowork.base_url": written}).hellowork.base_url == kept


def test_allowed_hosts_are_lower_case() -> None:
    hosts = a_config(
        {"hellowork.allowed_hosts": ["API.Example.com", "b.example:8443", "[::1]:1"]}
    ).hellowork.allowed_hosts
    assert hosts == ("api.example.com", "b.example:8443", "[::1]:1")


@pytest.mark.parametrize(
    ("written", "listen", "text"),
    [
        ("127.0.0.1:0", HostPort("127.0.0.1", 0), "127.0.0.1:0"),
        ("LOCALHOST:8765", HostPort("localhost", 8765), "localhost:8765"),
        ("[::1]:8765", HostPort("::1", 8765), "[::1]:8765"),
        (None, None, "None"),
    ],
)
def test_listen_is_an_address_or_nowhere(written: str | None, listen: HostPort | None, text: str) -> None:
    read = a_config({"admin.listen": written}).admin.listen
    assert read == listen
    assert str(read) == text


@pytest.mark.parametrize("listen", ["0.0.0.0:8765", "[::]:8765", "ats.example:8765", "127.0.0.1:8765", None])
def test_a_token_that_others_could_guess_is_an_error(listen: str | None) -> None:
    (problem,) = problems_of(a_text({"admin": {"listen": listen, "token": "0123456789abcde"}}))
    assert problem.path == "admin.token"
    assert "0123456789abcde" not in str(problem)
    assert a_config({"admin": {"listen": listen, "token": "0123456789abcdef"}}).admin.token is not None


@pytest.mark.parametrize("proxies", [["not an address"], ["10.0.0.0/8"], "10.0.0.7"])
def test_a_proxy_is_an_address(proxies: object) -> None:
    problems = problems_of(a_text({"admin.proxies": proxies}))
    assert all(problem.path.startswith("admin.proxies") for problem in problems)
    assert [str(one) for one in a_config({"admin.proxies": ["10.0.0.7"]}).admin.proxies] == ["10.0.0.7"]


def test_another_than_a_loopback_address_is_served_with_a_token() -> None:
    config = a_config({"admin": {"listen": "0.0.0.0:8765", "token": TOKEN}})
    assert config.admin.token is not None
    assert config.admin.token.get_secret_value() == TOKEN


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hellowork.base_url", "http://hw.example"),
        ("hellowork.base_url", "http://localhost.evil"),
        ("hellowork.base_url", "hw.example"),
        ("hellowork.base_url", "https://"),
        ("hellowork.base_url", "https://hw.example/a/../b"),
        ("hellowork.base_url", "https://hw.example:99999"),
        *[
            ("hellowork.base_url", f"https://{rest}")
            for rest in (
                "ats-partner.hellowork.com/v1",
                "ats-partner.hellowork.com/v1/applications",
                "hw.example/v1/applications/",
                "hw.example/proxy/v1/applications/{applicationId}/status",
            )
        ],
        ("hellowork.base_url", "https://u:hunter2@hw.example"),
        ("hellowork.base_url", "https://hw.example?a=b"),
        ("hellowork.allowed_hosts", "a.example"),
        ("hellowork.allowed_hosts", ["*.example.com"]),
        ("hellowork.allowed_hosts", ["https://a.b/c"]),
        ("hellowork.allowed_hosts", ["a.b:0"]),
        ("hellowork.allowed_hosts", ["-a"]),
        ("hellowork.allowed_hosts", ["a-"]),
        ("hellowork.allowed_hosts", ["\u017fa"]),
        ("hellowork.timeout", "0s"),
        ("hellowork.timeout", None),
        ("hellowork.concurrency", 0),
        ("hellowork.concurrency", 1001),
        ("hellowork.concurrency", "1.5"),
        ("hellowork.concurrency", "9" * 5000),
        ("hellowork.rate_limit", 0),
        ("hellowork.rate_limit", "1e-320"),
        ("hellowork.rate_limit", "1e999"),
        ("hellowork.rate_limit", ".nan"),
        ("hellowork.headers", ["a"]),
        ("state.backend", "postgresql"),
        ("state.history", "0"),
        ("admin.listen", "8765"),
        ("admin.listen", ":8765"),
        ("admin.listen", "::1:8765"),
        ("admin.listen", "a:65536"),
        ("admin.listen", ["a:1"]),
        ("admin.token", ""),
        ("admin.token", "0123456789 abcdef"),
        ("log.level", "warn"),
        ("log.format", "xml"),
        ("log", "debug"),
        (f"{WATCH}.table", "a.b.c"),
        (f"{WATCH}.table", ["a"]),
        (f"{WATCH}.table", None),
        (f"{WATCH}.key", "id"),
        (f"{WATCH}.key", []),
        (f"{WATCH}.key", ["id", "ID"]),
        (f"{WATCH}.columns.status", "a b"),
        (f"{WATCH}.columns.status", None),
        (f"{WATCH}.columns.status", {"sql": ""}),
        (f"{WATCH}.columns.status", {"depends_on": []}),
        (f"{WATCH}.where", ""),
        (f"{WATCH}.where", ["t.a"]),
        (f"{WATCH}.timezone", "Europe/Pari"),
        (f"{WATCH}.timezone", "Europe"),
        (f"{WATCH}.timezone", "CET"),
        (f"{WATCH}.timezone", "../etc/passwd"),
        (f"{WATCH}.timezone", "a" * 300),
        (f"{WATCH}.related", [{"table": "a", "key": ["x", "y"]}]),
        (f"{WATCH}.capture.mode", "listen"),
        (f"{WATCH}.capture.wakeup", None),
        (f"{WATCH}.capture.watermark", {"sql": "x"}),
        (f"{WATCH}.capture.watermark", "a-b"),
        (f"{WATCH}.capture.poll_interval", "9ms"),
        (f"{WATCH}.capture.lookback", "-1s"),
        (f"{WATCH}.capture.sweep", "0"),
        (f"{WATCH}.capture.max_backlog", "63KiB"),
        (f"{WATCH}.status.map", ["a"]),
        (f"{WATCH}.status.deleted", ""),
        (f"{WATCH}.status.unmapped", "drop"),
        (f"{WATCH}.baseline", "adapt"),
        (f"{WATCH}.first_status", False),
        (f"{WATCH}.settle", "5m"),
        (f"{WATCH}.extra", "x"),
        (f"{WATCH}.fuse.max_changes", 0),
        (f"{WATCH}.fuse.max_deletions", "0"),
        (f"{WATCH}.fuse.window", "0s"),
    ],
)
def test_a_value_that_a_key_does_not_take_is_an_error_of_that_key(path: str, value: Any) -> None:
    (problem,) = problems_of(a_text({path: value}))

    assert problem.path in {path, f"{path}[0]", f"{path}.sql"}
    assert problem.line


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("hellowork.headers", {"Host": "x"}, "hellowork.headers.Host"),
        ("hellowork.headers", {"idempotency-KEY": "x"}, "hellowork.headers.idempotency-KEY"),
        ("hellowork.headers", {"X-Api-Key=hunter2": "x"}, "hellowork.headers.(hidden)"),
        ("hellowork.headers", {"hunter2": None}, "hellowork.headers.(hidden)"),
        (
            f"{WATCH}.columns",
            {"status": "s", "job_id": "j", "created": "c", "application_id": None},
            f"{WATCH}.columns.status_url",
        ),
        ("hellowork.headers", {"X": ""}, "hellowork.headers.X"),
        ("hellowork.headers", {"X": "a\nb"}, "hellowork.headers.X"),
        ("hellowork.headers", {"X": True}, "hellowork.headers.X"),
        ("hellowork.retry", {"first": "1h"}, "hellowork.retry.max"),
        ("hellowork.retry", {"first": "2s", "max": "1s"}, "hellowork.retry.max"),
        ("admin", {"listen": "0.0.0.0:80"}, "admin.token"),
        (f"{WATCH}.capture", {"mode": "poll"}, f"{WATCH}.capture.watermark"),
        (f"{WATCH}.status", {"map": {"Oui": True}}, f"{WATCH}.status.map.Oui"),
        (f"{WATCH}.status", {"map": {"En cours": None}}, f"{WATCH}.status.map.(hidden)"),
        (f"{WATCH}.settle", {"rejected": "soon"}, f"{WATCH}.settle.rejected"),
        (f"{WATCH}.extra", {"jobId": "x"}, f"{WATCH}.extra.jobId"),
        (f"{WATCH}.extra", {"": "x"}, f"{WATCH}.extra.(hidden)"),
        (f"{WATCH}.extra", {"a": {}}, f"{WATCH}.extra.a"),
        (f"{WATCH}.extra", {"a": {"column": "x", "sql": "y"}}, f"{WATCH}.extra.a"),
        (f"{WATCH}.extra", {"a": {"column": "x", "depends_on": ["y"]}}, f"{WATCH}.extra.a"),
        (f"{WATCH}.extra", {"a": ["x"]}, f"{WATCH}.extra.a"),
        (f"{WATCH}.related", [{"table": "a"}], f"{WATCH}.related[0].key"),
        (
            "watches",
            {
                "Bad-Name": {
                    "table": "a",
                    "key": ["id"],
                    "columns": {"application_id": "a", "status": "s", "job_id": "j", "created": "c"},
                }
            },
            "watches.Bad-Name",
        ),
        ("watches", {}, "watches"),
        ("watches", None, "watches"),
    ],
)
def test_a_rule_of_several_keys_is_reported_where_it_is_broken(path: str, value: Any, where: str) -> None:
    (problem,) = problems_of(a_text({path: value}))

    assert problem.path == where


def test_a_rule_of_two_keys_is_checked_although_a_third_is_wrong() -> None:
    problems = problems_of(
        "watches: {a: {table: x, key: [id], columns: {status: 's t', created: c}, capture: {mode: poll, sweep: x}}}\n"
        "hellowork: {retry: {first: 1h, for: x}}\n"
        "admin: {listen: '0.0.0.0:80', tokens: x}\n"
    )
    assert {problem.path for problem in problems} == {
        "watches.a.columns.status",
        "watches.a.columns.job_id",
        "watches.a.columns.status_url",
        "watches.a.capture.sweep",
        "watches.a.capture.watermark",
        "hellowork.retry.max",
        "hellowork.retry.for",
        "admin.token",
        "admin.tokens",
    }


def test_nothing_can_be_changed_afterwards() -> None:
    config = a_config()
    with pytest.raises(ValidationError, match="frozen"):
        config.hellowork.concurrency = 3


def test_a_section_can_be_made_in_code() -> None:
    capture = Capture(mode="poll", watermark="updated_at", poll_interval=timedelta(milliseconds=50), max_backlog=70_000)
    assert (capture.watermark, capture.max_backlog) == ("updated_at", 70_000)
    status = SqlColumn(sql="t.a", depends_on=('"A"',))
    columns = Columns(application_id=PlainColumn("A"), status=status, job_id=PlainColumn("B"), created=PlainColumn("C"))
    watch = Watch(table=QualifiedName(None, "T"), key=("id",), columns=columns, extra={"delay": ExtraField(sql="t.a")})
    assert (watch.table, watch.columns.status) == (QualifiedName(None, "T"), status)
    assert watch.extra == {"delay": ExtraField(sql="t.a")}
    assert State(path=Path("s.db")).path == Path("s.db")
    assert Admin(listen=HostPort("::1", 0)).listen == HostPort("::1", 0)
    with pytest.raises(ValidationError) as raised:
        Database.model_validate({"dsn": ["hunter2"]})
    assert "hunter2" not in str(raised.value)
