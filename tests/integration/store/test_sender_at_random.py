"""The sender keeps its promises whatever happens at once; see `support.sender_model`.

`python -m mutations`, in `tests`, shows what this finds.
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import pytest
from support.sender_model import run
from support.store_backends import Backend, PostgresBackend, SqliteBackend

SECONDS = float(os.environ.get("CDC_SYNC_TEST_SENDER_SECONDS", "6"))
"""More for a search."""

EXPECTED = {"changes", "calls", "settled", "cancelled callers", "lost answers"}

A_MINUTE = 60
"""Seconds: a busy machine gets so much more until all of these have happened."""

pytestmark = pytest.mark.timeout(10 * SECONDS + 120)


@pytest.mark.parametrize("backend_name", ["sqlite", "postgres"])
def test_it_keeps_its_promises(backend_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    def empty() -> Backend:
        if backend_name == "sqlite":
            return SqliteBackend(Path(tempfile.mkdtemp(dir=tmp_path)))
        return PostgresBackend(request.getfixturevalue("store_database"))

    begun, seed, tally = time.monotonic(), int(time.time()), dict[str, int]()

    def is_over() -> bool:
        lasted = time.monotonic() - begun
        return lasted > SECONDS + A_MINUTE or (lasted > SECONDS and tally.keys() >= EXPECTED)

    while not is_over():
        seed += 1
        for what, number in asyncio.run(run(empty(), seed, 1.0)).items():
            tally[what] = tally.get(what, 0) + number
    assert tally.keys() >= EXPECTED, tally
