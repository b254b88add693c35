"""The triggers' functions run with their owner's rights and the caller's search_path: every name says its schema."""

import re
from typing import Any

import pytest
from support.watched import a_config

from cdc_sync.source.recorders import recorders

WATCHES: dict[str, dict[str, Any]] = {
    "ringing": {},
    "silent": {"capture": {"wakeup": "none"}},
    "all columns": {"columns": {"status": {"sql": "t.status || ''", "depends_on": None}}},
    "several key columns": {"key": ["id", "job_id"]},
    "related by key": {"related": [{"table": "public.rejections", "key": ["application_id"]}]},
    "related as a whole": {"related": [{"table": "public.stages", "key": []}]},
}

# Not looked up: words of the grammar.
GRAMMAR = {"coalesce", "exists", "extract", "values", "row", "array", "if", "then", "and", "or", "not", "operator"}
GRAMMAR |= {"changes"}
GRAMMAR_TYPES = {"bigint", "boolean"}

QUALIFIED_OPERATOR = re.compile(r"OPERATOR\(pg_catalog\.[-+*/<>=~!@#%^&|`?]+\)")
OPERATOR = re.compile(r"[-+*/<>=~!@#%^&|`?]+")
CALL = re.compile(r"([\w.\"$]+)\s*\(")
CAST = re.compile(r"::\s*([\w.]+)")
DECLARATIONS = re.compile(r"(?s)\bDECLARE\b(.*?)\bBEGIN\b")
DECLARED = re.compile(r"^ +\w+ ([\w.]+)(?: :=[^;]*)?;", re.MULTILINE)
IN_OUR_SCHEMAS = ("pg_catalog.", "cdc_sync.")


def code(body: str) -> str:
    """The text without strings, comments and quoted identifiers, in which anything may stand."""
    body = re.sub(r"--.*", "", body)
    body = re.sub(r"'(?:[^']|'')*'", "''", body)
    return re.sub(r'"[^"]*"', "quoted", body)


@pytest.fixture(params=WATCHES)
def bodies(request: pytest.FixtureRequest) -> list[str]:
    config = a_config(**WATCHES[request.param])
    return [code(recorder.body) for name, watch in config.watches.items() for recorder in recorders(name, watch)]


def test_functions(bodies: list[str]) -> None:
    for body in bodies:
        called = {name for name in CALL.findall(body) if name.lower() not in GRAMMAR}
        assert {name for name in called if not name.startswith(IN_OUR_SCHEMAS)} == set()
        assert "pg_catalog.pg_relation_size" in called, "the functions of a body are found"


def test_operators(bodies: list[str]) -> None:
    for body in bodies:
        rest, number = QUALIFIED_OPERATOR.subn(" ", body)
        assert number > 10, "the operators of a body are found"
        rest = re.sub(r"<<\w+>>", "", rest).replace(":=", "").replace("HINT =", "")
        assert OPERATOR.findall(rest) == []
        # Words that are made of operators, which are then looked up.
        assert not re.search(r"(?i)\b(between|distinct|nullif|in|like|similar|overlaps|any|all)\b", rest)


def test_types(bodies: list[str]) -> None:
    for body in bodies:
        declared = [type_ for section in DECLARATIONS.findall(body) for type_ in DECLARED.findall(section)]
        assert {"pg_catalog.text", "pg_catalog.int8"} <= set(declared), "the declarations of a body are found"
        named = {*CAST.findall(body), *declared}
        assert {name for name in named - GRAMMAR_TYPES if not name.startswith("pg_catalog.")} == set()


def test_tables(bodies: list[str]) -> None:
    for body in bodies:
        named = re.findall(r"(?i)\b(?:into|from|update|table)\s+([\w.]+)", body)
        assert {name for name in named if not name.startswith(IN_OUR_SCHEMAS)} == set()
