"""What the audience sees: side by side what the ATS did and what HelloWork received, and at the end the account."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cdc_sync.demo.verdict import Played

WAITING = "Waiting to see whether anything more comes"
_PLAIN_WIDTH = 118
_HEADING = "bold"

_STATEMENTS = """
  UPDATE applications SET status = 'hired', updated_at = now() WHERE hellowork_id = 'HW-1012';
  UPDATE applications SET job_id = 'J-300', updated_at = now() WHERE hellowork_id = 'HW-1013';
  UPDATE applications SET updated_at = now();
  DELETE FROM applications WHERE hellowork_id = 'HW-1014';
"""


def console() -> Console:
    """A console for the demo: as wide as the terminal, or as the final table needs where there is none."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, force_interactive=False, width=_PLAIN_WIDTH)


def side_by_side(played: Played, *, header: bool) -> Table:
    """What the ATS did in a step, and what HelloWork received; the first has the header."""
    table = Table(box=None, pad_edge=False, show_header=header, expand=True, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, width=1)
    table.add_column("The ATS", ratio=1)
    table.add_column("HelloWork received", ratio=1)
    table.add_row(_mark(played), Text(played.step.done), _heard(played))
    return table


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


def verdict(differences: Sequence[str], failure: str | None, *, calls: int) -> Text:
    """The last word.

    Args:
        differences: where HelloWork heard something else than it should have.
        failure: why the scenario could not be played to its end, if it could not.
        calls: how many calls were received.
    """
    if not differences and failure is None:
        return Text(f"PASSED: HelloWork received {calls} calls, exactly the expected ones.", "bold green")
    reasons = [*filter(None, [failure]), *differences]
    return Text("FAILED:\n" + "\n".join(f"  {reason}" for reason in reasons), "bold red")


def invitation(*, psql: Path, dsn: str, config: Path, admin_url: str, emulator_url: str, cdc_sync: str) -> Text:
    """Where everything is in a demo that was left running, and ready-made things to try.

    Args:
        psql: the client of the server's installation.
        dsn: the ATS's database, for the ATS.
        config: the daemon's configuration.
        admin_url: its page.
        emulator_url: where HelloWork's API is emulated.
        cdc_sync: the command line that is this `cdc-sync`.
    """
    client = str(psql) if psql.exists() else "psql"
    command = f"{cdc_sync} --config {config}"
    return Text.assemble(
        ("\nEverything is left running, until Ctrl-C.\n", _HEADING),
        f"""
  the ATS's database    {dsn}
  the daemon's page     {admin_url}/
  what HelloWork got    {emulator_url}/_emulator/calls
""",
        ("\nBe the recruiter:", _HEADING),
        f"\n\n  {client} '{dsn}'\n",
        _STATEMENTS,
        ("\nBe the sysadmin:", _HEADING),
        f"""

  {command} status
  {command} explain HW-1001
  curl -X POST {emulator_url}/_emulator/faults -d '{{"kind": "status", "status": 503, "times": 3}}'

""",
        ("What HelloWork receives from now on:\n", _HEADING),
    )


def _heard(played: Played) -> Text:
    if not played.received:
        return Text(f"nothing: {played.step.silent}" if played.step.silent else "nothing", "dim")
    # The two clocks are one, but it may be set; and a call can arrive before the statement's own end is known here.
    return Text("\n").join(
        Text.assemble(str(call), (f"  {max(call.at - played.since, 0) * 1000:.0f} ms", "dim"))
        for call in played.received
    )


def _mark(played: Played) -> Text:
    return Text("✓", "green") if played.is_good else Text("✗", "bold red")
