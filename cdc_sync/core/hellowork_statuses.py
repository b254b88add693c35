"""HelloWork's own statuses, to which it maps the labels that an ATS sends.

Source: HelloWork's pages "Envoi changements de statut" and "Réception des candidatures" (ATS Partner, v1). The spelling
is HelloWork's (`offred`, `whithdrawn`). An ATS may send any label: this list serves warnings, it never refuses one.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sending": "being processed by ATS Connect, not yet in the ATS",
        "sent": "sent to the ATS",
        "error": "sending to the ATS failed, no retry pending",
        "not_found": "the application was not found in the ATS",
        "seen_by_recruiter": "a recruiter looked at it",
        "interview_by_recruiter": "an interview is planned",
        "to_finalize": "being finalised",
        "hired": "hired",
        "pool": "kept in the talent pool",
        "offred": "an offer was made",
        "whithdrawn": "the candidate withdrew",
        "outdated": "abandoned",
        "rejected_and_contacted_by_recruiter": "not retained, and told so",
        "rejected": "not retained",
        "rejected_candidate": "the candidate refused the offer",
        "unknown": "the status that the ATS returned is unknown",
    }
)

OWN_SIDE: Final = frozenset({"sending", "sent", "error", "not_found", "unknown"})
"""Codes that describe HelloWork's side of the exchange: an ATS that sends one is almost surely misconfigured."""

_FOR_AN_ATS = tuple(code for code in MEANINGS if code not in OWN_SIDE)
_CLOSE = 0.85


def meant(status: str) -> str | None:
    """The code that a status misspells, as HelloWork spells it; None if it is a code, or like none."""
    if status in MEANINGS:
        return None
    simplified = "_".join(status.casefold().replace("-", " ").replace("_", " ").split())
    return next(iter(get_close_matches(simplified, _FOR_AN_ATS, n=1, cutoff=_CLOSE)), None)


def is_bare_number(label: str) -> bool:
    """Whether a label is a mere number, which means nothing to HelloWork."""
    return label.strip().lstrip("-").replace(".", "", 1).isdecimal()
