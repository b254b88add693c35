"""What is allowed, and hardly ever meant."""

from typing import Any

from support.configurations import WATCH, a_config

from cdc_sync.config import warnings


def warned(changes: dict[str, Any]) -> list[str]:
    """The path of each warning."""
    return [problem.path for problem in warnings(a_config(changes))]


def test_an_ordinary_configuration_is_not_suspicious() -> None:
    changes = {
        f"{WATCH}.status": {"map": {"Embauché": "hired", "Vu": "Vu par le recruteur"}, "unmapped": "ignore"},
        f"{WATCH}.settle": {"hired": "5m", "deleted": "1m", "default": "1s"},
        f"{WATCH}.extra": {"delay": {"column": "d", "only_for": ["hired"]}},
    }
    assert warned(changes) == []
    assert warned({}) == []


def test_what_init_left_undecided_is_pointed_out() -> None:
    found = warnings(a_config({"undecided": ["status: a or b?", "key: none"]}))
    assert [(each.path, each.message) for each in found] == [
        ("undecided[0]", "status: a or b?"),
        ("undecided[1]", "key: none"),
    ]
