"""Release, discard and retry: by the page in a browser, and by a script."""

import asyncio
import base64
import json
import re
from itertools import product
from typing import Any

import pytest
from support.builders import ENDPOINT, NOW, WATCH, a_baseline, a_batch, an_observation, some_rules
from support.configurations import a_config
from support.looking import TOKEN, Admin
from support.store_steps import bury, entry_of

from cdc_sync.core.events import PersonActed

ACTIONS = ["/fuse/release", "/fuse/discard", "/dead-letters/retry", "/dead-letters/discard"]
PATHS = [*ACTIONS, "/resend", "/sending/pause", "/sending/resume"]
BEARER = f"Bearer {TOKEN}"
NUMBERS = "The field number takes a number: once for each transition, in their order.\n"
UNKNOWN = "The field {} is none of watch, application_id, transition, number, all.\n"
EMPTY = "The field {} is empty: fill it, or leave it out.\n"


@pytest.fixture
async def guarded(guarded: Admin) -> Admin:
    """A server with a token; two entries are held, two are dead letters."""
    await bury(guarded.store, an_observation("d1"), an_observation("d2"))
    await guarded.store.capture.apply(some_rules(max_changes=0), a_batch(an_observation("h1"), an_observation("h2")))
    return guarded


async def states(admin: Admin) -> dict[str, str | None]:
    """The state of each application's entry."""
    entries = {id_: await entry_of(admin.store, id_) for id_ in ("h1", "h2", "d1", "d2")}
    return {id_: None if entry is None else entry.state for id_, entry in entries.items()}


UNTOUCHED = {"h1": "held", "h2": "held", "d1": "dead", "d2": "dead"}


class TestByThePage:
    @pytest.mark.parametrize(
        ("application_id", "actions"),
        [
            ("h1", ["/fuse/release", "/fuse/discard"]),
            ("d1", ["/dead-letters/retry", "/dead-letters/discard"]),
            ("p1", []),
            ("t1", ["/resend"]),
        ],
    )
    async def test_a_story_has_the_buttons_that_its_entry_allows(
        self, guarded: Admin, application_id: str, actions: list[str]
    ) -> None:
        await guarded.store.capture.apply(some_rules(), a_batch(an_observation("p1")))
        await guarded.store.capture.apply(some_rules(), a_baseline(an_observation("t1")))
        browser = guarded.browser()

        page = await browser.page(f"/application?id={application_id}")

        assert [action for action in re.findall('action="([^"?]+)', page) if action in PATHS] == actions
        for action in actions:
            answer = await browser.press(action, watch=WATCH, application_id=application_id)
            assert answer.status == 303

    async def test_an_acknowledged_state_is_resent(self, guarded: Admin) -> None:
        await guarded.store.capture.apply(some_rules(), a_baseline(an_observation("t1")))
        browser = guarded.browser()

        assert (await browser.press("/resend", watch=WATCH, application_id="t1")).status == 303

        entry = await entry_of(guarded.store, "t1")
        assert entry is not None
        assert entry.state == "pending"
        (acted,) = guarded.seen
        assert isinstance(acted, PersonActed)
        assert (acted.action, acted.count, acted.on) == ("resend", 1, WATCH)
        assert (await guarded.store.report.story("t1", 9))[-1].detail["who"] == acted.who
        assert "resend: 1" in await browser.page()
        for form in ({"watch": WATCH, "application_id": "h1"}, {"application_id": "t1"}, {"watch": WATCH}):
            assert (await browser.press("/resend", **form)).status == 409
        unconfigured = an_observation("t1")
        await guarded.store.capture.apply(some_rules("former"), a_baseline(unconfigured))
        assert (await browser.press("/resend", watch="former", application_id="t1")).status == 409

    async def test_held_entries_are_released(self, guarded: Admin) -> None:
        browser = guarded.browser()

        answer = await browser.press("/fuse/release", watch="applications", number="2")

        assert (answer.status, answer.headers["Location"]) == (303, "/")
        assert await states(guarded) == {**UNTOUCHED, "h1": "pending", "h2": "pending"}
        (*_, released) = await guarded.store.report.story("h1", 9)
        assert released.detail["who"] == "the token from 127.0.0.1"
        story = await guarded.get("/application?id=h1", authorization=BEARER, headers={"Accept-Language": "fr"})
        assert "le jeton, depuis 127.0.0.1" in story.text
        assert guarded.seen == [PersonActed(NOW, "release", released.detail["who"], 2, "applications")]
        assert (
            'cdc_sync_human_actions_total{action="release"} 1.0'
            in (await guarded.get("/metrics", authorization=BEARER)).text
        )
        assert "release: 2" in await browser.page()
        assert "the token from 127.0.0.1" in await browser.page()

    async def test_sending_is_paused_and_resumed(self, guarded: Admin) -> None:
        browser = guarded.browser()

        assert (await browser.press("/sending/pause", endpoint=ENDPOINT)).status == 303
        assert await guarded.store.operation.paused() == {ENDPOINT}
        page = await browser.page()
        assert "pause: 1" in page
        assert "paused by an operator" in page

        assert (await browser.press("/sending/pause", all="1")).status == 303
        assert (await browser.press("/sending/pause", endpoint="https://nobody.example:443")).status == 409
        assert (await browser.press("/sending/resume", all="1")).status == 303
        assert await guarded.store.operation.paused() == frozenset()
        assert "paused by an operator" not in await browser.page()

    async def test_what_became_something_else_since_the_page_stays(self, guarded: Admin) -> None:
        browser = guarded.browser()
        section = (await browser.page()).partition('id="held"')[2]
        form = section.partition("/fuse/release")[2].partition("</form>")[0]
        fields = dict(re.findall('name="([^"]+)" value="([^"]*)"', form))
        assert (fields["transition"], fields["number"]) == ("(new) → applied", "2")
        await guarded.store.capture.apply(some_rules(max_changes=0), a_batch(an_observation("h2", "hired")))

        await browser.press("/fuse/discard", **fields)

        assert await states(guarded) == {**UNTOUCHED, "h1": None}

    @pytest.mark.parametrize(("path", "first"), [("/fuse/discard", "h1"), ("/dead-letters/discard", "d1")])
    async def test_no_more_are_discarded_than_were_seen(self, guarded: Admin, path: str, first: str) -> None:
        await guarded.browser().press(path, all="1", number="1")

        assert await states(guarded) == {**UNTOUCHED, first: None}

    async def test_what_a_watch_left_that_is_configured_no_more_is_decided_about_too(self, guarded: Admin) -> None:
        former = some_rules("former", max_changes=0)
        await guarded.store.capture.apply(former, a_batch(an_observation("f1"), an_observation("f2")))
        browser = guarded.browser()
        page = await browser.page()
        assert "<h3>former:" in page
        assert "No longer configured: its changes are not captured, and its pending entries wait." in page
        assert "f1" in page

        answer = await browser.press("/fuse/release", watch="former", number="2")

        assert answer.status == 303
        assert (await guarded.store.report.counts())["former"].pending == 2
        assert await states(guarded) == UNTOUCHED


class TestByAScript:
    async def test_it_is_told_what_was_done(self, guarded: Admin) -> None:
        async def post(path: str, **form: str) -> object:
            answer = await guarded.get(path, method="POST", authorization=BEARER, form=form)
            assert answer.status == 200
            return json.loads(answer.text)

        assert await post("/dead-letters/retry", application_id="d1") == {"retried": 1}
        assert await post("/dead-letters/discard", application_id="nobody") == {"discarded": 0}
        assert await post("/fuse/discard", watch="nobody") == {"discarded": 0}
        assert await post("/fuse/discard", watch="%") == {"discarded": 0}
        assert await post("/fuse/release", all="1") == {"released": 2}
        assert await post("/fuse/discard", watch="applications") == {"discarded": 0}
        assert await states(guarded) == {"h1": "pending", "h2": "pending", "d1": "pending", "d2": "dead"}

    async def test_everything_is_meant_only_if_it_is_said(self, guarded: Admin) -> None:
        for path in (*ACTIONS, "/sending/pause", "/sending/resume"):
            answer = await guarded.get(path, method="POST", authorization=BEARER, form={})
            assert answer.status == 409
            fields = "watch, application_id, all" if path in ACTIONS else "endpoint, all"
            assert answer.text == f"Name what is meant by one of these fields: {fields}.\n"
        assert await states(guarded) == UNTOUCHED

    @pytest.mark.parametrize(
        ("form", "reason"),
        [
            ({"all": "1", "number": "many"}, NUMBERS),
            ({"all": "1", "number": "9" * 5000}, NUMBERS),
            ({"all": "1", "number": "-1"}, NUMBERS),
            ({"all": ""}, EMPTY.format("all")),
            ({"all": "0"}, "The field all takes 1, or is left out.\n"),
            ({"watch": "applications", "account": "acme"}, UNKNOWN.format("account")),
            ({"watch": "applications", "application-id": "h1"}, UNKNOWN.format("application-id")),
            ({"all": "1", "endpoint": ENDPOINT}, UNKNOWN.format("endpoint")),
            ([("watch", "applications"), ("watch", "b")], "The field watch is there more than once.\n"),
            ({"all": "1", "watch": ""}, EMPTY.format("watch")),
            ({"watch": "applications", "transition": ""}, EMPTY.format("transition")),
            ({"watch": "applications", "application_id": ""}, EMPTY.format("application_id")),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_what_makes_no_sense_is_not_done(self, guarded: Admin, form: Any, reason: str) -> None:
        for path in ("/fuse/release", "/fuse/discard"):
            answer = await guarded.get(path, method="POST", authorization=BEARER, form=form)

            assert (answer.status, answer.text) == (409, reason)
        assert await states(guarded) == UNTOUCHED


class TestNobodyElse:
    async def test_without_the_token(self, guarded: Admin) -> None:
        answers = await asyncio.gather(
            *(
                guarded.get(path, method="POST", authorization=authorization, form={"all": "1"})
                for path, authorization in product(PATHS, (None, f"Bearer {TOKEN}x"))
            )
        )
        assert {answer.status for answer in answers} == {401}
        assert await states(guarded) == UNTOUCHED

    async def test_where_no_token_is_configured(self, admin: Admin) -> None:
        await bury(admin.store, an_observation("d1"))
        await admin.store.capture.apply(some_rules(), a_baseline(an_observation("t1")))
        await admin.store.capture.apply(some_rules(max_changes=0), a_batch(an_observation("h1")))

        page = (await admin.get("/")).text
        for path in PATHS:
            answer = await admin.get(path, method="POST", form={"all": "1"})
            assert answer.status == 403
            assert answer.text.startswith("admin.token is not configured, and actions need it.")
            assert f'action="{path}' not in page
        assert "cdc-sync fuse release --watch applications" in page
        assert "cdc-sync dead-letters retry --watch applications -- d1" in page
        assert "once admin.token is configured" in page
        assert "cdc-sync resend --watch applications -- t1" in (await admin.get("/application?id=t1")).text


class TestWho:
    """The person who acted is named in the history."""

    async def test_by_the_name_that_was_given_with_the_token(self, guarded: Admin) -> None:
        await guarded.browser("julia").press("/fuse/release", watch=WATCH, application_id="h1")

        assert await self.who(guarded) == "the token as julia from 127.0.0.1"

    @pytest.mark.parametrize(
        ("proxies", "who"),
        [
            (["127.0.0.1"], "julia by the proxy 127.0.0.1"),
            (["10.0.0.7"], "the token from 127.0.0.1"),
            ([], "the token from 127.0.0.1"),
        ],
        ids=str,
    )
    async def test_by_a_trusted_proxy_alone(self, guarded: Admin, proxies: list[str], who: str) -> None:
        own = {"listen": "127.0.0.1:0", "token": TOKEN, "user_header": "X-Remote-User", "proxies": proxies}
        guarded.use(a_config({f"admin.{name}": value for name, value in own.items()}))
        form = {"watch": WATCH, "application_id": "h1"}

        await guarded.post("/fuse/release", form, Authorization=BEARER, X_Remote_User="julia")

        assert await self.who(guarded) == who

    @pytest.mark.parametrize("name", ["x" * 5_000, "ren\udce9", "<i>"])
    async def test_a_strange_name_does_no_harm(self, guarded: Admin, name: str) -> None:
        header = f"Basic {base64.b64encode(f'{name}:{TOKEN}'.encode(errors='surrogateescape')).decode()}"
        form = {"watch": WATCH, "application_id": "h1"}
        answer = await guarded.post("/fuse/release", form, Authorization=header)

        assert answer.status == 303
        assert "<i>" not in await guarded.browser().page("/application?id=h1")

    async def who(self, admin: Admin) -> object:
        (*_, released) = await admin.store.report.story("h1", 9)
        return released.detail["who"]
