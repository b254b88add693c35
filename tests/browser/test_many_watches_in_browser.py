"""The page of a thousand watches in a real browser."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from selenium.webdriver import Keys
from support.builders import a_baseline, a_batch, an_observation, some_rules
from support.chromium import DESK, PATIENCE, PHONE, Browser
from support.looking import Admin, admin_server
from support.pages import check_accessibility, check_policy
from support.waiting import wait_until

STRANGE = "applications@Été <b>\"n° 1\" / 'x' & 100%"
"""A name as the schema of a tenant may make it."""

WATCHES = (*(f"applications@tenant_{number:04}" for number in range(999)), STRANGE)


class Crowd:
    """A server with a thousand watches, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._loop, self._ready = folder, asyncio.new_event_loop(), threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.admin: Admin

    async def _serve(self) -> None:
        async with admin_server(self._folder) as admin:
            (watch,) = admin.config.watches.values()
            admin.use(admin.config.model_copy(update={"watches": dict.fromkeys(WATCHES, watch)}))
            known = [
                admin.store.capture.apply(some_rules(name), a_baseline(an_observation(f"hw-{number}")))
                for number, name in enumerate(WATCHES)
            ]
            await asyncio.gather(*known)
            self.admin = admin
            self._ready.set()
            await self._end.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    def do(self, work: Callable[[Admin], Awaitable[Any]]) -> None:
        """Have something happen in the server's loop."""

        async def done() -> None:
            await work(self.admin)

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(PATIENCE)


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    """All is well."""
    with Crowd(tmp_path) as made:
        yield made


async def _trouble(admin: Admin) -> None:
    for number in range(0, 700, 10):
        await admin.store.capture.apply(
            some_rules(WATCHES[number]), a_batch(an_observation("dead", refused="no such label"))
        )
    await admin.store.capture.apply(some_rules(STRANGE, max_changes=0), a_batch(an_observation("held")))
    for number in range(3, 100, 30):
        await admin.store.capture.apply(some_rules(WATCHES[number]), a_batch(an_observation("due", "seen")))
    admin.conditions = {f"watch {WATCHES[7]}": "connection refused: is the server running on that host?"}


@pytest.fixture
def troubled(crowd: Crowd) -> Crowd:
    """Something is wrong with seventy-two of them."""
    crowd.do(_trouble)
    return crowd


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_on_a_desk_and_a_phone_in_both_languages(
    troubled: Crowd, browser: Browser, scheme: str, language: str
) -> None:
    for size in (PHONE, DESK):
        browser.look(scheme=scheme, size=size)
        for query in ("", "&show=all", "&watch=nobody"):
            browser.open(f"{troubled.admin.url}?language={language}{query}")
            assert browser.run("return document.documentElement.lang") == language
            assert browser.run("return document.scrollingElement.scrollWidth") <= size[0], "nothing sticks out"
            check_accessibility(browser)
    check_policy(browser)


def test_a_watch_is_looked_for_by_keyboard_and_stays_found(troubled: Crowd, browser: Browser) -> None:
    browser.open(troubled.admin.url)
    browser.wait_for("928 watches without problems")
    browser.tab_to("watch")
    browser.press("été", Keys.ENTER)
    wait_until(lambda: len(browser.all("table.watches tbody tr")) == 1, "the one", PATIENCE)
    assert [row.text for row in browser.all("table.watches th[scope=row] > bdi")] == [STRANGE]
    # A change arrives without a reload, the search stays.
    troubled.do(
        lambda admin: admin.store.capture.apply(some_rules(STRANGE), a_batch(an_observation("dead", refused="no")))
    )
    of_cells = "return [...document.querySelectorAll('table.watches td')].map(cell => cell.className)"
    wait_until(lambda: "attention" in browser.run(of_cells), "the dead letter", PATIENCE)
    assert browser.all("#watch")[0].get_attribute("value") == "été"
    check_policy(browser)
