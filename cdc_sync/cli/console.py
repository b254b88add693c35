"""Where commands print tables and texts. Apart, because it loads rich, of which a daemon at rest needs nothing."""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from cdc_sync.core.visible import visible


class _Visible(Console):
    """Makes visible whatever is printed as `str`, in the cells of tables too; our own lines are printed one by one."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(visible(text), **how)


# Into a file or a pipe nothing is wrapped or cut: who reads it there searches it. Ids, labels and replies come from
# outside, so nothing in a text is taken for markup.
console = _Visible(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 100_000)
