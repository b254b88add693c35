"""Dollar quotes that nothing inside them can end, whatever names are put in."""

from collections.abc import Collection

_TAG = "$cdc_sync"


def requoted(template: str, parts: Collection[str]) -> str:
    """A template of a script with other dollar quotes than `$cdc_sync$`, if a part that is put into it has these."""
    tag, number = _TAG, 0
    while any(tag in part for part in parts):
        number += 1
        tag = f"{_TAG}_{number}x"
    return template.replace(f"{_TAG}$", f"{tag}$")
