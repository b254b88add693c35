"""The page: Jinja templates with escaping always on.

Texts are English in the templates and here, and French in `locale/fr.po`, a gettext catalogue, read uncompiled. A
reason (`core.reasons`) has its French under its code. Any other sentence is shown as it is, marked as English.
"""

import re
import shlex
from ast import literal_eval
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cdc_sync import __version__
from cdc_sync.core.conditions import kind_of
from cdc_sync.core.content import from_datetime, iso
from cdc_sync.core.reasons import Reason
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.packaged import text

from .report import watch_of

_FIELD = re.compile(r'^(msg\S+) ((?:".*"\n?)+)', re.MULTILINE)
"""A keyword of a gettext catalogue, and its text, as string literals."""

_NEVER_BROKEN = re.compile(r" (?=[:;?!»])|(?<=«) |(?<=\)s) (?=(?:ms|s|min|h|j)\b)")
"""French spaces before a mark, within « », and before a unit."""

_OURS = re.compile(r"\b(en|fr)\b", re.IGNORECASE)

_OF_TRANSITION = re.compile(r"^deleted(?=$| → )|^\(new\)(?= → )|(?:^|(?<=, ))job(?= [^→]* → [^→]*$)")
"""The words of `diff.transition` beside labels and jobs."""

_QUOTED = frozenset({"answer", "message", "found", "hint", "mistake", "remedies", "who", "wrong"})
"""Values of reasons that are English, or foreign texts."""

_UNITS = {"d": 86_400, "h": 3_600, "min": 60, "s": 1, "ms": 0.001}
"""Seconds of each unit."""

_AS_ENGLISH = Markup('<span lang="en">%s</span>')


# There is one object of each, which the cache of environments takes as its key: the mappings have no hash.
@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """Texts, numbers and durations in one language.

    Attributes:
        texts: the translations of English texts, singular first.
        reasons: the translations of reasons, by their codes.
    """

    code: Literal["en", "fr"]
    texts: Mapping[str, list[str]]
    reasons: Mapping[str, str]

    def gettext(self, text: str, /, **values: object) -> Markup:
        """A text with escaped values."""
        return Markup(self.texts.get(text, [text])[0]) % values  # noqa: S704 - our own text

    def ngettext(self, one: str, many: str, num: int, /, **values: object) -> Markup:
        """A text about `num` things; 0 is singular in French."""
        is_plural = num > 1 or (num == 0 and self.code == "en")
        text = self.texts.get(one, [one, many])[is_plural]
        return Markup(text) % {"num": self.number(num), **values}  # noqa: S704 - our own text

    def reason(self, reason: str) -> Markup:
        """A reason, in French if the catalogue has its code and values."""
        if self.code == "en":
            return escape(reason)
        if isinstance(reason, Reason):
            with suppress(KeyError):
                return Markup(self.reasons[reason.code]) % {  # noqa: S704 - our own text
                    name: self.reason(value)
                    if name.startswith("reason")
                    else _AS_ENGLISH % value
                    if name in _QUOTED
                    else value
                    for name, value in reason.values.items()
                }
        return _AS_ENGLISH % str(reason)

    def condition(self, name: str) -> Markup:
        """The subject of a condition."""
        subject = watch_of(name)
        return self.reason(Reason(name, f"condition {kind_of(name)}{' of' if subject else ''}", {"subject": subject}))

    def word(self, kind: str, word: str) -> Markup:
        """A word that the store keeps, such as an event of the history."""
        return self.reason(Reason(word, f"{kind} {word}", {}))

    def transition(self, text: str) -> str:
        """A transition (`diff.transition`) with our words, not labels and jobs, in this language."""
        ours = {"deleted": self.gettext("deleted"), "(new)": self.gettext("(new)"), "job": self.gettext("job")}
        return _OF_TRANSITION.sub(lambda found: str(ours[found[0]]), text)

    def number(self, number: int) -> str:
        """A whole number with separated thousands."""
        return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}" if self.code == "fr" else ",")

    def length(self, seconds: float) -> str:
        """A duration in the largest unit of which it has two; one second is enough."""
        unit = next((unit for unit, size in _UNITS.items() if seconds >= (1 if unit == "s" else 2 * size)), "s")
        number = max(round(seconds / _UNITS[unit]), 0)
        space, day = "\N{NO-BREAK SPACE}" if self.code == "fr" else " ", self.gettext("d")
        return f"{number}{space}{day if unit == 'd' else unit}"

    def ago(self, at: int, now: int) -> str:
        """How long ago, or far ahead, an instant is; in milliseconds since the epoch."""
        length = self.length(abs(now - at) // 1000)
        if at > now:
            return self.gettext("in %(length)s", length=length)
        return self.gettext("%(length)s ago", length=length)

    def moment(self, at: int) -> str:
        """An instant in this machine's zone; in milliseconds since the epoch."""
        here = datetime.fromisoformat(iso(at)).astimezone()
        return here.strftime("%d/%m/%Y à %H:%M:%S" if self.code == "fr" else "%Y-%m-%d %H:%M:%S %Z")


def _french() -> Language:
    """Reads the catalogue, whose entries are separated by blank lines."""
    texts, reasons = dict[str, list[str]](), dict[str, str]()
    for block in text("admin/locale/fr.po").split("\n\n"):
        entry = {keyword: literal_eval(f"({quoted})") for keyword, quoted in _FIELD.findall(block)}
        forms = [_NEVER_BROKEN.sub("\N{NO-BREAK SPACE}", entry[name]) for name in entry if name.startswith("msgstr")]
        if "msgctxt" in entry:
            reasons[entry["msgctxt"]] = forms[0]
        elif entry:
            texts[entry["msgid"]] = forms
    return Language("fr", texts, reasons)


LANGUAGES = {"en": Language("en", {}, {}), "fr": _french()}


def chosen(asked: str | None, accept_language: str) -> Language:
    """The requested language, or the browser's first that we have, or English."""
    found = _OURS.search(f"{asked} {accept_language}")
    return LANGUAGES[found[0].lower() if found else "en"]


@cache
def _environment(language: Language) -> Environment:
    made = Environment(
        loader=PackageLoader("cdc_sync.admin"),
        extensions=["jinja2.ext.i18n"],
        # Read once: the process may have no descriptors left.
        auto_reload=False,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"iso": iso, "shell": shlex.join, "total": lambda bar: sum(bar.values())}
    made.globals |= {name: getattr(language, name) for name in _FOR_TEMPLATES}
    made.globals |= {
        "language": language,
        "version": __version__,
        "most": MOST_LISTED,
        # The inverse of `iso`.
        "from_iso": lambda text: from_datetime(datetime.fromisoformat(text)),
    }
    return made


_FOR_TEMPLATES = ("gettext", "ngettext", "reason", "condition", "word", "transition", "number", "length", "moment")


def render(template: str, language: Language, now: int, **values: Any) -> str:
    """A page; `now` is in milliseconds since the epoch."""
    made = _environment(language).get_template(template)
    return made.render(now=now, ago=lambda at: language.ago(at, now), **values)
