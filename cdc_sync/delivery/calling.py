"""One call: its address, its reply, and what that means for its entry and for its endpoint."""

import random
import time
from collections.abc import Callable
from typing import Any

from cdc_sync.core import events
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reasons import coded
from cdc_sync.core.replies import (
    ACKNOWLEDGED,
    HEALTHY,
    Acknowledged,
    CredentialsRefused,
    DeadLetter,
    Finished,
    Health,
    Meaning,
    NotFound,
    Rejected,
    Reply,
    after,
    begun,
    meaning_of,
    result_of,
)
from cdc_sync.core.status_url import refused
from cdc_sync.delivery.client import Caller
from cdc_sync.delivery.endpoints import Endpoint, Endpoints
from cdc_sync.wall_clock import wall_clock


class Calls:
    """Makes calls, and judges their replies.

    Attributes:
        changed: called with an endpoint whose health has changed.
    """

    def __init__(  # noqa: PLR0917 - the sender's own parts
        self,
        caller: Caller,
        endpoints: Endpoints,
        observe: events.Emit,
        changed: Callable[[Endpoint], None],
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._caller = caller
        self._endpoints = endpoints
        self._observe = observe
        self._changed = changed
        self._monotonic = monotonic
        self._chance = chance

    async def make(self, entry: Entry, endpoint: Endpoint) -> Finished:
        """Call with an entry; `Endpoints.begin` has counted the call, and this counts its end."""
        started, entry = self._monotonic(), begun(entry, self._endpoints.clock())
        queued_at = entry.queued_at
        try:
            entry, refusal = self._addressed(entry)
            end = self._refused(entry, refusal) if refusal else await self._call(entry, endpoint)
        finally:
            seconds = self._monotonic() - started
            self._endpoints.end(endpoint, seconds)
        waited = max((end.at - queued_at) / 1000 - seconds, 0.0)  # the two terms come from two clocks
        why, of = end.reply["reason"], (entry.watch, entry.application_id)
        self._observe(events.CallEnded(*of, end.result.outcome, why, entry.attempts, seconds, waited))
        return end._replace(reply={**end.reply, "seconds": round(seconds, 4)})

    def _addressed(self, entry: Entry) -> tuple[Entry, str | None]:
        """The entry with its present URL, and why it must not be called."""
        settings = self._endpoints.settings
        entry = entry.addressed(settings.built)
        return entry, settings.allowed.refusal(entry.content.url)

    def _refused(self, entry: Entry, refusal: str) -> Finished:
        reason = refused(entry.content.url, refusal)
        return Finished(entry, DeadLetter(reason), {"reason": reason}, self._endpoints.clock())

    async def _call(self, entry: Entry, endpoint: Endpoint) -> Finished:
        settings = self._endpoints.settings
        reply, excerpt = await self._caller.call(entry)
        now = self._endpoints.clock()
        # A date is compared with the wall clock.
        meaning = meaning_of(reply, now if reply.retry_after is None else wall_clock())
        why = describe(reply, excerpt)
        result = result_of(entry, meaning, why, settings.policy, now=now, chance=self._chance())
        may_be_news = meaning is not ACKNOWLEDGED or endpoint.most is not None or endpoint.health is not HEALTHY
        # Old credentials prove nothing about new ones.
        if may_be_news and (settings is self._endpoints.settings or not isinstance(meaning, CredentialsRefused)):
            self._judge(endpoint, meaning, why, now)
        detail: dict[str, Any] = {"status": reply.status, "reason": why}
        if excerpt:
            detail["body"] = excerpt
        return Finished(entry, result, detail, now)

    def _judge(self, endpoint: Endpoint, meaning: Meaning, reason: str, now: int) -> None:
        before, endpoints = endpoint.health, self._endpoints
        health = after(before, meaning, reason, endpoints.settings.policy, now=now, chance=self._chance())
        endpoint.heed(health, answered=isinstance(meaning, Acknowledged | NotFound | Rejected))
        is_gone = endpoints.all.get(endpoint.name) is not endpoint
        if health == before or is_gone:
            return
        endpoints.unsaved[endpoint.name] = health
        self._changed(endpoint)
        if health.mode != before.mode or (health.mode != "healthy" and health.reason != before.reason):
            self.report(endpoint.name, health)

    def report(self, name: str, health: Health) -> None:
        """Report an endpoint's health."""
        wait = max(health.until - self._endpoints.clock(), 0) / 1000
        self._observe(events.EndpointChanged(name, health.mode, health.reason, wait))


_REDIRECT = "HTTP %(status)s, a redirect, which is never followed (is hellowork.base_url right?)"
_REPLIES = {
    "http": "HTTP %(status)s",
    "http-answer": "HTTP %(status)s: %(answer)s",
    "redirect": _REDIRECT,
    "redirect-answer": f"{_REDIRECT}: %(answer)s",
}


def describe(reply: Reply, excerpt: str) -> str:
    """A reply in words, for people."""
    if reply.status is None:
        return reply.failure or coded("no-answer", "no answer")
    status: object = reply.status
    if reply.retry_after is not None:
        status = f"{status}, Retry-After: {reply.retry_after[:60]}"
    line = " ".join(excerpt.split())[:200]
    if 200 <= reply.status < 300:  # noqa: PLR2004 - HTTP's classes are numbers
        return f"HTTP {status}: {line}" if line else f"HTTP {status}"  # no reason for a failure: no French
    code = "redirect" if 300 <= reply.status < 400 else "http"  # noqa: PLR2004 - as above
    if not line:
        return coded(code, _REPLIES[code], status=status)
    return coded(f"{code}-answer", _REPLIES[f"{code}-answer"], status=status, answer=line)
