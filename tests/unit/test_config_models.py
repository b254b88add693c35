"""What each key takes, what it is by default, and what it refuses."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.configurations import WATCH, a_config, a_watch, complaint, problems_of

from cdc_sync.config import (
    Admin,
    Capture,
    ConfigurationError,
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
        {"hellowork.allowed_hosts": ["API.Example.com", "b.example:08443", "[::1]:1"]}
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
    with pytest.raises(ConfigurationError) as caught:
        a_config({"admin": {"listen": listen, "token": "0123456789abcde"}})
    assert "a token has at least 16 characters, since a shorter one could be guessed" in str(caught.value)
    assert "`openssl rand -hex 16` prints a good one" in str(caught.value)
    assert "0123456789abcde" not in str(caught.value)
    assert a_config({"admin": {"listen": listen, "token": "0123456789abcdef"}}).admin.token is not None


@pytest.mark.parametrize("proxies", [["not an address"], ["10.0.0.0/8"], "10.0.0.7"])
def test_a_proxy_is_an_address(proxies: object) -> None:
    with pytest.raises(ConfigurationError, match=r"admin\.proxies"):
        a_config({"admin.proxies": proxies})
    assert [str(one) for one in a_config({"admin.proxies": ["10.0.0.7"]}).admin.proxies] == ["10.0.0.7"]


def test_another_than_a_loopback_address_is_served_with_a_token() -> None:
    config = a_config({"admin": {"listen": "0.0.0.0:8765", "token": TOKEN}})
    assert config.admin.token is not None
    assert config.admin.token.get_secret_value() == TOKEN


URL = "expected a URL such as https://ats-partner.hellowork.com"
HTTPS = f"{URL}: it is http: only https may be used, except to a loopback address"
NO_URL = f"{URL}: not a URL that can be called"
NOTHING_BEHIND = (
    "expected a URL without a user name, a query and a fragment: the calls' paths are put behind it (found: {}); "
    "credentials belong in hellowork.headers"
)
NO_PATH = "expected a URL without HelloWork's own path: /v1/applications/… is put behind it"
NO_PATH_REMEDY = "remove that part; HelloWork's production API is https://ats-partner.hellowork.com"
HOST = "expected a host or host:port, such as ats-partner.hellowork.com: no scheme, no path, no wildcards"
LISTEN = "expected host:port, such as 127.0.0.1:8765 or [::1]:8765, or null; 0.0.0.0 is every address"
COLUMN = "expected a column's name or {sql: EXPRESSION, depends_on: [columns]}"
UNQUOTED = (
    "a name without double quotes begins with a letter or _, and has letters, digits, _ and $ alone; put double quotes "
    "around it if it is really so, and write one inside it twice"
)
NEEDS_TOKEN = (
    "a token has at least 16 characters, since a shorter one could be guessed; listen on another than a loopback "
    "address needs one"
)
CONDITION = "expected an SQL condition or {sql: CONDITION, depends_on: [columns]}"
ONE_SOURCE = "expected one of column and sql, and depends_on with sql alone"
A_LIST = "expected a list, such as [first, second]"
A_SECTION = "expected a section: `key: value` lines beneath this key"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("hellowork.base_url", "http://hw.example", f"{HTTPS} (found: http://hw.example)"),
        ("hellowork.base_url", "http://localhost.evil", f"{HTTPS} (found: http://localhost.evil)"),
        ("hellowork.base_url", "hw.example", f"{NO_URL} (found: hw.example)"),
        ("hellowork.base_url", "https://", f"{NO_URL} (found: https://)"),
        (
            "hellowork.base_url",
            "https://hw.example/a/../b",
            f"{URL}: its path has a segment of dots (found: https://hw.example/a/../b)",
        ),
        (
            "hellowork.base_url",
            "https://hw.example:99999",
            f"{URL}: 99999 is not a TCP port (found: https://hw.example:99999)",
        ),
        *[
            ("hellowork.base_url", f"https://{rest}", f"{NO_PATH} (found: https://{rest}); {NO_PATH_REMEDY}")
            for rest in (
                "ats-partner.hellowork.com/v1",
                "ats-partner.hellowork.com/v1/applications",
                "hw.example/v1/applications/",
                "hw.example/proxy/v1/applications/{applicationId}/status",
            )
        ],
        (
            "hellowork.base_url",
            "https://u:hunter2@hw.example",
            NOTHING_BEHIND.format("(hidden)"),
        ),
        ("hellowork.base_url", "https://hw.example?a=b", NOTHING_BEHIND.format("https://hw.example?a=b")),
        ("hellowork.allowed_hosts", "a.example", f"{A_LIST} (found: text)"),
        (
            "hellowork.allowed_hosts",
            ["*.example.com"],
            f"{HOST} (found: *.example.com)",
        ),
        (
            "hellowork.allowed_hosts",
            ["https://a.b/c"],
            f"{HOST} (found: https://a.b/c)",
        ),
        ("hellowork.allowed_hosts", ["a.b:0"], f"{HOST} (found: a.b:0)"),
        ("hellowork.allowed_hosts", ["-a"], f"{HOST} (found: -a)"),
        ("hellowork.allowed_hosts", ["a-"], f"{HOST} (found: a-)"),
        ("hellowork.allowed_hosts", ["\u017fa"], f"{HOST} (found: \u017fa)"),
        ("hellowork.allowed_hosts", ["a..b"], f"{HOST} (found: a..b)"),
        ("hellowork.allowed_hosts", ["[1:2]"], f"{HOST} (found: [1:2])"),
        ("hellowork.timeout", "0s", "must be at least 1ms (found: 0s)"),
        ("hellowork.timeout", None, "expected a duration such as 500ms, 30s, 5m, 2h or 7d (found: null)"),
        ("hellowork.concurrency", 0, "must be at least 1 (found: 0)"),
        ("hellowork.concurrency", 1001, "must be at most 1000 (found: 1001)"),
        ("hellowork.concurrency", True, "expected a whole number (found: true)"),
        ("hellowork.concurrency", "1.5", "expected a whole number (found: 1.5)"),
        ("hellowork.concurrency", "1_0", "expected a whole number (found: 1_0)"),
        ("hellowork.concurrency", "9" * 5000, f"expected a whole number (found: {'9' * 100}…)"),
        ("hellowork.rate_limit", 0, "expected a number above zero, such as 0.5 or 20 (found: 0)"),
        ("hellowork.rate_limit", "1e-320", "expected a number above zero, such as 0.5 or 20 (found: 1e-320)"),
        ("hellowork.rate_limit", "1_0", "expected a number above zero, such as 0.5 or 20 (found: 1_0)"),
        ("hellowork.rate_limit", "1e999", "expected a number above zero, such as 0.5 or 20 (found: 1e999)"),
        ("hellowork.rate_limit", ".nan", "expected a number above zero, such as 0.5 or 20 (found: .nan)"),
        ("hellowork.rate_limit", True, "expected a number above zero, such as 0.5 or 20 (found: true)"),
        (
            "hellowork.headers",
            ["a"],
            f"{A_SECTION} (found: a list); for example headers: {{X-Api-Key: '${{HELLOWORK_API_KEY}}'}}",
        ),
        ("state.backend", "postgresql", 'expected sqlite or postgres (found: postgresql); did you mean "postgres"?'),
        ("state.path", "", "expected a file's path (found: nothing)"),
        ("state.history", "0", "must be at least 1ms (found: 0)"),
        ("admin.listen", "8765", f"{LISTEN} (found: 8765)"),
        (
            "admin.listen",
            ":8765",
            f"{LISTEN} (found: :8765)",
        ),
        ("admin.listen", "::1:8765", f"{LISTEN} (found: ::1:8765)"),
        ("admin.listen", "a:65536", f"{LISTEN} (found: a:65536)"),
        ("admin.listen", ["a:1"], f"{LISTEN} (found: a list)"),
        (
            "admin.token",
            "",
            "must not be empty (found: nothing); `openssl rand -hex 16` prints a good one",
        ),
        (
            "admin.token",
            "0123456789 abcdef",
            "expected letters, digits and signs without blanks and accents: it travels in a header (found: (hidden))",
        ),
        ("log.level", "warn", 'expected debug, info, warning or error (found: warn); did you mean "warning"?'),
        ("log.format", "xml", "expected auto, text, journal or json (found: xml)"),
        ("log", "debug", f"{A_SECTION} (found: text)"),
        (f"{WATCH}.table", "a.b.c", None),
        (f"{WATCH}.table", ["a"], "expected a table's name, such as public.applications (found: a list)"),
        (f"{WATCH}.table", None, "expected a table's name, such as public.applications (found: null)"),
        (f"{WATCH}.key", "id", f"{A_LIST} (found: text)"),
        (f"{WATCH}.key", [], "expected at least one entry"),
        (f"{WATCH}.key", ["id", "ID"], "names a column twice (found: a list)"),
        (f"{WATCH}.columns.status", "a b", f"{COLUMN}: {UNQUOTED} (found: a b)"),
        (f"{WATCH}.columns.status", None, f"{COLUMN} (found: null)"),
        (f"{WATCH}.columns.status", {"sql": " "}, None),
        (f"{WATCH}.columns.status", {"depends_on": []}, None),
        (
            f"{WATCH}.where",
            "true;",
            "must not end with a semicolon: it becomes part of a longer statement (found: true;)",
        ),
        (f"{WATCH}.where", " ", "must not be empty (found: nothing)"),
        (f"{WATCH}.where", ["t.a"], f"{CONDITION} (found: a list)"),
        (
            f"{WATCH}.timezone",
            "Europe/Pari",
            (
                "expected a time zone of the IANA database, such as UTC or Europe/Paris (found: Europe/Pari); "
                'did you mean "Europe/Paris"?'
            ),
        ),
        (f"{WATCH}.timezone", "Europe", None),
        (
            f"{WATCH}.timezone",
            "CET",
            (
                "expected the time zone of a place: to PostgreSQL CET is a fixed offset without summer time (found: "
                'CET); write "Europe/Paris", for example, or the zone of the ATS\'s own city'
            ),
        ),
        (f"{WATCH}.timezone", "../etc/passwd", None),
        (f"{WATCH}.timezone", "a" * 300, None),
        (
            f"{WATCH}.related",
            [{"table": "a", "key": ["x", "y"]}],
            "each key needs as many columns as the watch's key has, 1, or none at all (found: a list)",
        ),
        (f"{WATCH}.capture.mode", "listen", "expected notify or poll (found: listen)"),
        (f"{WATCH}.capture.wakeup", None, 'expected notify or none (found: null); did you mean "none"?'),
        (f"{WATCH}.capture.watermark", {"sql": "x"}, "expected a column's name (found: a section)"),
        (f"{WATCH}.capture.watermark", "a-b", f"expected a column's name: {UNQUOTED} (found: a-b)"),
        (f"{WATCH}.capture.poll_interval", "9ms", "must be at least 10ms (found: 9ms)"),
        (f"{WATCH}.capture.lookback", "-1s", "must not be negative (found: -1s)"),
        (f"{WATCH}.capture.sweep", "0", "must be at least 1ms (found: 0)"),
        (f"{WATCH}.capture.max_backlog", "63KiB", "must be at least 64KiB (found: 63KiB)"),
        (f"{WATCH}.status.map", ["a"], f"{A_SECTION} (found: a list)"),
        (f"{WATCH}.status.deleted", "", "must not be empty (found: nothing)"),
        (f"{WATCH}.status.unmapped", "drop", "expected send, ignore or reject (found: drop)"),
        (f"{WATCH}.baseline", "adapt", 'expected adopt or send (found: adapt); did you mean "adopt"?'),
        (f"{WATCH}.first_status", False, "expected send or adopt (found: false)"),
        (f"{WATCH}.settle", "5m", f"{A_SECTION} (found: text)"),
        (f"{WATCH}.extra", "x", f"{A_SECTION} (found: text)"),
        (f"{WATCH}.fuse.max_changes", 0, "must be at least 1 (found: 0)"),
        (f"{WATCH}.fuse.max_deletions", "0", "must be at least 1 (found: 0)"),
        (f"{WATCH}.fuse.window", "0s", "must be at least 1ms (found: 0s)"),
    ],
)
def test_a_value_that_a_key_does_not_take_is_an_error(path: str, value: Any, told: str | None) -> None:
    complained = complaint({path: value})
    if told is None:
        assert complained.startswith(path)
    else:
        assert complained in {f"{path}: {told}", f"{path}[0]: {told}"}


@pytest.mark.parametrize(
    ("path", "value", "where", "told"),
    [
        ("hellowork.headers", {"Host": "x"}, "hellowork.headers.Host", "cdc-sync sets this header itself; remove it"),
        (
            "hellowork.headers",
            {"idempotency-KEY": "x"},
            "hellowork.headers.idempotency-KEY",
            "cdc-sync sets this header itself; remove it",
        ),
        (
            "hellowork.headers",
            {"X-Api-Key=hunter2": "x"},
            "hellowork.headers.(hidden)",
            "expected a header's name: letters, digits and hyphens; write `Name: value`, with a blank",
        ),
        ("hellowork.headers", {"hunter2": None}, "hellowork.headers.(hidden)", "expected text (found: null)"),
        (
            f"{WATCH}.columns",
            {"status": "s", "job_id": "j", "created": "c", "application_id": None},
            f"{WATCH}.columns.status_url",
            "expected application_id or status_url: one of them is required",
        ),
        ("hellowork.headers", {"X": ""}, "hellowork.headers.X", "must not be empty (found: nothing)"),
        (
            "hellowork.headers",
            {"X": "a\nb"},
            "hellowork.headers.X",
            (
                "must be one line without control characters (found: (hidden)); "
                "a line break at the end of a secret is usual"
            ),
        ),
        (
            "hellowork.headers",
            {"X": True},
            "hellowork.headers.X",
            "expected text (found: true); put it in quotes to make it text",
        ),
        (
            "hellowork.headers",
            {"X": "a", "x": "b"},
            "hellowork.headers",
            "two headers have the same name: upper and lower case are the same to HTTP (found: a section)",
        ),
        ("hellowork.retry", {"first": "1h"}, "hellowork.retry.max", "must not be below first, which is 1h"),
        (
            "hellowork.retry",
            {"first": "2s", "max": "1s"},
            "hellowork.retry.max",
            "must not be below first, which is 2s (found: 1s)",
        ),
        (
            "admin",
            {"listen": "0.0.0.0:80"},
            "admin.token",
            f"{NEEDS_TOKEN}; `openssl rand -hex 16` prints a good one",
        ),
        (
            f"{WATCH}.capture",
            {"mode": "poll"},
            f"{WATCH}.capture.watermark",
            "capture.mode poll needs a watermark; name a timestamp that the ATS sets at every change",
        ),
        (
            f"{WATCH}.status",
            {"map": {"Oui": True}},
            f"{WATCH}.status.map.Oui",
            "expected text (found: true); put it in quotes to make it text",
        ),
        (
            f"{WATCH}.status",
            {"map": {"En cours": None}},
            f'{WATCH}.status.map."En cours"',
            "expected text (found: null)",
        ),
        (
            f"{WATCH}.settle",
            {"rejected": "soon"},
            f"{WATCH}.settle.rejected",
            "expected a duration such as 500ms, 30s, 5m, 2h or 7d (found: soon)",
        ),
        (
            f"{WATCH}.extra",
            {"jobId": "x"},
            f"{WATCH}.extra.jobId",
            "is a field that cdc-sync sends itself; map it in columns, or choose another name",
        ),
        (f"{WATCH}.extra", {"": "x"}, f'{WATCH}.extra.""', "a field's name must not be empty"),
        (f"{WATCH}.extra", {"a": {}}, f"{WATCH}.extra.a", f"{ONE_SOURCE} (found: a section)"),
        (
            f"{WATCH}.extra",
            {"a": {"column": "x", "sql": "y"}},
            f"{WATCH}.extra.a",
            f"{ONE_SOURCE} (found: a section)",
        ),
        (
            f"{WATCH}.extra",
            {"a": {"column": "x", "depends_on": ["y"]}},
            f"{WATCH}.extra.a",
            f"{ONE_SOURCE} (found: a section)",
        ),
        (
            f"{WATCH}.extra",
            {"a": ["x"]},
            f"{WATCH}.extra.a",
            "expected a column's name or {column: NAME, only_for: [statuses]} (found: a list)",
        ),
        (
            f"{WATCH}.related",
            [{"table": "a"}],
            f"{WATCH}.related[0].key",
            "required key is missing (its columns that hold the watched table's key, in the same order)",
        ),
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
            "a watch's name has lower case letters, digits and _, begins with a letter, and has at most 40 of them",
        ),
        ("watches", {}, "watches", "expected at least one entry"),
        ("watches", None, "watches", f"{A_SECTION} (found: null)"),
    ],
)
def test_a_rule_of_several_keys_is_reported_where_it_is_broken(
    path: str, value: Any, where: str, told: str | None
) -> None:
    complained = complaint({path: value})
    assert complained.startswith(f"{where}: ")
    assert told is None or complained == f"{where}: {told}"


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
