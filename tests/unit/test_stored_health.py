"""An endpoint's health as the store has it, also as another version wrote it."""

import json
import time
from dataclasses import asdict

from cdc_sync.core.replies import Health
from cdc_sync.store.delivery import _followers
from cdc_sync.store.encoding import health_from


def test_health_is_read_as_it_was_written() -> None:
    paused = Health("paused", 3, 1_700_000_000_000, "HTTP 401")

    assert health_from(json.dumps(asdict(paused))) == paused


def test_fields_that_another_version_wrote_are_left_out() -> None:
    assert health_from('{"mode": "open", "failures": 5, "until": 1, "reason": "HTTP 503", "turn": 4}') == Health(
        "open", 5, 1, "HTTP 503"
    )


def test_fields_that_another_version_did_not_know_have_their_defaults() -> None:
    assert health_from('{"mode": "throttled"}') == Health("throttled")


def test_the_owners_of_ten_thousand_credentials_are_renamed_at_once() -> None:
    watches = [f"w{number}" for number in range(10_000)]
    healths = {f"https://a.example:443 [{watch}]": "{}" for watch in watches}

    began = time.process_time()
    found = _followers(healths, {watch: watch for watch in watches}, {watch: f"new {watch}" for watch in watches})

    assert found == sorted((name.replace("[", "[new "), health) for name, health in healths.items())
    assert time.process_time() - began < 1
