"""The scenario (its data stand in files beside this one), and whether HelloWork received exactly what it should."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal, TypeAlias

import yaml

from cdc_sync.core.visible import visible
from cdc_sync.emulator import Call

Mode: TypeAlias = Literal["notify", "poll"]

_FOLDER = Path(__file__).parent


def text(name: str, **values: object) -> str:
    """The text of one of the files, with these values in their places."""
    return Template((_FOLDER / name).read_text()).substitute(values)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens in the ATS.

    Attributes:
        done: what is done, for people.
        acts: how: SQL, or what is done to the daemon.
        expected: the calls that must follow (`application status job`); their order counts within an application.
        silent: what of it is rightly not sent, and why; empty if everything is.
    """

    done: str
    acts: Sequence[str]
    expected: Sequence[str] = ()
    silent: str = ""


def steps() -> list[Step]:
    """The scenario."""
    return [Step(**each) for each in yaml.safe_load((_FOLDER / "scenario.yaml").read_text())]


def said(call: Call) -> str:
    """What HelloWork received by a call: `application status job`, and why it did not take it, if so."""
    body = call.body if isinstance(call.body, dict) else {}
    told = f"{call.application_id or call.path} {body.get('status')} {body.get('jobId')}"
    if call.status != 200 or call.violations:  # noqa: PLR2004 - OK
        told += f" ({'; '.join((f'answered {call.status}', *call.violations))})"
    return visible(told)


def application_of(call: str) -> str:
    """The application of a call as `said` writes it."""
    return call.partition(" ")[0]


def differences(expected: Iterable[str], received: Iterable[str]) -> list[str]:
    """The applications of which HelloWork received something else than it should, in words; empty if there is none.

    Each is to have had the same calls, in the same order, and not one more.
    """
    wanted, heard = list(expected), list(received)
    found = []
    for application in sorted(set(map(application_of, (*wanted, *heard)))):
        should, did = (
            " → ".join(call.partition(" ")[2] for call in calls if application_of(call) == application) or "nothing"
            for calls in (wanted, heard)
        )
        if should != did:
            found.append(f"{application}: expected {should}; received {did}")
    return found
