"""What can be wrong with the ATS's database, said once, with the remedy."""

import re
from typing import Literal

import psycopg
from psycopg import errors

from cdc_sync.core.failures import OperationError

Kind = Literal["unreachable", "misconfigured"]
"""`unreachable` mends itself (keep trying); `misconfigured` needs a person (keep trying, slowly)."""


class SourceError(OperationError):
    """The database cannot be used as configured.

    Attributes:
        kind: who can mend it.
        message: what is wrong, and the remedy.
    """

    # No frozen dataclass: whoever passes an exception on, contextlib for one, writes its traceback into it.
    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


_QUOTED = re.compile('["«].*["»]', re.DOTALL)
"""From the first quote to the last, in whatever language: errors about a value quote it, and it is a row's."""

_LOGIN = (
    "The database refuses the login: {said}. Check database.dsn, and where it takes its password from: the DSN, "
    "PGPASSWORD, or ~/.pgpass, which must have mode 0600."
)

# The first match tells. Every text is a sentence about {said} while {doing}, and then the remedy.
_MISCONFIGURED: tuple[tuple[tuple[type[psycopg.Error], ...], str], ...] = (
    ((errors.InvalidPassword, errors.InvalidAuthorizationSpecification), _LOGIN),
    ((errors.InvalidCatalogName,), "{said}. Correct the database's name in database.dsn."),
    (
        (errors.InsufficientPrivilege,),
        (
            "The database's role may not do what is needed ({doing}): {said}. Let the DBA run what `cdc-sync sql "
            "grants` prints."
        ),
    ),
    (
        (errors.WrongObjectType,),
        "A table cannot be used like this ({doing}): {said}.",
    ),
    (
        (errors.UndefinedTable, errors.InvalidSchemaName),
        (
            "Something is missing in the database ({doing}): {said}. Correct the watch's table, or let the DBA "
            "run what `cdc-sync sql install` prints."
        ),
    ),
    (
        # All that SQLSTATE's class 42 has beside the above: names, syntax, types.
        (psycopg.ProgrammingError,),
        (
            "The watch's configuration does not fit the table ({doing}): {said}. Correct columns, where or key; "
            "if a column was renamed in the ATS, rename it here too."
        ),
    ),
    (
        (errors.ReadOnlySqlTransaction,),
        (
            "The server takes no writes ({doing}): it is a standby, and capture.mode notify consumes a change "
            "log. Point database.dsn at the primary (target_session_attrs=read-write), or use capture.mode poll."
        ),
    ),
    (
        # A materialized view without contents, for one. Time does not mend it.
        (errors.ObjectNotInPrerequisiteState,),
        "Something in the database is not ready to be used ({doing}): {said}.",
    ),
    (
        (errors.CharacterNotInRepertoire, errors.UntranslatableCharacter),
        (
            "A text does not convert to the connection's encoding ({doing}). If the database's own is SQL_ASCII, which "
            "keeps whatever bytes it is given, say in database.dsn what they are: client_encoding=WIN1252, for "
            "example. Else leave client_encoding out."
        ),
    ),
    (
        (psycopg.DataError,),
        (
            "A value does not convert ({doing}): {said}. If an expression of columns or where casts, let it give "
            "NULL for what it cannot convert."
        ),
    ),
)


def translate(error: psycopg.Error, doing: str) -> SourceError:
    """Put a driver's error into words.

    Args:
        error: what the driver raised.
        doing: what was being done, as in "reading public.applications".
    """
    said = _first_line(error)
    for kinds, text in _MISCONFIGURED:
        if isinstance(error, kinds):
            return SourceError("misconfigured", text.format(said=said, doing=doing))
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        # Connecting fails without an SQLSTATE of its own: libpq gives text only.
        if _login_refused(said):
            return SourceError("misconfigured", _LOGIN.format(said=said))
        if "does not exist" in said:
            return SourceError("misconfigured", f"{said}. Correct database.dsn.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | errors.InternalError):
        return SourceError("unreachable", f"The database cannot be reached ({doing}): {said}.")
    return SourceError("misconfigured", f"The database reports an error ({doing}): {said}.")


def _login_refused(said: str) -> bool:
    return any(
        mark in said for mark in ("no password supplied", "authentication failed for", "no pg_hba.conf entry", 'role "')
    )


def _first_line(error: psycopg.Error) -> str:
    """The server's primary message. Details are left out: they can quote a row's values."""
    text = error.diag.message_primary or str(error)
    if isinstance(error, psycopg.DataError):
        text = _QUOTED.sub("…", text)
    elif isinstance(error, psycopg.ProgrammingError | errors.ObjectNotInPrerequisiteState) and error.diag.message_hint:
        text = f"{text} ({error.diag.message_hint.rstrip('.')})"
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL:" in line]
    return (fatal or lines or [type(error).__name__])[0].rstrip(".")
