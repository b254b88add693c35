"""Loads structlog without rich.

structlog loads rich, if it finds it, to render exceptions, which our lines never have: 3 MB that a daemon would keep
for nothing. `None` in `sys.modules` is the language's way to say that a module is not there. The entry is taken out
again at once, so that whoever wants rich later gets it.
"""

import sys

if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment] # mypy knows modules only
    try:
        import structlog  # noqa: F401 - for its being loaded
    finally:
        del sys.modules["rich"]
