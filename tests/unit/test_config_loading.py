"""From a file to a configuration, or to everything that is wrong with it."""

import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.configurations import LEAST, problems_of

from cdc_sync.config import Config, ConfigurationError, load, parse, warnings
from cdc_sync.packaged import text

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


@pytest.mark.parametrize(
    ("text", "path", "meant"),
    [
        ("hellowork: {concurency: 3}", "hellowork.concurency", "concurrency"),
        ("log: {colour: x}", "log.colour", None),
        ("hellowork: {accounts: {acme: {header: {}}}}", "hellowork.accounts.acme.header", "headers"),
        ("    related: [{tabel: x, table: t, key: []}]", "watches.applications.related[0].tabel", "table"),
        ("    extra: {a: {sqll: x, column: c}}", "watches.applications.extra.a.sqll", "sql"),
        ("    kee: [id]", "watches.applications.kee", "key"),
        ("    status: {maz: {}}", "watches.applications.status.maz", 'max" or "map'),
    ],
)
def test_an_unknown_key_comes_with_the_one_that_was_meant(text: str, path: str, meant: str | None) -> None:
    (problem,) = problems_of(f"{LEAST}{text}\n")

    assert problem.path == path
    assert problem.message == "unknown key" + (f'; did you mean "{meant}"?' if meant else "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log: {timeout: 1s}", "log.timeout: unknown key here: another section has it"),
        (
            "hellowork: {account: {acme: {}}}",
            'hellowork.account: unknown key here: another section has it; did you mean "accounts"?',
        ),
    ],
)
def test_a_key_of_another_section_is_said_to_be_one(text: str, said: str) -> None:
    (problem,) = problems_of(f"{LEAST}{text}\n")

    assert str(problem) == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [("hellowork: {accounts: acme}", "expected a section with keys"), ("    related: candidates", "expected a list")],
)
def test_another_kind_of_value_is_named_in_the_words_of_yaml(text: str, expected: str) -> None:
    assert [problem.message for problem in problems_of(f"{LEAST}{text}\n")] == [expected]


def test_a_key_without_meaning_is_accepted_with_a_warning() -> None:
    config = parse(f"{LEAST}metrics: {{per_watch: false}}\n", name="c", environ={})

    (warning,) = warnings(config)
    assert warning.path == "metrics"
    assert warnings(parse(LEAST, name="c", environ={})) == []


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
    [(b"", None), (b"# only a comment\n", None), ("a: 1\nb: é\n".encode("latin-1"), 2), (b"- a\n", 1)],
    ids=["empty", "comment", "latin-1", "list"],
)
def test_another_kind_of_file_is_an_error(tmp_path: Path, content: bytes, line: int | None) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigurationError) as raised:
        load(file, {})

    (problem,) = raised.value.problems
    assert (problem.path, problem.line) == ("", line)


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


EXAMPLE_LINES = text("config/example.yaml").splitlines()


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
