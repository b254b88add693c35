"""Traps: what a stranger plants in the schemas where unqualified names are looked for.

A role that may only CREATE in a schema makes operators, functions, types, views and casts there, of the names that the
package's SQL has (`planted.sql`). A trap fits better than PostgreSQL's own wherever that has no exact one, or where the
schema stands before `pg_catalog`. It gives the right answer, and writes into the server's log who called it, and where.
The log keeps that also if the transaction is rolled back, or may only read.
"""

import re
from pathlib import Path

import cdc_sync
from support.sessions import Ats, one

_SPRUNG = "a trap was sprung: "
_SCRIPT = Path(__file__).with_name("planted.sql")


def sprung_in(log: str, database: str) -> list[str]:
    """What a part of the server's log says of a database's traps, each once."""
    said = f"{_SPRUNG}[{database}] "
    return list(dict.fromkeys(line.partition(said)[2] for line in log.splitlines() if said in line))


def plant(stranger: Ats, schema: str) -> int:
    """Plant all that PostgreSQL lets a role plant in a schema; returns how many things."""
    stranger.execute("SELECT set_config('planted.words', %s, false)", [" ".join(_words())])
    text = _SCRIPT.read_text(encoding="utf-8").replace("{schema}", schema).replace("{sprung}", _SPRUNG)
    helpers, *kinds = re.split(r"^-- next: .*\n", text, flags=re.MULTILINE)
    stranger.execute(helpers.encode())
    return sum(int(one(stranger, kind)) for kind in kinds)


def _words() -> list[str]:
    """The words of the package's text: all that it may send to a server, and more."""
    files = (file for kind in ("*.sql", "*.py") for file in Path(cdc_sync.__file__).parent.rglob(kind))
    return sorted({word for file in files for word in re.findall(r"\b[a-z_]\w*\b", file.read_text(encoding="utf-8"))})
