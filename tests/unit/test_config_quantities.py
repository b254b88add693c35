"""Durations and sizes."""

from datetime import timedelta
from typing import Any

import pytest

from cdc_sync.config.values import SettingError, parse_duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", timedelta(0)),
        ("500ms", timedelta(milliseconds=500)),
        ("1.5s", timedelta(milliseconds=1500)),
        ("5m", timedelta(minutes=5)),
        ("2h", timedelta(hours=2)),
        ("3650d", timedelta(days=3650)),
        ("0.001s", timedelta(milliseconds=1)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "value",
    [
        *("-5s", "-0s", "999999999999999d", "999999999.999999999d"),
        *("30", 30, "30 s", "30S", "1h30m", "s", "", "ten seconds", "-", "٣s", "1e3s", None, True, 1.5, ["1s"]),
    ],
)
def test_what_is_no_duration_is_an_error(value: Any) -> None:
    with pytest.raises(SettingError):
        parse_duration(value)
