"""`cdc-sync emulator`: HelloWork's status API, for staging; and `demo`: everything on this machine."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cdc_sync import event_loop
from cdc_sync.cli.context import misused, say
from cdc_sync.emulator import Call, EmulatorOptions, serve

_LAST_PORT = 65_535


def emulator(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 takes a free one.")] = "127.0.0.1:8080",
    journal: Annotated[Path | None, typer.Option(help="Append each call to this file, as JSON.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Refuse calls without this header.")
    ] = None,
    known: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Answer 404 for every other application.")
    ] = None,
    latency: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds before each answer.")] = 0.0,
    *,
    keep: Annotated[int, typer.Option(min=1, help="How many calls are shown, the newest ones.")] = 10_000,
) -> None:
    """Answer as HelloWork does, record the calls, inject faults on request (POST /_emulator/faults)."""
    host, _, port = listen.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > _LAST_PORT:
        raise misused(f"expected HOST:PORT, the port from 0 to 65535, not {listen!r}", "--listen")
    parts = [text.partition(":") for text in header or ()]
    if not all(name.strip() and colon for name, colon, _ in parts):
        raise misused("expected NAME:VALUE", "--header")
    options = EmulatorOptions(
        host=host.strip("[]") or "127.0.0.1",
        port=int(port),
        known=frozenset(known) if known else None,
        required_headers={name.strip(): value.strip() for name, _, value in parts},
        journal=journal,
        latency=latency,
        keep=keep,
    )
    calls = "listening on {0} (calls: {0}/_emulator/calls)"
    event_loop.run(serve(options, on_start=lambda url: say(calls.format(url)), on_call=_called))


def _called(call: Call) -> None:
    answer = call.status if call.fault is None else f"{call.status or '-'} ({call.fault})"
    violations = "; ".join(call.violations)
    say(f"{call.method} {call.path} → {answer}{': ' + violations if violations else ''}")


def demo(
    mode: Annotated[Literal["notify", "poll"], typer.Option(help="How changes are captured.")] = "notify",
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running to play with, until Ctrl-C.")] = False,
) -> None:
    """Show the whole thing: an embedded PostgreSQL, the daemon, an emulated HelloWork, and a recruiter.

    The exit code is 0 only if HelloWork received exactly the expected calls. No process and no file is left.
    """
    # The emulator needs neither PostgreSQL nor rich.
    from cdc_sync.demo.show import console, run_demo  # noqa: PLC0415 - as above

    try:
        raise typer.Exit(run_demo(mode, console(), keep=keep))
    except KeyboardInterrupt:
        say("Stopped; nothing is left behind.", err=True)
        raise typer.Exit(130) from None
