"""What is allowed in a configuration, and hardly ever meant; and what other users of this host may do with its secrets.

A group is trusted: it is how a file is shared with whom it is meant for.
"""

import stat
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config.columns import PlainColumn, bare_column
from cdc_sync.config.disclosure import at, path_text
from cdc_sync.config.document import Document, with_stand_ins
from cdc_sync.config.models import HOW_TO_MAKE_ONE, SHORTEST_TOKEN, Config
from cdc_sync.config.problems import Mistake, Path, Problem
from cdc_sync.config.watch import Watch
from cdc_sync.core.hellowork_statuses import MEANINGS, OWN_SIDE, meant
from cdc_sync.core.meanings import NUMBERS, is_personal, words

_HARMLESS_HEADERS = frozenset({"accept", "accept-language", "from", "user-agent"})
_SHORTEST_SECRET = 8
"""Characters: `Bearer` and a version are none."""

_STAND_IN = "reference-to-a-secret"
"""What a reference is replaced by: nothing would make another setting of `host=${NAME} user=x`."""

_BESIDE_STORE = ("", "-wal", "-shm")

Code = Literal[
    "dsn-unused",
    "path-relative",
    "token-short",
    "status-of-hellowork",
    "status-nearly-a-code",
    "status-never-sent",
    "status-number",
    "personal-data",
    "undecided",
]


def warnings(config: Config) -> list[Problem]:
    """What is suspicious in a valid configuration; the problems have no line, as the file is not at hand any more."""
    return list(_warnings(config))


def _warnings(config: Config) -> Iterator[Problem]:
    for number, doubt in enumerate(config.undecided):
        remedy = "decide it, correct the file, and remove the entry: `cdc-sync run` refuses before"
        yield _suspicion("undecided", ("undecided", number), None, doubt, remedy)
    if config.state.backend == "sqlite" and config.state.dsn is not None:
        remedy = "set state.backend: postgres, or remove it"
        yield _suspicion("dsn-unused", ("state", "dsn"), None, "is not used by backend sqlite", remedy)
    if config.state.backend == "sqlite" and not config.state.path.is_absolute():
        message = (
            "is relative to whatever folder the command is run in; in another one it would begin with a new store, "
            "which takes all that it finds as told"
        )
        yield _suspicion("path-relative", ("state", "path"), str(config.state.path), message, "write the whole path")
    token = config.admin.token
    if token is not None and len(token.get_secret_value()) < SHORTEST_TOKEN:
        message = f"has fewer than {SHORTEST_TOKEN} characters, so that it could be guessed"
        yield _suspicion("token-short", ("admin", "token"), None, message, HOW_TO_MAKE_ONE)
    for name, watch in config.watches.items():
        yield from _labels(("watches", name), watch)
        yield from _never_sent(("watches", name), watch)
        yield from _columns(("watches", name, "columns"), watch)


def _labels(path: Path, watch: Watch) -> Iterator[Problem]:
    sent: dict[Path, str] = {(*path, "status", "map", label): status for label, status in watch.status.map.items()}
    sent[*path, "status", "deleted"] = watch.status.deleted
    for place, status in sent.items():
        code = meant(status)
        if status in OWN_SIDE:
            message = f"is HelloWork's own code for its side of the exchange ({MEANINGS[status]})"
            remedy = "send the ATS's own label, or a code for what a recruiter did"
            yield _suspicion("status-of-hellowork", place, status, message, remedy)
        elif code is not None:
            remedy = f'HelloWork spells it "{code}"'
            yield _suspicion("status-nearly-a-code", place, status, "is nearly a code of HelloWork's", remedy)


def _never_sent(path: Path, watch: Watch) -> Iterator[Problem]:
    if watch.status.unmapped == "send":
        return
    sent = {*watch.status.map.values(), watch.status.deleted}
    named: dict[Path, str] = {(*path, "settle", status): status for status in watch.settle if status != "default"}
    for field, extra in watch.extra.items():
        named |= {(*path, "extra", field, "only_for", i): status for i, status in enumerate(extra.only_for)}
    for place, status in named.items():
        if status not in sent:
            message = "is never sent: status.map has no label for it, and status.unmapped is not send"
            remedy = "name the status as it is sent, not the ATS's label"
            yield _suspicion("status-never-sent", place, status, message, remedy)


def _columns(path: Path, watch: Watch) -> Iterator[Problem]:
    status, translated = bare_column(watch.columns.status), any(map(str.strip, watch.status.map))
    if status is not None and words(status) & NUMBERS and not (translated and watch.status.unmapped != "send"):
        message = "is a number by its name, which HelloWork would receive as it is, and no label"
        remedy = "`cdc-sync check` looks, and proposes the label's expression; or map each value in status.map"
        if translated:
            message += ", where status.map does not have it"
            remedy = "map each value in status.map, and write status.unmapped: reject for any that is new"
        yield _suspicion("status-number", (*path, "status"), status, message, remedy)
    for field in ("application_id", "status", "job_id", "source"):
        mapped = getattr(watch.columns, field)
        if isinstance(mapped, PlainColumn) and is_personal(mapped.name):
            message = "looks like personal data, which would be sent, logged and stored"
            yield _suspicion("personal-data", (*path, field), mapped.name, message, "map the column that is meant")


def _suspicion(code: Code, path: Path, found: str | None, message: str, suggestion: str) -> Problem:
    return Problem(path_text(path, {}), None, None, found, message, suggestion, code)


def exposures(path: FilePath, config: Config) -> list[Problem]:
    """What others may read or write that they should not.

    Args:
        path: the configuration's file.
        config: what was read from it.
    """
    return [*_of_configuration(path), *_of_store(config)]


def others_may(path: FilePath) -> str | None:
    """What every user of this host may do with a file: `read`, `write` or `read and write`."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
        # Whoever may not search a folder above cannot reach it.
        reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
    except OSError:
        return None
    may = [word for bit, word in ((stat.S_IROTH, "read"), (stat.S_IWOTH, "write")) if mode & bit]
    return " and ".join(may) if may and reached else None


def _of_configuration(path: FilePath) -> Iterator[Problem]:
    may = others_may(path)
    if may is None:
        return
    if "write" in may:
        message = f"every user of this host may {may} {path}, and so decide where credentials are sent"
        yield Problem("", None, None, None, message, f"chmod o-w {path}")
    try:
        parts = Document(path.read_text(encoding="utf-8-sig")).parts
    except (OSError, UnicodeDecodeError, Mistake):
        return  # it has changed since it was loaded, and is judged when it is loaded again
    for where, part in parts.items():
        text = part.value
        if isinstance(text, str) and not at(where).may_be_shown and _is_secret(where, with_stand_ins(text, _STAND_IN)):
            message = f"is a secret, and every user of this host may {may} {path}"
            remedy = f"chmod o-rwx {path}, or write ${{NAME}} or ${{file:PATH}} in its place"
            yield Problem(path_text(where, parts), *part.place, None, message, remedy)


def _of_store(config: Config) -> Iterator[Problem]:
    if config.state.backend != "sqlite":
        return
    path = config.state.path
    for suffix in _BESIDE_STORE:
        file = path.with_name(path.name + suffix)
        if (may := others_may(file)) is not None:
            message = f"every user of this host may {may} {file}: it has what was sent and what HelloWork answered"
            yield Problem("state.path", None, None, None, message, f"chmod o-rwx {file}")


def _is_secret(path: Path, text: str) -> bool:
    """Whether what stands in the file itself may be a secret; in a connection string a password is one."""
    if path[-1] == "dsn":
        try:
            settings = conninfo_to_dict(text)
        except psycopg.ProgrammingError:
            return False
        return any(_own(str(settings.get(name, ""))) for name in ("password", "sslpassword"))
    if path == ("admin", "token"):
        return bool(_own(text))
    is_harmless = str(path[-1]).lower() in _HARMLESS_HEADERS
    return not is_harmless and any(len(_own(word)) >= _SHORTEST_SECRET for word in text.split())


def _own(text: str) -> str:
    return text.replace(_STAND_IN, "").strip()
