"""From a file to a configuration, or to everything that is wrong with it."""

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st
from support.configurations import LEAST, problems_of

from cdc_sync.config import Config, ConfigurationError, PlainColumn, example, load, parse, warnings

SECRET = "hunter2hunter2hunter2"

TEN_MISTAKES = """\
databse:
  dsn: postgresql://cdc_sync:hunter2@db/ats
hellowork:
  base_url: http://hw.example
  headers: {X-Api-Key: "${HELLOWORK_API_KEY}"}
  timeout: ten seconds
watches:
  applications:
    table: ats.public.applications
    key: [id]
    poll_interval: 1s
    columns:
      application_id: hellowork_id
      status: status
      created: created_at
    capture:
      mod: poll
    status:
      map:
        Embauché: hired
        Refusé: rejected
        Embauché: offred
admin:
  listen: 0.0.0.0:8765
"""

TEN_PLACES = [
    (1, "databse"),
    (4, "hellowork.base_url"),
    (5, "hellowork.headers.X-Api-Key"),
    (6, "hellowork.timeout"),
    (9, "watches.applications.table"),
    (11, "watches.applications.poll_interval"),
    (12, "watches.applications.columns.job_id"),
    (17, "watches.applications.capture.mod"),
    (22, "watches.applications.status.map.Embauché"),
    (23, "admin.token"),
]


def test_ten_errors_are_reported_at_once_each_on_its_line() -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(TEN_MISTAKES, name="config.yaml", environ={})

    assert [(problem.line, problem.path) for problem in raised.value.problems] == TEN_PLACES
    lines = str(raised.value).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [[f"config.yaml:{line}", path] for line, path in TEN_PLACES]


def test_several_errors_of_one_rule_are_reported_at_once() -> None:
    problems = problems_of(
        """\
databases: {one: {dsn: dbname=a}, two: {dsn: dbname=b}}
watches:
  a: &watch
    table: a
    key: [id]
    columns: {application_id: a, status: s, job_id: j, created: c}
    database: three
  b: {<<: *watch, account: none}
  c: {<<: *watch, database: one, account: none}
"""
    )

    paths = ["watches.a.database", "watches.b.account", "watches.b.database", "watches.c.account"]
    assert sorted(problem.path for problem in problems) == paths


@pytest.mark.parametrize(
    ("text", "path", "meant"),
    [
        ("hellowork: {concurency: 3}", "hellowork.concurency", "concurrency"),
        ("log: {levle: x}", "log.levle", "level"),
        ("log: {colour: x}", "log.colour", None),
        ("hellowork: {accounts: {acme: {header: {}}}}", "hellowork.accounts.acme.header", "headers"),
        ("databases: {a: {pol: 1}}", "databases.a.pol", "pool"),
        ("    capture: {mod: poll}", "watches.applications.capture.mod", "mode"),
        ("    related: [{tabel: x, table: t, key: []}]", "watches.applications.related[0].tabel", "table"),
        ("    extra: {a: {sqll: x, column: c}}", "watches.applications.extra.a.sqll", "sql"),
    ],
)
def test_an_unknown_key_comes_with_the_one_that_was_meant(text: str, path: str, meant: str | None) -> None:
    (problem,) = problems_of(f"{LEAST}{text}\n")

    assert problem.path == path
    assert problem.message == "unknown key" + (f'; did you mean "{meant}"?' if meant else "")


def test_an_unknown_key_of_an_expression_is_an_error() -> None:
    (problem,) = problems_of(LEAST.replace("status: status", "status: {sql: t.status, depend_on: [status]}"))
    assert problem.path == "watches.applications.columns.status.depend_on"


def test_an_error_of_the_long_form_is_one_of_the_short_form_that_is_there() -> None:
    assert [each.path for each in problems_of(LEAST + "    where: ''\n")] == ["watches.applications.where"]
    assert [each.path for each in problems_of(LEAST + "    extra: {a: b-c}\n")] == ["watches.applications.extra.a"]


def test_a_key_without_meaning_is_accepted_with_a_warning() -> None:
    config = parse(f"{LEAST}metrics: {{per_watch: false}}\n", name="c", environ={})

    (warning,) = warnings(config)
    assert (warning.path, warning.code) == ("metrics", "no-meaning")
    assert warnings(parse(LEAST, name="c", environ={})) == []


def test_an_error_of_an_alias_is_reported_where_it_is_used() -> None:
    text = LEAST.replace("key: [id]", "key: [id]\n    capture: &c {mode: poll}") + "  other: {capture: *c}\n"
    paths = {problem.path for problem in problems_of(text)}
    assert {"watches.applications.capture.watermark", "watches.other.capture.watermark"} < paths


def test_watches_can_share_what_they_have_in_common() -> None:
    config = parse(
        LEAST.replace("applications:\n", "applications: &one\n") + "  other: {<<: *one, table: other}\n",
        name="c",
        environ={},
    )
    assert [str(watch.table) for watch in config.watches.values()] == ["public.applications", "other"]
    assert config.watches["other"].columns.status == PlainColumn("status")


def test_labels_are_what_is_written() -> None:
    config = parse(
        LEAST + "    status: {map: {no: a, 1: b, 2024-01-01: c, true: 'd', null: 2024-01-02, 1.50: 1.50}}\n",
        name="c",
        environ={},
    )
    assert config.watches["applications"].status.map == {
        "no": "a",
        "1": "b",
        "2024-01-01": "c",
        "true": "d",
        "null": "2024-01-02",
        "1.50": "1.50",
    }


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", None),
        (b"# only a comment\n", None),
        ("a: 1\nb: é\n".encode("latin-1"), 2),
        (b"- a\n", 1),
    ],
    ids=["empty", "comment", "latin-1", "list"],
)
def test_another_kind_of_file_is_an_error(tmp_path: Path, content: bytes, line: int | None) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigurationError) as raised:
        load(file, {})

    (problem,) = raised.value.problems
    assert (problem.path, problem.line) == ("", line)


def test_a_file_that_is_not_there_or_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load(tmp_path / "missing.yaml", {})
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load(tmp_path, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.touch(mode=0o000)
    with pytest.raises(ConfigurationError, match=r"c\.yaml: cannot be read: Permission denied"):
        load(file, {})


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(LEAST, encoding="utf-8-sig")
    assert list(load(tmp_path / "c.yaml", {}).watches) == ["applications"]


def test_a_file_that_is_piped_in_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, LEAST.encode())
    os.close(writing)
    try:
        assert list(load(Path(f"/dev/fd/{reading}"), {}).watches) == ["applications"]
    finally:
        os.close(reading)


def outcome(text: str, environ: dict[str, str]) -> Config | ConfigurationError:
    try:
        return parse(text, name="config.yaml", environ=environ)
    except ConfigurationError as error:
        return error


def seen_of(outcome: Config | ConfigurationError) -> str:
    """Everything that anybody may get to see of a configuration."""
    if isinstance(outcome, Config):
        return repr(outcome) + str(outcome) + outcome.database.shown()
    return "".join(traceback.format_exception(outcome)) + repr(outcome)


EXAMPLE_LINES = example().splitlines()
FRAGMENTS = [
    *(
        "*x",
        "&a ",
        "!!str ",
        "<<: ",
        "{",
        "}",
        "[",
        "]",
        ":",
        " ",
        "\n",
        "\t",
        "'",
        '"',
        "\\",
        "|",
        ">",
        "? ",
        "- ",
        "#",
    ),
    *("---\n", "%YAML 1.2\n", "null", "true", "-1", "1e999", ".nan", "${A}", "${", "$${", "{sql: x}", "[]", "~", "é"),
    *("${file:/etc/hostname}", '"\\Uffffffff"', '"\\ud800"', "\0", "\ud800", "9" * 400, "\U0001f600"),
]


@st.composite
def mutilated_examples(draw: st.DrawFn) -> str:
    """The annotated example with some lines damaged, doubled, moved or gone."""
    lines = list(EXAMPLE_LINES)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at].partition("#")[0].rstrip()
        cut = draw(st.integers(0, len(line)))
        key, colon, _ = line.partition(":")
        fragment = draw(st.sampled_from(FRAGMENTS))
        lines[at] = draw(
            st.sampled_from([f"{line[:cut]}{fragment}{line[cut:]}", f"{key}{colon} {fragment}", line[:cut], ""])
        )
        if draw(st.booleans()):
            lines.insert(draw(st.integers(0, len(lines))), line)
    return "\n".join(lines)


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join) | mutilated_examples())
@case("[" * 3000)
@case("a: " * 300)
def test_any_text_is_a_configuration_or_a_configuration_error(text: str) -> None:
    result = outcome(text, {"HELLOWORK_API_KEY": "key", "A": "b"})
    if isinstance(result, ConfigurationError):
        assert result.problems
        assert result.__context__ is None, "an exception that hangs on to this one has values of the file in it"


AROUND_A_SECRET = st.text(st.sampled_from("ab :/@?#&%=.,-*&!|>'\"[]{}\\\n\té"), max_size=8)
SECRET_PLACES = [
    "database: {{dsn: {}}}",
    "database: {}",
    "database:\n  dsn: {}",
    "database: {{dns: {}}}",
    "databse: {{dsn: {}}}",
    "dsn: {}",
    "state: {{backend: postgres, dsn: {}}}",
    "state: {{dsn: [{}]}}",
    "hellowork: {{headers: {{X-Api-Key: {}}}}}",
    "hellowork: {{headers: {}}}",
    "hellowork: {{headers: [{}]}}",
    "hellowork: {{headers: {{X-Api-Key={}}}}}",
    "hellowork: {{headers: {{{}}}}}",
    "hellowork: {{X-Api-Key: {}}}",
    "hellowork:\n  headers:\n    X-Api-Key: {}\n    Host: {}",
    "admin: {{token: {}}}",
    "admin: {{listen: '0.0.0.0:1', token: {}}}",
    "admin: {{tokn: {}}}",
    "admin: {{token: {{secret: {}}}}}",
    "admin: {}",
    "log: {{admin: {{token: {}}}}}",
]


@settings(max_examples=3 * settings().max_examples, deadline=None)
@given(
    st.sampled_from(SECRET_PLACES),
    AROUND_A_SECRET,
    AROUND_A_SECRET,
    st.sampled_from(["plain", "single", "double"]),
    st.sampled_from([LEAST, "", "watches: {a: }\n"]),
)
def test_no_secret_in_the_file_is_ever_shown(place: str, before: str, after: str, style: str, rest: str) -> None:
    secret = f"{before}{SECRET}{after}"
    if style == "single":
        secret = f"'{secret}'"
    elif style == "double":
        secret = f'"{secret}"'
    written = place.replace("{}", secret).replace("{{", "{").replace("}}", "}")
    assert SECRET not in seen_of(outcome(f"{rest}{written}\n", {}))


@settings(deadline=None)
@given(
    st.sampled_from(
        [*EXAMPLE_LINES, *(f"{line.partition(':')[0]}: '${{S}}'" for line in EXAMPLE_LINES if ":" in line)]
    ),
    st.integers(0, len(EXAMPLE_LINES)),
    AROUND_A_SECRET,
)
def test_no_error_shows_what_a_reference_stands_for(line: str, at: int, around: str) -> None:
    """Not even where no secret belongs: a secret in the wrong place is an error, and errors are shown around."""
    lines = [*EXAMPLE_LINES[:at], line, *EXAMPLE_LINES[at + 1 :]]
    result = outcome("\n".join(lines), {"S": f"{around}{SECRET}", "HELLOWORK_API_KEY": f"{SECRET}{around}"})
    if isinstance(result, ConfigurationError):
        assert SECRET not in seen_of(result)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("hellowork:\n  base_url https://hw.example\n  timeout: 5s\n", {2, 3}),
        ("database\n  dsn: ''\n", {1, 2}),
        ("a: b: c\n", {1}),
        ("a: 1\nb: 'c\nd: 1\n", {2, 3, 4}),
    ],
)
def test_what_is_not_yaml_is_reported_near_its_place(text: str, lines: set[int]) -> None:
    (problem,) = problems_of(text)
    assert problem.line in lines
    assert problem.message.startswith("not YAML: ")


def test_the_rest_of_a_header_that_looks_like_a_key_is_hidden() -> None:
    (problem,) = problems_of(f"{LEAST}hellowork: {{headers: {{Authorization: Bearer abc,watches9}}}}\n")
    assert problem.path == "hellowork.headers.(hidden)"
