"""The page: what it tells, in which language, and that nothing from outside becomes markup."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.builders import NOW, a_batch, an_observation, some_rules
from support.looking import Admin, admin_server, fill
from support.store_steps import acknowledge, begin_call

from cdc_sync.core.content import iso, request
from cdc_sync.core.events import CallEnded, CaughtUp

HOSTILE = "<script>alert('1')</script>\"&amp;<img src=x onerror=alert(2)>{{ 7 * 7 }}"
ATTRIBUTES = {
    *("lang", "hreflang", "charset", "name", "content", "rel", "href", "type", "src", "defer", "class", "id", "role"),
    "tabindex",
    *("action", "method", "for", "required", "autocomplete", "spellcheck", "value", "datetime", "title", "scope"),
    *("viewbox", "x", "y", "width", "height", "x1", "x2", "y1", "y2", "colspan", "checked", "hidden", "http-equiv"),
    *("aria-live", "preserveaspectratio", "aria-label", "aria-hidden", "aria-labelledby", "data-live", "data-hour"),
    "data-local",
    "data-label",
}
"""All that a page may have: no style, no handler, no address of elsewhere."""


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.inline: list[str] = []
        self._in_code = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        self._in_code = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._in_code = False

    def handle_data(self, data: str) -> None:
        (self.inline if self._in_code else self.texts).append(data)

    @property
    def text(self) -> str:
        """All texts, with one blank between words."""
        return " ".join(" ".join(self.texts).split())


async def page_of(admin: Admin, path: str = "/", **headers: str) -> Page:
    answer = await admin.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return Page(answer.text)


async def test_a_story_shows_the_request_and_the_time_in_utc(admin: Admin) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1")))
    entry = await begin_call(admin.store)
    body, key = request("a1", entry.content)

    pending = (await page_of(admin, "/application?id=a1")).text
    await acknowledge(admin.store, entry)
    told = (await page_of(admin, "/application?id=a1")).text

    for text in (pending, told):
        assert f"The request POST {entry.content.url} Idempotency-Key: {key} {body.decode()}" in text
        assert text.count("The request") == 1
        assert iso(NOW) in text


@pytest.mark.parametrize("text", ["%00", "", "%ff", "hw%00", "[" * 2_000, f"[{'[' * 900}{']' * 900}]"], ids=len)
async def test_what_no_id_can_be_finds_nothing(admin: Admin, text: str) -> None:
    await fill(admin.store)

    assert (await admin.get(f"/application?id={text}")).status == 404


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("path", ["/", "/application?id="])
async def test_what_comes_from_outside_cannot_become_markup(admin: Admin, path: str, language: str) -> None:
    await fill(admin.store, HOSTILE, f"HTTP 400: {HOSTILE}")

    page = await page_of(admin, path + ("%3Cscript%3E" if "?" in path else ""), Accept_Language=language)
    escaped = "".join(f"%{byte:02x}" for byte in HOSTILE.encode())
    story = await page_of(admin, f"/application?id={escaped}", Accept_Language=language)

    for shown in (page, story):
        assert "img" not in shown.tags
        assert shown.tags.count("script") == 1, "our own"
        assert shown.inline == []
        assert shown.attributes <= ATTRIBUTES
        assert all(address.startswith(("/", "#", "?")) and "//" not in address for address in shown.addresses)
        assert "49" not in shown.text
    assert HOSTILE in story.text
    if path == "/":
        # As a dead letter, as a row's key, in reasons, in a reply, in conditions.
        assert page.text.count(HOSTILE) >= 8


@pytest.mark.parametrize(
    ("accepted", "language", "verdict"),
    [
        ("", "en", "All is well."),
        ("fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7", "fr", "Tout va bien."),
        ("en-GB,en;q=0.9,fr;q=0.8", "en", "All is well."),
        ("q=x, ;;q=,*", "en", "All is well."),
    ],
)
async def test_it_speaks_the_browsers_language(admin: Admin, accepted: str, language: str, verdict: str) -> None:
    answer = await admin.get("/", headers={"Accept-Language": accepted})

    assert answer.headers["Content-Language"] == language
    assert "Accept-Language" in answer.headers["Vary"]
    assert f'<html lang="{language}">' in answer.text
    assert verdict in answer.text


async def test_a_link_switches_the_language_and_further_links_keep_it(admin: Admin) -> None:
    page = await admin.get("/application?id=a+1&language=en", headers={"Accept-Language": "fr"})
    assert '<html lang="en">' in page.text
    assert 'href="?id=a+1&amp;language=fr"' in page.text
    assert 'href="/?language=en"' in page.text
    assert '<input type="hidden" name="language" value="en">' in page.text
    assert "Set-Cookie" not in page.headers

    unknown = await admin.get("/?language=%3Cde%3E", headers={"Accept-Language": "fr"})
    assert '<html lang="fr">' in unknown.text


@pytest.mark.parametrize(("title", "shown"), [("Groupe <Est>", "Groupe &lt;Est&gt;"), (None, "ats@db.example")])
async def test_the_page_names_its_installation(tmp_path: Path, title: str | None, shown: str) -> None:
    async with admin_server(tmp_path, title=title, dsn="postgresql://cdc:hunter2@db.example/ats") as admin:
        for path in ("/", "/application?id=a1"):
            page = await admin.get(path)
            assert f'<bdi class="title">{shown}</bdi>' in page.text
            assert f"{shown}</title>" in page.text
            assert "hunter2" not in page.text


async def test_latency_lag_and_pending_entries_are_charted(admin: Admin) -> None:
    await fill(admin.store)
    admin.emit(CaughtUp("applications", 300.0))
    admin.emit(CallEnded("applications", "a1", "acknowledged", "HTTP 200", 1, 0.5, 1.5))

    page = await admin.get("/")
    text = Page(page.text).text

    assert "Lag 5 min, at most 5 min" in text
    assert "Latency 2 s, at most 2 s" in text
    assert "To be sent 1, at most 1" in text
    assert page.text.count('<rect class="trend"') == 3
