"""What can be wrong with the ATS's database, said once, with the remedy."""

import re
from collections.abc import Awaitable
from typing import NamedTuple, Self, TypeVar

import psycopg
from psycopg import errors

from cdc_sync.core.failures import OperationError
from cdc_sync.core.visible import visible

T = TypeVar("T")

Code = str
"""What is wrong, for programs and for whoever looks it up in docs/operations.md: stable, where a message is not."""

# fmt: off
UNREACHABLE = frozenset({
    "listener-deaf", "lock-foreign", "lock-taken", "server-behind", "server-may-lag", "standby", "system-refused",
    "table-locked", "unanswered", "unreachable",
})
# fmt: on
"""Codes of errors that mend themselves: keep trying. All others need a person: keep trying, slowly."""


class SourceError(OperationError):
    """The database cannot be used as configured.

    Attributes:
        code: what is wrong, as a stable name.
        kind: whether it mends itself ("unreachable") or a person has to mend it ("misconfigured").
        message: what is wrong, and the remedy.
    """

    # No frozen dataclass: whoever passes an exception on, contextlib for one, writes its traceback into it.
    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.kind = "unreachable" if code in UNREACHABLE else "misconfigured"
        self.message = message

    def followed_by(self, sentences: str) -> Self:
        """The same error, with more to say."""
        return type(self)(self.code, f"{self.message} {sentences}")


_QUOTED = re.compile('["«].*["»]', re.DOTALL)
"""From the first quote to the last, in whatever language: errors about a value quote it, and it is a row's."""

_BYTES = re.compile(r"0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*")

_KNOWN_CLASSES = frozenset(
    each.sqlstate[:2] for each in vars(errors).values() if isinstance(getattr(each, "sqlstate", None), str)
)
"""PostgreSQL's classes of SQLSTATEs. Any other is of somebody's own: a function raised it (RAISE … USING ERRCODE)."""


class _Texts(psycopg.Error):
    """Stands in the table below for errors without an SQLSTATE: libpq gives text only while it connects."""


class _Raised(psycopg.Error):
    """Stands for errors whose SQLSTATE is of no class of PostgreSQL's."""


_LOGIN = (errors.InvalidPassword, errors.InvalidAuthorizationSpecification)
_REFUSED = "The database refuses the login: {said}. "
_CHECK_LOGIN = (
    f"{_REFUSED}Check database.dsn, and where it takes its password from: the DSN, PGPASSWORD, or ~/.pgpass, which "
    "must have mode 0600."
)
_UNREACHABLE = "The database cannot be reached ({doing}): {said}."


class Meaning(NamedTuple):
    """What an error is about: it is of one of these kinds, and the pattern is found in what was said.

    In the text, `{found}` is what was said from there on.
    """

    kinds: tuple[type[psycopg.Error], ...]
    code: Code
    text: str
    pattern: str = ""


# The first that fits tells.
MEANINGS = (
    Meaning(
        # libpq and the driver look at these only when they connect. What database.dsn has of them was judged when it
        # was loaded (`config.dsn`), so most likely they come from somewhere else.
        (_Texts,),
        "connection-settings",
        "No connection can be made with these settings: {found}. Correct it where it stands: a PG* environment "
        "variable, a service file, or database.dsn.",
        r'invalid (?:integer value|port number|"?\w+"? value)|could not match \d|definition of service|'
        r"(?:syntax error in )?service file|bad value for connect_timeout",
    ),
    Meaning(
        # By limits of the role, of the database and of the server.
        (_Texts, psycopg.OperationalError),
        "unreachable",
        f"{_UNREACHABLE} The limit is the CONNECTION LIMIT of the role or of the database, or the server's "
        "max_connections; `cdc-sync check` counts the connections that the configuration needs.",
        "too many (?:connections|clients)|remaining connection slots|trop de (?:connexions|clients)",
    ),
    Meaning(
        (_Texts, *_LOGIN),
        "login-refused",
        f"{_REFUSED}Let the DBA allow it there; or lead database.dsn another way (host, sslmode, user).",
        "no pg_hba.conf entry",
    ),
    Meaning(
        (_Texts, *_LOGIN),
        "login-refused",
        f"{_REFUSED}Let the DBA create that role (CREATE ROLE … LOGIN), or correct the user of database.dsn; where it "
        "names none, it is PGUSER, else the operating system's user.",
        'role ".*does not exist',
    ),
    Meaning(
        (_Texts, *_LOGIN),
        "login-refused",
        f"{_REFUSED}Let the DBA permit it: ALTER ROLE … LOGIN.",
        "not permitted to log in",
    ),
    Meaning((_Texts,), "login-refused", _CHECK_LOGIN, 'no password supplied|authentication failed for|role "'),
    Meaning(_LOGIN, "login-refused", _CHECK_LOGIN),
    Meaning((errors.InvalidCatalogName,), "database-missing", "{said}. Correct the database's name in database.dsn."),
    Meaning(
        (errors.InsufficientPrivilege,),
        "privilege-missing",
        "The database's role may not do what is needed ({doing}): {said}. Let the DBA run what `cdc-sync sql grants` "
        "prints.",
    ),
    Meaning((errors.WrongObjectType,), "table-unsuitable", "A table cannot be used like this ({doing}): {said}."),
    Meaning(
        (errors.UndefinedTable, errors.InvalidSchemaName),
        "object-missing",
        "Something is missing in the database ({doing}): {said}. Correct the watch's table, or let the DBA run what "
        "`cdc-sync sql install` prints.",
    ),
    Meaning(
        (errors.CardinalityViolation,),
        "several-rows",
        "A subquery of columns or where gives more than one row for a row of the table ({doing}): {said}. Let it give "
        "one: by LIMIT 1, or by an aggregate.",
    ),
    Meaning(
        (_Raised, errors.RaiseException, errors.NoDataFound, errors.TooManyRows, errors.AssertFailure),
        "function-raised",
        "A function that columns or where call raises an error ({doing}): {said}. Let it give NULL instead.",
    ),
    Meaning(
        # All that SQLSTATE's class 42 has beside the above: names, syntax, types.
        (psycopg.ProgrammingError,),
        "configuration-mismatch",
        "The watch's configuration does not fit the table ({doing}): {said}. Correct columns, where or key; if a "
        "column was renamed in the ATS, rename it here too.",
    ),
    Meaning(
        (errors.ReadOnlySqlTransaction,),
        "read-only-server",
        "The server takes no writes ({doing}): it is a standby, and capture.mode notify consumes a change log. Point "
        "database.dsn at the primary (target_session_attrs=read-write), or use capture.mode poll.",
    ),
    Meaning(
        # A materialized view without contents, for one. Time does not mend it.
        (errors.ObjectNotInPrerequisiteState,),
        "not-ready",
        "Something in the database is not ready to be used ({doing}): {said}.",
    ),
    Meaning(
        (errors.CharacterNotInRepertoire, errors.UntranslatableCharacter),
        "text-not-convertible",
        "A text does not convert to the connection's encoding ({doing}). If the database's own is SQL_ASCII, which "
        "keeps whatever bytes it is given, say in database.dsn what they are: client_encoding=WIN1252, for example. "
        "Else leave client_encoding out.",
    ),
    Meaning(
        (psycopg.DataError,),
        "value-not-convertible",
        "A value does not convert ({doing}): {said}. If an expression of columns or where casts, let it give NULL for "
        "what it cannot convert.",
    ),
    Meaning((_Texts,), "dsn-wrong", "{said}. Correct database.dsn.", "does not exist"),
    Meaning((psycopg.OperationalError, psycopg.InterfaceError, errors.InternalError), "unreachable", _UNREACHABLE),
    Meaning((psycopg.Error,), "database-error", "The database reports an error ({doing}): {said}."),
)


def unwritable(error: UnicodeEncodeError) -> SourceError:
    """A name that the connection's encoding does not have."""
    return SourceError(
        "name-not-encodable",
        f"The connection's client_encoding has no character U+{ord(error.object[error.start]):04X}, which a configured "
        "name has. Take client_encoding out of the connection string, or correct the name.",
    )


def translate(error: psycopg.Error, doing: str) -> SourceError:
    """Put a driver's error into words.

    Args:
        error: what the driver raised.
        doing: what was being done, as in "reading public.applications".
    """
    said = visible(_first_line(error))
    stands_for = [type(error)]
    if error.sqlstate is None:
        stands_for.append(_Texts)
    elif _is_raised(error):
        stands_for.append(_Raised)
    for meaning in MEANINGS:
        match = re.search(meaning.pattern, said)
        if match is not None and any(issubclass(one, meaning.kinds) for one in stands_for):
            return SourceError(meaning.code, meaning.text.format(said=said, found=said[match.start() :], doing=doing))
    raise AssertionError("the last line is of every error")


# By SQLSTATE (PostgreSQL, "Error Codes"), the class.
_OF_ROWS = (
    "21",  # a subquery that gives more than one row
    "22",  # data: what does not convert, is out of range, divides by zero
    "23",  # a domain's constraint
    "38",  # a function in another language
    "39",
    "54",  # a program's limits: nested too deep, too long
    "P0",  # what a function in PL/pgSQL raises
    "XX",  # a damaged row
)


def is_of_a_row(error: SourceError) -> bool:
    """Whether the contents of a single row may be to blame, so that others may be read all the same."""
    cause = error.__cause__
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate is not None and (cause.sqlstate[:2] in _OF_ROWS or _is_raised(cause))
    return isinstance(cause, UnicodeError)


async def unless_a_row_fails(asked: Awaitable[T]) -> T | None:
    """What is asked for; None if the contents of a row keep PostgreSQL from giving it.

    Raises:
        SourceError: any other error.
    """
    try:
        return await asked
    except SourceError as error:
        if not is_of_a_row(error):
            raise
    return None


def said_of_a_row(error: SourceError) -> str:
    """What PostgreSQL says of an error that `is_of_a_row`, without the row's values; what we say, where it is ours."""
    cause = error.__cause__
    if not isinstance(cause, psycopg.Error):
        return error.message
    return _BYTES.sub("…", _QUOTED.sub("…", _first_line(cause)))


def is_of_an_encoding(error: SourceError) -> bool:
    """Whether a text is not of the encoding that it should be of."""
    return isinstance(error.__cause__, errors.CharacterNotInRepertoire)


def _is_raised(error: psycopg.Error) -> bool:
    return error.sqlstate is not None and error.sqlstate[:2] not in _KNOWN_CLASSES


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
