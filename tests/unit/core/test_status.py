"""From label to status: the map first, then what `unmapped` says."""

import pytest

from cdc_sync.core.rows import Mapped, StatusRules, Unmapped, map_status

REJECTED = ("Refusé", "the label 'Refusé' is not in status.map, and status.unmapped is reject")


@pytest.mark.parametrize(
    ("unmapped", "label", "expected"),
    [
        ("send", "Embauché", ("hired", None)),
        ("ignore", "Embauché", ("hired", None)),
        ("reject", "Embauché", ("hired", None)),
        ("send", "Refusé", ("Refusé", None)),
        ("ignore", "Refusé", None),
        ("reject", "Refusé", REJECTED),
        # A label is the ATS's own free text: letter case and blanks are part of it.
        ("ignore", "embauché", None),
        ("ignore", "Embauché ", None),
        # A status is not a label: what is sent is not mapped again.
        ("ignore", "hired", None),
    ],
)
def test_labels(unmapped: Unmapped, label: str, expected: Mapped | None) -> None:
    rules = StatusRules(map={"Embauché": "hired"}, unmapped=unmapped, deleted="deleted")

    assert map_status(rules, label) == expected
