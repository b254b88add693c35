"""What every page in a browser has to be, and a picture of it."""

from pathlib import Path

from support.chromium import Browser

AXE = Path(__file__).parents[1] / "browser/node_modules/axe-core/axe.min.js"


def check_accessibility(browser: Browser) -> None:
    """axe-core finds no error: names, roles, order, contrast, sizes of what is pressed."""
    assert AXE.exists(), "axe-core is missing: `make test-browser` installs it by npm"
    browser.run(AXE.read_text("utf-8"))
    found = browser.wait_and_run(
        "const done = arguments[0];"
        "axe.run({resultTypes: ['violations'], rules: {'target-size': {enabled: true}}}).then("
        "  found => done({checked: found.passes.length, wrong: found.violations.map("
        "    one => [one.id, one.help, ...one.nodes.map(node => node.html + node.failureSummary)])}))"
    )
    assert found["checked"] > 15
    assert found["wrong"] == [], found["wrong"]


def check_policy(browser: Browser) -> None:
    """Nothing was refused by our own Content-Security-Policy, and no script failed."""
    assert [line for line in browser.complaints() if "401" not in line] == []


def keep(browser: Browser, images: Path | None, name: str) -> None:
    """Take a screenshot for the documentation, if it is asked for."""
    if images is not None:
        browser.run("window.scrollTo(0, 0)")
        browser.screenshot(images / f"{name}.png")
