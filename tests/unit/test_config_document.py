"""YAML, read so that nothing in it is a surprise."""

import pytest

from cdc_sync.config import ConfigurationError
from cdc_sync.config.loading import Document


def plain(text: str) -> object:
    document = Document(text)
    assert document.twice == []
    return document.values


def refusal(text: str) -> tuple[str, int | None]:
    """The message and the line of a text that is refused."""
    with pytest.raises(ConfigurationError) as raised:
        Document(text)
    (problem,) = raised.value.problems
    return problem.message, problem.line


def test_a_key_that_stands_twice_is_found_each_time() -> None:
    assert Document("a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n").twice == [
        (("a",), "stands twice, first on line 1"),
        (("a",), "stands twice, first on line 3"),
        (("b", "c"), "stands twice, first on line 2"),
    ]


def test_aliases_and_the_merge_key_work() -> None:
    text = "a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\nd: {<<: [{q: 4}, *x], r: 5}\ne: {'<<': 6}\n"
    assert plain(text) == {
        "a": {"p": "1", "q": "2"},
        "b": {"p": "1", "q": "2"},
        "c": {"q": "3", "p": "1"},
        "d": {"r": "5", "p": "1", "q": "4"},
        "e": {"<<": "6"},
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: {b: ${C}}", 1),
        ("a: 'b\nc: 1", 2),
        (r'a: "\Uffffffff"', None),
        ("%YAML 1.1\n%YAML 1.1\n---\na: 1", 2),
        ("a: 1\n---\nb: 2", 2),
        ("a: !!python/object:os.system x", 1),
        ("a: &x !own {b: c}\nd: *x", 1),
        ("a: *b", 1),
        ("? [a]\n: b", 1),
        ("a: 1\nb: {<<: c}", 2),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, line: int | None) -> None:
    assert refusal(text)[1] == line


def test_a_tab_is_named() -> None:
    assert r"character '\t'" in refusal("a:\n\tb: 1")[0]


def test_no_refusal_quotes_the_file() -> None:
    for text in ("a: *hunter2", "a: &hunter2 b\nc: !hunter2!x d", "%TAG !hunter2! x\n%TAG !hunter2! y\n--- a"):
        assert "hunter2" not in refusal(text)[0]


@pytest.mark.parametrize("text", ["[" * 1000, "{a: " * 1000, "- " * 1000 + "x", "a: &b [*b]", "a: &b {<<: *b}"])
def test_nesting_is_bounded(text: str) -> None:
    assert refusal(text)[0] == "is nested too deeply"
