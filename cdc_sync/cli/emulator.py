"""`cdc-sync emulator`: HelloWork's status API, for staging."""

from pathlib import Path
from typing import Annotated

import typer

from cdc_sync import event_loop
from cdc_sync.cli.saying import say
from cdc_sync.emulator import Call, EmulatorOptions, serve
from cdc_sync.emulator.server import OptionsError


def emulator(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
    ] = "127.0.0.1:8080",
    journal: Annotated[Path | None, typer.Option("--journal", help="Append each call to this file, as JSON.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME:VALUE", help="Refuse calls without this header.")
    ] = None,
    known: Annotated[
        list[str] | None, typer.Option("--known", metavar="ID", help="Answer 404 for every other application.")
    ] = None,
    latency: Annotated[float, typer.Option("--latency", min=0, help="Seconds before each answer.")] = 0.0,
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many calls are shown, the newest ones.")] = 10_000,
) -> None:
    """Answer as HelloWork does, record the calls, inject faults on request (POST /_emulator/faults)."""
    host, _, port = listen.rpartition(":")
    if not port.isascii() or not port.isdigit():
        raise typer.BadParameter(f"expected HOST:PORT, not {listen!r}", param_hint="--listen")
    headers = dict(_header(text) for text in header or [])
    try:
        options = EmulatorOptions(
            host=host.strip("[]") or "127.0.0.1",
            port=int(port),
            known=frozenset(known) if known else None,
            required_headers=headers,
            journal=journal,
            latency=latency,
            keep=keep,
        )
    except OptionsError as error:
        raise typer.BadParameter(str(error)) from None
    event_loop.run(serve(options, on_start=_started, on_call=_called))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter("expected NAME:VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _started(url: str) -> None:
    say(f"listening on {url} (calls: {url}/_emulator/calls)")


def _called(call: Call) -> None:
    answer = call.status if call.fault is None else f"{call.status or '-'} ({call.fault})"
    said = "; ".join(call.violations)
    say(f"{call.method} {call.path} → {answer}{': ' + said if said else ''}")
