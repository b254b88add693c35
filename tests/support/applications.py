"""What the ATS does to the rows of `ats.sql`'s table."""

from typing import Any

from psycopg import sql

from support.sessions import Ats

_TABLE = sql.Identifier("public", "applications")
_NOW = sql.SQL("clock_timestamp()")


def insert(ats: Ats, id_: int, application_id: str | None, status: str | None = "applied", **columns: Any) -> None:
    """Insert a row, for job J1 unless another is given; its dates are now unless they are given."""
    given = {"id": id_, "hellowork_id": application_id, "status": status, "job_id": "J1", **columns}
    dates = [sql.Identifier(name) for name in ("created_at", "updated_at") if name not in given]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        _TABLE,
        sql.SQL(", ").join([*map(sql.Identifier, given), *dates]),
        sql.SQL(", ").join([*map(sql.Literal, given.values()), *[_NOW for _ in dates]]),
    )
    ats.execute(statement)


def fill(ats: Ats, number: int) -> None:
    """Insert so many applications by one statement: a1 with the key 1, and so on."""
    statement = sql.SQL(
        "INSERT INTO {} (id, hellowork_id, status, job_id, created_at, updated_at)"
        " SELECT i, 'a' || i, 'applied', 'J1', {}, {} FROM generate_series(1, {}) AS i"
    )
    ats.execute(statement.format(_TABLE, _NOW, _NOW, sql.Literal(number)))


def update(ats: Ats, *ids: int, touch: bool = True, **columns: Any) -> None:
    """Change rows; `touch` sets `updated_at`, as most code does and some forgets."""
    changes: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in columns.items()
    ]
    if touch and "updated_at" not in columns:
        changes.append(sql.SQL("updated_at = clock_timestamp()"))
    statement = sql.SQL("UPDATE {} SET {} WHERE id = ANY ({})").format(
        _TABLE, sql.SQL(", ").join(changes), sql.Literal(list(ids))
    )
    ats.execute(statement)


def delete(ats: Ats, *ids: int) -> None:
    ats.execute(sql.SQL("DELETE FROM {} WHERE id = ANY ({})").format(_TABLE, sql.Literal(list(ids))))
