"""The page: what it tells, in which language, and that nothing from outside becomes markup."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support import acting
from support.builders import ENDPOINT, MINUTE, NOW, SECOND, a_batch, an_observation, some_rules
from support.looking import Admin, admin_server, fill
from support.store_steps import acknowledge, begin_call, begin_calls, lose_answer

from cdc_sync.admin.overview import BAR, BARS, Trends, since
from cdc_sync.core.content import iso, request
from cdc_sync.core.events import CaughtUp
from cdc_sync.core.replies import Health
from cdc_sync.core.rows import Unreportable

HOSTILE = "<script>alert('1')</script>\"&amp;<img src=x onerror=alert(2)>{{ 7 * 7 }}"
ATTRIBUTES = {
    *(
        "lang",
        "hreflang",
        "charset",
        "name",
        "content",
        "rel",
        "href",
        "type",
        "src",
        "defer",
        "class",
        "id",
        "tabindex",
        "role",
    ),
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


async def test_a_new_store(admin: Admin) -> None:
    page = await page_of(admin)

    assert "All is well." in page.text
    assert "applications public.applications · notify" in page.text
    assert "Repaired by sweeps" not in page.text


async def test_what_is_wrong(admin: Admin) -> None:
    await fill(admin.store)

    page = await page_of(admin)

    assert "All is well." not in page.text
    assert "Something is wrong." in page.text
    assert f"endpoint {ENDPOINT} : refuses our credentials : HTTP 400: no, retried in 1 h ( for 1 min )" in page.text
    assert "applications: 1 change is held" in page.text
    assert "applications: 1 more than 0 changes at once (fuse.max_changes)" in page.text
    assert "1 dead letter" in page.text


async def test_everything_has_its_place(admin: Admin) -> None:
    await fill(admin.store)
    admin.emit(CaughtUp("applications", 300.0))

    text = (await page_of(admin)).text

    assert "Repaired by sweeps: 2 5 min 0 s ago 4 1, for 1 min at most 1 1" in text
    assert "Suspected deletions: 1" in text
    assert "acknowledged: 0 · failed and tried again: 1 · given up: 1" in text
    assert "a1 answered" not in text
    assert text.count("a1 dead-lettered seen , job J1 HTTP 400: no 1 h ago") == 1, (
        "among the last calls, which it is one of"
    )
    assert "known answered hired , job J1 timed out 0 s ago" in text
    assert f"{ENDPOINT} refuses our credentials : HTTP 400: no, retried in 1 h" in text


async def test_a_dead_letter_alone_asks_for_a_decision(admin: Admin) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1", refused="the label is unknown")))

    text = (await page_of(admin)).text

    assert "It works, and a person has to decide." in text
    assert "the label is unknown" in text
    assert "HelloWork's reply" not in text


async def test_acknowledged_calls(admin: Admin) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1")))
    await acknowledge(admin.store, await begin_call(admin.store))

    text = (await page_of(admin)).text

    assert "acknowledged: 1 ·" in text
    assert "a1 acknowledged applied , job J1" in text


async def test_one_applications_story(admin: Admin) -> None:
    await fill(admin.store)

    text = (await page_of(admin, "/application?id=known")).text

    assert (
        "Assumed to be known to HelloWork applied , job J1 , 0 s ago"
        " (no call was made, for it was so when it was first seen)"
    ) in text
    assert "To be sent hired , job J1 , queued 1 min ago , due in 1 min , 1 attempt: timed out" in text
    assert "queued applied , job J1 → hired , job J1 notify" in text
    assert "hired , job J1 attempt 1" in text
    assert "its row seems gone" in (await page_of(admin, "/application?id=gone")).text.lower()


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


async def test_an_application_is_found_by_its_row_and_by_how_its_id_begins(admin: Admin) -> None:
    rows = [an_observation(f"hw-{number}", key=(str(number), "x")) for number in range(10, 33)]
    await admin.store.capture.apply(some_rules(), a_batch(*rows, Unreportable(None, ("7", "x"), "its id is no id")))

    for text in ("32,x", "32/x", "hw-32"):
        page = await page_of(admin, f"/application?id={text}")
        said = "" if text == "hw-32" else f"No application {text}: this one was found by its row's key. "
        assert f"Application hw-32 {said}applications row 32/x Acknowledged by HelloWork" in page.text
    begun = await page_of(admin, "/application?id=hw-32&language=fr")
    assert "Aucune candidature" not in begun.text
    begun = await page_of(admin, "/application?id=hw-3")
    assert "This may mean one of these:" in begun.text
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("other-1", key=("99", "x"))))
    begun = await page_of(admin, "/application?id=oth")
    assert "No application oth: this one was found by how its id begins. applications row 99/x" in begun.text
    begun = await page_of(admin, "/application?id=oth&language=fr")
    assert "Aucune candidature oth : celle-ci a été trouvée par le début de son identifiant." in begun.text.replace(
        "\u202f", " "
    ).replace("\u00a0", " ")
    several = await page_of(admin, "/application?id=hw-")
    assert [address for address in several.addresses if address.startswith("/application?")] == [
        f"/application?id=hw-{number}" for number in range(10, 30)
    ]
    assert "This may mean one of these:" in several.text
    assert "There are more: give more of the id." in several.text
    assert "row 7/x its id is no id" in (await page_of(admin, "/application?id=7,x")).text


async def test_a_watch_that_began_over_another_stores_work_shows_it(admin: Admin) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(positions={"baseline over earlier work": "1"}))

    assert "It was captured before, with another store, of which nothing is sent." in (await page_of(admin)).text


@pytest.mark.parametrize("text", ["%00", "", "%ff", "hw%00", "[" * 2_000, f"[{'[' * 900}{']' * 900}]"], ids=len)
async def test_what_no_id_can_be_finds_nothing(admin: Admin, text: str) -> None:
    await fill(admin.store)

    assert (await admin.get(f"/application?id={text}")).status == 404


async def test_an_application_that_nobody_knows(admin: Admin) -> None:
    answer = await admin.get("/application?id=nobody")

    assert answer.status == 404
    assert "No watch knows it." in answer.text


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
        ("fr", "fr", "Tout va bien."),
        ("fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7", "fr", "Tout va bien."),
        ("en-GB,en;q=0.9,fr;q=0.8", "en", "All is well."),
        ("de,fr;q=0.5", "fr", "Tout va bien."),
        ("de", "en", "All is well."),
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


async def test_a_french_page_has_known_reasons_in_french_and_marks_what_is_english(admin: Admin) -> None:
    await fill(admin.store)

    answer = await admin.get("/", headers={"Accept-Language": "fr"})

    assert ': HTTP 400\N{NO-BREAK SPACE}: <span lang="en">no</span>' in answer.text
    assert "plus de 0 changements d'un coup" in answer.text
    assert "depuis 1\N{NO-BREAK SPACE}min" in answer.text
    assert "reçus\N{NO-BREAK SPACE}: 0" in answer.text


async def test_the_chart_shows_calls_by_their_ends_on_each_other(admin: Admin) -> None:
    await fill(admin.store)
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("b1")))
    await acting.release_held(admin.store, None, NOW)
    await acknowledge(admin.store, *await begin_calls(admin.store, NOW + SECOND))

    text = (await admin.get("/")).text

    bars = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="0.8" height="([\d.]+)"/>', text)
    by_place: dict[str, list[tuple[str, float, float]]] = {}
    for kind, x, y, height in bars:
        if kind != "trend":
            by_place.setdefault(x, []).append((kind, float(y), float(height)))
    assert [[kind for kind, *_ in parts] for parts in by_place.values()] == [["dead"], ["acknowledged", "retry"]]
    (_, *below), (_, *above) = by_place.popitem()[1]
    assert above[0] + above[1] == below[0], "one stands on the other"


async def test_lag_and_pending_entries_are_charted_over_time(admin: Admin) -> None:
    await fill(admin.store)
    admin.emit(CaughtUp("applications", 300.0))

    page = await admin.get("/")
    text = Page(page.text).text

    assert "Lag 5 min, at most 5 min" in text
    assert "To be sent 1, at most 1" in text
    assert page.text.count('<rect class="trend"') == 2


async def test_of_a_daemon_that_runs_for_long_the_last_hours_are_kept(admin: Admin) -> None:
    now = NOW
    trends = Trends(admin.metrics)
    for _ in range(3 * BARS):
        now += BAR // 2
        await trends.sample(admin.store, now)

    assert list(trends.lag) == list(trends.pending) == [since(now) + at * BAR for at in range(BARS)]


@pytest.mark.parametrize(
    ("language", "state"),
    [
        ("en", f"endpoint {ENDPOINT} : its calls fail : HTTP 503, retried in 20 s ( for 13 s )"),
        ("fr", f"destination {ENDPOINT} : les appels échouent : HTTP 503 , nouvel essai dans 20 s ( depuis 13 s )"),
    ],
)
async def test_an_open_circuit_is_said_to_fail_and_to_be_retried(admin: Admin, language: str, state: str) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1")))
    await admin.store.delivery.complete([], {ENDPOINT: Health("open", 5, NOW + 20 * SECOND, "HTTP 503")})
    await admin.store.operation.set_conditions({f"endpoint {ENDPOINT}": "open: HTTP 503"}, NOW - 13 * SECOND)

    assert state in (await page_of(admin, Accept_Language=language)).text


async def test_without_a_pending_entry_a_failure_whose_wait_is_over_is_the_last_one(admin: Admin) -> None:
    await admin.store.delivery.complete([], {ENDPOINT: Health("open", 5, NOW - SECOND, "HTTP 503")})

    assert f"{ENDPOINT} nothing to send (last failure: HTTP 503)" in (await page_of(admin)).text


async def test_a_retry_waits_for_a_person_who_has_paused_sending(admin: Admin) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1")))
    await admin.store.delivery.complete([], {ENDPOINT: Health("open", 5, NOW - SECOND, "HTTP 503")})
    await acting.pause(admin.store, ENDPOINT)

    assert "nouvel essai à la reprise" in (await page_of(admin, Accept_Language="fr")).text


@pytest.mark.parametrize(("later", "is_shown"), [(0, True), (2 * MINUTE, False)])
async def test_a_pending_entry_has_the_reason_of_its_last_failure_until_it_is_due(
    tmp_path: Path, later: int, is_shown: object
) -> None:
    async with admin_server(tmp_path, now=NOW + later) as admin:
        await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1")))
        await lose_answer(admin.store, await begin_call(admin.store), again_at=NOW + MINUTE)

        assert ("1 attempt: timed out" in (await page_of(admin, "/application?id=a1")).text) == is_shown


async def test_a_failure_of_an_endpoint_that_takes_calls(admin: Admin) -> None:
    await admin.store.delivery.complete([], {ENDPOINT: Health("healthy", 4, reason="HTTP 503")})

    page = await page_of(admin)
    assert f"{ENDPOINT} takes calls (last failure: HTTP 503)" in page.text
    assert "All is well." in page.text


async def test_a_failure_is_wrong_whatever_else_a_person_has_to_decide(admin: Admin) -> None:
    held = an_observation("a1")
    await admin.store.capture.apply(some_rules(max_changes=0), a_batch(held))
    assert "It works, and a person has to decide." in (await page_of(admin)).text

    await admin.store.operation.set_conditions({f"endpoint {ENDPOINT}": "open: HTTP 503"}, NOW)

    assert "Something is wrong." in (await page_of(admin)).text


@pytest.mark.parametrize("path", ["/", "/application?id=a1", "/application?id=known"])
async def test_french_has_no_colon_without_its_no_break_space(admin: Admin, path: str) -> None:
    await fill(admin.store)
    text = (await admin.get(path, headers={"Accept-Language": "fr"})).text

    ours = re.sub(r'<(bdi|code|pre|time)\b.*?</\1>|<span lang="en">.*?</span>', "", text, flags=re.DOTALL)
    words = re.sub(r"<[^>]*>", "\n", ours)
    assert "\N{NO-BREAK SPACE}:" in words
    assert re.findall(r".*(?<![\N{NO-BREAK SPACE}\d]):(?!//|\d).*", words) == []
