"""What the browser's tests look at: a page, and the daemon behind it."""

from dataclasses import dataclass

from support.chromium import PATIENCE, Browser
from support.daemon_process import DaemonProcess
from support.hellowork_server import HelloWork
from support.installation import TOKEN, Installation
from support.waiting import wait_until

REBOUND = "attacker.example"
"""A name of somebody else's, which leads to the loopback."""

REPLY = '{"error": "Bad Request", "message": "<b>jobId</b> is \\"closed\\" <script>document.title = 1</script>"}'
"""What HelloWork says to the calls that it refuses."""


@dataclass
class Scene:
    """What there is to look at."""

    installation: Installation
    daemon: DaemonProcess

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.installation.admin_port}/"

    @property
    def hellowork(self) -> HelloWork:
        return self.installation.hellowork

    def count(self, what: str) -> int:
        """A number of the only watch's report."""
        return int(self.daemon.report()["watches"][0][what])


def keep_busy(scene: Scene) -> None:
    """A busy morning: calls, a call that is tried again, two dead letters, and a mass change that is held."""
    installation = scene.installation
    scene.hellowork.will(
        *({"kind": "status", "status": 400, "body": REPLY, "application_id": f"hw-10{number}"} for number in (7, 8)),
        {"kind": "status", "status": 503, "body": "maintenance", "application_id": "hw-109"},
    )
    for number in range(1, 10):
        installation.change(f"hw-10{number}", status="Entretien RH" if number % 2 else "Refusé")
    scene.daemon.wait_for_report(
        lambda report: report["watches"][0]["dead_letters"] == 2 and report["watches"][0]["pending"] == 0,
        "two dead letters, and all else sent",
    )
    installation.ats.execute(
        "UPDATE public.applications SET status = 'Archivé', updated_at = clock_timestamp()"
        " WHERE hellowork_id ~ '^hw-10[1234].'"
    )
    scene.daemon.wait_for_report(
        lambda report: report["watches"][0]["held"] >= 20 and report["watches"][0]["pending"] == 0, "a mass change held"
    )


def log_in(browser: Browser, scene: Scene, language: str = "en") -> None:
    """Let the browser know the token, as if it had asked for it, and open the page."""
    browser.open(scene.url.replace("//", f"//julia:{TOKEN}@"))
    browser.open(f"{scene.url}?language={language}")
    wait_until(lambda: browser.all("#verdict"), "the page", PATIENCE)
