"""What is wrong with a connection string is told when it is read, and nothing of what it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from cdc_sync.config.dsn import mistake_in, shown


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "postgresql://",
        "postgres://u:a%40b%2Fc%25d:e@h1:5432,[::1]:,%2Frun/db?sslmode=verify-full&target_session_attrs=read-write",
        "postgresql://u:what?#[:is]@h/db",
        "host=a,b port=5432 dbname=d password=p@ss/word%",
        r"host='a' user='x y'password='it\'s \\'",
        "port=' 5432 ' connect_timeout=0 keepalives_idle=-1 ssl_min_protocol_version=TLSv1.2",
        "service=ats options='-c geqo=off' client_encoding=WIN1252",
    ],
)
def test_what_may_lead_somewhere_is_left_to_the_server(dsn: str) -> None:
    assert mistake_in(dsn) is None


@pytest.mark.parametrize("dsn", ["postgresql://h/db?client_encoding=SQL_ASCII", "client_encoding='sql ascii'"])
def test_an_encoding_that_converts_nothing(dsn: str) -> None:
    assert "SQL_ASCII gives bytes" in (mistake_in(dsn) or "")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hun@ter2@h/db",
        "postgresql://u:hun/ter2@h/db",
        "postgresql://u:hun%00er@h/db",
        "postgresql://u:hunter2/db",
        "postgresql://u@[::1/db",
        "postgresql://h/db?sslmod=require",
        "postgresql://h/db?user=u&hunter2",
        "jdbc:postgresql://h/db?user=u",
        "dbname=postgresql://u:hunter2@h/db",
        "host=h password=hun ter2",
        "host=h password='hunter2",
        "password=\ud800",
    ],
)
def test_a_dsn_that_leads_nowhere_is_an_error(dsn: str) -> None:
    assert "postgresql://USER@HOST" in (mistake_in(dsn) or "")
    assert shown(dsn) == "(hidden)"


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
        assert "hunter2" not in shown(dsn)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_no_password_that_libpq_can_have_is_shown(password: str) -> None:
    dsn = make_conninfo("", host="h", password=password, dbname="d")
    assert shown(dsn) == "host=h dbname=d"
