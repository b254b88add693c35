"""The tool that traces one change notices when its hooks no longer fit."""

import pytest
from trace_change.reading import without_news

RECORDED = {"statements": [1], "waits": [1], "notified": [1], "requests": [1], "functions": [], "jobs": []}


def test_a_recording_with_news_of_everything_is_accepted() -> None:
    assert without_news(RECORDED, with_functions=False) == []


@pytest.mark.parametrize("name", ["statements", "waits", "notified", "requests"])
def test_a_hook_that_found_nothing_is_named(name: str) -> None:
    assert without_news(RECORDED | {name: []}, with_functions=False) == [name]


def test_functions_are_expected_only_if_they_are_recorded() -> None:
    assert without_news(RECORDED, with_functions=True) == ["functions", "jobs"]
