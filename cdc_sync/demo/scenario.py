"""The scenario (its data stand in files beside this one), and whether HelloWork received exactly what it should."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal, TypeAlias

import yaml

from cdc_sync.core.visible import visible
from cdc_sync.emulator import Call

Mode: TypeAlias = Literal["notify", "poll"]

ROLE = "cdc_sync"
DATABASE = "ats"

_FOLDER = Path(__file__).parent


def schema() -> str:
    """The ATS's tables and rows, as SQL."""
    return (_FOLDER / "ats.sql").read_text()


def configuration(mode: Mode, *, dsn: str, base_url: str, state: Path, admin_port: int) -> str:
    """The text of the daemon's configuration file.

    Args:
        mode: how changes are captured.
        dsn: the ATS's database, for the daemon's role.
        base_url: where the emulator listens.
        state: the store's file.
        admin_port: where the admin server shall listen on loopback.
    """
    capture = f"mode: {mode}" + (", watermark: updated_at, poll_interval: 200ms" if mode == "poll" else "")
    text = Template((_FOLDER / "config.yaml").read_text())
    return text.substitute(dsn=dsn, base_url=base_url, state=state, capture=capture, admin_port=admin_port)


@dataclass(frozen=True, slots=True)
class Told:
    """What a call says of an application, apart from dates and the source: its status and job."""

    application_id: str
    status: str
    job_id: str

    @property
    def said(self) -> str:
        """What it says of the application."""
        return f"{self.status}, {self.job_id}"

    def __str__(self) -> str:
        return f"{self.application_id} {self.said}"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens in the ATS.

    Attributes:
        done: what is done, for people.
        acts: how: SQL, or what is done to the daemon.
        expected: the calls that must follow; their order counts within an application.
        silent: what of it is rightly not sent, and why; empty if everything is.
    """

    done: str
    acts: tuple[str, ...]
    expected: tuple[Told, ...] = ()
    silent: str = ""


def steps() -> tuple[Step, ...]:
    """The scenario."""
    return tuple(
        Step(
            each["done"],
            tuple(each["acts"]),
            tuple(Told(*told.split()) for told in each.get("expected", ())),
            each.get("silent", ""),
        )
        for each in yaml.safe_load((_FOLDER / "scenario.yaml").read_text())
    )


@dataclass(frozen=True, slots=True)
class Received:
    """A call that HelloWork received.

    Attributes:
        told: what it said.
        at: when it was complete, in seconds since the epoch.
        objection: why HelloWork did not take it, or what it finds wrong with it; empty for a good call.
    """

    told: Told
    at: float
    objection: str = ""

    @classmethod
    def from_call(cls, call: Call) -> "Received":
        """What an emulator's call said."""
        body = call.body if isinstance(call.body, dict) else {}
        told = Told(call.application_id or call.path, str(body.get("status")), str(body.get("jobId")))
        is_good = call.status == 200 and not call.violations  # noqa: PLR2004 - OK
        return cls(told, call.received, "" if is_good else "; ".join((f"answered {call.status}", *call.violations)))

    @property
    def said(self) -> str:
        """What it said of the application, and what is wrong with that."""
        return f"{self.told.said} ({self.objection})" if self.objection else self.told.said

    def __str__(self) -> str:
        return visible(f"{self.told.application_id} {self.said}")


def differences(expected: Iterable[Told], received: Iterable[Received]) -> list[str]:
    """The applications of which HelloWork received something else than it should, in words; empty if there is none.

    Each is to have had the same calls, in the same order, and not one more.
    """
    wanted, heard = list(expected), list(received)
    found = []
    for each in sorted({told.application_id for told in (*wanted, *(call.told for call in heard))}):
        should = [told.said for told in wanted if told.application_id == each]
        did = [call.said for call in heard if call.told.application_id == each]
        if should != did:
            both = (" → ".join(said) or "nothing" for said in (should, did))
            found.append(visible(f"{each}: expected {next(both)}; received {next(both)}"))
    return found


@dataclass(frozen=True, slots=True)
class Played:
    """A step that was played.

    Attributes:
        step: which.
        received: the calls that arrived meanwhile.
        since: when its last act began, in seconds since the epoch.
        completed: whether all that had to follow did follow in time.
    """

    step: Step
    received: tuple[Received, ...]
    since: float
    completed: bool

    @property
    def is_good(self) -> bool:
        """Whether exactly the expected calls arrived."""
        return self.completed and not differences(self.step.expected, self.received)
