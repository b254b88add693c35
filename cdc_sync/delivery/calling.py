"""One call: its address, its reply, and what that means for its entry and for its endpoint."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cdc_sync.core import events, replies
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reasons import coded
from cdc_sync.wall_clock import wall_clock

from .client import Caller
from .endpoints import Endpoint, Endpoints

_REPORTED_AFTER = 0.01
"""Seconds from a call's end to its line in the log, at most."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Makes calls, and judges their replies.

    Attributes:
        changed: called if an endpoint's health has changed.
        ended: the ends of calls to report; see `report_ended`.
        unwell: the endpoints that were reported last as such.
        chance: a random number, 0 ≤ chance < 1, for waits.
    """

    caller: Caller
    endpoints: Endpoints
    observe: events.Emit
    changed: Callable[[], None]
    chance: Callable[[], float]
    ended: list[events.CallEnded] = field(default_factory=list)
    unwell: set[str] = field(default_factory=set)

    async def make(self, entry: Entry, endpoint: Endpoint) -> replies.Finished:
        """Call with an entry; `Endpoints.begin` has counted the call, and this counts its end."""
        endpoints, started = self.endpoints, self.endpoints.monotonic()
        entry = replies.begun(entry, endpoints.clock()).addressed(endpoints.settings.built)
        try:
            refusal = endpoints.settings.allowed.refusal(entry.content.url)
            if refusal:
                end = replies.Finished(entry, replies.DeadLetter(refusal), {"reason": refusal}, endpoints.clock())
            else:
                end = await self._call(entry, endpoint)
        finally:
            seconds = endpoints.monotonic() - started
            endpoints.end(endpoint, seconds)
        waited = max((end.at - entry.queued_at) / 1000 - seconds, 0.0)  # the two terms come from two clocks
        outcome, why = end.result.outcome, end.reply["reason"]
        if not self.ended:
            asyncio.get_running_loop().call_later(_REPORTED_AFTER, self.report_ended)
        ended = events.CallEnded(entry.watch, entry.application_id, outcome, why, entry.attempts, seconds, waited)
        self.ended.append(ended)
        end.reply["seconds"] = round(seconds, 4)
        return end

    def report_ended(self) -> None:
        """Report the calls that have ended. Many at once: one by one would take three times as long."""
        for ended in self.ended:
            self.observe(ended)
        self.ended.clear()

    async def _call(self, entry: Entry, endpoint: Endpoint) -> replies.Finished:
        endpoints, settings = self.endpoints, self.endpoints.settings
        reply, excerpt = await self.caller.call(entry)
        now, chance = endpoints.clock(), self.chance()
        # A date is compared with the wall clock.
        meaning = replies.meaning_of(reply, now if reply.retry_after is None else wall_clock())
        why = describe(reply, excerpt)
        # Old credentials prove nothing about new ones.
        if settings is endpoints.settings or meaning.kind != "refused credentials":
            before = endpoint.health
            endpoint.heed(replies.after(before, meaning, why, settings.policy, now=now, chance=chance))
            if endpoint.health != before and endpoints.all.get(endpoint.name) is endpoint:  # its account is still there
                endpoints.unsaved[endpoint.name] = endpoint.health
                self.changed()
                self._report(endpoint, before)
        detail: dict[str, Any] = {"status": reply.status, "reason": why}
        if excerpt:
            detail["body"] = excerpt
        result = replies.result_of(entry, meaning, why, settings.policy, now=now, chance=chance)
        return replies.Finished(entry, result, detail, now)

    def report(self, pending: Iterable[str]) -> None:
        """Report again which of the endpoints with something pending keep it waiting, and which are used no more."""
        waiting = dict.fromkeys(pending)
        for name in sorted(self.unwell - waiting.keys() - self.endpoints.settings.expected):
            self.unwell.discard(name)
            self.observe(events.EndpointGone(name))
        for name in waiting:
            endpoint = self.endpoints.all.get(name)
            if endpoint is not None:
                self._report(endpoint, replies.HEALTHY)

    def _report(self, endpoint: Endpoint, before: replies.Health) -> None:
        health = endpoint.health
        if health.mode != before.mode or (health.mode != "healthy" and health.reason != before.reason):
            if health.mode == "healthy":
                self.unwell.discard(endpoint.name)
            else:
                self.unwell.add(endpoint.name)
            wait = max(health.until - self.endpoints.clock(), 0) / 1000
            self.observe(events.EndpointChanged(endpoint.name, health.mode, health.reason, wait))


def describe(reply: replies.Reply, excerpt: str) -> str:
    """A reply in words, for people."""
    if reply.status is None:
        return reply.failure or coded("no-answer", "no answer")
    status: object = reply.status
    if reply.retry_after is not None:
        status = f"{status}, Retry-After: {reply.retry_after[:60]}"
    line = " ".join(excerpt.split())[:200]
    if 200 <= reply.status < 300:  # noqa: PLR2004 - HTTP's classes are numbers
        return f"HTTP {status}: {line}" if line else f"HTTP {status}"  # a success needs no French
    if 300 <= reply.status < 400:  # noqa: PLR2004 - as above
        return coded(
            "redirect",
            "HTTP %(status)s, a redirect, which is never followed (is hellowork.base_url right?)",
            status=status,
        )
    if not line:
        return coded("http", "HTTP %(status)s", status=status)
    return coded("http-answer", "HTTP %(status)s: %(answer)s", status=status, answer=line)
