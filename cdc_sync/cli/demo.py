"""`cdc-sync emulator`: HelloWork's status API, for staging; and `demo`: everything on this machine."""

import asyncio
from typing import Annotated, Literal

import typer

from cdc_sync import event_loop, signals
from cdc_sync.config.values import SettingError, parse_listen
from cdc_sync.emulator.server import CALLS, Call, Emulator

from .context import misused, say, say_lines


def emulator(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 takes a free one.")] = "127.0.0.1:8080",
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Refuse calls without this header.")
    ] = None,
) -> None:
    """Answer as HelloWork does, and record the calls."""
    try:
        address = parse_listen(listen)
    except SettingError as error:
        raise misused(str(error), "--listen") from None
    parts = [text.partition(":") for text in header or ()]
    if not all(name.strip() and colon for name, colon, _ in parts):
        raise misused("expected NAME:VALUE", "--header")
    required = {name.strip(): value.strip() for name, _, value in parts}
    event_loop.run(_serve(Emulator(address.host, address.port, required, _called)))


async def _serve(emulated: Emulator) -> None:
    """Serve until SIGTERM or SIGINT."""
    over = asyncio.Event()
    for number in signals.ENDING:
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with emulated:
        say(f"listening on {emulated.url} (calls: {emulated.url}{CALLS})")
        await over.wait()


def _called(call: Call) -> None:
    wrong = f": {'; '.join(call.violations)}" if call.violations else ""
    say(f"{call.method} {call.path} → {call.status}{wrong}")


def demo(
    mode: Annotated[Literal["notify", "poll"], typer.Option(help="How changes are captured.")] = "notify",
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running to play with, until Ctrl-C.")] = False,
) -> None:
    """Show the whole thing: an embedded PostgreSQL, the daemon, an emulated HelloWork, and a recruiter.

    The exit code is 0 only if HelloWork received exactly the expected calls. No process and no file is left.
    """
    # The emulator needs no PostgreSQL.
    from cdc_sync.demo.show import run_demo  # noqa: PLC0415 - as above

    raise typer.Exit(run_demo(mode, say_lines, keep=keep))
