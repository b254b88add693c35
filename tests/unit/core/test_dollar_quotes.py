"""Nothing that is put into a dollar quote ends it."""

from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.identifiers import requoted

PARTS = st.text(st.sampled_from("$cdc_syncx123;"), max_size=40) | st.sampled_from(
    ["$cdc_sync$", "$cdc_sync_1x$ $cdc_sync", "a"]
)


def test_a_common_part_changes_nothing() -> None:
    assert requoted("DO $cdc_sync$ {} $cdc_sync$;", ["x$y$"]) == "DO $cdc_sync$ {} $cdc_sync$;"


@given(st.lists(PARTS))
def test_no_part_has_the_quotes(parts: list[str]) -> None:
    opened, inside, closed = requoted("$cdc_sync$ {} $cdc_sync$", parts).partition(" {} ")

    assert opened == closed
    assert inside
    assert not any(opened.rstrip("$") in part for part in parts)
