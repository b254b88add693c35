"""What a comparison depends on besides the data, as one text: with another one, nothing that was kept of it counts."""

import hashlib
import json
from dataclasses import asdict

from cdc_sync import __version__
from cdc_sync.pipeline.intake import Intake


def shape_of(intake: Intake) -> str:
    """A digest of all that a comparison depends on but the data: table, key, mapping, and the watch's rules."""
    rules = json.dumps(asdict(intake.rules), sort_keys=True, default=sorted)  # sets have no order of their own
    return hashlib.sha256(f"{intake.reader.shape}\0{rules}".encode()).hexdigest()


def shape_of_digests(intake: Intake) -> str:
    """The same for the digests of rows, which outlive a sweep: another version may read a row otherwise."""
    return f"{__version__} {shape_of(intake)}"
