"""The page: templates filled by Jinja with escaping always on, so that nothing from outside can become markup.

A template's texts are English and go through `t` or `n`, which know the French ones; a test sees to it that all are
there. Where a name is misspelt rendering fails, instead of leaving a hole.
"""

import shlex
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cdc_sync import __version__
from cdc_sync.admin.language import Language
from cdc_sync.admin.overview import HEIGHT, HOURS, WIDTH
from cdc_sync.core.instants import from_datetime
from cdc_sync.core.payload import iso

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
    made.filters |= {"iso": iso, "shell": shlex.join}
    made.globals |= {"version": __version__, "hours": HOURS, "width": WIDTH, "height": HEIGHT}
    return made


def render(template: str, language: Language, now: int, **values: Any) -> str:
    """A page in a language; `now` is in milliseconds since the epoch, for those that say how long ago things were."""
    found = _environment().get_template(template)
    return found.render(
        now=now,
        language=language,
        t=language.text,
        n=language.counted,
        number=language.number,
        length=language.length,
        ago=lambda at: language.ago(at, now),
        # The inverse of `iso`.
        ago_iso=lambda text: language.ago(from_datetime(datetime.fromisoformat(text)), now),
        outcome=lambda event: language.text(
            _OUTCOMES["acknowledged" if event.detail.get("acknowledged") else event.event]
        ),
        happened=lambda event: _happened(language, event.event),
        **values,
    )


def _happened(language: Language, event: str) -> str:
    """What happened, in words; a later version's word is shown as it is."""
    return language.text(_HAPPENINGS[event]) if event in _HAPPENINGS else event
