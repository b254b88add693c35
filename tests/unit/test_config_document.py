"""YAML, read so that nothing in it is a surprise."""

import pytest

from cdc_sync.config.document import Document, DocumentError


def plain(text: str) -> object:
    document = Document(text)
    assert document.twice == []
    return document.values


def refusal(text: str) -> tuple[str, int | None]:
    """The message and the line of a text that is refused."""
    with pytest.raises(DocumentError) as raised:
        Document(text)
    return raised.value.problem.message, raised.value.problem.line


def test_only_true_and_false_are_booleans_and_only_null_is_null() -> None:
    text = "- true\n- False\n- null\n- ~\n-\n- yes\n- no\n- on\n- off\n- y\n- 'true'\n- \"null\"\n- ''"
    assert plain(text) == [True, False, None, None, None, "yes", "no", "on", "off", "y", "true", "null", ""]


def test_numbers_and_dates_stay_what_is_written() -> None:
    text = "[0123, 1_000, 1.50, 0x1F, 12:30:45, 2024-01-01, 2024-01-01T00:00:00Z, .inf]"
    assert plain(text) == ["0123", "1_000", "1.50", "0x1F", "12:30:45", "2024-01-01", "2024-01-01T00:00:00Z", ".inf"]


def test_a_key_is_always_text() -> None:
    text = "{yes: a, true: b, null: c, 0123: d, 2024-01-01: e, 1.0: f}"
    assert plain(text) == {"yes": "a", "true": "b", "null": "c", "0123": "d", "2024-01-01": "e", "1.0": "f"}


def test_every_part_knows_its_line() -> None:
    parts = Document("a:\n  - b\n  - {c: d}\n").parts
    lines = {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "c"): 3}
    assert {path: parts[path].line for path in lines} == lines


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


def test_an_alias_may_be_a_key() -> None:
    text = "a: &x b\n*x : c\n"
    assert plain(text) == {"a": "b", "b": "c"}


@pytest.mark.parametrize("text", ["", "# a comment\n", "\n\n"])
def test_nothing_is_nothing(text: str) -> None:
    assert plain(text) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", 1),
        ("a: 1\nb\nc: 2", 3),
        ("a: %b", 1),
        ("a:\n\t- b", 2),
        ('a: "b".c', 1),
        ("a: {b: ${C}}", 1),
        ("a: 'b\nc: 1", 2),
        (r'a: "\q"', 1),
        (r'a: "\Uffffffff"', None),
        ("%YAML 1.1\n%YAML 1.1\n---\na: 1", 2),
        ("a: 1\nb: \0", 2),
        ("a: 1\nb: \x01", 2),
        ("a: 1\n---\nb: 2", 2),
        ("a: !!python/object:os.system x", 1),
        ("a: 1\nb: !own x", 2),
        ("a: &x !own {b: c}\nd: *x", 1),
        ("a: *b", 1),
        ("? [a]\n: b", 1),
        ("a: &b [c]\n*b : d", 1),
        ("{a}b: c", 1),
        ("a: 1\nb: {<<: c}", 2),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, line: int | None) -> None:
    assert refusal(text)[1] == line


def test_no_refusal_quotes_the_file() -> None:
    for text in ("a: *hunter2", "a: &hunter2 b\nc: !hunter2!x d", "%TAG !hunter2! x\n%TAG !hunter2! y\n--- a"):
        assert "hunter2" not in refusal(text)[0]


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000 + "x", "a: &b [*b]", "a: &b {<<: *b}"])
def test_nesting_is_bounded(text: str) -> None:
    assert refusal(text)[0] == "is nested too deeply"


def test_the_signs_that_yaml_expected_are_shown_and_no_text_of_the_file() -> None:
    assert refusal("a: {b: c")[0] == "not YAML: expected ',' or '}', but got …"
    assert "secret" not in refusal("a: *secret")[0]
