"""The page: templates filled by Jinja with escaping always on, so that nothing from outside can become markup.

A template's texts are English and go through `t` or `n`, which know the French ones; a test sees to it that all are
there. Where a name is misspelt rendering fails, instead of leaving a hole.
"""

import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cdc_sync import __version__
from cdc_sync.admin.access import Visitor
from cdc_sync.admin.chart import HEIGHT, HOURS, WIDTH
from cdc_sync.admin.language import Language
from cdc_sync.admin.overview import Overview, Story
from cdc_sync.core.instants import from_datetime, iso
from cdc_sync.store.protocol import HistoryEntry

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


class Pages:
    """Renders every page."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("cdc_sync.admin"),
            # Read once: no file is opened any more when the process has none left to open.
            auto_reload=False,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"iso": iso, "shell": _shell}
        self._environment.globals |= {"version": __version__, "hours": HOURS, "width": WIDTH, "height": HEIGHT}

    def log_in(self, language: Language, *, refused: bool) -> str:
        """The form that asks for the token; `refused`: what was given was wrong."""
        return self._render("login.html", language, refused=refused)

    def refusal(self, language: Language, title: str, message: str) -> str:
        """A page that says what could not be done."""
        return self._render("refusal.html", language, title=title, message=message)

    def overview(self, language: Language, overview: Overview, visitor: Visitor, *, has_actions: bool) -> str:
        """The page at `/`; takes the messages that the visitor's session has for it."""
        messages: list[str] = []
        if visitor.session is not None:
            messages, visitor.session.messages = visitor.session.messages, messages
        return self._render(
            "overview.html",
            language,
            now=overview.now,
            overview=overview,
            visitor=visitor,
            has_actions=has_actions,
            messages=messages,
        )

    def story(self, language: Language, story: Story, visitor: Visitor) -> str:
        """One application's page."""
        return self._render(
            "application.html", language, now=story.now, story=story, visitor=visitor, searched=story.application_id
        )

    def _render(self, template: str, language: Language, *, now: int = 0, **values: Any) -> str:
        return self._environment.get_template(template).render(
            language=language,
            t=language.text,
            n=language.counted,
            number=language.number,
            length=language.length,
            ago=lambda at: language.ago(at, now),
            ago_iso=lambda text: language.ago(_instant(text), now),
            outcome=lambda event: language.text(
                _OUTCOMES["acknowledged" if event.detail.get("acknowledged") else event.event]
            ),
            happened=lambda event: _happened(language, event),
            **values,
        )


def _happened(language: Language, event: HistoryEntry) -> str:
    """What happened, in words; a later version's word is shown as it is."""
    word = _HAPPENINGS.get(event.event)
    return event.event if word is None else language.text(word)


def _instant(text: str) -> int:
    """The inverse of `iso`."""
    return from_datetime(datetime.fromisoformat(text))


def _shell(words: Sequence[str]) -> str:
    """A command's words as a shell takes them."""
    return shlex.join(words)
