"""Lengths of time and sizes, as people write them: `500ms`, `30s`, `7d`; `256MB`, `64KiB`."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from cdc_sync.config.problems import Mistake

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

_Quantity = TypeVar("_Quantity", timedelta, int)

_A_DURATION = "expected a duration such as 500ms, 30s, 5m, 2h or 7d"
_A_SIZE = "expected a size such as 256MB, 64KiB or a plain number of bytes"


def _read(value: Any, pattern: re.Pattern[str], units: Mapping[str, int], expected: str, known: str) -> Fraction:
    """Read a number and one of the units, of which `known` tells people."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    match = pattern.fullmatch(text)
    if match is not None:
        return Fraction(match[1]) * units[match[2]]
    if text.startswith("-") and pattern.fullmatch(text[1:]):
        raise Mistake("must not be negative")
    raise Mistake(expected, f"the units are {known}" if _BARE_NUMBER.match(text) else None)


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
    if str(value) == "0":
        return timedelta(0)
    milliseconds = _read(value, _DURATION, _MILLISECONDS, _A_DURATION, "ms, s, m, h and d, written without a blank")
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
    size = _read(value, _SIZE, _BYTES, _A_SIZE, "B, kB, MB, GB, TB, KiB, MiB, GiB and TiB")
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


def at_least(least: _Quantity, written: Callable[[_Quantity], str]) -> AfterValidator:
    """Refuse less."""

    def check(quantity: _Quantity) -> _Quantity:
        if quantity < least:
            raise Mistake(f"must be at least {written(least)}")
        return quantity

    return AfterValidator(check)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "integer"], "pattern": DURATION_PATTERN, "maximum": 0, "minimum": 0}),
]
"""A length of time, 0 or more; written `500ms`, `30s`, `5m`, `2h`, `7d`."""

PositiveDuration = Annotated[Duration, at_least(timedelta(milliseconds=1), format_duration)]
"""A length of time above zero."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": SIZE_PATTERN, "minimum": 0}),
]
"""A size in bytes; written `256MB`, `64KiB` or as a plain number."""
