"""The page's two languages: English, which its texts are written in, and French, by the browser's wish.

What the daemon, the database and HelloWork say is shown as they say it; the page marks it as English where its own
language is another.
"""

import re
from dataclasses import dataclass
from typing import Literal

from cdc_sync.admin.french import FRENCH

Code = Literal["en", "fr"]

_BEFORE_A_MARK = re.compile(" (?=[:;?!])")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

_SECONDS, _MINUTES, _HOURS, _DAYS = "{number} s", "{number} min", "{number} h", "{number} d"
_AHEAD, _AGO = "in {length}", "{length} ago"

TEXTS = (_SECONDS, _MINUTES, _HOURS, _DAYS, _AHEAD, _AGO)
"""The texts of this module."""


@dataclass(frozen=True, slots=True)
class Language:
    """Texts, numbers and lengths of time in one language."""

    code: Code

    def text(self, english: str, /, **values: object) -> str:
        """A text, with values in the places that it names in braces.

        Raises:
            KeyError: it has no French, in whichever language it is asked for.
        """
        in_french = FRENCH[english]
        text = _BEFORE_A_MARK.sub("\N{NO-BREAK SPACE}", in_french) if self.code == "fr" else english
        return text.format(**values) if values else text

    def counted(self, one: str, many: str, number: int) -> str:
        """A text about a number of things; in French 0 is singular."""
        singular = number in (0, 1) if self.code == "fr" else number == 1
        return self.text(one if singular else many, number=self.number(number))

    def number(self, number: int) -> str:
        """A whole number, its thousands set apart."""
        return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}" if self.code == "fr" else ",")

    def length(self, seconds: float) -> str:
        """A length of time, in the largest unit that leaves a number of 1 or more."""
        seconds = max(seconds, 0.0)
        if seconds < _MINUTE:
            return self.text(_SECONDS, number=round(seconds))
        if seconds < _HOUR:
            return self.text(_MINUTES, number=round(seconds / _MINUTE))
        if seconds < 2 * _DAY:
            return self.text(_HOURS, number=round(seconds / _HOUR))
        return self.text(_DAYS, number=round(seconds / _DAY))

    def ago(self, at: int, now: int) -> str:
        """How long ago an instant is, or how far ahead; both in milliseconds since the epoch."""
        if at > now:
            return self.text(_AHEAD, length=self.length((at - now) / 1000))
        return self.text(_AGO, length=self.length((now - at) / 1000))


ENGLISH_PAGE = Language("en")
FRENCH_PAGE = Language("fr")


def preferred(accept_language: str) -> Language:
    """The language that a browser's `Accept-Language` (RFC 9110, 12.5.4) prefers; English if it names neither."""
    best, best_weight = ENGLISH_PAGE, 0.0
    for part in accept_language.split(","):
        tag, _, parameters = part.strip().partition(";")
        offered = {"fr": FRENCH_PAGE, "en": ENGLISH_PAGE}.get(tag.strip().lower().partition("-")[0])
        weight = _weight(parameters)
        if offered is not None and weight > best_weight:
            best, best_weight = offered, weight
    return best


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if not name:
        return 1.0
    try:
        return min(float(value), 1.0) if name.strip().lower() == "q" else 1.0
    except ValueError:
        return 0.0
