"""What the page and the commands of a running daemon say is so, in English and in French."""

import html
import re

from support.daemon_process import DaemonProcess
from support.installation import Installation

ACKNOWLEDGED = {"en": "Acknowledged by HelloWork", "fr": "Reçu par HelloWork"}
ASSUMED = {"en": "Assumed to be known to HelloWork", "fr": "Censé être connu de HelloWork"}

LANGUAGES = ("en", "fr")


def page(daemon: DaemonProcess, language: str, path: str = "/") -> str:
    """The texts of a page, with single blanks."""
    mark = "&" if "?" in path else "?"
    _, text = daemon.get(f"{path}{mark}language={language}")
    words = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return " ".join(words.replace("\N{NO-BREAK SPACE}", " ").split())


def test_only_what_helloworks_acknowledged_is_called_so(notify: Installation) -> None:
    notify.add("hw-adopted")
    notify.add("hw-called")
    with notify.daemon() as daemon:
        notify.change("hw-called", status="SEEN")
        notify.settle(daemon)

        for language in LANGUAGES:
            adopted = page(daemon, language, "/application?id=hw-adopted")
            assert ASSUMED[language] in adopted
            assert ACKNOWLEDGED[language] not in adopted
            called = page(daemon, language, "/application?id=hw-called")
            assert f"{ACKNOWLEDGED[language]} SEEN" in called
            assert ASSUMED[language] not in called
    adopted = notify.run("explain", "hw-adopted").stdout
    assert "HelloWork acknowledged:" not in adopted
    assert "assumed to be known to HelloWork: NEW, job job-1, since 20" in adopted
    assert "no call was made, for it was so when it was first seen" in adopted
    assert "HelloWork acknowledged: SEEN, job job-1, since 20" in notify.run("explain", "hw-called").stdout
