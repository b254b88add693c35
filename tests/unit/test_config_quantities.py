"""Durations and sizes."""

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.configurations import a_config, complaint

from cdc_sync.config import json_schema
from cdc_sync.config.problems import SettingError
from cdc_sync.config.values import LONGEST, format_duration, parse_duration

MILLISECOND = timedelta(milliseconds=1)
PATTERN = json_schema()["$defs"]["HelloWork"]["properties"]["not_found_retry"]["pattern"]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", timedelta(0)),
        ("0s", timedelta(0)),
        ("500ms", timedelta(milliseconds=500)),
        ("1.5s", timedelta(milliseconds=1500)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("0.001s", MILLISECOND),
        ("3650d", LONGEST),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-5s", "must not be negative"),
        (timedelta(seconds=-1), "must not be negative"),
        ("1.5ms", "expected a whole number of milliseconds: nothing here is finer than 1ms"),
        ("0.0004ms", "expected a whole number of milliseconds: nothing here is finer than 1ms"),
        ("0.0000001s", "expected a whole number of milliseconds: nothing here is finer than 1ms"),
        ("1.0000001s", "expected a whole number of milliseconds: nothing here is finer than 1ms"),
        (timedelta(microseconds=1), "expected a whole number of milliseconds: nothing here is finer than 1ms"),
        ("-0s", "must not be negative"),
        (timedelta.max, "must not be longer than 3650d"),
        ("3651d", "must not be longer than 3650d"),
        ("999999999999999d", "must not be longer than 3650d"),
        *[
            (value, "expected a duration such as 500ms, 30s, 5m, 2h or 7d")
            for value in ("30", 30, "30 s", "30S", "1h30m", "s", "", "ten seconds", "-", "٣s", "1e3s")
        ],
        *[(value, "expected a duration such as 500ms, 30s, 5m, 2h or 7d") for value in (None, True, 1.5, ["1s"])],
    ],
)
def test_an_error_of_a_duration_has_its_reason(value: Any, reason: str) -> None:
    with pytest.raises(SettingError) as raised:
        parse_duration(value)
    assert raised.value.message == reason


@given(st.integers(min_value=0, max_value=LONGEST // MILLISECOND).map(lambda count: count * MILLISECOND))
def test_a_duration_comes_back_from_its_text(length: timedelta) -> None:
    text = format_duration(length)
    assert parse_duration(text) == length
    assert re.search(PATTERN, text)


@given(st.text(alphabet="0123456789.msdh -", max_size=8))
def test_editors_accept_the_durations_that_the_loader_accepts(text: str) -> None:
    """But for what the grammar of a pattern cannot tell: too long, too fine."""
    try:
        parse_duration(text)
    except SettingError as error:
        accepted = error.message.startswith(("expected a whole number", "must not be longer"))
    else:
        accepted = True
    assert accepted == (re.search(PATTERN, text) is not None)


BACKLOG = "watches.applications.capture.max_backlog"


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("256MB", 256_000_000),
        ("64KiB", 65_536),
        ("150.5kB", 150_500),
        ("100KB", 100_000),
        ("2GiB", 2 * 2**30),
        ("1TB", 10**12),
        ("100000B", 100_000),
        ("100000", 100_000),
        (100_000, 100_000),
        ("1024TiB", 2**50),
    ],
)
def test_a_size_counts_by_1000_or_with_an_i_by_1024(value: Any, size: int) -> None:
    watch = a_config({BACKLOG: value}).watches["applications"]
    assert watch.capture.max_backlog == size


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-1MB", "must not be negative"),
        (-1, "must not be negative"),
        ("100000.5B", "expected a whole number of bytes"),
        ("100.0000001kB", "expected a whole number of bytes"),
        ("1025TiB", "must not be larger than 1024TiB"),
        *[
            (value, "expected a size such as 256MB, 64KiB or a plain number of bytes")
            for value in ("256 MB", "256mb", "256M", "5Mbit", "256MB sheets", "MB", "", "many", None, True, ["1"])
        ],
    ],
)
def test_an_error_of_a_size_has_its_reason(value: Any, reason: str) -> None:
    assert complaint({BACKLOG: value}).startswith(f"{BACKLOG}: {reason}")
