"""What is wrong with a connection string is told when it is read, and nothing of what it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.configurations import LEAST

from cdc_sync.config import ConfigurationError, parse
from cdc_sync.config.dsn import ESCAPES, check
from cdc_sync.config.problems import SettingError

FORM = "expected postgresql://USER@HOST:PORT/DATABASE or pairs"


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "  ",
        "postgresql://",
        "postgresql://cdc_sync@/ats",
        "postgresql:///ats?host=/run/postgresql&ssl=true",
        "postgres://u:a%40b%2Fc%25d:e@h1:5432,[::1]:,%2Frun/db?sslmode=verify-full&target_session_attrs=read-write",
        "postgresql://u:what?#[:is]@h/db",
        "postgresql://%40abstract/db",
        "host=a,b port=5432 dbname=d password=p@ss/word%",
        "host=h connect_timeout=2.5 port=+05432",
        "host=a,b port=1, hostaddr=127.0.0.1,127.0.0.2",
        r"host='a' user='x y'password='it\'s \\'",
        "port=' 5432 ' connect_timeout=0 keepalives_idle=-1 ssl_min_protocol_version=TLSv1.2",
        "ssl_min_protocol_version=tlsv1.2 ssl_max_protocol_version=''",
        "service=ats options='-c geqo=off' client_encoding=WIN1252",
    ],
)
def test_what_may_lead_somewhere_is_left_to_the_server(dsn: str) -> None:
    check(dsn)


@pytest.mark.parametrize(
    ("dsn", "message", "suggestion"),
    [
        ("postgresql://u:hun@ter2@h/db", "has one @ too many: what follows the first is taken for the host", ESCAPES),
        ("postgresql://u:hun@ter:2@h/db", "has one @ too many: what follows the first is taken for the host", ESCAPES),
        ("postgresql://u:hun@ter/2@h/db", "has one @ too many: what follows the first is taken for the host", ESCAPES),
        ("postgresql://u:hunter2@@h/db", "has one @ too many: what follows the first is taken for the host", ESCAPES),
        ("postgresql://u:hun/ter2@h/db", "has a / before its @: what precedes it is taken for the host", ESCAPES),
        ("postgresql://u:54/ter2@h/db", "has a / before its @: what precedes it is taken for the host", ESCAPES),
        ("postgresql://u:hun%te@h/db", "has a % that is not followed by the two hexadecimal digits", ESCAPES),
        ("postgresql://u:hun%", "has a % that is not followed by the two hexadecimal digits", ESCAPES),
        ("postgresql://u:hun%00er@h/db", "has a % that is not followed by the two hexadecimal digits", ESCAPES),
        ("postgresql://u:hun%FFter2@h/db", "has bytes that are no UTF-8 text", ESCAPES),
        ("postgresql://u:hun ter2@h/db", "has a blank", "in a URI it is written %20"),
        ("postgresql://u@h/db\n", "has a line break or a tab", "a URI is one line"),
        ("postgresql://u:hunter2/db", "has a port that is no number from 1 to 65535", ESCAPES),
        ("postgresql://u@[::1/db", "has an IPv6 address whose brackets are not as in [::1]:5432", ESCAPES),
        ("postgresql://u@h,[::1]5/db", "has an IPv6 address whose brackets are not as in [::1]:5432", ESCAPES),
        ("postgresql://u@h%40i/db", "has an @ in its host", ESCAPES),
        ("postgresql://h/db?sslmod=require", "has a keyword that libpq does not have", 'did you mean "sslmode"?'),
        ("postgresql://h/db?sslmode=allow&hunter2=1", "has a keyword that libpq does not have", "libpq"),
        ("postgresql://h/db?sslmode", "has a parameter without a =", ESCAPES),
        ("postgresql://h/db?options=a=b", "has a parameter with more than one =", "in a value = is written %3D"),
        ("postgresql://h/db?user=u&hunter2", "has a parameter without a =", ESCAPES),
        ("postgresql://?hunter2", "has a parameter without a =", ESCAPES),
        (" postgresql://u:hunter2@h/db", "has something without a =", FORM),
        ("jdbc:postgresql://h/db?user=u", "has a keyword that libpq does not have", FORM),
        ("hunter2", "has something without a =", FORM),
        ("=hunter2", "has a keyword that libpq does not have", FORM),
        ("host=h pasword=hunter2", "has a keyword that libpq does not have", 'did you mean "password"?'),
        ("host=h password=hun ter2", "has something without a =", FORM),
        ("host=h password='hunter2", "has no closing quote", FORM),
        ("host=h@i", "has an @ in its host", None),
        ("port=0", "has a port that is no number from 1 to 65535", None),
        ("port=65536", "has a port that is no number from 1 to 65535", None),
        ("host=a,b port=1,2,3", "has not as many ports as hosts", None),
        ("host=a,b hostaddr=::1", "has not as many hosts (host) as addresses (hostaddr)", None),
        ("host=a hostaddr=x,y", "has not as many hosts (host) as addresses (hostaddr)", None),
        ("connect_timeout=10s", "has a connect_timeout that is no number of seconds", None),
        ("connect_timeout=hunter2", "has a connect_timeout that is no number of seconds", None),
        ("keepalives=yes", "has a keepalives that is no whole number", None),
        ("tcp_user_timeout=9999999999", "has a tcp_user_timeout that is no whole number", None),
        ("sslmode=", "has a value of sslmode that libpq does not take: ", None),
        ("sslmode=Require", "has a value of sslmode that libpq does not take: ", 'did you mean "require"?'),
        ("gssencmode=Disable", "has a value of gssencmode that libpq does not take: ", 'did you mean "disable"?'),
        ("target_session_attrs=Any", "has a value of target_session_attrs that libpq", 'did you mean "any"?'),
        ("channel_binding=Require", "has a value of channel_binding that libpq", 'did you mean "require"?'),
        ("sslcertmode=Allow", "has a value of sslcertmode that libpq does not take: ", 'did you mean "allow"?'),
        ("sslnegotiation=Direct", "has a value of sslnegotiation that libpq does not take: ", 'did you mean "direct"?'),
        ("sslmode=verify_full", "has a value of sslmode that libpq does not take: ", 'did you mean "verify-full"?'),
        ("target_session_attrs=rw", "has a value of target_session_attrs that libpq does not take: ", None),
        ("ssl_min_protocol_version=TLS1", "has a value of ssl_min_protocol_version that", 'did you mean "tlsv1"?'),
        ("host=h\0 password=hunter2", "has a NUL character", None),
        ("password=\ud800", "has bytes that are no UTF-8 text", None),
    ],
)
def test_a_dsn_that_leads_nowhere_is_an_error(dsn: str, message: str, suggestion: str | None) -> None:
    with pytest.raises(SettingError) as raised:
        check(dsn)

    assert raised.value.message.startswith(message)
    assert (raised.value.suggestion or "").startswith(suggestion or "")
    assert raised.value.suggestion is None or suggestion is not None


def said_of(dsn: str) -> str:
    try:
        check(dsn)
    except SettingError as error:
        return f"{error.message} {error.suggestion}"
    return ""


_LIKELY = st.text(st.sampled_from("abz:/@?#&=%' ,[].0952\\\n"))


@given(_LIKELY, _LIKELY)
def test_no_mistake_repeats_a_password(before: str, after: str) -> None:
    password = f"{before}hunter2{after}"
    for dsn in (
        f"postgresql://u:{password}@h/db",
        f"host=h password={password}",
        f"host=h password='{password}",
        password,
    ):
        assert "hunter2" not in said_of(dsn)


@given(_LIKELY, _LIKELY)
def test_a_password_that_is_not_escaped_never_becomes_a_host(before: str, after: str) -> None:
    dsn = f"postgresql://u:{before}hunter2{after}@h/db"
    assert said_of(dsn) or conninfo_to_dict(dsn)["host"] == "h"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_no_password_is_refused_that_is_written_as_libpq_wants_it(password: str) -> None:
    check(make_conninfo("", host="h", password=password, dbname="d"))


def test_both_are_checked_when_the_configuration_is_loaded() -> None:
    text = f"{LEAST}\ndatabase: {{dsn: 'postgresql://u:hun@ter2@h/db'}}\nstate: {{dsn: 'port=x'}}\n"

    with pytest.raises(ConfigurationError) as raised:
        parse(text, name="c.yaml", environ={})

    assert [problem.path for problem in raised.value.problems] == ["database.dsn", "state.dsn"]
    assert "hun" not in str(raised.value)
    assert f"; {ESCAPES}" in str(raised.value)


@pytest.mark.parametrize("setting", ["connect_timeout=hunter2", "sslmode=Hunter2", "host=a,b port=1,2,3"])
def test_a_setting_that_libpq_cannot_use_is_refused_when_loading_and_hidden(setting: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(f"{LEAST}\ndatabase: {{dsn: '{setting}'}}\n", name="c.yaml", environ={})

    assert [problem.found for problem in raised.value.problems] == ["(hidden)"]
    assert "unter2" not in str(raised.value)
