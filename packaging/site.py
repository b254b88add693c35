"""What MkDocs needs to follow links that GitHub follows."""

import re
from typing import Any


def _anchor(heading: str, _: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def on_config(config: Any) -> None:
    """Make the anchors of headings as GitHub makes them."""
    config.mdx_configs["toc"]["slugify"] = _anchor
