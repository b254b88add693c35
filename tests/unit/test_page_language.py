"""The page's languages: each text has its French, known reasons too; numbers and times are said as people say them."""

import re
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import get_args

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract, extract_from_dir
from babel.messages.pofile import read_po
from markupsafe import escape

from cdc_sync.admin import page
from cdc_sync.admin.access import REFUSALS
from cdc_sync.admin.page import LANGUAGES
from cdc_sync.ats import errors
from cdc_sync.core import conditions, zone
from cdc_sync.core import events as seen
from cdc_sync.core.conditions import NONE, fold
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.core.replies import Mode, Reply
from cdc_sync.delivery.calling import describe
from cdc_sync.store import errors as store_errors

ENGLISH_PAGE, FRENCH_PAGE = LANGUAGES["en"], LANGUAGES["fr"]
_PLACE = re.compile(r"%\((\w+)\)s")
_KEPT = ("condition ", "event ", "origin ", "act ")
_METHODS = [("**.html", "jinja2.ext:babel_extract"), ("**.py", "python")]
_CATALOGUE = read_po(BytesIO(files("cdc_sync.admin").joinpath("locale/fr.po").read_bytes()))
_MESSAGES = [message for message in _CATALOGUE if message.id]


def test_every_text_has_its_french_and_every_french_its_text() -> None:
    extracted = Catalog()
    for _, _, text, _, context in extract_from_dir(Path(page.__file__).parent, _METHODS):
        extracted.add(text, context=context)

    assert {one.id for one in _MESSAGES if one.context is None} == {one.id for one in extracted if one.id}


def test_each_text_is_translated_and_keeps_its_places() -> None:
    assert [message.id for message in _MESSAGES if message.fuzzy or not _keeps_places(message)] == []


def _keeps_places(message: Message) -> bool:
    english = (message.id,) if isinstance(message.id, str) else message.id
    french = (message.string,) if isinstance(message.string, str) else message.string or ()
    return len(french) == len(english) and all(
        other
        # What we were doing is said in English: French leaves it out.
        and sorted({*_PLACE.findall(one)} - {"doing"}) == sorted({*_PLACE.findall(other)})
        and "%" not in _PLACE.sub("", one + other)
        for one, other in zip(english, french, strict=True)
    )


@cache
def _given() -> set[tuple[str, str]]:
    """The code and the text of every reason that the package gives."""
    package = Path(page.__file__).parents[1]
    keywords = {"coded": ((1, "c"), 2)}
    given = {
        (str(code), str(text))
        for file in package.rglob("*.py")
        if b"coded(" in (content := file.read_bytes())
        for _, text, _, code in extract("python", BytesIO(content), keywords)
    }
    given |= {*conditions._REASONS.values(), *zone._TEXTS.items(), *REFUSALS.items()}
    given |= {(f"endpoint-{mode}", f"{mode}: %(reason)s") for mode in get_args(Mode) if mode != "healthy"}
    texts = {each["code"]: each["text"] for each in errors.TEXTS["meanings"]}
    texts |= {**errors.TEXTS["messages"], **errors.TEXTS["reasons"]}
    texts |= {**store_errors.TEXTS["messages"], **store_errors.TEXTS["remedies"]}
    return given | {(name, re.sub(r"{(\w+)}", r"%(\1)s", text.rstrip())) for name, text in texts.items()}


def test_every_reason_has_its_french_and_every_french_its_reason() -> None:
    reasons = {(one.context, one.id) for one in _MESSAGES if one.context and not one.context.startswith(_KEPT)}
    assert reasons == _given()


def _conditions(event: seen.Event) -> str:
    (message,) = fold(NONE, event).values()
    return message


@pytest.mark.parametrize(
    ("english", "french"),
    [
        (
            _conditions(seen.EndpointChanged("e", "paused", describe(Reply(401), "<no>"), 1.0)),
            'identifiants refusés : HTTP 401 : <span lang="en">&lt;no&gt;</span>',
        ),
        (
            coded(
                "given-up",
                "given up after %(attempts)s attempts: %(reason)s",
                attempts=3,
                reason=describe(Reply(failure=coded("timeout", "no answer within hellowork.timeout")), ""),
            ),
            "abandonné après 3 tentatives : pas de réponse dans le délai hellowork.timeout",
        ),
    ],
)
def test_a_known_reason_is_shown_in_french(english: str, french: str) -> None:
    shown = FRENCH_PAGE.reason(english)
    assert str(shown).replace("\N{NO-BREAK SPACE}", " ").replace("&#39;", "'") == french
    assert ENGLISH_PAGE.reason(english) == escape(english)


def test_what_somebody_else_wrote_is_no_reason_of_ours() -> None:
    shown = FRENCH_PAGE.reason(describe(Reply(503), "no answer"))
    assert shown == 'HTTP 503\N{NO-BREAK SPACE}: <span lang="en">no answer</span>'


def test_a_sentence_without_a_code_or_of_another_version_is_marked_as_english() -> None:
    for reason in (
        "no <answer>",
        Reason("no <answer>", "a-later-version's", {}),
        Reason("no <answer>", "given-up", {"attempts": 3}),
    ):
        assert FRENCH_PAGE.reason(reason) == '<span lang="en">no &lt;answer&gt;</span>'


@pytest.mark.parametrize(
    ("text", "french"),
    [
        ("deleted", "supprimée"),
        ("(new) → Reçue", "(nouvelle) → Reçue"),
        ("Reçue → deleted, job J-1 → J-2", "Reçue → deleted, offre J-1 → J-2"),
        ("deleted by us → (new)", "deleted by us → (new)"),
    ],
)
def test_a_transition_s_own_words_are_translated_and_labels_are_not(text: str, french: str) -> None:
    assert FRENCH_PAGE.transition(text) == french
    assert ENGLISH_PAGE.transition(text) == text


@pytest.mark.parametrize(
    ("seconds", "english", "in_french"),
    [
        (-3, "0 s", "0 s"),
        (0.0423, "42 ms", "42 ms"),
        (1, "1 s", "1 s"),
        (59, "59 s", "59 s"),
        (120, "2 min", "2 min"),
        (47 * 3600, "47 h", "47 h"),
        (10 * 86400, "10 d", "10 j"),
    ],
)
def test_lengths_of_time(seconds: float, english: str, in_french: str) -> None:
    assert ENGLISH_PAGE.length(seconds) == english
    assert FRENCH_PAGE.length(seconds) == in_french.replace(" ", "\N{NO-BREAK SPACE}")
