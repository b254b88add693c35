"""What is wrong with a connection string is told when it is read, and nothing of what it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.configurations import LEAST

from cdc_sync.config import ConfigurationError, parse
from cdc_sync.config.dsn import check
from cdc_sync.config.problems import SettingError


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
    "dsn",
    [
        "postgresql://u:hun@ter2@h/db",
        "postgresql://u:hun@ter:2@h/db",
        "postgresql://u:hun@ter/2@h/db",
        "postgresql://u:hunter2@@h/db",
        "postgresql://u:hun/ter2@h/db",
        "postgresql://u:54/ter2@h/db",
        "postgresql://u:hun%te@h/db",
        "postgresql://u:hun%",
        "postgresql://u:hun%00er@h/db",
        "postgresql://u:hun%FFter2@h/db",
        "postgresql://u:hun ter2@h/db",
        "postgresql://u:hunter2/db",
        "postgresql://u@[::1/db",
        "postgresql://u@h,[::1]5/db",
        "postgresql://h/db?sslmod=require",
        "postgresql://h/db?sslmode=allow&hunter2=1",
        "postgresql://h/db?sslmode",
        "postgresql://h/db?options=a=b",
        "postgresql://h/db?user=u&hunter2",
        "postgresql://?hunter2",
        " postgresql://u:hunter2@h/db",
        "jdbc:postgresql://h/db?user=u",
        "hunter2",
        "=hunter2",
        "host=h pasword=hunter2",
        "host=h password=hun ter2",
        "host=h password='hunter2",
        "password=\ud800",
    ],
)
def test_a_dsn_that_leads_nowhere_is_an_error(dsn: str) -> None:
    with pytest.raises(SettingError) as raised:
        check(dsn)

    assert "unter2" not in str(raised.value)


def said_of(dsn: str) -> str:
    try:
        check(dsn)
    except SettingError as error:
        return str(error)
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
