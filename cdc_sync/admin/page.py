"""The page: templates filled by Jinja with escaping always on, so that nothing from outside can become markup.

Its languages are English, in which its texts are written, and French, by the browser's wish. A text goes through `t` or
`n`, which know the French one; a test sees to it that all are there. What the daemon, the database and HelloWork say is
shown as they say it; the page marks it as English where its own language is another. Where a name is misspelt rendering
fails, instead of leaving a hole.
"""

import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from cdc_sync import __version__
from cdc_sync.admin.report import HEIGHT, HELD, HOURS, WIDTH, local_time
from cdc_sync.core.instants import from_datetime
from cdc_sync.core.payload import iso

FRENCH: dict[str, str] = yaml.safe_load(files("cdc_sync.admin").joinpath("templates/french.yaml").read_text("utf-8"))
"""The French texts, by the English ones."""

_BEFORE_A_MARK = re.compile(" (?=[:;?!])")
_OFFER = re.compile(r"(?P<tag>fr|en)\b[^;]*(?:;\s*q=(?P<weight>\d(?:\.\d*)?)\s*)?", re.IGNORECASE)

_OUTCOMES = {"acknowledged": "acknowledged", "answered": "to be tried again", "dead-lettered": "given up"}
_HAPPENINGS = {
    **_OUTCOMES,
    "queued": "to be sent",
    "held": "held",
    "cancelled": "undone before it was sent",
    "attempted": "called, its answer is not known",
    "suspected": "its row seems gone",
    "released": "released by a person",
    "discarded": "discarded by a person",
    "retried": "retried by a person",
    "resend": "resent by a person",
}
"""The history's words for what happens to an application, as the page says them."""

_DONE = {
    "released": ("{number} entry was released.", "{number} entries were released."),
    "discarded": ("{number} entry was discarded.", "{number} entries were discarded."),
    "paused": ("Sending is paused.", "Sending is paused."),
    "resumed": ("Sending is resumed.", "Sending is resumed."),
    "retried": ("{number} dead letter is sent again.", "{number} dead letters are sent again."),
}
_LENGTHS = ((172_800, "{number} d", 86_400), (3_600, "{number} h", 3_600), (60, "{number} min", 60))
_AHEAD, _AGO, _SECONDS = "in {length}", "{length} ago", "{number} s"

TEXTS = frozenset(
    (
        *_HAPPENINGS.values(),
        *(text for both in _DONE.values() for text in both),
        *(text for _, text, _ in _LENGTHS),
        *(_AHEAD, _AGO, _SECONDS),
    )
)
"""The texts that do not stand in templates."""


@dataclass(frozen=True, slots=True)
class Language:
    """Texts, numbers and lengths of time in one language."""

    code: Literal["en", "fr"]

    def text(self, english: str, /, **values: object) -> str:
        """A text, with values in the places that it names in braces.

        Raises:
            KeyError: it has no French, whatever this language is.
        """
        in_french = FRENCH[english]
        text = _BEFORE_A_MARK.sub("\N{NO-BREAK SPACE}", in_french) if self.code == "fr" else english
        return text.format(**values) if values else text

    def counted(self, one: str, many: str, number: int) -> str:
        """A text about a number of things; in French 0 is singular."""
        singular = number in (0, 1) if self.code == "fr" else number == 1
        return self.text(one if singular else many, number=self.number(number))

    def done(self, what: str, number: int) -> str:
        """What an action did."""
        return self.counted(*_DONE[what], number)

    def number(self, number: int) -> str:
        """A whole number, its thousands set apart."""
        return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}" if self.code == "fr" else ",")

    def length(self, seconds: float) -> str:
        """A length of time, in the largest unit that leaves a number of 1 or more, or of 2 days or more."""
        for least, text, unit in _LENGTHS:
            if seconds >= least:
                return self.text(text, number=round(seconds / unit))
        return self.text(_SECONDS, number=round(max(seconds, 0.0)))

    def ago(self, at: int, now: int) -> str:
        """How long ago an instant is, or how far ahead; both in milliseconds since the epoch."""
        return self.text(_AHEAD if at > now else _AGO, length=self.length(abs(now - at) / 1000))

    def happened(self, event: str) -> str:
        """What happened, in words; a later version's word is shown as it is."""
        return self.text(_HAPPENINGS[event]) if event in _HAPPENINGS else event


ENGLISH_PAGE = Language("en")
FRENCH_PAGE = Language("fr")


def preferred(accept_language: str) -> Language:
    """The language that a browser's `Accept-Language` (RFC 9110, 12.5.4) prefers; English if it names neither."""
    best, best_weight = ENGLISH_PAGE, 0.0
    for part in accept_language.split(","):
        if offer := _OFFER.fullmatch(part.strip()):
            weight = min(float(offer["weight"] or 1), 1.0)
            if weight > best_weight:
                best, best_weight = FRENCH_PAGE if offer["tag"].lower() == "fr" else ENGLISH_PAGE, weight
    return best


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("cdc_sync.admin"),
        # Read once: no file is opened any more when the process has none left to open.
        auto_reload=False,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"iso": iso, "local": local_time, "shell": shlex.join}
    made.globals |= {"version": __version__, "hours": HOURS, "width": WIDTH, "height": HEIGHT, "shown": HELD}
    return made


def render(template: str, language: Language, now: int, **values: Any) -> str:
    """A page in a language; `now` is in milliseconds since the epoch, for those that say how long ago things were."""
    return (
        _environment()
        .get_template(template)
        .render(
            now=now,
            language=language,
            t=language.text,
            n=language.counted,
            number=language.number,
            length=language.length,
            ago=lambda at: language.ago(at, now),
            # The inverse of `iso`.
            ago_iso=lambda text: language.ago(from_datetime(datetime.fromisoformat(text)), now),
            outcome=lambda event: language.happened(
                "acknowledged" if event.detail.get("acknowledged") else event.event
            ),
            happened=lambda event: language.happened(event.event),
            **values,
        )
    )
