"""The files that pages refer to."""

from functools import cache
from importlib.resources import files

STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""Their names, and what they are."""


@cache
def static(name: str) -> bytes:
    """The content of a file in `STATIC`."""
    return files("cdc_sync.admin").joinpath("static", name).read_bytes()
