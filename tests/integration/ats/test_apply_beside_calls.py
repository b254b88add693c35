"""Each step of capture is one apply, beside which no call of its applications begins.

It is two if rows of an application have to be read together."""

from collections.abc import Sequence
from dataclasses import replace

from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats

from cdc_sync.ats.intake import Intake
from cdc_sync.core.batch import Applied, Calls
from cdc_sync.core.outbox import Applying


class Deliveries(Calls):
    """A sender of which only its part in an apply is there."""

    def __init__(self) -> None:
        self.begun: list[Applying] = []
        self.ended: list[tuple[Applying, Applied | None]] = []

    def begin_apply(self, watch: str, application_ids: Sequence[str]) -> Applying:
        assert watch == WATCH
        applying = Applying(watch, application_ids)
        self.begun.append(applying)
        return applying

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        self.ended.append((applying, applied))

    @property
    def of(self) -> list[list[str]]:
        """The applications of each apply that has ended."""
        assert self.begun == [applying for applying, _ in self.ended]
        return [sorted(applying.application_ids) for applying in self.begun]


def intake_of(rig: Rig, deliveries: Deliveries) -> Intake:
    return Intake(replace(rig.intake.parts, calls=deliveries), rig.intake.sessions, rig.intake.reader.mapping)


async def test_what_all_rows_together_tell_is_a_second_one(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with open_rig() as rig:
        await rig.adopt()
        delete(ats, 1)
        insert(ats, 3, "a1", job_id="J2")
        update(ats, 2, status="hired")
        deliveries = Deliveries()

        (applied,) = await intake_of(rig, deliveries).keys({("1",): 0, ("2",): 0, ("3",): 0}, "notify")

        assert deliveries.of == [["a1", "a2"], ["a1"]]
        assert [result.application_id for result in applied.results] == ["a2", "a1"]
        assert await rig.deliver() == [("a1", "applied", "J2"), ("a2", "hired", "J1")]
