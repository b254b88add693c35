"""What a label may be."""

from cdc_sync.config.meanings import is_bare_number


def test_a_label_may_be_a_mere_number() -> None:
    assert [is_bare_number(label) for label in ("3", "-2.5", "3 ", "", "N3")] == [True, True, True, False, False]
