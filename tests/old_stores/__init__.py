"""Stores that earlier versions of cdc-sync wrote, for each schema that 0.1.0 and 0.2.0 had, and some between.

Each was left by the daemon of a commit below, which worked until its store had one of everything and was ended by
kill -9. Beside each store lies what that version then sent of it, when it was started once more. The program that made
them is in the history (`git show 556b8bc3:tests/old_stores/__main__.py`); one more is made when a schema is released.
"""

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdc_sync.store.statements import Database

FIXTURES = Path(__file__).parent / "fixtures"

PORT = 15_015
"""Where HelloWork listens, on a loopback address that each store has for itself: URLs are part of what it holds."""

DIRECT_PORT = 15_016
"""Where the status URLs of the watch `direct` lead."""

DECIDED = 8
"""The first schema whose stores have decisions."""

_NOT_EVERYWHERE = re.compile(r"^SET (transaction_timeout|default_table_access_method) .*$", re.MULTILINE)
"""Settings of a dump that an older server than its own does not know."""


@dataclass(frozen=True, slots=True)
class OldStore:
    """One of them.

    Attributes:
        backend: `state.backend`.
        schema: the number of its schema.
        commit: whose code wrote it: the last one of that schema; of the newest schemas, one of them.
        host: the loopback address on which its endpoints listen.
    """

    backend: Database
    schema: int
    commit: str
    host: str

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.backend}-{self.schema}-{self.commit[:7]}"

    @property
    def has_decisions(self) -> bool:
        """Whether people discarded and paused before it was left behind, and a watch had credentials of its own."""
        return self.schema >= DECIDED

    @property
    def paused(self) -> str:
        """The endpoint that is paused in one with decisions: nothing is pending for it."""
        return f"http://{self.host}:{PORT} [direct]"

    def file(self) -> bytes:
        """The SQLite file."""
        return gzip.decompress((FIXTURES / f"{self.name}.db.gz").read_bytes())

    def script(self) -> str:
        """The dump of the schema `cdc_sync`."""
        text = (FIXTURES / f"{self.name}.sql").read_text(encoding="utf-8")
        return _NOT_EVERYWHERE.sub("", text).replace("EXECUTE FUNCTION", "EXECUTE PROCEDURE")  # for PostgreSQL 10

    def then(self) -> "Then":
        """What was beside it."""
        return Then(**json.loads((FIXTURES / f"{self.name}.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Then:
    """What was beside a store when its daemon was killed, and what came of it.

    Attributes:
        rows: the rows of each of the ATS's tables, by column.
        calls: what the same version sent when it was started again: path, body and idempotency key.
    """

    rows: Mapping[str, list[dict[str, Any]]]
    calls: list[tuple[str, str, str]]


_WRITTEN_BY: tuple[tuple[Database, int, str, int], ...] = (
    ("sqlite", 1, "9cfa46ee16e0c40647d339e60aab4015216fcada", 1),
    ("sqlite", 2, "fcd1f3f91c41066197d29335bdc9111dc18ec8cf", 2),
    ("sqlite", 3, "54958ab0ad38124478c52824d733bc9d89e949ce", 3),
    ("sqlite", 4, "055263e68a723901bf20ebf39e9996a259acdd1f", 4),
    # The same schema, but adopted states have negative times.
    ("sqlite", 4, "0e7d387677fc18fd6130df8e5a4015d0fd330496", 5),
    ("postgres", 1, "fcd1f3f91c41066197d29335bdc9111dc18ec8cf", 6),
    ("postgres", 2, "54958ab0ad38124478c52824d733bc9d89e949ce", 7),
    ("postgres", 3, "055263e68a723901bf20ebf39e9996a259acdd1f", 8),
    ("postgres", 4, "0e7d387677fc18fd6130df8e5a4015d0fd330496", 9),
    # 0.2.0 has the same schema.
    ("sqlite", 8, "db6a2b17acc3045d338a33c4a66f18c34e779152", 16),
    ("postgres", 8, "db6a2b17acc3045d338a33c4a66f18c34e779152", 17),
)
"""The last number gives a store its address."""

OLD_STORES = tuple(
    OldStore(backend, schema, commit, f"127.15.15.{number}") for backend, schema, commit, number in _WRITTEN_BY
)
