"""HelloWork's status API for staging and the demo: it checks, answers and records calls."""

from cdc_sync.emulator.server import CALLS, Call, Emulator, serve

__all__ = ["CALLS", "Call", "Emulator", "serve"]
