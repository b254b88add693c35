"""YAML, read so that nothing in it is a surprise."""

import pytest

from cdc_sync.config.document import Document
from cdc_sync.config.problems import Place, SettingError


def plain(text: str) -> object:
    document = Document(text)
    assert document.errors == {}
    return document.values


def refusal(text: str) -> tuple[str, Place | None]:
    with pytest.raises(SettingError) as raised:
        Document(text)
    return raised.value.message, raised.value.place


def test_only_true_and_false_are_booleans_and_only_null_is_null() -> None:
    text = "- true\n- False\n- null\n- ~\n-\n- yes\n- no\n- on\n- off\n- y\n- 'true'\n- \"null\"\n- ''"
    assert plain(text) == [True, False, None, None, None, "yes", "no", "on", "off", "y", "true", "null", ""]


def test_numbers_and_dates_stay_what_is_written() -> None:
    text = "[0123, 1_000, 1.50, 0x1F, 12:30:45, 2024-01-01, 2024-01-01T00:00:00Z, .inf]"
    assert plain(text) == ["0123", "1_000", "1.50", "0x1F", "12:30:45", "2024-01-01", "2024-01-01T00:00:00Z", ".inf"]


def test_a_key_is_always_text() -> None:
    text = "{yes: a, true: b, null: c, 0123: d, 2024-01-01: e, 1.0: f}"
    assert plain(text) == {"yes": "a", "true": "b", "null": "c", "0123": "d", "2024-01-01": "e", "1.0": "f"}


def test_every_part_knows_where_it_stands() -> None:
    parts = Document("a:\n  - b\n  - {c: d}\n").parts
    assert parts["a",].key == Place(1, 1)
    assert parts["a", 0].place == Place(2, 5)
    assert parts["a", 1, "c"].key == Place(3, 6)
    assert parts["a", 1, "c"].place == Place(3, 9)


def test_a_key_that_stands_twice_is_found_each_time() -> None:
    errors = Document("a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n").errors
    assert {place: (error.path, error.message) for place, error in errors.items()} == {
        Place(2, 11): (("b", "c"), "stands twice, first on line 2"),
        Place(3, 1): (("a",), "stands twice, first on line 1"),
        Place(4, 1): (("a",), "stands twice, first on line 1"),
    }


def test_what_stands_twice_in_a_shared_section_is_found_once() -> None:
    assert list(Document("a: &x {b: 1, b: 2}\nc: *x\nd: {<<: *x}\n").errors) == [Place(1, 14)]


def test_an_anchor_may_be_given_again() -> None:
    assert plain("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": "1", "b": "1", "c": "2", "d": "2"}


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
    ("text", "message", "line"),
    [
        ("a: b: c", "not YAML: a colon stands where no key can be", 1),
        ("a: 1\nb\nc: 2", "not YAML: a key without its colon", 2),
        ("a: %b", "not YAML: a value cannot begin with this character", 1),
        ("a:\n\t- b", "not YAML: a value cannot begin with this character", 2),
        ('a: "b".c', "not YAML: does not line up with the lines above, or follows a closing quote or bracket", 1),
        ("a: {b: ${C}}", "not YAML: brackets are not closed, or a comma is missing", 1),
        ("a: 1\nb: {c: 1,\nd: 2\n\ne: 3", "not YAML: brackets are not closed, or a comma is missing", 2),
        ("a: 'b\nc: 1", "not YAML: a quote is never closed", 1),
        (r'a: "\q"', "not YAML: an unknown escape", 1),
        (r'a: "\Uffffffff"', "not YAML: an escape or a number here cannot be read", 1),
        ("%YAML 1.1\n%YAML 1.1\n---\na: 1", "not YAML", 2),
        ("a: 1\nb: \0", "expected UTF-8 text without NUL characters", 2),
        ("a: 1\nb: \x01", "not YAML: the character U+0001 cannot stand in it", 2),
        ("a: 1\n---\nb: 2", "not YAML: expected one document", 2),
        ("a: !!python/object:os.system x", "tags are not used here", 1),
        ("a: !!str x", "tags are not used here", 1),
        ("a: ! x", "tags are not used here", 1),
        ("a: !!seq [x]", "tags are not used here", 1),
        ("!!str a: x", "tags are not used here", 1),
        ("a: &x !!map {b: c}\nd: *x", "tags are not used here", 1),
        ("a: *b", "not YAML: an alias (*name) needs its anchor (&name) before it", 1),
        ("a: &b [*b]", "expected at most 32 levels of nesting, with aliases written out", 1),
        ("a: &b {<<: *b}", "expected at most 32 levels of nesting, with aliases written out", 1),
        ("a: &b {c: 1}\nd: &b {<<: *b}", "expected at most 32 levels of nesting, with aliases written out", 2),
        ("? [a]\n: b", "a key must be text", 1),
        ("a: &b [c]\n*b : d", "a key must be text", 1),
        ("{a}b: c", "not YAML: does not line up with the lines above, or follows a closing quote or bracket", 1),
        ("a: {<<: b}", "`<<` takes a section, or a list of them", 1),
        (r'a: "\ud800"', "has a character that cannot be used: NUL, or half of a surrogate pair", 1),
        (r'a: "\0"', "has a character that cannot be used: NUL, or half of a surrogate pair", 1),
    ],
)
def test_an_error_of_yaml_has_its_place_and_its_reason(text: str, message: str, line: int) -> None:
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("merge", ["{<<: *a}", "{<<: [*a, *a, *a]}", "{<<: *a, k0: 1}"])
def test_merging_the_same_again_and_again_is_refused_before_it_is_done(merge: str) -> None:
    """A megabyte of this took minutes of CPU time."""
    lines = [f"a: &a {{{', '.join(f'k{n}: 1' for n in range(1000))}}}", "b:", *(f"- {merge}" for _ in range(1000))]

    message, place = refusal("\n".join(lines))

    assert message == "expected at most 20000 keys and values, with aliases written out"
    assert place is not None
    assert place.line <= 25


@pytest.mark.exhaustive
def test_too_much_is_refused_before_all_of_it_is_read() -> None:
    """Whatever it consists of: one that did not count would be two thirds of a longer text."""
    message, place = refusal("- 1\n- &a 1\n- []\n" * 33_000 + "- *nothing")

    assert message == "expected at most 20000 keys and values, with aliases written out"
    assert place is not None
    assert place.line <= 20_001


def test_sections_merged_within_sections_are_refused_before_it_is_too_deep() -> None:
    chain = ["a0: &a0 {k: 1}", *(f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 600))]
    assert "levels of nesting" in refusal("\n".join(chain))[0]


@pytest.mark.exhaustive
def test_the_same_by_merging_is_refused_too() -> None:
    wide = ", ".join(f"k{n}: &w{n} [{', '.join(['x'] * 670)}]" for n in range(10))
    lines = [f"a: &a {{{wide}}}", "b: {<<: *a}", "c: {<<: *a}"]
    assert refusal("\n".join(lines))[0] == "expected at most 20000 keys and values, with aliases written out"


def test_a_refusal_names_its_own_place_and_not_the_end_of_the_file() -> None:
    message, place = refusal("a:\n  b: {<<: c}\nd: 1\n")
    assert (message, place) == ("`<<` takes a section, or a list of them", Place(2, 7))
