"""YAML, read so that nothing in it is a surprise."""

import pytest

from cdc_sync.config.document import Entries, Items, Node, NotYamlError, Place, Scalar, read


def plain(node: Node | None) -> object:
    """The tree without its places."""
    match node:
        case Entries():
            return {key: plain(entry.node) for key, entry in node.entries.items()}
        case Items():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.value
    return None


def refusal(text: str) -> tuple[str, Place | None]:
    with pytest.raises(NotYamlError) as raised:
        read(text)
    return raised.value.trouble.message, raised.value.trouble.place


def test_only_true_and_false_are_booleans_and_only_null_is_null() -> None:
    node, troubles = read("- true\n- False\n- null\n- ~\n-\n- yes\n- no\n- on\n- off\n- y\n- 'true'\n- \"null\"\n- ''")
    assert plain(node) == [True, False, None, None, None, "yes", "no", "on", "off", "y", "true", "null", ""]
    assert troubles == []


def test_numbers_and_dates_stay_what_is_written() -> None:
    node, _ = read("[0123, 1_000, 1.50, 0x1F, 12:30:45, 2024-01-01, 2024-01-01T00:00:00Z, .inf]")
    assert plain(node) == ["0123", "1_000", "1.50", "0x1F", "12:30:45", "2024-01-01", "2024-01-01T00:00:00Z", ".inf"]


def test_a_key_is_always_text() -> None:
    node, _ = read("{yes: a, true: b, null: c, 0123: d, 2024-01-01: e, 1.0: f}")
    assert plain(node) == {"yes": "a", "true": "b", "null": "c", "0123": "d", "2024-01-01": "e", "1.0": "f"}


def test_every_part_knows_where_it_stands() -> None:
    node, _ = read("a:\n  - b\n  - {c: d}\n")
    assert isinstance(node, Entries)
    assert node.entries["a"].place == Place(1, 1)
    items = node.entries["a"].node
    assert isinstance(items, Items)
    assert items.items[0].place == Place(2, 5)
    section = items.items[1]
    assert isinstance(section, Entries)
    assert section.entries["c"].place == Place(3, 6)
    assert section.entries["c"].node.place == Place(3, 9)


def test_a_key_that_stands_twice_is_found_each_time() -> None:
    _, troubles = read("a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n")
    assert [(t.path, t.message, t.place) for t in troubles] == [
        (("b", "c"), "stands twice, first on line 2", Place(2, 11)),
        (("a",), "stands twice, first on line 1", Place(3, 1)),
        (("a",), "stands twice, first on line 1", Place(4, 1)),
    ]


def test_aliases_and_the_merge_key_work() -> None:
    node, _ = read("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\nd: {<<: [{q: 4}, *x], r: 5}\ne: {'<<': 6}\n")
    assert plain(node) == {
        "a": {"p": "1", "q": "2"},
        "b": {"p": "1", "q": "2"},
        "c": {"q": "3", "p": "1"},
        "d": {"r": "5", "p": "1", "q": "4"},
        "e": {"<<": "6"},
    }


def test_an_alias_may_be_a_key() -> None:
    node, _ = read("a: &x b\n*x : c\n")
    assert plain(node) == {"a": "b", "b": "c"}


@pytest.mark.parametrize("text", ["", "# a comment\n", "\n\n"])
def test_nothing_is_nothing(text: str) -> None:
    assert read(text) == (None, [])


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: b: c", "not YAML: a colon stands where no key can be", 1),
        ("a: 1\nb\nc: 2", "not YAML: a key without its colon", 2),
        ("a: %b", "not YAML: a value cannot begin with this character", 1),
        ("a:\n\t- b", "not YAML: a value cannot begin with this character", 2),
        ('a: "b".c', "not YAML: does not line up with the lines above, or follows a closing quote", 1),
        ("a: {b: ${C}}", "not YAML: brackets are not closed, or a comma is missing", 1),
        ("a: 1\nb: {c: 1,\nd: 2\n\ne: 3", "not YAML: brackets are not closed, or a comma is missing", 2),
        ("a: 'b\nc: 1", "not YAML: a quote is never closed", 1),
        (r'a: "\q"', "not YAML: an unknown escape", 1),
        (r'a: "\Uffffffff"', "not YAML: an escape or a number after this cannot be read", 1),
        ("%YAML 1.1\n%YAML 1.1\n---\na: 1", "not YAML", 2),
        ("a: 1\nb: \0", "not YAML: the character U+0000 cannot stand in it", 2),
        ("a: 1\n---\nb: 2", "expected one document", 2),
        ("a: !!python/object:os.system x", "tags are not used here", 1),
        ("a: *b", "an alias (*name) needs its anchor (&name) before it", 1),
        ("a: &b [*b]", "an alias (*name) needs its anchor (&name) before it", 1),
        ("? [a]\n: b", "a key must be text", 1),
        ("a: {<<: b}", "`<<` takes a section, or a list of them", 1),
        (r'a: "\ud800"', "has a character that cannot be used: NUL, or half of a surrogate pair", 1),
        (r'a: "\0"', "has a character that cannot be used: NUL, or half of a surrogate pair", 1),
    ],
)
def test_what_cannot_be_read_is_told_where_and_why(text: str, message: str, line: int) -> None:
    told, place = refusal(text)
    assert told == message
    assert place is not None
    assert place.line == line


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000 + "x", "[{a: " * 100])
def test_nesting_is_bounded(text: str) -> None:
    assert refusal(text)[0] == "expected at most 32 levels of nesting, with aliases written out"


def test_nesting_is_bounded_through_aliases_too() -> None:
    lines = ["a0: &a0 x", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40))]
    assert refusal("\n".join(lines))[0] == "expected at most 32 levels of nesting, with aliases written out"


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 lol", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))]
    message, place = refusal("\n".join(lines))
    assert message == "expected at most 20000 keys and values, with aliases written out"
    assert place is not None
    assert place.line <= 6


@pytest.mark.parametrize("merge", ["{<<: *a}", "{<<: [*a, *a, *a]}", "{<<: *a, k0: 1}"])
def test_merging_the_same_again_and_again_is_refused_before_it_is_done(merge: str) -> None:
    """A megabyte of this took minutes of CPU time."""
    lines = [f"a: &a {{{', '.join(f'k{n}: 1' for n in range(5000))}}}", "b:", *(f"- {merge}" for _ in range(1000))]

    message, place = refusal("\n".join(lines))

    assert message == "expected at most 20000 keys and values, with aliases written out"
    assert place is not None
    assert place.line <= 5


@pytest.mark.parametrize("part", ["- 1\n", "- &a 1\n", "- []\n"])
def test_too_much_is_refused_before_all_of_it_is_read(part: str) -> None:
    message, place = refusal(part * 100_000)

    assert message == "expected at most 20000 keys and values, with aliases written out"
    assert place is not None
    assert place.line <= 20_001


def test_the_same_by_merging_is_refused_too() -> None:
    wide = ", ".join(f"k{n}: &w{n} [{', '.join(['x'] * 1000)}]" for n in range(10))
    lines = [f"a: &a {{{wide}}}", "b: {<<: *a}", "c: {<<: *a}"]
    assert refusal("\n".join(lines))[0] == "expected at most 20000 keys and values, with aliases written out"
