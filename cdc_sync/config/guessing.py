"""Which table holds the applications, and what its columns mean, guessed from names, types and keys.

Each guess has its reason and its doubt, for a person to read. `meanings.yaml` has the words that identify columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cdc_sync.config.columns import Columns
from cdc_sync.config.meanings import Kind, decision, is_personal, known, mentions, weight, words
from cdc_sync.core.identifiers import QualifiedName, written

FIELDS = tuple(name for name in Columns.model_fields if name != "account")
"""The mapped columns, in the configuration's order; accounts are a person's decision."""

_NEAR = 2
"""A second best within this distance is a doubt."""

_LANGUAGES = ("fr_FR", "en_US")

_FEW = 60
"""Most different values of a status; a job has more."""

MOST_VALUES = 6
"""How many values of a possible flag are read; a flag has fewer."""

_LONGEST_FLAG = 5
_LEAST_OF_A_TABLE = 9
_NEAR_TABLE = 6
"""Tables within this distance of the best are mentioned."""

_ABOUT_THEM = 9
_VIEW = 3
_MOST_OF_A_FIELD = 10
_IDS = ("application_id", "status_url")
_INACTIVE, _CLOSED = "inactive", "closed"
_INSTANTS: frozenset[Kind] = frozenset({"timestamptz", "timestamp", "date"})
_REASONS = frozenset({"reason", "motif"})
_WRITTEN_FLAGS: frozenset[Kind] = frozenset({"text", "number"})


@dataclass(frozen=True, slots=True)
class Reference:
    """Another table that a column leads to, by its key."""

    table: QualifiedName
    key: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        type: as SQL writes it, domains resolved.
        unique: by an index of its own.
        indexed: whether an index begins with it.
        reference: where a foreign key leads.
        distinct: the planner's estimate of different values.
        values: some, `MOST_VALUES` at most; None if they were not read.
    """

    name: str
    type: str
    is_enum: bool = False
    not_null: bool = False
    unique: bool = False
    indexed: bool = False
    reference: Reference | None = None
    distinct: int | None = None
    values: tuple[str, ...] | None = None

    @property
    def kind(self) -> Kind:
        """The kind of its values."""
        if self.is_enum:
            return "enum"
        if self.type.startswith("timestamp"):
            return "timestamptz" if self.type.endswith("with time zone") else "timestamp"
        return known().types.get(self.type.partition("(")[0], "other")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, partitioned table or view.

    Attributes:
        kind: `pg_class.relkind`.
        rows: the planner's estimate; None if it was never analysed.
        key: the columns of the primary key, else of another unique index without NULLs.
    """

    name: QualifiedName
    kind: str
    rows: int | None
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def is_table(self) -> bool:
        """Whether it can have triggers."""
        return self.kind in {"r", "p"}

    @property
    def size(self) -> str:
        """How many rows it has, for people."""
        return "an unknown number of rows, never analysed" if self.rows is None else f"about {self.rows} rows"

    def column(self, name: str) -> Column | None:
        """A column by its name."""
        return next((column for column in self.columns if column.name == name), None)


def rank(tables: Iterable[Table]) -> list[Table]:
    """Tables that look like a table of applications, best first; of equal ones the bigger first."""
    scores = {table: _table_score(table) for table in tables}
    least = max(_LEAST_OF_A_TABLE, max(scores.values(), default=0) - _NEAR_TABLE)
    near = [table for table, score in scores.items() if score >= least]
    return sorted(near, key=lambda table: (-scores[table], -(table.rows or 0), str(table.name)))


def _table_score(table: Table) -> int:
    """The score of its name, and half that of its columns: each required field, and HelloWork's id."""
    name = words(table.name.name)
    name_words = min(weight(name, known().applications), _MOST_OF_A_FIELD)
    required = sum(_best(table, field) for field, meaning in known().columns.items() if meaning.required)
    total = name_words + (required + max(_best(table, field) for field in _IDS)) // 2
    if mentions(name, known().about_them):
        total -= _ABOUT_THEM
    return total if table.is_table else total - _VIEW


def _best(table: Table, field: str) -> int:
    return min(max((one.score for one in candidates(table, field)), default=0), _MOST_OF_A_FIELD)


class Scored(NamedTuple):
    """A column, its score, and the reasons."""

    column: Column
    score: int
    reasons: tuple[str, ...]


def candidates(table: Table, field: str) -> list[Scored]:
    """The columns that could be a field of `meanings.yaml`, best first."""
    meaning, found = known().columns[field], []
    for column in table.columns:
        name_words = weight(words(column.name), meaning.words)
        may_be = field not in {"deleted", "archived"} or _may_be_flag(column)
        if name_words and may_be and _misfit(table, column, field) is None:
            evidence = _evidence(column, field)
            found.append(Scored(column, name_words + sum(evidence.values()), ("its name", *evidence)))
    # Equal ones stay in the table's order.
    return sorted((one for one in found if one.score >= meaning.least), key=lambda one: -one.score)


def label_of(table: Table) -> Column | None:
    """The column of a lookup table that people read."""
    scores = {
        column: weight(words(column.name), known().labels)
        for column in table.columns
        if column.kind in {"text", "enum", "json"} and table.key != (column.name,)
    }
    best = max(scores, key=lambda column: scores[column], default=None)
    return best if best is not None and scores[best] > 0 else None


def _may_be_flag(column: Column) -> bool:
    seen = column.values or ()
    return column.reference is None and len(seen) < MOST_VALUES and all(len(value) <= _LONGEST_FLAG for value in seen)


def flags(table: Table) -> list[str]:
    """The columns whose values are read, to see how they mark deleted or archived rows."""
    found = [one.column for field in ("deleted", "archived") for one in candidates(table, field)]
    return [column.name for column in found if column.kind in _WRITTEN_FLAGS]


def _evidence(column: Column, field: str) -> dict[str, int]:
    values = column.distinct or 0
    facts = {
        "it is unique": column.unique,
        "it is indexed": column.indexed,
        "it is never NULL": column.not_null,
        "it leads to another table": column.reference is not None,
        "it is an enumeration": column.kind == "enum",
        "it has a time zone": column.kind == "timestamptz",
        "it has no time of day": column.kind == "date",
        "it has about {} different values": 1 < values <= _FEW,
        "it has about {} different values, many for a status": values > _FEW,
    }
    return {text.format(values): number for text, number in known().columns[field].evidence.items() if facts[text]}


class Guess(NamedTuple):
    """Where a field is.

    Attributes:
        column: as the catalog has it; None if none was found.
        doubt: what must be checked.
        sql: the expression that gives the value; None if the column does.
        depends_on: the expression's columns, if not `column` alone; None without a `column`: unknown.
        related: the other table that the expression reads.
        suggested: whether it is written without effect.
    """

    column: str | None
    why: str
    doubt: str | None = None
    sql: str | None = None
    depends_on: tuple[str, ...] | None = None
    related: QualifiedName | None = None
    suggested: bool = False


class Carrier(NamedTuple):
    """What else may decide the status: a flag, a date, a reason, or a row of another table.

    `condition` holds if it does. `related` is the other table, whose column `key` leads to the application.
    """

    name: str
    condition: str
    status: str
    column: str | None = None
    related: QualifiedName | None = None
    key: str | None = None


class Proposal(NamedTuple):
    """A watch.

    Attributes:
        guesses: by field, without those that are neither required nor found.
        zoneless: mapped columns whose values have no time zone.
        carriers: the heaviest first.
    """

    table: Table
    key: tuple[str, ...]
    key_doubt: str | None
    guesses: Mapping[str, Guess]
    watermark: Guess | None
    zoneless: tuple[str, ...]
    carriers: tuple[Carrier, ...] = ()

    def decided(self) -> Guess:
        """The status, if all carriers decide it."""
        status = self.guesses["status"]
        column = self.table.column(status.column or "")
        value = status.sql or "NULL"
        # HelloWork cannot read a bare number: without a label there is no status.
        if status.sql is None and column is not None and column.kind not in {"number", "uuid"}:
            value = f"t.{written(column.name)}{'' if column.kind == 'text' else '::text'}"
        cases = " ".join(f"WHEN {one.condition} THEN {_literal(one.status)}" for one in self.carriers)
        used = [one.column for one in self.carriers if one.column is not None]
        used += self.key if len(used) < len(self.carriers) else ()
        return status._replace(
            sql=f"CASE {cases} ELSE {value} END",
            depends_on=tuple(dict.fromkeys([*filter(None, [status.column]), *used])),
        )


def propose(table: Table, tables: Iterable[Table], chosen: Mapping[str, str | Guess] | None = None) -> Proposal:
    """Propose a watch of a table; `tables` are all, to follow references.

    `chosen` are a person's columns and expressions, by field of `FIELDS`, or `watermark`.
    """
    others = {other.name: other for other in tables}
    chosen = chosen or {}
    guesses = {field: _guess(table, field, chosen.get(field), others) for field in FIELDS}
    if guesses["deleted"] is None:
        guesses["deleted"] = _archived(table)
    # One of the two is required; without either the id's own column is.
    if guesses["application_id"] is None and guesses["status_url"] is None:
        guesses["application_id"] = Guess(None, *known().no_id)
    found = {field: guess for field, guess in guesses.items() if guess is not None}
    watermark = _guess(table, "watermark", chosen.get("watermark"), others)
    key, doubt = table.key, None
    if not key:
        key = (next((column.name for column in table.columns if "id" in words(column.name)), table.columns[0].name),)
        doubt = "nothing makes it unique in the database; it must be, and never NULL"
    dated = [found.get("created"), found.get("event_date"), watermark]
    used = [table.column(guess.column or "") for guess in dated if guess is not None and not guess.suggested]
    zoneless = [column.name for column in used if column is not None and column.kind in {"timestamp", "date"}]
    # A person's own expression has considered them.
    decide = () if isinstance(chosen.get("status"), Guess) else _carriers(table, others, found)
    return Proposal(table, key, doubt, found, watermark, tuple(dict.fromkeys(zoneless)), decide)


def _carriers(table: Table, others: Mapping[QualifiedName, Table], guesses: Mapping[str, Guess]) -> tuple[Carrier, ...]:
    used = {guess.column for guess in guesses.values() if not guess.suggested} | set(table.key)
    found = [_of_column(column) for column in table.columns if column.name not in used and not is_personal(column.name)]
    found += [_of_table(table, other) for other in others.values() if other.is_table and other.name != table.name]
    weights = [*known().decisions.values(), _INACTIVE]
    return tuple(sorted(filter(None, found), key=lambda one: weights.index(one.status)))


def _of_column(column: Column) -> Carrier | None:
    place, leads = f"t.{written(column.name)}", column.reference is not None
    status = _INACTIVE if _marks_alive(column) else decision(column.name)
    if column.reference is not None and status in {None, _CLOSED}:
        status = decision(column.reference.table.name) or status
    there = f"{place} IS NOT NULL"
    conditions: dict[Kind, str] = {"boolean": f"NOT {place}", "number": f"{place} = 0"}
    if status != _INACTIVE:
        name_words = words(column.name)
        number = there if leads or name_words & known().numbers else f"{place} <> 0"
        conditions = {"boolean": place, "number": number, **dict.fromkeys(("uuid", *_INSTANTS), there)}
        if leads or (status != _CLOSED and name_words & _REASONS):
            conditions["text"] = f"{place} <> ''"
        elif column.type == "character(1)":
            conditions["text"] = _is_one_of(place, known().yes)
    if status is None or column.kind not in conditions:
        return None
    return Carrier(written(column.name), conditions[column.kind], status, column.name)


def _of_table(table: Table, other: Table) -> Carrier | None:
    """A row of another table that leads to the application, by a foreign key or by its name."""
    status, own = decision(other.name.name), table.column(table.key[0]) if len(table.key) == 1 else None
    if status is None or own is None:
        return None
    about = words(table.name.name)
    for column in other.columns:
        name_words = words(column.name) - known().numbers
        by_name = column.reference is None and column.kind == own.kind and bool(name_words) and name_words <= about
        if by_name or column.reference == Reference(table.name, own.name):
            where = f"r.{written(column.name)} = t.{written(own.name)}"
            exists = f"EXISTS (SELECT FROM {other.name} r WHERE {where})"
            return Carrier(str(other.name), exists, status, None, other.name, column.name)
    return None


def _guess(table: Table, field: str, chosen: str | Guess | None, others: Mapping[QualifiedName, Table]) -> Guess | None:
    if isinstance(chosen, Guess):
        return chosen
    named = table.column(chosen) if chosen is not None else None
    if named is not None:
        return _used(Guess(named.name, "you named it", _misfit(table, named, field)), field, named, others)
    found, required = candidates(table, field), known().columns[field].required
    if not found:
        missing = "no column looks like it. Put its column, or an expression, here."
        return Guess(None, required, missing) if required is not None else None
    best = found[0]
    guess = Guess(best.column.name, f"by {', '.join(best.reasons)}", _rivals(field, found))
    return _used(guess, field, best.column, others)


def _rivals(field: str, found: Sequence[Scored]) -> str | None:
    best = found[0].score
    # A job's foreign key is as clear as its name: two candidates are always a doubt.
    enough = min(best - _NEAR, known().columns[field].sure) if field == "job_id" else best - _NEAR
    near = [written(other.column.name) for other in found[1:] if other.score >= enough]
    if near:
        return f"it could also be {', '.join(near)}"
    return "its name is vague: look whether it is" if best < known().columns[field].sure else None


def _misfit(table: Table, column: Column, field: str) -> str | None:
    """Why a column does not look like the field; None if it may be it."""
    meaning = known().columns[field]
    if is_personal(column.name):
        return "it looks like personal data, which HelloWork must not receive"
    if column.kind not in meaning.kinds:
        return f"it is of type {column.type}, which is odd for this"
    if field == "application_id" and (table.key == (column.name,) or column.reference is not None):
        return "it looks like a number of the ATS's own, and HelloWork's id is needed"
    return "its name means something else" if mentions(words(column.name), meaning.never) else None


def _used(guess: Guess, field: str, column: Column, others: Mapping[QualifiedName, Table]) -> Guess:
    if field == "status":
        return _status(guess, column, others)
    if field == "deleted" and column.kind in _WRITTEN_FLAGS:
        return _flag(guess, column)
    if field == "event_date" and column.kind == "date":
        doubt = "it has no time of day: the change's own time, which is sent instead, is nearer to the truth"
        return guess._replace(suggested=True, doubt=doubt)
    return guess


def _flag(guess: Guess, column: Column, *, marks_alive: bool = False) -> Guess:
    """A flag that is a text or a number: which of its values mark deleted rows."""
    place, yes, no = f"t.{written(column.name)}", known().yes, known().no
    deleted, alive = (no, yes) if marks_alive else (yes, no | {""})
    seen = [value for value in column.values or () if len(value) <= _LONGEST_FLAG]
    shown = ", ".join(map(_literal, seen))
    found = [value for value in seen if value.strip().lower() in deleted]
    if found and all(value.strip().lower() in deleted | alive for value in seen):
        values = found if column.kind == "number" else list(map(_literal, found))
        condition = f"= {values[0]}" if len(values) == 1 else f"IN ({', '.join(values)})"
        return guess._replace(sql=f"{place} {condition}", why=f"{guess.why}; its values are {shown}")
    what = f"of its values only {shown} was seen" if shown else "its values were not seen"
    guess = _doubted(guess, f"{what}: does the expression say which rows are deleted?")
    by_number = f"{place} {'= 0' if marks_alive else '<> 0'}"
    return guess._replace(sql=by_number if column.kind == "number" else _is_one_of(place, deleted))


def _is_one_of(place: str, values: frozenset[str]) -> str:
    return f"upper({place}) IN ({', '.join(sorted(_literal(each.upper()) for each in values))})"


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _status(guess: Guess, column: Column, others: Mapping[QualifiedName, Table]) -> Guess:
    reference = column.reference or _undeclared(column, others)
    lookup = others.get(reference.table) if reference is not None else None
    label = label_of(lookup) if lookup is not None else None
    if reference is None or label is None:
        doubt = "it is no label: map each value in status.map, or read the label from its table by an expression"
        return _doubted(guess, doubt) if column.kind in {"number", "uuid"} else guess
    why = f"{guess.why}; it leads to {reference.table}, and people read its {written(label.name)}"
    if column.reference is None:
        guess = _doubted(guess, f"no foreign key leads to {reference.table}")
    value = f"s.{written(label.name)}"
    if label.kind == "json":
        # A translated label (Odoo): one text for each language.
        value = f"coalesce({', '.join(f'{value} ->> {language!r}' for language in _LANGUAGES)})"
        guess = _doubted(guess, "the label is translated: is the language right?")
    where = f"s.{written(reference.key)} = t.{written(column.name)}"
    sql = f"(SELECT {value} FROM {reference.table} s WHERE {where})"  # noqa: S608 - text for a file, names quoted
    return guess._replace(why=why, sql=sql, related=reference.table)


def _doubted(guess: Guess, doubt: str) -> Guess:
    return guess._replace(doubt=doubt if guess.doubt is None else f"{guess.doubt}; {doubt}")


def _undeclared(column: Column, others: Mapping[QualifiedName, Table]) -> Reference | None:
    """The lookup table of a number or a code, by its name."""
    name_words = words(column.name)
    for other in others.values():
        key = other.column(other.key[0]) if len(other.key) == 1 else None
        if key is None or key.kind != column.kind or label_of(other) in {None, key}:
            continue
        if _is_named_in(name_words, words(other.name.name)):
            return Reference(other.name, key.name)
    return None


def _is_named_in(name_words: frozenset[str], table: frozenset[str]) -> bool:
    """Whether a column's name contains a table's, also its singular (`statut_id`: `STATUTS`).

    Words for applications do not count.
    """
    singular = {word for word in table if f"{word}s" in table or not word.endswith("s")} or table
    about = singular - known().applications.keys() - known().of_lookups
    return bool(about) and all(mentions(name_words, {word}) for word in about)


def _archived(table: Table) -> Guess | None:
    """A state that may mean deleted or just archived: written without effect."""
    found = candidates(table, "archived")
    if not found:
        return None
    column = found[0].column
    marks_alive = _marks_alive(column)
    doubt = "does it mean deleted? In many an ATS a refusal archives, or somebody tidies up: then nothing is to be sent"
    guess = Guess(column.name, "by its name", doubt, suggested=True)
    if column.kind in _WRITTEN_FLAGS:
        return _flag(guess, column, marks_alive=marks_alive)
    return guess._replace(sql=f"NOT t.{written(column.name)}" if marks_alive and column.kind == "boolean" else None)


def _marks_alive(column: Column) -> bool:
    name_words = words(column.name)
    return mentions(name_words, {"active", "actif"}) and not mentions(name_words, {"inactive", "inactif", "desactive"})
