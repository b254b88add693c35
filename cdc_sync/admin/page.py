"""The page: Jinja templates with escaping always on.

Texts are English in the templates and here, and French in `locale/fr.po`, a gettext catalogue, read uncompiled. A
reason (`core.reasons`) has its French under its code. Any other sentence is shown as it is, marked as English.
"""

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cdc_sync import __version__
from cdc_sync.admin.overview import BAR, HELD, HOURS
from cdc_sync.core.conditions import kind_of
from cdc_sync.core.content import from_datetime, iso
from cdc_sync.core.reasons import Reason
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.packaged import text

_NEVER_BROKEN = re.compile(r" (?=[:;?!»])|(?<=«) |(?<=\)s) (?=(?:ms|s|min|h|j)\b)")
"""French spaces before a mark, within « », and before a unit."""

_OURS = re.compile(r"\b(en|fr)\b", re.IGNORECASE)

_OF_TRANSITION = re.compile(r"^deleted(?=$| → )|^\(new\)(?= → )|(?:^|(?<=, ))job(?= [^→]* → [^→]*$)")
"""The words of `diff.transition` beside labels and jobs."""

_QUOTED = frozenset({"answer", "message", "found", "hint", "mistake", "remedies", "who", "wrong"})
"""Values of reasons that are English, or foreign texts."""

_AS_ENGLISH = Markup('<span lang="en">%s</span>')

N_ = str
"""Marks a text whose French is looked up later."""

_UNITS = ((172_800, 86_400, N_("%(num)s d")), (3_600, 3_600, N_("%(num)s h")), (60, 60, N_("%(num)s min")))
"""From so many seconds on, a length is given in a unit of so many; days from two on."""


def _entries(catalogue: str) -> Iterator[dict[str, str]]:
    """A gettext catalogue's entries, separated by blank lines: keyword → text."""
    for block in catalogue.split("\n\n"):
        entry, keyword = dict[str, str](), ""
        for line in block.splitlines():
            if not line.startswith("#"):
                named, _, text = line.partition('"')
                keyword = named.strip() or keyword
                entry[keyword] = entry.get(keyword, "") + ast.literal_eval(f'"{text}')
        if entry:
            yield entry


@cache
def _french() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, str]]:
    """The French of each text, singular first, and of each reason's code."""
    texts, reasons = dict[str, tuple[str, ...]](), dict[str, str]()
    for entry in _entries(text("admin/locale/fr.po")):
        forms = tuple(
            _NEVER_BROKEN.sub("\N{NO-BREAK SPACE}", text) for key, text in entry.items() if key.startswith("msgstr")
        )
        if "msgctxt" in entry:
            reasons[entry["msgctxt"]] = forms[0]
        else:
            texts[entry["msgid"]] = forms
    return texts, reasons


@dataclass(frozen=True, slots=True)
class Language:
    """Texts, numbers and durations in one language."""

    code: Literal["en", "fr"]

    def gettext(self, text: str, /, **values: object) -> Markup:
        """A text with escaped values."""
        return Markup(_french()[0].get(text, (text,))[0] if self.code == "fr" else text) % values  # noqa: S704 - our own text

    def ngettext(self, one: str, many: str, num: int, /, **values: object) -> Markup:
        """A text about `num` things; 0 is singular in French."""
        forms: tuple[str, ...] = (one, many)
        is_plural = num != 1
        if self.code == "fr":
            forms, is_plural = _french()[0].get(one, forms), num > 1
        return Markup(forms[is_plural]) % {"num": self.number(num), **values}  # noqa: S704 - as above

    def reason(self, reason: str) -> Markup:
        """A reason, in French if the catalogue has its code and values."""
        if self.code == "en":
            return escape(reason)
        if isinstance(reason, Reason):
            with suppress(KeyError):
                return Markup(_french()[1][reason.code]) % {  # noqa: S704 - our own text
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
        kind = kind_of(name)
        subject = name[len(kind) + 1 :]
        return self.reason(Reason(name, f"condition {kind}{' of' if subject else ''}", {"subject": subject}))

    def transition(self, text: str) -> str:
        """A transition (`diff.transition`) with our words, not labels and jobs, in this language."""
        ours = {"deleted": self.gettext("deleted"), "(new)": self.gettext("(new)"), "job": self.gettext("job")}
        return _OF_TRANSITION.sub(lambda found: str(ours[found[0]]), text)

    def number(self, number: int) -> str:
        """A whole number with separated thousands."""
        return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}" if self.code == "fr" else ",")

    def length(self, seconds: float) -> str:
        """A duration in its largest unit."""
        if 0 < seconds < 1:
            return self.gettext("%(num)s ms", num=max(round(seconds * 1000), 1))
        for least, unit, named in _UNITS:
            if seconds >= least:
                return self.gettext(named, num=round(seconds / unit))
        return self.gettext("%(num)s s", num=round(max(seconds, 0.0)))

    def ago(self, at: int, now: int) -> str:
        """How long ago, or far ahead, an instant is; in milliseconds since the epoch."""
        length = self.length(abs(now - at) // 1000)
        if at > now:
            return self.gettext("in %(length)s", length=length)
        return self.gettext("%(length)s ago", length=length)

    def moment(self, at: int) -> str:
        """An instant in this machine's zone; in milliseconds since the epoch."""
        here = datetime.fromisoformat(iso(at)).astimezone()
        if self.code == "fr":
            return f"{here:%d/%m/%Y} à {here:%H:%M:%S}"
        return f"{here:%Y-%m-%d %H:%M:%S %Z}"


LANGUAGES = {"en": Language("en"), "fr": Language("fr")}


def chosen(asked: str | None, accept_language: str) -> Language:
    """The requested language, or the browser's first that we have, or English."""
    if asked in LANGUAGES:
        return LANGUAGES[asked]
    preferred = _OURS.search(accept_language)
    return LANGUAGES[preferred[0].lower() if preferred else "en"]


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
    made.filters |= {"iso": iso, "shell": shlex.join}
    made.globals |= {"version": __version__, "hours": HOURS, "step": BAR, "shown": HELD, "most": MOST_LISTED}
    made.globals |= {name: getattr(language, name) for name in _FOR_TEMPLATES} | {"language": language}
    # The inverse of `iso`.
    made.globals["from_iso"] = lambda text: from_datetime(datetime.fromisoformat(text))
    return made


_FOR_TEMPLATES = ("gettext", "ngettext", "reason", "condition", "transition", "number", "length", "moment")


def render(template: str, language: Language, now: int, **values: Any) -> str:
    """A page; `now` is in milliseconds since the epoch."""
    made = _environment(language).get_template(template)
    return made.render(now=now, ago=lambda at: language.ago(at, now), **values)
