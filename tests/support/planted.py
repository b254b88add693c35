"""Traps: what a stranger plants in the schemas where unqualified names are looked for.

A role that may only CREATE in a schema makes operators, functions, types, views and casts there, of each name that the
package's SQL has. A trap fits better than PostgreSQL's own wherever that has no exact one, or where the schema stands
before `pg_catalog`. It gives the right answer (but for aggregates), and writes into the server's log who called it, and
where. The log keeps that also if the transaction is rolled back, or may only read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import cdc_sync
from support.sessions import Ats, one, rows

_SPRUNG = "a trap was sprung: "
_PACKAGE = Path(cdc_sync.__file__).parent

_OPERATOR_CHARACTERS = re.escape("+-*/<>=~!@#%^&|`?")
_IMPLIED = ("=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~~*", "!~~*", "~", "!~")
"""IN, BETWEEN, LIKE, CASE, NULLIF, IS DISTINCT FROM and the like look for these by their names."""

_TYPES = (
    "text", "name", "oid", "regclass", "bigint", "integer", '"char"', "character varying", "xid", "boolean",
    "regnamespace", "regprocedure", "regproc", "smallint", "timestamp with time zone", "interval", "json", "jsonb",
    "numeric", "double precision", "real", "timestamp without time zone", "date", "uuid", "tid", "regtype", "regrole",
    "character", "bytea", "inet", "bit", "bit varying", "pg_lsn", "txid_snapshot", "int2vector", "oidvector",
    "aclitem", "text[]", "name[]", "oid[]", "smallint[]", "integer[]", "bigint[]", '"char"[]', "boolean[]", "xid[]",
    "tid[]", "aclitem[]", "timestamp with time zone[]",
)  # fmt: skip
"""What our statements compare and pass on, the most frequent first; beside the types of the catalog's columns."""

_MOST_ARGUMENTS = 6
_MOST_SIGNATURES = 36
"""Of a function."""

_SEVERAL = 2000
"""Statements in a message."""

_HELPERS = """
SET search_path = pg_catalog;
CREATE OR REPLACE FUNCTION pg_temp.try_each(statements text[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    statement text;
    made integer := 0;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        BEGIN
            EXECUTE statement;
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL; -- nobody can plant what PostgreSQL refuses
        END;
    END LOOP;
    RETURN made;
END $$;
CREATE OR REPLACE FUNCTION pg_temp.type_of(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    type regtype;
BEGIN
    EXECUTE 'SELECT pg_typeof(' || expression || ')' INTO type;
    RETURN type;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$
"""

_SPRINGS = """
CREATE FUNCTION {schema}.sprung(what pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $trap$
DECLARE
    place pg_catalog.text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    -- Without this function and the trap.
    place := pg_catalog.regexp_replace(place, '^.* at (GET DIAGNOSTICS|PERFORM)', '');
    RAISE LOG '{sprung}[%] % in {schema}, by %; %; %', pg_catalog.current_database(), what, current_user,
        pg_catalog.regexp_replace(pg_catalog.left(pg_catalog.current_query(), 300), E'\\\\s+', ' ', 'g'),
        pg_catalog.regexp_replace(pg_catalog.left(place, 400), E'\\\\s+', ' ', 'g');
    RETURN true;
END $trap$
"""

_OF_CATALOG = """
SELECT DISTINCT t.oid::regtype::text
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
 WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname = ANY (%s) AND t.typtype = 'b'
"""

_TAKEN_FOR = """
-- By itself, by an implicit cast, or as any type.
SELECT source::regtype::text, target::regtype::text
  FROM (SELECT t.oid, t.oid FROM pg_type t
         UNION
        SELECT c.castsource, c.casttarget FROM pg_cast c WHERE c.castcontext = 'i'
         UNION
        SELECT t.oid, p.oid
          FROM pg_type t
          JOIN pg_type p ON p.typname IN ('any', 'anyelement', 'anycompatible')
                         OR p.typname IN ('anyarray', 'anycompatiblearray') AND t.typcategory = 'A'
                         OR p.typname IN ('anynonarray', 'anycompatiblenonarray') AND t.typcategory <> 'A'
       ) AS taken (source, target)
 WHERE source::regtype::text = ANY (%s) OR source = target
 ORDER BY 1, 2
"""

_OPERATORS = """
SELECT oprname::text, oprleft::regtype::text, oprright::regtype::text
  FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname = ANY (%s) AND oprkind IN ('b', 'l')
"""

_FUNCTIONS = """
SELECT proname::text, {kind},
       ARRAY(SELECT a::regtype::text FROM unnest(proargtypes) WITH ORDINALITY AS u (a, n) ORDER BY n),
       pronargdefaults, CASE WHEN provariadic <> 0 THEN provariadic::regtype::text END, proretset,
       prorettype::regtype::text, proargnames,
       ARRAY(SELECT a::regtype::text FROM unnest(proallargtypes) WITH ORDINALITY AS u (a, n)
              WHERE proargmodes[n] IN ('o', 't') ORDER BY n)
  FROM pg_proc
 WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (%s)
   AND NOT EXISTS (SELECT FROM pg_aggregate WHERE aggfnoid = pg_proc.oid AND aggkind <> 'n')
"""

_KINDS, _KIND_BEFORE = 110000, "CASE WHEN proisagg THEN 'a' ELSE 'f' END"
"""Since when `pg_proc` has `prokind`, and what it had before."""

_TYPE_NAMES = """
SELECT typname::text, CASE typtype WHEN 'p' THEN 'text' ELSE typname END
  FROM pg_type
 WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype <> 'c' AND typname = ANY (%s)
 ORDER BY 1
"""

_NAMES_OF_TABLES = r"(?:\b(?:FROM|JOIN|INTO|UPDATE|TABLE|USING)\s+(?:ONLY\s+)?|@|cdc_sync\.)([a-z_]\w*)\b(?!\s*[.(])"

_RELATIONS = """
SELECT c.relname::text, array_agg(quote_ident(a.attname) ORDER BY a.attnum)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
 WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname = ANY (%s)
   AND t.typtype <> 'p' AND NOT a.attisdropped
   AND (a.attnum > 0 OR a.attname IN ('oid', 'xmin', 'ctid', 'tableoid'))
 GROUP BY c.relname
"""


@cache
def _source() -> str:
    """The package's text: all that it may send to a server, and more."""
    files = sorted(file for kind in ("*.sql", "*.py") for file in _PACKAGE.rglob(kind))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@cache
def _words() -> list[str]:
    return sorted(set(re.findall(r"\b[a-z_]\w*\b", _source())))


def sprung_in(log: str, database: str) -> list[str]:
    """What a part of the server's log says of a database's traps, each once."""
    said = f"{_SPRUNG}[{database}] "
    return list(dict.fromkeys(line.partition(said)[2] for line in log.splitlines() if said in line))


def plant(stranger: Ats, schema: str) -> int:
    """Plant all that PostgreSQL lets a role plant in a schema; returns how many things."""
    stranger.execute(_HELPERS.encode())
    stranger.execute(_SPRINGS.format(schema=schema, sprung=_SPRUNG).encode())
    traps = _Traps(stranger, schema)
    kinds = (traps.operators(), traps.functions(), traps.types(), traps.views(), traps.casts())
    statements = [statement for kind in kinds for statement in kind]
    parts = (statements[first : first + _SEVERAL] for first in range(0, len(statements), _SEVERAL))
    return sum(int(one(stranger, "SELECT pg_temp.try_each(%s)", [part])) for part in parts)


class _Called(NamedTuple):
    """A function that traps call.

    Attributes:
        name: of several, which their arguments distinguish.
        arguments: their types, maybe with names.
        returned: its type.
        gives: the statement that ends it, with the right answer.
    """

    name: str
    arguments: Sequence[str]
    returned: str
    gives: str

    def create(self, schema: str, trap: str) -> str:
        """The statement that creates it, for a trap of this name."""
        return (
            f'CREATE FUNCTION {schema}."{self.name}"({", ".join(self.arguments)}) RETURNS {self.returned}'
            " LANGUAGE plpgsql AS $trap$\n#variable_conflict use_column\n"
            f"BEGIN PERFORM {schema}.sprung('{trap}'); {self.gives} END $trap$"
        )


class _Signature(NamedTuple):
    """A function as the catalog has it; `out` are the types of what it gives by OUT arguments."""

    name: str
    kind: str
    arguments: Sequence[str]
    defaults: int
    variadic: str | None
    returns_set: bool
    returned: str
    names: Sequence[str] | None
    out: Sequence[str]

    def taking(self, arguments: Sequence[str]) -> "_Signature":
        """The same for arguments of these types."""
        return self._replace(arguments=arguments, defaults=0, variadic=None)

    @property
    def is_polymorphic(self) -> bool:
        """Whether its result's type depends on its arguments."""
        return self.returned.startswith("any")

    @property
    def takes_any(self) -> bool:
        """Whether an argument may be of any type."""
        return any(each.lstrip('"').startswith("any") for each in self.arguments)

    def result(self) -> str:
        """An expression whose type is the result's."""
        first = f"NULL::{self.arguments[0]}"
        if self.name == "unnest":
            return f"({first})[1]"
        is_array = self.arguments[0].endswith(("[]", "vector"))
        return first if is_array and self.name != "array_agg" else f"pg_catalog.{self.name}({first})"

    def called_with(self, taken_for: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
        """Types of arguments that a call may have."""
        declared = list(self.arguments)
        least = len(declared) - self.defaults
        several = [declared[:number] for number in range(least, len(declared) + 1)]
        if self.variadic is not None:
            fixed = declared[:-1]
            several = [[*fixed, *[self.variadic] * more] for more in range(1, _MOST_ARGUMENTS - len(fixed) + 1)]
        for each in several:
            choices = [[type_ for type_ in taken_for.get(one_, [one_]) if type_ != '"any"'] for one_ in each]
            while prod(map(len, choices)) > _MOST_SIGNATURES:
                max(choices, key=len).pop()
            yield from product(*choices)

    def called(self) -> _Called:
        """The function that takes its place."""
        number = len(self.arguments)
        names = [f'"{name}"' if name else "" for name in self.names or [""] * (number + len(self.out))]
        own = [f"{name} {type_}" for name, type_ in zip([*names, *[""] * number], self.arguments, strict=False)]
        values = [f"${place}" for place in range(1, number + 1)]
        if self.variadic is not None:
            own[-1], values[-1] = f"VARIADIC {own[-1]}", f"VARIADIC {values[-1]}"
        out_names = names[len(names) - len(self.out) :]
        out = [f"OUT {name} {type_}" for name, type_ in zip(out_names, self.out, strict=True)]
        returned = f"SETOF {self.returned}" if self.returns_set else self.returned
        call = f'pg_catalog."{self.name}"({", ".join(values)})'
        return _Called(self.name, [*own, *out], returned, self._gives(call, out_names))

    def _gives(self, call: str, out_names: Sequence[str]) -> str:
        if self.returns_set:
            return f"RETURN QUERY SELECT * FROM {call};"  # noqa: S608 - the catalog's own names
        if out_names:
            return f"SELECT * INTO {', '.join(out_names)} FROM {call};"  # noqa: S608 - as above
        return f"PERFORM {call};" if self.returned == "void" else f"RETURN {call};"


class _Traps:
    """The statements that plant traps in a schema; `taken_for` has, for each type, those that it is given as."""

    def __init__(self, stranger: Ats, schema: str) -> None:
        self._stranger = stranger
        self._schema = schema
        of_catalog = [type_ for (type_,) in rows(stranger, _OF_CATALOG, [_words()])]
        types = list(dict.fromkeys([*_TYPES, *of_catalog]))
        place = {type_: number for number, type_ in enumerate(types)}
        self._taken_for: dict[str, list[str]] = {}
        for source, target in rows(stranger, _TAKEN_FOR, [types]):
            self._taken_for.setdefault(target, []).append(source)
        for target, sources in self._taken_for.items():
            # Its own, then the most frequent.
            sources.sort(key=lambda source: place.get(source, len(place)))
            sources.remove(target)
            sources.insert(0, target)

    def operators(self) -> Iterator[str]:
        """Operators of each symbol, for each pair of types for which PostgreSQL has one, exact or not."""
        wanted: dict[tuple[str, str | None, str], str] = {}
        for symbol, left, right in rows(self._stranger, _OPERATORS, [self._symbols()]):
            lefts = [None] if left == "-" else self._taken_for.get(left, [left])
            for of_left, of_right in product(lefts, self._taken_for.get(right, [right])):
                applied = _applied(symbol, of_left and f"NULL::{of_left}", f"NULL::{of_right}")
                wanted[symbol, of_left, of_right] = applied
        for (symbol, left, right), returned in zip(wanted, self._types_of(wanted.values()), strict=True):
            if returned is not None:  # else no statement of ours can have it
                yield from self._operator(symbol, left, right, returned)

    def functions(self) -> Iterator[str]:
        """Functions of each name, for the types that they may be called with."""
        kind = "prokind::text" if self._stranger.info.server_version >= _KINDS else _KIND_BEFORE
        called = sorted(set(re.findall(r"\b([a-z_]\w*)\s*\(", _source())))
        wanted: dict[tuple[str, ...], _Signature] = {}
        for row in rows(self._stranger, _FUNCTIONS.replace("{kind}", kind), [called]):
            original = _Signature(*row)
            for arguments in [tuple(original.arguments), *original.called_with(self._taken_for)]:
                wanted.setdefault((original.name, *arguments), original.taking(arguments))
            if original.variadic is not None:
                wanted.setdefault((original.name, *original.arguments, "VARIADIC"), original)
        results = {key: each.result() for key, each in wanted.items() if each.is_polymorphic and not each.takes_any}
        types = dict(zip(results, self._types_of(results.values()), strict=True))
        for key, each in wanted.items():
            signature = each._replace(returned=types.get(key) or each.returned)
            yield from self._aggregate(signature) if each.kind == "a" else self._function(signature)

    def types(self) -> Iterator[str]:
        """Domains with the names of types."""
        for name, base in rows(self._stranger, _TYPE_NAMES, [_words()]):
            check = f"{self._schema}.sprung('type {name}')"
            yield f'CREATE DOMAIN {self._schema}."{name}" AS pg_catalog."{base}" CHECK ({check})'

    def views(self) -> Iterator[str]:
        """Views with the names of the catalog's tables, and with those of our own."""
        of_catalog = dict(rows(self._stranger, _RELATIONS, [_words()]))
        for name, columns in of_catalog.items():
            yield self._view(name, f'SELECT {", ".join(columns)} FROM pg_catalog."{name}"')  # noqa: S608 - as above
        for name in sorted(set(re.findall(_NAMES_OF_TABLES, _source())) - of_catalog.keys()):
            yield self._view(name, "SELECT 1 AS nothing")

    def casts(self) -> Iterator[str]:
        """A type of the stranger's own, which values are taken for without a word, with its operators."""
        bait = f"{self._schema}.bait"
        yield f"CREATE TYPE {bait} AS (was pg_catalog.text)"
        for type_ in _TYPES:
            to_bait = _Called("to bait", [type_], bait, "RETURN ROW($1::pg_catalog.text);")
            yield to_bait.create(self._schema, f"cast of {type_}")
            yield f'CREATE CAST ({type_} AS {bait}) WITH FUNCTION {self._schema}."to bait"({type_}) AS IMPLICIT'
        for type_ in ("text", "bigint", "boolean"):
            from_bait = _Called(f"to {type_}", [bait], type_, f"RETURN $1.was::{type_};")
            yield from_bait.create(self._schema, f"cast to {type_}")
            yield f'CREATE CAST ({bait} AS {type_}) WITH FUNCTION {self._schema}."to {type_}"({bait}) AS IMPLICIT'
        for symbol in ("=", "<>", "<", ">", "<=", ">=", "~", "~~"):
            gives = f"RETURN {_applied(symbol, '$1.was', '$2.was')};"
            called = _Called(f"operator {symbol}", [bait, bait], "boolean", gives)
            yield called.create(self._schema, f"operator {symbol} (bait, bait)")
            yield self._symbol(symbol, bait, bait)

    def _symbols(self) -> list[str]:
        used = {*re.findall(rf"[{_OPERATOR_CHARACTERS}]+", _source()), *_IMPLIED}
        every = rows(self._stranger, "SELECT DISTINCT oprname::text FROM pg_operator ORDER BY 1")
        return [symbol for (symbol,) in every if symbol in used]

    def _types_of(self, expressions: Iterable[str]) -> list[str | None]:
        """The type of each expression; None if PostgreSQL does not take it for one."""
        query = "SELECT pg_temp.type_of(e) FROM unnest(%s::text[]) WITH ORDINALITY AS u (e, n) ORDER BY n"
        return [type_ for (type_,) in rows(self._stranger, query, [list(expressions)])]

    def _operator(self, symbol: str, left: str | None, right: str, returned: str) -> Iterator[str]:
        types = [right] if left is None else [left, right]
        applied = _applied(symbol, None, "$1") if left is None else _applied(symbol, "$1", "$2")
        called = _Called(f"operator {symbol}", types, returned, f"RETURN {applied};")
        yield called.create(self._schema, f"operator {symbol} ({', '.join(types)})")
        yield self._symbol(symbol, left, right)

    def _symbol(self, symbol: str, left: str | None, right: str) -> str:
        of_left = "" if left is None else f"LEFTARG = {left}, "
        return (
            f'CREATE OPERATOR {self._schema}.{symbol} (PROCEDURE = {self._schema}."operator {symbol}", {of_left}'
            f"RIGHTARG = {right})"
        )

    def _function(self, each: _Signature) -> Iterator[str]:
        yield each.called().create(self._schema, f"function {each.name} ({', '.join(each.arguments)})")

    def _aggregate(self, each: _Signature) -> Iterator[str]:
        """Its result is NULL: the state of PostgreSQL's own is not for every role."""
        step = _Called(f"step of {each.name}", [each.returned, *each.arguments], each.returned, "RETURN $1;")
        yield step.create(self._schema, f"function {each.name} ({', '.join(each.arguments)})")
        yield (
            f'CREATE AGGREGATE {self._schema}."{each.name}" ({", ".join(each.arguments) or "*"})'
            f' (SFUNC = {self._schema}."{step.name}", STYPE = {each.returned})'
        )

    def _view(self, name: str, query: str) -> str:
        # Once in a statement, however many rows there are.
        return f"CREATE VIEW {self._schema}.\"{name}\" AS {query} WHERE (SELECT {self._schema}.sprung('view {name}'))"


def _applied(symbol: str, left: str | None, right: str) -> str:
    return f"{left or ''} OPERATOR(pg_catalog.{symbol}) {right}"
