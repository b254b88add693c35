import pytest

from cdc_sync.core.disk_space import LITTLE, TOO_LITTLE, judged


@pytest.mark.parametrize(
    ("free", "state"),
    [(LITTLE, "ok"), (LITTLE - 1, "warning"), (TOO_LITTLE, "warning"), (TOO_LITTLE - 1, "failed"), (0, "failed")],
)
def test_space(free: int, state: str) -> None:
    found = judged(free, "/var/lib/cdc-sync")

    assert found.state == state
    assert f"{free // 2**20:,} MiB free" in found.message
    assert (found.remedy is None) == (state == "ok")
