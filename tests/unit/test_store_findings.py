"""What `cdc-sync check` says of a disk's space, and of watches that only the store knows."""

import re

import pytest

from cdc_sync.cli.check_store import LITTLE_SPACE, TOO_LITTLE_SPACE, check_disk_space, check_unconfigured
from cdc_sync.core.events import WatchUnconfigured
from cdc_sync.core.findings import found


def test_without_any_all_is_well() -> None:
    (finding,) = check_unconfigured([])

    assert (finding.check, finding.state, finding.remedy) == ("store-watches", "ok", None)


def test_each_is_a_warning_with_what_is_held_of_it() -> None:
    empty, full = check_unconfigured([WatchUnconfigured("empty"), WatchUnconfigured("full", 120, 2, 1, 3, 4)])

    assert [(each.check, each.state, each.watch) for each in (empty, full)] == [
        ("store-watches", "warning", "empty"),
        ("store-watches", "warning", "full"),
    ]
    assert "applications known 120, pending 2, held 1, dead letters 3, suspected deletions 4" in full.message
    assert "its changes are not captured" in full.message


def test_the_remedy_names_only_what_there_is_to_do() -> None:
    nothing, held, dead = check_unconfigured(
        [WatchUnconfigured("a"), WatchUnconfigured("b", held=1), WatchUnconfigured("c", dead=1)]
    )

    assert "give it its name back" in (nothing.remedy or "")
    assert not re.search("cdc-sync (fuse|dead-letters)", nothing.remedy or "")
    assert "cdc-sync fuse show --watch b" in (held.remedy or "")
    assert "dead-letters" not in (held.remedy or "")
    assert "cdc-sync dead-letters list --watch c" in (dead.remedy or "")
    assert "fuse" not in (dead.remedy or "")


@pytest.mark.parametrize(
    ("free", "state"),
    [
        (LITTLE_SPACE, "ok"),
        (LITTLE_SPACE - 1, "warning"),
        (TOO_LITTLE_SPACE, "warning"),
        (TOO_LITTLE_SPACE - 1, "failed"),
        (0, "failed"),
    ],
)
def test_space(free: int, state: str) -> None:
    found = check_disk_space(free, "/var/lib/cdc-sync")

    assert found.state == state
    assert f"{free // 2**20:,} MiB free" in found.message
    assert (found.remedy is None) == (state == "ok")


def test_a_text_has_the_facts_put_in_and_a_remedy_made_for_the_case_wins() -> None:
    texts = {"disk": {"full": {"failed": "{watch}: no space on {disk}", "remedy": "df {disk}"}}}

    finding = found(texts, "disk/full", watch="w", disk="/srv")
    assert (finding.check, finding.state, finding.message) == ("disk", "failed", "w: no space on /srv")
    assert (finding.remedy, finding.watch) == ("df /srv", "w")
    assert found(texts, "disk/full", "buy one", disk="/srv").remedy == "buy one"
