"""The page in a real browser, with a real daemon behind it."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Keys
from support.chromium import DESK, LAPTOP, PATIENCE, PHONE, Browser, chromium
from support.installation import JOB
from support.page_scene import REBOUND, REPLY, Scene, log_in
from support.pages import check_accessibility, check_policy, keep
from support.waiting import wait_until

TO_DECIDE = {"en": "It works, and a person has to decide.", "fr": "Tout fonctionne, mais votre décision est attendue."}


def test_all_is_well(quiet_scene: Scene, browser: Browser) -> None:
    quiet_scene.installation.change("hw-103", status="Entretien RH")
    quiet_scene.daemon.wait_until(lambda: quiet_scene.hellowork.told("hw-103"), "a call")
    quiet_scene.installation.quiet(quiet_scene.daemon)
    log_in(browser, quiet_scene)

    browser.wait_for("All is well.")
    assert "hw-103 acknowledged Entretien RH" in browser.text
    check_accessibility(browser)
    # A change arrives without a reload, and is seen.
    browser.run("document.body.dataset.same = 'yes'")
    quiet_scene.hellowork.will({"kind": "status", "status": 400, "body": "no", "application_id": "hw-104"})
    quiet_scene.installation.change("hw-104", status="Refusé")
    browser.wait_for("It works, and a person has to decide.")
    browser.wait_for("hw-104 dead-lettered")
    assert browser.run("return document.title") == "! Groupe Exemple"
    assert browser.run("return document.body.dataset.same") == "yes"
    check_policy(browser)
    # What is no longer true is not shown as if it were.
    assert quiet_scene.daemon.stop() == 0
    browser.wait_for("The daemon does not answer. Last known state:")


def test_held_entries_are_seen_and_released_by_keyboard(scene: Scene, browser: Browser, images: Path | None) -> None:
    log_in(browser, scene)
    browser.wait_for("It works, and a person has to decide.")
    assert "changes are held" in browser.text
    keep(browser, images, "page-attention")
    held = scene.count("held")
    calls = len(scene.hellowork.calls)

    browser.open(scene.url)
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.textContent") == "Skip to the content"
    browser.press(Keys.ENTER)
    assert browser.run("return document.activeElement.id") == "main"
    browser.tab_to(f"Release ({held})")
    browser.press(Keys.ENTER)
    browser.wait_for(f"{held} calls will be made to HelloWork.")
    assert scene.count("held") == held, "the first press only tells what the second will do"
    browser.tab_to("Confirm", most=1)
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press(Keys.ENTER)

    browser.wait_for(f"release: {held}")
    scene.daemon.wait_until(lambda: len(scene.hellowork.calls) == calls + held, "their calls")
    assert scene.count("held") == 0
    check_policy(browser)


def test_held_entries_are_discarded(scene: Scene, browser: Browser) -> None:
    log_in(browser, scene)
    held, calls = scene.count("held"), len(scene.hellowork.calls)
    browser.the("form[action^='/fuse/discard']").find_element("xpath", "..").click()
    browser.the("form[action^='/fuse/discard'] button").click()

    browser.wait_for(f"discard: {held}")
    assert scene.count("held") == 0
    scene.installation.settle(scene.daemon)
    assert len([call for call in scene.hellowork.calls if call.application_id != "hw-sentinel"]) == calls


def test_a_dead_letter_is_read_and_retried(scene: Scene, browser: Browser) -> None:
    log_in(browser, scene)
    letter = browser.all("#dead .rows > li")[0]
    assert REPLY in letter.text, "as it is, and nothing of it a tag"
    assert browser.run("return document.title") != "1"
    assert browser.all("#dead .bad b, #dead .bad script") == []
    letter.find_element("xpath", ".//summary[starts-with(., 'Retry')]").click()
    letter.find_element("css selector", "form[action^='/dead-letters/retry'] button").click()

    browser.wait_for("retry: 1")
    scene.daemon.wait_until(lambda: scene.hellowork.told("hw-107") == [("Entretien RH", JOB)], "its call")
    assert scene.count("dead_letters") == 1
    browser.the("#dead form[action^='/dead-letters/discard']").find_element("xpath", "..").click()
    browser.the("#dead form[action^='/dead-letters/discard'] button").click()
    browser.wait_for("discard: 1")
    assert scene.count("dead_letters") == 0
    check_policy(browser)


def test_an_application_is_looked_up(shown: Scene, browser: Browser, images: Path | None) -> None:
    log_in(browser, shown)
    browser.the("#id").send_keys("hw-109", Keys.ENTER)

    browser.wait_for("Its story")
    story = browser.text
    assert "Acknowledged by HelloWork Entretien RH" in story
    assert "answered Entretien RH, job job-1 attempt 1 HTTP 503: maintenance" in story
    check_accessibility(browser)
    keep(browser, images, "page-story")
    browser.the("#id").clear()
    browser.the("#id").send_keys("nobody", Keys.ENTER)
    browser.wait_for("No watch knows it.")


@pytest.mark.parametrize("language", ["en", "fr"])
def test_all_is_well_on_one_screen_of_a_laptop(
    quiet_scene: Scene, browser: Browser, images: Path | None, language: str
) -> None:
    for number in range(101, 110):
        quiet_scene.installation.change(f"hw-{number}", status="Entretien RH")
    quiet_scene.installation.quiet(quiet_scene.daemon)
    browser.look(size=LAPTOP)
    log_in(browser, quiet_scene, language)
    browser.wait_for({"en": "All is well.", "fr": "Tout va bien."}[language])
    assert browser.run("return document.scrollingElement.scrollHeight") <= LAPTOP[1]
    if language == "en":
        keep(browser, images, "page-all-is-well")


def split_words(browser: Browser) -> Any:
    """Labels that are so narrow that a word of theirs is broken."""
    return browser.run("""
        return [...document.querySelectorAll("th, td, dt, dd, button, summary, label, h2, h3")].filter(
            (each) => each.clientWidth > 0 && each.clientWidth < 40 && each.innerText.trim().length > 6,
        ).map((each) => each.outerHTML);
    """)


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_on_a_desk_and_a_phone_in_both_languages(
    shown: Scene, browser: Browser, images: Path | None, scheme: str, language: str
) -> None:
    log_in(browser, shown)
    for size in (PHONE, DESK):
        browser.look(scheme=scheme, size=size)
        browser.open(f"{shown.url}?language={language}")
        browser.wait_for(TO_DECIDE[language])
        assert browser.run("return document.documentElement.lang") == language
        assert split_words(browser) == []
        if (scheme, size, language) == ("dark", PHONE, "en"):
            keep(browser, images, "page-dark-phone")
            browser.look(scheme=scheme, size=size)
        if (scheme, size, language) == ("light", DESK, "fr"):
            keep(browser, images, "page-francais")
            browser.look(scheme=scheme, size=size)
        for summary in browser.all("details:not([open]) > summary"):
            browser.run("arguments[0].parentElement.open = true", summary)
        assert browser.run("return document.scrollingElement.scrollWidth") <= size[0], "nothing sticks out"
        assert browser.run("return getComputedStyle(document.body).fontSize") == "16px"
        check_accessibility(browser)
        browser.open(f"{shown.url}application?id=hw-109&language={language}")
        browser.wait_for({"en": "Its story", "fr": "Son historique"}[language])
        assert browser.run("return document.scrollingElement.scrollWidth") <= size[0], "nothing sticks out"
        check_accessibility(browser)
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(251, 251, 249)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_the_browsers_language_counts_until_another_is_chosen(
    shown: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with chromium(tmp_path_factory.mktemp("chromium-fr"), languages="fr-FR,fr,en") as french:
        french.look()
        log_in(french, shown)
        french.open(shown.url)
        french.wait_for(TO_DECIDE["fr"])
        french.the("a.language").click()
        french.wait_for(TO_DECIDE["en"])
        french.the("header .name a").click()
        french.wait_for(TO_DECIDE["en"])
        check_policy(french)


def test_without_a_script_it_works_too(scene: Scene, browser: Browser) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        log_in(browser, scene)
        assert TO_DECIDE["en"] in browser.text
        browser.the("#dead form[action^='/dead-letters/retry'] input[value='hw-108']").find_element(
            "xpath", "../.."
        ).click()
        browser.the("#dead form[action^='/dead-letters/retry']:has(input[value='hw-108']) button").click()
        browser.wait_for("retry: 1")
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


@contextmanager
def attacking_page(markup: str) -> Iterator[int]:
    """A page of somebody else's, on a port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(markup.encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", REBOUND])
def test_a_page_of_another_site_can_neither_act_nor_read_nor_frame(shown: Scene, browser: Browser, host: str) -> None:
    log_in(browser, shown)
    held = shown.count("held")
    markup = f"""<!doctype html><title>attack</title>
        <form action="{shown.url}fuse/discard" method="post">
        <input name="watch" value="applications"></form>
        <iframe src="{shown.url}"></iframe>
        <script>
        const seen = [];
        fetch("{shown.url}", {{credentials: "include"}}).then(a => a.text(), () => "refused").then(t => seen.push(t));
        window.addEventListener("load", () => seen.push("loaded"));
        </script>"""
    with attacking_page(markup) as port:
        browser.open(f"http://{host}:{port}/")
        wait_until(lambda: len(browser.run("return seen")) == 2, "both attempts", PATIENCE)
        assert "refused" in browser.run("return seen")
        assert any("frame-ancestors" in line for line in browser.complaints())
        # The browser sends the token with it.
        browser.run("document.forms[0].submit()")
        browser.wait_for("page of another site" if host == "127.0.0.1" else "")
        wait_until(lambda: browser.url.startswith(shown.url), "the form was sent", PATIENCE)
    assert shown.count("held") == held


def test_a_name_that_leads_here_reads_nothing(shown: Scene, browser: Browser) -> None:
    log_in(browser, shown)

    browser.open(shown.url.replace("127.0.0.1", REBOUND) + "readyz")

    browser.wait_for("is no name of this machine's loopback")
    assert "applications" not in browser.text
