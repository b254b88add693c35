"""A connection string for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from cdc_sync.config import Database
from cdc_sync.config.dsn import place, shown


@pytest.mark.parametrize(
    ("dsn", "text"),
    [
        ("", "(PG* variables)"),
        ("postgresql://cdc_sync@/ats", "dbname=ats user=cdc_sync"),
        ("postgres://u:hunter2@h:5432/db?sslmode=require", "host=h port=5432 dbname=db user=u sslmode=require"),
        (
            "postgresql://u@h/db?password=hunter2&sslpassword=hunter2&connect_timeout=5",
            "host=h dbname=db user=u connect_timeout=5",
        ),
        ("postgresql://u@h/db?pass%77ord=hunter2", "host=h dbname=db user=u"),
        ("postgresql://u:hunter2@h1:1,[::1]:2/db", "host=h1,::1 port=1,2 dbname=db user=u"),
        ("postgresql:///ats?host=/run/postgresql", "host=/run/postgresql dbname=ats"),
        ("host=h user=u password=hunter2 dbname=d", "host=h dbname=d user=u"),
        ("postgresql://u:hun?ter2#3@h/db", "host=h dbname=db user=u"),
        ("host = h password = 'hun''ter2'", "(hidden)"),
        (r"host='a b' password='hun\'ter2' dbname=d", "host='a b' dbname=d"),
        ("user=app@server host=h", "host=h user=app@server"),
        ("password=hunter2", "(hidden)"),
    ],
)
def test_what_is_harmless_is_shown(dsn: str, text: str) -> None:
    assert shown(dsn) == text


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hun@ter2@h/db",
        "postgresql://u:hun/ter2@h/db",
        "postgresql://u:hun ter2@h/db",
        "postgresql://u:hunter2/db",
        "password=hun ter2 host=h",
        "dbname=postgresql://u:hunter2@h/db",
        "hunter2",
    ],
)
def test_a_dsn_that_is_refused_is_hidden_as_a_whole(dsn: str) -> None:
    assert shown(dsn) == "(hidden)"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_no_password_that_libpq_can_have_is_shown(password: str) -> None:
    dsn = make_conninfo("", host="h", password=password, dbname="d")
    assert shown(dsn) == "host=h dbname=d"


@given(st.text(st.sampled_from("abz:/@?#&=%' ,[].09\\"), min_size=1))
def test_no_mangled_uri_shows_its_password(junk: str) -> None:
    assert "hunter2" not in shown(f"postgresql://u:{junk}hunter2{junk}@h/db")
    assert "hunter2" not in shown(f"host=h password={junk}hunter2")


def test_a_database_shows_itself_without_its_password() -> None:
    database = Database.model_validate({"dsn": "postgresql://u:hunter2@h/db"})
    assert database.shown() == "host=h dbname=db user=u"
    assert "hunter2" not in repr(database)


@pytest.mark.parametrize(
    ("dsn", "name"),
    [
        ("postgresql://u:hunter2@db.example:5433/ats", "ats@db.example"),
        ("host=/run/postgresql dbname=ats user=u", "ats"),
        ("dbname=ats", "ats"),
        ("host=a,b dbname=ats", "ats@a,b"),
        ("postgresql://u:p@ss@h/ats", None),
        ("dbname=postgresql://u:hunter2@h/d", None),
    ],
)
def test_a_connection_string_in_short(dsn: str, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGHOST", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    assert place(dsn) == name


def test_the_environment_completes_a_connection_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGDATABASE", "ats")
    assert place("") == "ats@db.example"
