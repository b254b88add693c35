"""What `cdc-sync check` says of watches that the store knows and the configuration does not have."""

from cdc_sync.core.observations import WatchUnconfigured
from cdc_sync.core.unconfigured import judged


def test_without_any_all_is_well() -> None:
    (finding,) = judged([])

    assert (finding.check, finding.state, finding.remedy) == ("store-watches", "ok", None)


def test_each_is_a_warning_with_what_is_held_of_it() -> None:
    empty, full = judged([WatchUnconfigured("empty"), WatchUnconfigured("full", 120, 2, 1, 3, 4)])

    assert [(each.check, each.state, each.watch) for each in (empty, full)] == [
        ("store-watches", "warning", "empty"),
        ("store-watches", "warning", "full"),
    ]
    assert "applications known 120, pending 2, held 1, dead letters 3, suspected deletions 4" in full.message
    assert "removed, or renamed?" in full.message


def test_the_remedy_names_only_what_there_is_to_do() -> None:
    nothing, held, dead = judged(
        [WatchUnconfigured("a"), WatchUnconfigured("b", held=1), WatchUnconfigured("c", dead=1)]
    )

    assert "give it its name back" in (nothing.remedy or "")
    assert "cdc-sync" not in (nothing.remedy or "")
    assert "cdc-sync fuse show --watch b" in (held.remedy or "")
    assert "dead-letters" not in (held.remedy or "")
    assert "cdc-sync dead-letters list --watch c" in (dead.remedy or "")
    assert "fuse" not in (dead.remedy or "")
