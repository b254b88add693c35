"""A headless Chromium: Debian's packages `chromium` and `chromium-driver`."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from support.waiting import wait_until

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)

PHONE = (360, 780)
"""A small phone's screen, in CSS pixels."""
DESK = (1100, 900)
LAPTOP = (1366, 650)
"""What a laptop's screen of 1366 by 768 has beside the browser's own bars."""

PATIENCE = 60.0

_LONGEST_PICTURE = 1900


class Browser:
    """One window. Everything that a person could do; and what a person could not see is asked of the browser."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        self._driver.get(url)

    @property
    def url(self) -> str:
        return self._driver.current_url

    @property
    def text(self) -> str:
        """The text that can be seen, with one blank between words."""
        return " ".join(str(self.run("return document.body.innerText")).split())

    def wait_for(self, text: str) -> None:
        try:
            wait_until(lambda: text in self.text, f"{text!r} on the page", PATIENCE)
        except AssertionError as error:
            error.add_note(self.text)
            raise

    def all(self, selector: str) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, selector)

    def the(self, selector: str) -> WebElement:
        (element,) = self.all(selector)
        return element

    def press(self, *keys: str) -> None:
        self._driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, name: str, most: int = 60) -> WebElement:
        """Press the tabulator until what has this text has the focus."""
        for _ in range(most):
            self.press(Keys.TAB)
            focused = self._driver.switch_to.active_element
            if name in (focused.text, focused.get_attribute("id")):
                return focused
        raise AssertionError(f"the tabulator does not lead to {name!r}")

    def run(self, script: str, *arguments: object) -> Any:
        return self._driver.execute_script(script, *arguments)

    def wait_and_run(self, script: str) -> Any:
        """What a script hands to the function that is its only argument."""
        return self._driver.execute_async_script(script)

    def command(self, name: str, **parameters: object) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._driver.execute_cdp_cmd(name, parameters)
        return answer

    def look(self, *, scheme: str = "light", size: tuple[int, int] = DESK) -> None:
        """Take a colour scheme and a screen."""
        width, height = size
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE
        )

    def screenshot(self, file: Path) -> None:
        width = self.run("return innerWidth")
        height = min(self.run("return document.scrollingElement.scrollHeight"), _LONGEST_PICTURE)
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width == PHONE[0],
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        assert self._driver.save_screenshot(str(file))

    def complaints(self) -> list[str]:
        """What the browser has complained about since the last time."""
        return [entry["message"] for entry in self._driver.get_log("browser")]  # type: ignore[no-untyped-call]


@contextmanager
def chromium(folder: Path, *, languages: str = "en", resolve: Sequence[str] = ()) -> Iterator[Browser]:
    """Start one, with its data in a folder; `resolve` are names that lead to the loopback."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary, "there is no chromium: apt-get install chromium chromium-driver"
    assert driver, "there is no chromedriver: apt-get install chromium-driver"
    options = ChromeOptions()
    options.binary_location = binary
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in resolve)
    for flag in (*_FLAGS, f"--user-data-dir={folder}", f"--host-resolver-rules={rules}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"intl.accept_languages": languages})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = Chrome(options=options, service=ChromeService(executable_path=driver))
    try:
        running.set_page_load_timeout(PATIENCE)
        yield Browser(running)
    finally:
        running.quit()
