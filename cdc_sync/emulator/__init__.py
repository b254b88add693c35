"""HelloWork's status API for staging, tests and the demo: strict, with a memory, and failures on request.

The control API (same port, no authentication):

| request | does |
|---|---|
| `GET /_emulator/calls?after=N&wait=SECONDS&count=K` | the calls above N; `wait` for K of them |
| `DELETE /_emulator/calls` | drops the calls; their numbers go on |
| `GET`, `DELETE /_emulator/state` | the latest acknowledged body of each application |
| `GET`, `POST`, `DELETE /_emulator/faults` | the scripted faults; POST adds one or a list (see `faults`) |
| `GET`, `PUT /_emulator/applications` | the application ids that are known, or null for any |
"""

from cdc_sync.emulator.calls import Call
from cdc_sync.emulator.server import Emulator, EmulatorOptions, serve

__all__ = ["Call", "Emulator", "EmulatorOptions", "serve"]
