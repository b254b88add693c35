"""HelloWork's own statuses, in HelloWork's own spelling."""

import pytest

from cdc_sync.config.meanings import code_meant, is_bare_number, known

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


def test_a_label_may_be_a_mere_number() -> None:
    assert [is_bare_number(label) for label in ("3", "-2.5", "3 ", "", "N3")] == [True, True, True, False, False]
