"""An endpoint's health as the store has it, also as another version wrote it."""

from cdc_sync.core.replies import Health
from cdc_sync.store.encoding import health_from


def test_fields_that_another_version_wrote_are_left_out() -> None:
    assert health_from('{"mode": "open", "failures": 5, "until": 1, "reason": "HTTP 503", "turn": 4}') == Health(
        "open", 5, 1, "HTTP 503"
    )
