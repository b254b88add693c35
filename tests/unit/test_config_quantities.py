"""Durations and sizes."""

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.configurations import a_config, complaint

from cdc_sync.config.problems import SettingError
from cdc_sync.config.values import LONGEST, format_duration, parse_duration

MILLISECOND = timedelta(milliseconds=1)


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
    "value",
    [
        *("-5s", "-0s", "999999999999999d"),
        *("30", 30, "30 s", "30S", "1h30m", "s", "", "ten seconds", "-", "٣s", "1e3s", None, True, 1.5, ["1s"]),
    ],
    ids=str,
)
def test_what_is_no_duration_is_an_error(value: Any) -> None:
    with pytest.raises(SettingError):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=10**9 - 1).map(lambda count: count * MILLISECOND))
def test_a_duration_comes_back_from_its_text(length: timedelta) -> None:
    text = format_duration(length)
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["3651d", "0.0001ms", "0"])
def test_a_duration_is_neither_too_long_nor_too_short(text: str) -> None:
    assert re.match(
        "hellowork.timeout: (must be at least 1ms|Input should be less)", complaint({"hellowork.timeout": text})
    )


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
    "value",
    [
        *("-1MB", -1, "1025TiB", "MB", "", "many", None, True, ["1"]),
    ],
    ids=str,
)
def test_what_is_no_size_is_an_error(value: Any) -> None:
    assert complaint({BACKLOG: value}).startswith(f"{BACKLOG}: ")
