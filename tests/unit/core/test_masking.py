"""Our own credentials in text that comes from elsewhere, however it writes them."""

import base64
import html
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.visible import HIDDEN, hiding

SECRET = "k\"e\\y/1&2<3>4'5 6+7%8é😀"


def escaped(text: str) -> str:
    """Each character as JSON may escape it."""
    return re.sub("(.{4})", r"\\u\1", text.encode("utf-16-be").hex().upper())


def in_json(text: str) -> str:
    """Within a JSON string."""
    return json.dumps(text)[1:-1]


WAYS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON in ASCII": in_json,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON with slashes escaped": lambda text: in_json(text).replace("/", "\\/"),
    "JSON in a JSON string": lambda text: in_json(in_json(text)),
    "JSON in a JSON string in a JSON string": lambda text: in_json(in_json(in_json(text))),
    "JSON, all escaped": escaped,
    "JSON, all escaped in lower case": lambda text: escaped(text).lower(),
    "a path": lambda text: quote(text, safe=""),
    "a path, in lower case": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    "a query": quote_plus,
    "a query within another": lambda text: quote(quote(text, safe=""), safe=""),
    "all of it in per cent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "a page": html.escape,
    "a page with decimal numbers": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "a page with hexadecimal numbers": lambda text: "".join(f"&#x00{ord(character):X};" for character in text),
    "a page, apostrophe by its name": lambda text: html.escape(text).replace("&#x27;", "&apos;"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_hidden_however_it_is_written(way: str) -> None:
    text = f"before <{WAYS[way](SECRET)}> after"

    assert hiding({"X-Api-Key": SECRET})(text) == f"before <{HIDDEN}> after"


@given(
    secret=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FFFF, exclude_categories=["C", "Z"]), min_size=8),
    way=st.sampled_from(sorted(WAYS)),
)
def test_any_secret_is_hidden_however_it_is_written(secret: str, way: str) -> None:
    shown = hiding({"X-Api-Key": secret})(f"<{WAYS[way](secret)}>")

    assert shown == f"<{HIDDEN}>"


def test_of_a_scheme_and_its_token_each_is_hidden_that_may_be_a_secret() -> None:
    hide = hiding({"Authorization": "Bearer planted-secret", "X-Key": 'id=7,key="another-secret";v=2'})

    assert hide("Bearer planted-secret") == HIDDEN
    assert hide("the token planted-secret of Bearer") == f"the token {HIDDEN} of Bearer"
    assert hide("key another-secret, id=7, v=2") == f"key {HIDDEN}, id=7, v=2"


def test_a_word_that_is_part_of_another_leaves_no_rest() -> None:
    assert hiding({"A": "planted-secret", "B": "planted-secret-and-more"})("<planted-secret-and-more>") == "<(hidden)>"


@pytest.mark.parametrize("scheme", ["Basic", "basic", " BASIC  "])
def test_what_basic_decodes_to_is_hidden(scheme: str) -> None:
    credentials = base64.b64encode(b"alice:s:3cret").decode()
    hide = hiding({"Authorization": f"{scheme} {credentials}"})

    assert hide(f"{credentials} alice:s:3cret s:3cret") == f"{HIDDEN} {HIDDEN} {HIDDEN}"
    assert hide('"s\\u003a3cret" s%3A3cret') == f'"{HIDDEN}" {HIDDEN}'
    assert hide("alice is unknown") == "alice is unknown"


def test_a_password_of_basic_that_is_hardly_one_is_hidden_with_its_name_only() -> None:
    hide = hiding({"Authorization": f"Basic {base64.b64encode(b'alice:a').decode()}"})

    assert hide("alice:a and a") == f"{HIDDEN} and a"


@pytest.mark.parametrize("word", ["not-base64!", base64.b64encode(b"\xff\xfe\xfd\xfc\xfb").decode(), "YWxpY2U"])
def test_what_is_no_basic_is_a_word_like_any_other(word: str) -> None:
    assert hiding({"Authorization": f"Basic {word}"})(f"Basic {word}") == HIDDEN


def test_without_headers_a_text_stays_as_it_is() -> None:
    assert hiding({})("planted-secret") == "planted-secret"
    assert hiding({"X-Version": "2"})("version 2") == "version 2"


@pytest.mark.parametrize("text", ["\\", "%25", "&#0", "\\u00", "%", "&#x0", "k\\", '\\"'])
def test_a_text_that_nearly_is_one_takes_no_square_of_its_length(text: str) -> None:
    hide = hiding({"X-Api-Key": '\\"' * 20 + SECRET})
    started = time.process_time()
    hide(text * (65_536 // len(text)))

    # A square would be minutes.
    assert time.process_time() - started < 5
