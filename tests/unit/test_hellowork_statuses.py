"""HelloWork's own statuses, in HelloWork's own spelling."""

import pytest

from cdc_sync.config.meanings import code_meant, known

CODES = known("hellowork")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("offered", "offred"),
        ("withdrawn", "whithdrawn"),
        ("Hired", "hired"),
        ("rejected candidate", "rejected_candidate"),
    ],
)
def test_a_misspelt_code_is_recognised(status: str, code: str) -> None:
    assert code_meant(status) == code


@pytest.mark.parametrize("status", [*CODES, "deleted", "Entretien RH", "Refusé", "send", "", "en cours"])
def test_a_code_and_a_label_of_ones_own_are_no_misspelling(status: str) -> None:
    assert code_meant(status) is None
