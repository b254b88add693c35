"""Where commands print tables and texts. Apart, because it loads rich, of which a daemon at rest needs nothing."""

import sys

from rich.console import Console

# Into a file or a pipe nothing is wrapped or cut: who reads it there searches it. Ids, labels and replies come from
# outside, so nothing in a text is taken for markup.
console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 100_000)
