"""What the page and the commands of a running daemon say is so, in English and in French."""

import html
import json
import re
import sqlite3
from functools import partial

from support.daemon_process import DaemonProcess
from support.installation import Installation

ALL_WELL = {"en": "All is well.", "fr": "Tout va bien."}
WRONG = {"en": "Something is wrong.", "fr": "Quelque chose ne va pas."}
TO_DECIDE = {
    "en": "It works, and a person has to decide.",
    "fr": "Tout fonctionne, mais votre décision est attendue.",
}
ACKNOWLEDGED = {"en": "Acknowledged by HelloWork", "fr": "Reçu par HelloWork"}
ASSUMED = {"en": "Assumed to be known to HelloWork", "fr": "Censé être connu de HelloWork"}
TAKES_CALLS = {"en": "takes calls", "fr": "accepte les appels"}
CALLS_FAIL = {"en": "its calls fail", "fr": "les appels échouent"}
LAST_FAILED = {"en": "last failure: HTTP 503", "fr": "dernier échec : HTTP 503"}
NOT_REACHABLE = {"en": "not reachable", "fr": "injoignable"}
RETRIED = {"en": r"retried in|a retry is due", "fr": "nouvel essai (?:dans|attendu)"}
PAUSED = {"en": "paused by an operator", "fr": "envoi suspendu par un opérateur"}

LANGUAGES = ("en", "fr")
UNAVAILABLE = {"kind": "status", "status": 503, "times": None}


def page(daemon: DaemonProcess, language: str, path: str = "/") -> str:
    """The texts of a page, with single blanks."""
    mark = "&" if "?" in path else "?"
    _, text = daemon.get(f"{path}{mark}language={language}")
    words = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return " ".join(words.replace("\N{NO-BREAK SPACE}", " ").split())


def endpoints_of(daemon: DaemonProcess, language: str) -> str:
    """The last section of the overview."""
    return page(daemon, language).rpartition({"en": "Endpoints", "fr": "Destinations"}[language])[2]


def has(daemon: DaemonProcess, words: str) -> bool:
    return words in endpoints_of(daemon, "en")


def says_when_it_is_retried(daemon: DaemonProcess, language: str) -> bool:
    """Not while a call is under way."""
    return re.search(RETRIED[language], endpoints_of(daemon, language)) is not None


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


def test_what_a_person_discarded_is_not_called_acknowledged_even_if_the_history_is_gone(notify: Installation) -> None:
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.hellowork.will({"kind": "status", "status": 400, "application_id": "hw-1"})
        notify.change("hw-1", status="SEEN")
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 1, "a dead letter")
        assert notify.run("dead-letters", "discard", "hw-1", "--yes").code == 0
        with sqlite3.connect(notify.store, timeout=30) as store:
            store.execute("DELETE FROM history")
        store.close()

        for language in LANGUAGES:
            discarded = page(daemon, language, "/application?id=hw-1")
            assert f"{ASSUMED[language]} SEEN" in discarded
            assert {"en": "discarded by a person", "fr": "écarté par un opérateur"}[language] in discarded
            assert ACKNOWLEDGED[language] not in discarded
        explained = notify.run("explain", "hw-1").stdout
        assert "HelloWork acknowledged:" not in explained
        assert "assumed to be known to HelloWork: SEEN, job job-1, since 20" in explained
        assert "a person discarded it" in explained
        (story,) = json.loads(notify.run("explain", "hw-1", "--json").stdout)
        assert (story["discarded"], story["adopted"], story["told_request"]) == (True, False, None)
        # What HelloWork acknowledges afterwards is called so again.
        notify.change("hw-1", status="HIRED")
        notify.settle(daemon)
        assert f"{ACKNOWLEDGED['en']} HIRED" in page(daemon, "en", "/application?id=hw-1")
        assert "HelloWork acknowledged: HIRED" in notify.run("explain", "hw-1").stdout


def test_a_server_that_answers_503_is_reachable(notify: Installation) -> None:
    with notify.daemon() as daemon:
        notify.hellowork.will(UNAVAILABLE)
        notify.add("hw-1")
        daemon.wait_until_not_ready("open: HTTP 503")
        daemon.wait_until(partial(has, daemon, CALLS_FAIL["en"]), "an open circuit on the page")

        for language in LANGUAGES:
            shown = page(daemon, language)
            assert WRONG[language] in shown
            assert CALLS_FAIL[language] in shown
            assert NOT_REACHABLE[language] not in shown
            assert TAKES_CALLS[language] not in shown
        assert "open, no call before 20" in notify.run("status").stdout
        notify.hellowork.will_work()
        daemon.wait_until_ready()


def test_a_server_whose_last_call_failed_is_not_said_to_take_calls(notify: Installation) -> None:
    notify.configure(hellowork={"retry": {"first": "1000h", "max": "1000h"}})  # a wait is drawn from zero to that
    with notify.daemon() as daemon:
        notify.hellowork.will({**UNAVAILABLE, "times": 1})
        notify.add("hw-1")
        daemon.wait_until(partial(has, daemon, "HTTP 503"), "a failed call on the page")

        for language in LANGUAGES:
            shown = endpoints_of(daemon, language)
            assert f"{TAKES_CALLS[language]} ({LAST_FAILED[language]}" in shown
        _, source = daemon.get("/")
        assert 'class="outcome healthy"' not in source
        # A call that succeeds ends it.
        notify.add("hw-2")
        daemon.wait_until(lambda: not has(daemon, LAST_FAILED["en"]), "a call that succeeded on the page")


def test_nothing_is_said_to_be_retried_while_sending_is_paused(notify: Installation) -> None:
    with notify.daemon() as daemon:
        notify.hellowork.will(UNAVAILABLE)
        notify.add("hw-1")
        daemon.wait_until(partial(has, daemon, CALLS_FAIL["en"]), "an open circuit on the page")
        for language in LANGUAGES:
            daemon.wait_until(partial(says_when_it_is_retried, daemon, language), "the time of the next try")

        assert notify.run("pause").code == 0
        daemon.wait_until(partial(has, daemon, PAUSED["en"]), "the pause on the page")

        for language in LANGUAGES:
            shown = page(daemon, language)
            assert PAUSED[language] in shown
            assert not re.search(RETRIED[language], shown)
        # While a call is under way, it says that.
        daemon.wait_until(
            lambda: "an operator has paused sending" in notify.run("explain", "hw-1").stdout, "what the entry waits for"
        )
        assert "no call before" not in notify.run("status").stdout
        notify.hellowork.will_work()
        assert notify.run("resume").code == 0
        daemon.wait_until_ready()


def test_what_waits_for_a_person_is_not_called_wrong(poll: Installation) -> None:
    poll.configure_watch(fuse={"max_changes": 2, "max_deletions": 2, "window": "10m"})
    poll.add_many("hw-", 8)
    with poll.daemon() as daemon:
        poll.ats.execute("UPDATE public.applications SET status = 'OOPS', updated_at = clock_timestamp()")
        daemon.wait_for_report(
            lambda report: report["watches"][0]["held"] == 7 and not report["watches"][0]["pending"], "7 held entries"
        )
        for language in LANGUAGES:
            assert TO_DECIDE[language] in page(daemon, language)
            assert WRONG[language] not in page(daemon, language)
        assert poll.run("fuse", "discard", "--yes").code == 0
        for language in LANGUAGES:
            assert ALL_WELL[language] in page(daemon, language)

        assert poll.run("pause").code == 0
        daemon.wait_until_not_ready("paused by an operator")
        for language in LANGUAGES:
            assert TO_DECIDE[language] in page(daemon, language)
            assert WRONG[language] not in page(daemon, language)
        status = poll.run("status").stdout
        assert "wrong now:" not in status
        assert "a person has to decide:" in status
        assert poll.run("resume").code == 0
        daemon.wait_until_ready()
