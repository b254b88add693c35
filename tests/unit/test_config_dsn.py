"""A connection string for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from cdc_sync.config.dsn import shown


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
