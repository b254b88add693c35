"""What the audience sees: side by side what the ATS did and what HelloWork received, and at the end the account."""

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cdc_sync.demo.player import Played
from cdc_sync.demo.scenario import Step
from cdc_sync.demo.verdict import Difference, Received

_PAUSE = 0.35
"""Seconds before each step on a terminal: somebody is reading along."""

_LINES_BELOW = 2
_WAITING = "Waiting to see whether anything more comes"
_PLAIN_WIDTH = 118


def console() -> Console:
    """A console for the demo: as wide as the terminal, or as the final table needs where there is none."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, force_interactive=False, width=_PLAIN_WIDTH)


class View:
    """Shows the show: live on a terminal, line by line elsewhere. The `Audience` of the player."""

    def __init__(self, to: Console) -> None:
        self._console = to
        self._played: list[Played] = []
        self._playing: Step | None = None
        self._spinner = Spinner("dots")
        self._live = Live(console=to, get_renderable=self._scene, transient=True) if to.is_interactive else None

    @property
    def played(self) -> list[Played]:
        """The steps so far."""
        return self._played

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    async def begins(self, step: Step) -> None:
        """See `Audience`."""
        self._playing = step
        if self._live is not None:
            await asyncio.sleep(_PAUSE)

    def ended(self, played: Played) -> None:
        """See `Audience`."""
        self._playing = None
        self._played.append(played)
        if self._live is None:
            self._console.print(_side_by_side([played], header=len(self._played) == 1))

    def _scene(self) -> RenderableType:
        """The latest steps that there is room for, and what is going on."""
        self._spinner.update(text=Text(self._playing.done if self._playing else _WAITING, "dim"))
        shown, room = self._played, self._console.height - _LINES_BELOW
        while len(shown) > 1 and len(self._console.render_lines(_side_by_side(shown))) > room:
            shown = shown[1:]
        return Group(_side_by_side(shown), self._spinner)


def account(played: Iterable[Played]) -> Table:
    """The final table: done, sent, correctly not sent."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    steps = list(played)
    sent = sum(len(each.received) for each in steps)
    silent = sum(bool(each.step.silent) for each in steps)
    table.add_column("", no_wrap=True)
    table.add_column("Done in the ATS", f"{len(steps)} done")
    table.add_column("Sent to HelloWork", f"{sent} sent", no_wrap=True)
    table.add_column("Correctly not sent", f"{silent} correctly not sent")
    for each in steps:
        sent_lines = Text("\n".join(str(call) for call in each.received), "" if each.is_good else "red")
        table.add_row(_mark(each), Text(each.step.done), sent_lines, Text(each.step.silent, "dim"))
    return table


def after_sweeps(repairs: Mapping[str, int]) -> str:
    """What capture had missed, by cause."""
    if not repairs:
        return "Sweeps compared the whole table again and again, and found nothing that capture had missed."
    found = ", ".join(f"{cause} ({number})" for cause, number in sorted(repairs.items()))
    return f"Found by nothing but sweeps, which compare the whole table: {found}."


def verdict(differences: Sequence[Difference], failure: str | None, *, calls: int) -> Text:
    """The last word.

    Args:
        differences: where HelloWork heard something else than it should have.
        failure: why the scenario could not be played to its end, if it could not.
        calls: how many calls were received.
    """
    if not differences and failure is None:
        return Text(f"PASSED: HelloWork received {calls} calls, exactly the expected ones.", "bold green")
    reasons = [*filter(None, [failure]), *map(str, differences)]
    return Text("FAILED:\n" + "\n".join(f"  {reason}" for reason in reasons), "bold red")


def _side_by_side(played: Iterable[Played], *, header: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, show_header=header, expand=True, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, width=1)
    table.add_column("The ATS", ratio=1)
    table.add_column("HelloWork received", ratio=1)
    for each in played:
        table.add_row(_mark(each), Text(each.step.done), _heard(each))
    return table


def _heard(played: Played) -> Text:
    if not played.received:
        return Text(f"nothing: {played.step.silent}" if played.step.silent else "nothing", "dim")
    lines = [Text.assemble(str(call), (f"  {_after(call, played)}", "dim")) for call in played.received]
    return Text("\n").join(lines)


def _after(call: Received, played: Played) -> str:
    # The two clocks are one, but it may be set; and a call can arrive before the statement's own end is known here.
    return f"{max(call.at - played.since, 0) * 1000:.0f} ms"


def _mark(played: Played) -> Text:
    return Text("✓", "green") if played.is_good else Text("✗", "bold red")
