"""Faults that the model of the sender must find; `python -m mutations` (in tests/) tries each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault in a file of the package: one text in place of another."""

    what: str
    file: str
    text: str
    instead: str


MUTATIONS = [
    Mutation(
        "a call begins while an apply decides about its application",
        "delivery/memory.py",
        "(each for each in endpoint.ready if each[1] not in self.deciding)",
        "iter(endpoint.ready)",
    ),
    Mutation(
        "an apply does not know which calls have begun",
        "delivery/memory.py",
        "        return Applying(watch, tuple(application_ids), dict(self.calling))",
        "        return Applying(watch, tuple(application_ids))",
    ),
    Mutation(
        "what an apply decides about stays in memory",
        "delivery/memory.py",
        "        if of in self.entries and of not in self.calling:",
        "        if False:",
    ),
    Mutation(
        "another watch's entry of an application in memory is not read afterwards",
        "delivery/memory.py",
        "        for lane in self.behind.pop(_application_of(self.entries.pop(of))):",
        "        self.behind.pop(_application_of(self.entries.pop(of)))\n        for lane in ():",
    ),
    Mutation(
        "an entry comes into memory beside another one of its application",
        "delivery/memory.py",
        "        if application in self.behind:",
        "        if False:",
    ),
    Mutation(
        "an entry that another watch has replaced stays in memory",
        "delivery/memory.py",
        "        for of in applied.replaced:",
        "        for of in ():",
    ),
    Mutation(
        "an entry of another account is called beside the one before",
        "delivery/memory.py",
        "        if of in self.entries:",
        "        if False:",
    ),
    Mutation(
        "what is pending after its application's call is forgotten",
        "delivery/turns.py",
        "            for lane, due_at in pending.items():",
        "            for lane, due_at in ():",
    ),
    Mutation(
        "a lane that could not be read is forgotten",
        "delivery/turns.py",
        "                self.look()\n",
        "                self.wake()\n",
    ),
    Mutation(
        "a withheld watch's entries stay in memory",
        "delivery/sender.py",
        '        self._memory.forget(lambda lane: self._memory.lanes.admits(lane) == "none")\n',
        "",
    ),
    Mutation(
        "one watch gets all the room, and again",
        "delivery/memory.py",
        "                limits.update(dict.fromkeys(lanes[:left], max(left // len(lanes), 1)))",
        "                limits.update(dict.fromkeys(sorted(lanes)[:1], left))",
    ),
    Mutation(
        "a call begins without the lead",
        "delivery/sender.py",
        "        if self._stopping or not self._turns.work or not self._may_begin():",
        "        if self._stopping or not self._turns.work:",
    ),
    Mutation(
        "a stop that cut calls off counts as clean",
        "delivery/sender.py",
        "        return bool(self._memory.calling)",
        "        return False",
    ),
    Mutation(
        "results that could not be stored are dropped",
        "delivery/turns.py",
        "                self._ended = ended + self._ended\n",
        "",
    ),
    Mutation(
        "a cancelled caller's apply has no effect on memory",
        "store/driver.py",
        "        self.effect(result)\n",
        "        if not self.answer.done():\n            self.effect(result)\n",
    ),
    Mutation(
        "what is pending at the start does not count as attempted",
        "store/delivery.py",
        "        if await self._was_clean():",
        "        if await self._was_clean() or True:",
    ),
    Mutation(
        "a call without an acknowledgement is no attempt",
        "store/delivery.py",
        "        attempted=True,\n        attempts=sent.attempts,",
        "        attempts=sent.attempts,",
    ),
    Mutation(
        "an acknowledgement removes what replaced the entry",
        "store/delivery.py",
        "        is_same = current is not None and current.content.same_as(sent.content)",
        "        is_same = current is not None",
    ),
    Mutation(
        "what replaced an acknowledged entry counts as attempted",
        "store/delivery.py",
        "kept, account = current._replace(attempted=False)",
        "kept, account = current._replace(attempted=True)",
    ),
    Mutation(
        "an apply takes another entry for the one whose call had begun",
        "core/outbox.py",
        "(entry.revision, entry.content.status) == (revision, status)",
        "entry.revision == revision",
    ),
]
