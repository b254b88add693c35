"""The page of many accounts in one table: those with problems by name, and the number of the others."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chromium import DESK, PHONE, Browser
from support.emulated import EmulatorOptions
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, an_installation
from support.page_scene import Scene
from support.pages import check_accessibility
from support.postgres import Cluster, fresh_database

CUSTOMERS = [f"client_{number:02}" for number in range(60)]
REVOKED = ["client_07", "client_31", "client_59"]
REMOVED = "client_44"


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Scene]:
    """Sixty accounts: three with revoked keys, and a removed one, for which an entry waits. Nobody has to log in."""
    folder: Path = tmp_path_factory.mktemp("accounts")
    with (
        fresh_database(cluster) as database,
        running_hellowork(EmulatorOptions(required_headers={"X-Api-Key": API_KEY})) as hellowork,
        an_installation(folder, database, "notify", hellowork) as ats,
    ):
        ats.ats.execute("ALTER TABLE public.applications ADD customer text DEFAULT 'client_00'")
        keys = dict.fromkeys(CUSTOMERS, "${HELLOWORK_API_KEY}") | dict.fromkeys(REVOKED, "a-revoked-key")
        of_all: dict[str, Any] = {name: {"headers": {"X-Api-Key": key}} for name, key in keys.items()}
        ats.configure(hellowork={"accounts": of_all, "retry": {"first": "1h", "max": "1h"}}, admin={"token": None})
        ats.configure_watch(columns={"account": "customer"})
        ats.install()
        for name in CUSTOMERS:
            ats.add(f"hw-{name}", customer=name)
        hellowork.will({"kind": "status", "status": 503, "application_id": f"hw-{REMOVED}", "times": 1})
        with ats.daemon() as daemon:
            ats.settle(daemon)
            ats.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE hellowork_id LIKE 'hw-client%'")
            ats.settle(daemon, pending=len(REVOKED) + 1)
            del ats.document["hellowork"]["accounts"][REMOVED]
            ats.configure()
            daemon.send_signal(signal.SIGHUP)
            daemon.wait_for_report(
                lambda report: (
                    report["accounts_waiting"] == {REMOVED: 1}
                    and [each["mode"] for each in report["endpoints"]].count("paused") == len(REVOKED)
                ),
                "the accounts' problems",
            )
            yield Scene(ats, daemon)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize(
    ("language", "gone", "others"), [("en", "no longer configured", "more"), ("fr", "plus configuré", "autres")]
)
def test_accounts_with_problems_are_named_and_the_others_counted(
    accounts: Scene, browser: Browser, *, scheme: str, size: tuple[int, int], language: str, gone: str, others: str
) -> None:
    browser.look(scheme=scheme, size=size)
    browser.open(f"{accounts.url}?language={language}")
    origin = accounts.hellowork.url
    report = accounts.daemon.report()["endpoints"]
    named = [each.text for each in browser.all("#endpoints li bdi")]
    shown = [name for name in named if name.startswith(origin)]
    assert shown[: len(REVOKED)] == [f"{origin} [{name}]" for name in REVOKED]
    assert REMOVED in named
    section = browser.the("#endpoints").text
    assert gone in section
    assert f"{len(report) - len(shown)} " in section.replace("\u00a0", " ")
    assert others in section
    for name in REVOKED:
        assert f"{origin} [{name}]" in browser.text.partition(section)[0], "in what needs a look"
    assert browser.run("return document.documentElement.lang") == language
    assert browser.run("return document.scrollingElement.scrollWidth") <= size[0], "nothing sticks out"
    check_accessibility(browser)
