"""What is valid in a configuration and hardly ever meant, and secrets that other users of this host can reach.

A file's group is trusted: that is how a file is shared on purpose.
"""

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as FilePath

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config.columns import PlainColumn, SqlColumn, bare_column
from cdc_sync.config.document import Document, DocumentError, Part, files_named, read_text, substitute
from cdc_sync.config.loading import is_secret
from cdc_sync.config.meanings import code_meant, is_number, is_personal, known
from cdc_sync.config.models import Config
from cdc_sync.config.problems import Path, Problem, path_text
from cdc_sync.config.watch import Status, Watch
from cdc_sync.core.watch_names import listed

_HARMLESS_HEADERS = frozenset({"accept", "accept-language", "from", "user-agent"})
_SHORTEST_SECRET = 8
"""Characters; `Bearer` and a version have fewer."""

_STAND_IN = "reference-to-a-secret"
"""In place of a reference: without it `host=${NAME} user=x` would mean something else."""


def warnings(config: Config) -> list[Problem]:
    """What is suspicious in a valid configuration, without lines of the file."""
    return list(_warnings(config))


def _warnings(config: Config) -> Iterator[Problem]:
    for path, why in config.without_meaning.items():
        yield _warning("no-meaning", path, f"means nothing any more: {why}", "remove it: from 0.4 on it is an error")
    for number, doubt in enumerate(config.undecided):
        repair = "decide it, correct the file, and remove the entry: `cdc-sync run` refuses before"
        yield _warning("undecided", ("undecided", number), doubt, repair)
    state = config.state
    if state.backend == "sqlite" and state.dsn is not None:
        yield _warning("dsn-unused", ("state", "dsn"), "is not used by backend sqlite", "remove it")
    if state.backend == "sqlite" and not state.path.is_absolute():
        wrong = "is relative to whatever folder the command is run in, and in another one a new store would begin"
        yield _warning("path-relative", ("state", "path"), wrong, "write the whole path")
    yield from _of_customers(config)
    for name, watch in {**config.watches, **config.templates}.items():
        yield from _labels(("watches", name), watch)
        yield from _columns(("watches", name, "columns"), watch)


def _of_customers(config: Config) -> Iterator[Problem]:
    """Watches that seem to be customers', and would better share a watch or an account."""
    by_table = defaultdict[object, list[str]](list)
    by_headers = defaultdict[object, dict[str, str]](dict)
    for name, watch in config.watches.items():
        if watch.where is not None:
            by_table[config.database_name(name), watch.table].append(name)
        if own := watch.hellowork.headers:
            by_headers[frozenset(own.items())].setdefault(watch.account or name, name)
    for names in by_table.values():
        if len(names) > 1:
            wrong = f"the watches {listed(names)} read one table, and each change of it costs the ATS each of them"
            repair = "if they are customers, one watch with columns.account serves them all: docs/many-customers.md"
            yield _warning("table-of-customers", ("watches", names[0], "where"), wrong, repair)
    for first, *others in (list(of_accounts.values()) for of_accounts in by_headers.values()):
        if others:
            wrong = f"the watches {listed([first, *others])} have the same headers, as accounts of their own"
            repair = f"if they are one customer's, give the others `account: {first}` in the place of headers"
            yield _warning("headers-twice", ("watches", others[0], "hellowork"), wrong, repair)


def _labels(path: Path, watch: Watch) -> Iterator[Problem]:
    sent = _sent((*path, "status"), watch.status)
    own: dict[Path, str] = {}
    for tenant, override in watch.overrides.items():
        own |= _sent((*path, "overrides", tenant, "status"), override.status)
    for place, status in (sent | own).items():
        if status in known("own_side"):
            wrong = "is HelloWork's own code for its side of the exchange"
            yield _warning("status-of-hellowork", place, wrong, "send the ATS's label, or what a recruiter did")
        elif (code := code_meant(status)) is not None:
            yield _warning("status-nearly-a-code", place, f'is nearly a code of HelloWork\'s: "{code}"')
    named: dict[Path, str] = {(*path, "settle", status): status for status in watch.settle if status != "default"}
    for field, extra in watch.extra.items():
        named |= {(*path, "extra", field, "only_for", i): status for i, status in enumerate(extra.only_for)}
    for place, status in named.items():
        if watch.status.unmapped != "send" and status not in {*sent.values(), *own.values()}:
            wrong = "is never sent: status.map has no label for it, and status.unmapped is not send"
            yield _warning("status-never-sent", place, wrong, "name the status as it is sent, not the ATS's label")


def _sent(path: Path, status: Status) -> dict[Path, str]:
    sent: dict[Path, str] = {(*path, "map", label): sent for label, sent in status.map.items()}
    return sent | {(*path, "deleted"): status.deleted}


def _columns(path: Path, watch: Watch) -> Iterator[Problem]:
    status, translated = bare_column(watch.columns.status), any(map(str.strip, watch.status.map))
    if status is not None and is_number(status) and not (translated and watch.status.unmapped != "send"):
        wrong = "is a number by its name, which HelloWork would receive as it is, and no label"
        if translated:
            wrong += ", where status.map does not have it"
        repair = "map each value in status.map, with status.unmapped: reject; `cdc-sync init` shows an expression"
        yield _warning("status-number", (*path, "status"), wrong, repair)
    for field in ("application_id", "status", "job_id", "source"):
        if any(is_personal(name) for name in _columns_of(getattr(watch.columns, field))):
            wrong = "looks like personal data, which would be sent, logged and stored"
            yield _warning("personal-data", (*path, field), wrong, "map the column that is meant")


def _columns_of(mapped: PlainColumn | SqlColumn | None) -> tuple[str, ...]:
    """The columns of a value, as far as the configuration names them."""
    if mapped is None:
        return ()
    return (mapped.name,) if isinstance(mapped, PlainColumn) else mapped.depends_on or ()


def _warning(code: str, path: Path, message: str, remedy: str | None = None) -> Problem:
    return Problem(path_text(path), None, message, remedy, code)


def exposures(path: FilePath, config: Config) -> list[Problem]:
    """What other users can read or write and should not: the configuration's file, its secrets, the store."""
    return [*_of_configuration(path), *_of_files(path), *_of_store(config)]


def others_may(path: FilePath) -> str | None:
    """What every user of this host may do with a file: `read`, `write` or `read and write`."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
        # Users who may not search a folder above cannot reach the file.
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
        yield Problem("", None, message, f"chmod o-w {path}")
    parts = _parts(path)
    for where, part, text in _secrets(parts):
        if _is_secret(where, text):
            message = f"is a secret, and every user of this host may {may} {path}"
            remedy = f"chmod o-rwx {path}, or write ${{NAME}} or ${{file:PATH}} in its place"
            yield Problem(path_text(where), part.line, message, remedy)


def _of_files(path: FilePath) -> Iterator[Problem]:
    """Files of secrets; a folder of tenants' ones is one problem."""
    parts = _parts(path)
    for where, part, text in _secrets(parts):
        for named in files_named(text):
            file = path.parent / substitute(named.replace("{tenant}", "*"), lambda name: os.environ.get(name, "?"))
            found = [each for each in file.parent.glob(file.name) if others_may(each)]
            if found:
                message = f"every user of this host may {others_may(found[0])} {listed([*map(str, found)])}"
                remedy = f"chmod o-rwx {file}"
                yield Problem(path_text(where), part.line, message, remedy)


def _parts(path: FilePath) -> Mapping[Path, Part]:
    try:
        return Document(read_text(path)).parts
    except (OSError, DocumentError):
        return {}  # it has changed since it was loaded; a reload checks it


def _secrets(parts: Mapping[Path, Part]) -> list[tuple[Path, Part, str]]:
    """The secrets in a file, as they are written there."""
    texts = [(where, part, part.value) for where, part in parts.items() if isinstance(part.value, str)]
    return [each for each in texts if is_secret(each[0])]


def _of_store(config: Config) -> Iterator[Problem]:
    for suffix in ("", "-wal", "-shm") if config.state.backend == "sqlite" else ():
        file = config.state.path.with_name(config.state.path.name + suffix)
        if (may := others_may(file)) is not None:
            message = f"every user of this host may {may} {file}: it has what was sent and what HelloWork answered"
            yield Problem("state.path", None, message, f"chmod o-rwx {file}")


def _is_secret(path: Path, text: str) -> bool:
    """Whether text in the file itself may be a secret."""
    text, shortest = substitute(text, lambda _: _STAND_IN), 1
    words: Iterable[object] = [text]
    if path[-1] == "dsn":
        try:
            settings = conninfo_to_dict(text)
        except psycopg.ProgrammingError:
            return False
        words = [settings.get("password", ""), settings.get("sslpassword", "")]
    elif path[-1] == "url":
        words = [] if _STAND_IN in text else [text]  # the rest is the chat tool's address
    elif "hellowork" in path:
        words = [] if str(path[-1]).lower() in _HARMLESS_HEADERS else text.split()
        shortest = _SHORTEST_SECRET
    return any(len(str(word).replace(_STAND_IN, "").strip()) >= shortest for word in words)
