"""What each key takes, what it is by default, and what it refuses."""

from typing import Any

import pytest
import yaml
from support.configurations import LEAST, WATCH, a_config, a_text, problems_of


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://hw.example:8443/proxy//", "https://hw.example:8443/proxy"),
        ("https://proxy.example/v1", "https://proxy.example/v1"),
        ("https://proxy.example/v1/applications-x", "https://proxy.example/v1/applications-x"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_base_url_loses_its_last_slash(written: str, kept: str) -> None:
    assert a_config({"hellowork.base_url": written}).hellowork.base_url == kept


@pytest.mark.parametrize("listen", ["0.0.0.0:8765", "[::]:8765", "ats.example:8765", "127.0.0.1:8765", None])
def test_a_token_that_others_could_guess_is_an_error(listen: str | None) -> None:
    (problem,) = problems_of(a_text({"admin": {"listen": listen, "token": "0123456789abcde"}}))
    assert problem.path == "admin.token"
    assert "0123456789abcde" not in str(problem)
    assert a_config({"admin": {"listen": listen, "token": "0123456789abcdef"}}).admin.token is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hellowork.base_url", "http://hw.example"),
        ("hellowork.base_url", "https://hw.example/proxy/v1/applications/{applicationId}/status"),
        ("hellowork.base_url", "https://hw.example/V1/Applications/"),
        ("hellowork.base_url", "https://ats-partner.hellowork.com/v1/"),
        ("hellowork.base_url", "https://u:hunter2@hw.example"),
        ("hellowork.base_url", "https://hw.example?a=b"),
        ("hellowork.allowed_hosts", ["*.example.com"]),
        ("hellowork.timeout", "0s"),
        ("hellowork.concurrency", 0),
        ("hellowork.rate_limit", "1e999"),
        ("state.history", "0"),
        ("admin.listen", "::1:8765"),
        ("admin.token", "0123456789 abcdef"),
        ("log.level", "warn"),
        (f"{WATCH}.table", "a.b.c"),
        (f"{WATCH}.key", []),
        (f"{WATCH}.columns.status", "a b"),
        (f"{WATCH}.columns.status", {"sql": ""}),
        (f"{WATCH}.timezone", "Europe/Pari"),
        (f"{WATCH}.timezone", "../etc/passwd"),
        (f"{WATCH}.related", [{"table": "a", "key": ["x", "y"]}]),
        (f"{WATCH}.capture.mode", "listen"),
        (f"{WATCH}.capture.poll_interval", "9ms"),
        (f"{WATCH}.capture.max_backlog", "63KiB"),
        (f"{WATCH}.status.unmapped", "drop"),
        (f"{WATCH}.fuse.max_changes", 0),
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
        ("hellowork.headers", {"X": "a\nb"}, "hellowork.headers.X"),
        ("admin", {"listen": "0.0.0.0:80"}, "admin.token"),
        (f"{WATCH}.capture", {"mode": "poll"}, f"{WATCH}.capture.watermark"),
        (f"{WATCH}.status", {"map": {"Oui": True}}, f"{WATCH}.status.map.Oui"),
        (f"{WATCH}.status", {"map": {"En cours": None}}, f"{WATCH}.status.map.(hidden)"),
        (f"{WATCH}.settle", {"rejected": "soon"}, f"{WATCH}.settle.rejected"),
        (f"{WATCH}.extra", {"jobId": "x"}, f"{WATCH}.extra.jobId"),
        (f"{WATCH}.extra", {"": "x"}, f"{WATCH}.extra.(hidden)"),
        (f"{WATCH}.extra", {"a": {"column": "x", "sql": "y"}}, f"{WATCH}.extra.a"),
        (f"{WATCH}.extra", {"a": {"column": "x", "depends_on": ["y"]}}, f"{WATCH}.extra.a"),
        (f"{WATCH}.related", [{"table": "a"}], f"{WATCH}.related[0].key"),
        ("watches", {"Bad-Name": yaml.safe_load(LEAST)["watches"]["applications"]}, "watches.Bad-Name"),
        ("watches", {}, "watches"),
    ],
)
def test_a_rule_of_several_keys_is_reported_where_it_is_broken(path: str, value: Any, where: str) -> None:
    (problem,) = problems_of(a_text({path: value}))

    assert problem.path == where
