"""The script that installs the triggers, as one text."""

from cdc_sync.ats import scripts
from cdc_sync.config import Config


def install(config: Config, owner: str | None = None) -> str:
    return "".join(part.script for part in scripts.install(config, owner))
