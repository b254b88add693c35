"""Lengths of time and sizes, as people write them: `500ms`, `30s`, `7d`; `256MB`, `64KiB`."""

import re
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from cdc_sync.config.mistakes import Mistake

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
# Bounded, because the time to convert digits to a number grows with the square of their count.
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_SIZE = re.compile(rf"({_NUMBER})({'|'.join(_BYTES)})")
_BARE_NUMBER = re.compile(_NUMBER)

LONGEST = timedelta(days=3650)
"""No duration is longer: every sum with a date must stay within what Python and PostgreSQL can write."""
LARGEST = 2**50
"""No size is larger (1 PiB): it must fit PostgreSQL's bigint."""

REFERENCE_PATTERN = r".*\$\{[^}]+\}.*"
"""Text with a `${…}` in it: what it stands for is not known until the file is loaded."""
DURATION_PATTERN = rf"^(0|{_NUMBER}(ms|s|m|h|d)|{REFERENCE_PATTERN})$"
SIZE_PATTERN = rf"^({_NUMBER}({'|'.join(_BYTES)})|{REFERENCE_PATTERN})$"

_A_DURATION = "expected a duration such as 500ms, 30s, 5m, 2h or 7d"
_A_SIZE = "expected a size such as 256MB, 64KiB or a plain number of bytes"


def parse_duration(value: Any) -> timedelta:
    """Read a duration: a number, decimals allowed, and one of the units ms, s, m, h and d; or plain `0`.

    A `timedelta` is taken as it is, so that a configuration can be made in code.

    Raises:
        Mistake: it is not one, it is negative, finer than a millisecond, or longer than ten years.
    """
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise Mistake("must not be negative")
        return value
    text = _text(value, _A_DURATION)
    if text == "0":
        return timedelta(0)
    match = _DURATION.fullmatch(text)
    if match is None:
        raise _not_a_quantity(text, _A_DURATION, _DURATION, "the units are ms, s, m, h and d, written without a blank")
    milliseconds = Fraction(match[1]) * _MILLISECONDS[match[2]]
    if milliseconds.denominator != 1:
        raise Mistake("expected a whole number of milliseconds: nothing here is finer than 1ms")
    if milliseconds > LONGEST / timedelta(milliseconds=1):
        raise Mistake(f"must not be longer than {format_duration(LONGEST)}")
    return timedelta(milliseconds=int(milliseconds))


def format_duration(length: timedelta) -> str:
    """Write a duration in the largest unit that gives a whole number; parts of a millisecond are dropped."""
    milliseconds = length // timedelta(milliseconds=1)
    if milliseconds == 0:
        return "0s"
    unit = next(unit for unit in reversed(_MILLISECONDS) if milliseconds % _MILLISECONDS[unit] == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"


def parse_size(value: Any) -> int:
    """Read a size in bytes: kB, MB, GB, TB count by 1000, KiB, MiB, GiB, TiB by 1024; an `int` is taken as it is.

    Raises:
        Mistake: it is not one, it is negative, has a part of a byte, or exceeds 1 PiB.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = _text(value, _A_SIZE)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _not_a_quantity(text, _A_SIZE, _SIZE, "the units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB")
    size = Fraction(match[1]) * _BYTES[match[2]]
    if size.denominator != 1:
        raise Mistake("expected a whole number of bytes")
    if size > LARGEST:
        raise Mistake(f"must not be larger than {format_size(LARGEST)}")
    return int(size)


def format_size(size: int) -> str:
    """Write a size in the largest unit that gives a whole number."""
    if size == 0:
        return "0B"
    factor, unit = max((factor, unit) for unit, factor in _BYTES.items() if unit and size % factor == 0)
    return f"{size // factor}{unit}"


def at_least(least: timedelta) -> AfterValidator:
    """Refuse shorter durations."""

    def check(length: timedelta) -> timedelta:
        if length < least:
            raise Mistake(f"must be at least {format_duration(least)}")
        return length

    return AfterValidator(check)


def at_least_bytes(least: int) -> AfterValidator:
    """Refuse smaller sizes."""

    def check(size: int) -> int:
        if size < least:
            raise Mistake(f"must be at least {format_size(least)}")
        return size

    return AfterValidator(check)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "pattern": DURATION_PATTERN, "maximum": 0, "minimum": 0}),
]
"""A length of time, 0 or more; written `500ms`, `30s`, `5m`, `2h`, `7d`."""

PositiveDuration = Annotated[Duration, at_least(timedelta(milliseconds=1))]
"""A length of time above zero."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "pattern": SIZE_PATTERN, "minimum": 0}),
]
"""A size in bytes; written `256MB`, `64KiB` or as a plain number."""


def _text(value: Any, expected: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Mistake(expected)
    return value


def _not_a_quantity(text: str, expected: str, pattern: re.Pattern[str], units: str) -> Mistake:
    if text.startswith("-") and pattern.fullmatch(text[1:]):
        return Mistake("must not be negative")
    return Mistake(expected, units if _BARE_NUMBER.match(text) else None)
