"""From a file to a configuration, or to everything that is wrong with it."""

import os
import re
import traceback
from pathlib import Path

import pytest
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st
from support.configurations import LEAST, problems_of

from cdc_sync.config import Config, ConfigurationError, PlainColumn, Problem, example, load, parse, problems
from cdc_sync.config.problems import messages

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

TEN_LINES = """\
config.yaml:1: databse: unknown key; did you mean "database"?
config.yaml:4: hellowork.base_url: expected a URL such as https://ats-partner.hellowork.com: it is http: only https \
may be used, except to a loopback address (found: http://hw.example)
config.yaml:5: hellowork.headers.X-Api-Key: the environment variable HELLOWORK_API_KEY is not set \
(found: ${HELLOWORK_API_KEY}); set it for the daemon (systemd: Environment= or EnvironmentFile=)
config.yaml:6: hellowork.timeout: expected a duration such as 500ms, 30s, 5m, 2h or 7d (found: ten seconds)
config.yaml:9: watches.applications.table: expected a table's name, such as public.applications: it has 3 parts, but \
only a schema and a table may be named (the connection says which database); a dot that belongs to a name needs double \
quotes around it (found: ats.public.applications)
config.yaml:11: watches.applications.poll_interval: unknown key; it belongs in capture
config.yaml:12: watches.applications.columns.job_id: required key is missing (the job's id in the ATS)
config.yaml:17: watches.applications.capture.mod: unknown key; did you mean "mode"?
config.yaml:22: watches.applications.status.map."Embauché": stands twice, first on line 20; remove one
config.yaml:23: admin.token: a token has at least 16 characters, since a shorter one could be guessed; listen on \
another than a loopback address needs one; `openssl rand -hex 16` prints a good one
"""


def test_ten_errors_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(TEN_MISTAKES, name="config.yaml", environ={})
    assert f"{raised.value}\n" == TEN_LINES
    assert len(raised.value.problems) == 10


def test_a_problem_is_a_value_too() -> None:
    problems = problems_of(LEAST + "hellowork:\n  timeout: -5s\n  concurency: 3\n")
    assert problems == [
        Problem("hellowork.timeout", 7, 12, "-5s", "must not be negative"),
        Problem("hellowork.concurency", 8, 3, None, "unknown key", 'did you mean "concurrency"?'),
    ]


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("capture: {}", "it belongs in watches.NAME"),
        ("map: {}", "it belongs in watches.NAME.status"),
        ("admin: {dsn: x}", "it belongs in database"),
        ("hellowork: {first: 1s}", "it belongs in retry"),
        ("log: {watches: {}}", "it belongs at the top of the file, without indentation"),
        ("log: {levle: x}", 'did you mean "level"?'),
        ("log: {colour: x}", "known here: level, format"),
        ("log: {'level:debug': }", "write `key: value`, with a blank after the colon"),
    ],
)
def test_an_unknown_key_comes_with_where_it_belongs(text: str, suggestion: str) -> None:
    (problem,) = problems_of(f"{LEAST}{text}\n")
    assert (problem.message, problem.suggestion) == ("unknown key", suggestion)


def test_a_key_of_the_watch_is_sent_back_to_its_own_watch() -> None:
    (problem,) = problems_of(LEAST + "    capture: {table: x}\n")
    assert problem.suggestion == "it belongs in watches.applications"


def test_an_unknown_key_of_an_expression_is_an_error() -> None:
    (problem,) = problems_of(LEAST.replace("status: status", "status: {sql: t.status, depend_on: [status]}"))
    assert str(problem) == ('watches.applications.columns.status.depend_on: unknown key; did you mean "depends_on"?')


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


def test_another_kind_of_file_is_an_error(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        with pytest.raises(ConfigurationError) as raised:
            load(path, {})
        return str(raised.value).replace(f"{tmp_path}/", "").replace(str(tmp_path), "FOLDER")

    example_helps = "`cdc-sync config example` prints an annotated configuration to begin with"
    assert told(tmp_path / "missing.yaml") == (
        f"missing.yaml: there is no such file; name another with --config; {example_helps}"
    )
    remedy = "cdc-sync's user must be able to read it"
    assert told(tmp_path) == f"FOLDER: cannot be read: Is a directory; {remedy}"

    file = tmp_path / "c.yaml"
    file.write_bytes(b"")
    assert told(file) == f"c.yaml: there is nothing in it; {example_helps}"
    file.write_bytes(b"# only a comment\n")
    assert told(file) == f"c.yaml: there is nothing in it; {example_helps}"
    file.write_bytes("a: 1\nb: é\n".encode("latin-1"))
    assert told(file) == "c.yaml:2: expected UTF-8 text without NUL characters; save the file as UTF-8"
    file.write_bytes(b"- a\n")
    assert told(file) == "c.yaml:1: expected a section: `key: value` lines beneath this key (found: a list)"
    file.write_bytes(b"a: 1\n" * 210_000)
    assert told(file) == f"c.yaml: cannot be read: it is larger than 1 MiB; {remedy}"
    assert told(file / "below.yaml") == f"c.yaml/below.yaml: cannot be read: Not a directory; {remedy}"


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
        assert messages()["errors"]["otherwise"] not in str(result)
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
    ("text", "line"),
    [
        ("hellowork:\n  base_url https://hw.example\n  timeout: 5s\n", 2),
        ("hellowork:\n  timeout: 5s\n  base_url https://hw.example\n  concurrency: 3\n", 3),
        ("database\n  dsn: ''\n", 1),
        ("watches:\n  a:\n    related:\n      - table rejections\n        key: [id]\n", 4),
    ],
)
def test_a_missing_colon_is_reported_at_its_line(text: str, line: int) -> None:
    (problem,) = problems_of(text)
    assert (problem.line, problem.message) == (line, "not YAML: a key without its colon")
    assert problem.suggestion == "write `key: value`, with a blank after the colon"


@pytest.mark.parametrize("text", ["a: b: c\n", "a: a value that\n  goes: on\n"])
def test_a_colon_in_a_value_is_reported_at_its_place(text: str) -> None:
    (problem,) = problems_of(text)
    assert (problem.line, problem.message) == (text.count("\n"), "not YAML: a colon stands where no key can be")


def test_headers_that_are_text_come_with_the_right_form() -> None:
    (problem,) = problems_of(f'{LEAST}hellowork: {{headers: "X-Api-Key: {SECRET}"}}\n')
    assert str(problem) == (
        "hellowork.headers: expected a section: `key: value` lines beneath this key (found: text); "
        "for example headers: {X-Api-Key: '${HELLOWORK_API_KEY}'}"
    )


def test_the_rest_of_a_header_that_looks_like_a_key_is_hidden() -> None:
    (problem,) = problems_of(f"{LEAST}hellowork: {{headers: {{Authorization: Bearer abc,watches9}}}}\n")
    assert str(problem).startswith("hellowork.headers.(hidden): ")


def test_every_mistake_has_its_text_and_every_text_its_mistake() -> None:
    folder = Path(problems.__file__).parent
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    # The others are types of pydantic's errors, which have no hyphen.
    ours = {name for name in messages()["errors"] if f'"{name}"' in code}
    assert {name for name in messages()["errors"] if "-" in name} <= ours
    assert set(re.findall(r'(?:\bmistake|_refusal)\("([a-z-]+)"', code)) <= ours
    assert set(re.findall(r'\bmust\(.+, "([a-z-]+)"', code)) <= ours
