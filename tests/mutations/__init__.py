"""Faults that tests must find: `faults.yaml`; `python -m mutations` (in tests/) tries each."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault in a file of the package: one text in place of another; `tests` are to find it."""

    what: str
    file: str
    text: str
    instead: str
    tests: str


MUTATIONS = [
    Mutation(**fault) for fault in yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text(encoding="utf-8"))
]
