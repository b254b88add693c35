"""What is valid in a configuration and hardly ever meant, and secrets that other users of this host can reach.

A file's group is trusted: that is how a file is shared on purpose.
"""

import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path as FilePath

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config.columns import bare_column
from cdc_sync.config.document import Document, DocumentError, read_text, references_in, substitute
from cdc_sync.config.loading import is_secret
from cdc_sync.config.meanings import code_meant, is_number, is_personal, known
from cdc_sync.config.models import Config
from cdc_sync.config.problems import Path, Problem, path_text
from cdc_sync.config.watch import Watch
from cdc_sync.core.watch_names import listed


def warnings(config: Config) -> list[Problem]:
    """What is suspicious in a valid configuration, without lines of the file."""
    found = [*_of_keys(config)]
    for name, watch in {**config.watches, **config.templates}.items():
        found += [*_of_statuses(("watches", name, "status"), watch), *_of_columns(("watches", name, "columns"), watch)]
    return found


def _of_keys(config: Config) -> Iterator[Problem]:
    for name in config.model_fields_set:
        if why := Config.model_fields[name].deprecated:
            remedy = "remove it: from 0.4 on it is an error"
            yield _warning("no-meaning", (name,), f"means nothing any more: {why}", remedy)
    for number, doubt in enumerate(config.undecided):
        remedy = "decide it, correct the file, and remove the entry: `cdc-sync run` refuses before"
        yield _warning("undecided", ("undecided", number), doubt, remedy)
    if config.state.backend == "sqlite" and not config.state.path.is_absolute():
        wrong = "is relative to whatever folder the command is run in, and in another one a new store would begin"
        yield _warning("path-relative", ("state", "path"), wrong, "write the whole path")
    by_table = defaultdict[object, list[str]](list)
    for name, watch in config.watches.items():
        if watch.where is not None:
            by_table[config.database_name(name), watch.table].append(name)
    for names in by_table.values():
        if len(names) > 1:
            wrong = f"the watches {listed(names)} read one table, and each change of it costs the ATS each of them"
            remedy = "if they are customers, one watch with columns.account serves them all: docs/many-customers.md"
            yield _warning("table-of-customers", ("watches", names[0], "where"), wrong, remedy)


def _of_statuses(path: Path, watch: Watch) -> Iterator[Problem]:
    sent: dict[Path, str] = {("map", label): status for label, status in watch.status.map.items()}
    for place, status in {**sent, ("deleted",): watch.status.deleted}.items():
        if status in known("own_side"):
            wrong = "is HelloWork's own code for its side of the exchange"
            remedy = "send the ATS's label, or what a recruiter did"
            yield _warning("status-of-hellowork", (*path, *place), wrong, remedy)
        elif (code := code_meant(status)) is not None:
            yield _warning("status-nearly-a-code", (*path, *place), f'is nearly a code of HelloWork\'s: "{code}"')


def _of_columns(path: Path, watch: Watch) -> Iterator[Problem]:
    status, is_translated = bare_column(watch.columns.status), any(map(str.strip, watch.status.map))
    if status is not None and is_number(status) and not (is_translated and watch.status.unmapped != "send"):
        wrong = "is a number by its name, which HelloWork would receive as it is where status.map does not have it"
        remedy = "map each value in status.map, with status.unmapped: reject; `cdc-sync init` shows an expression"
        yield _warning("status-number", (*path, "status"), wrong, remedy)
    for field in ("application_id", "status", "job_id", "source"):
        mapped = getattr(watch.columns, field)
        if mapped is not None and is_personal(bare_column(mapped) or ""):
            wrong = "looks like personal data, which would be sent, logged and stored"
            yield _warning("personal-data", (*path, field), wrong, "map the column that is meant")


def _warning(code: str, path: Path, message: str, remedy: str | None = None) -> Problem:
    return Problem(path_text(path), None, message, remedy, code)


def exposures(path: FilePath, config: Config) -> list[Problem]:
    """What other users can read or write and should not: the configuration's file, its secrets, the store."""
    found = [*_of_secrets(path)]
    if _is_open(path, stat.S_IWOTH):
        message = f"every user of this host may write {path}, and so decide where credentials are sent"
        found.append(Problem("", None, message, f"chmod o-w {path}"))
    store = config.state.path
    if config.state.backend == "sqlite" and _is_open(store):
        message = f"every user of this host may read or write {store}, with what was sent and answered"
        found.append(Problem("state.path", None, message, f"chmod o-rwx {store}*"))
    return found


def _is_open(path: FilePath, rights: int = stat.S_IROTH | stat.S_IWOTH) -> bool:
    """Whether every user of this host has one of these rights to a file."""
    try:
        real = path.resolve(strict=True)
        # Users who may not search a folder above cannot reach the file.
        is_reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
        return is_reached and real.stat().st_mode & rights != 0
    except OSError:
        return False


def _of_secrets(path: FilePath) -> Iterator[Problem]:
    try:
        parts = Document(read_text(path)).parts
    except (OSError, DocumentError):
        return  # it has changed since it was loaded; a reload checks it
    for where, (line, text) in parts.items():
        if not isinstance(text, str) or not is_secret(where):
            continue
        files = [path] if _is_written_out(where, text) else []
        for reference in references_in(text):
            if reference.startswith("file:"):
                name = substitute(reference[5:].replace("{tenant}", "*"), lambda name: os.environ.get(name, "?"))
                file = path.parent / name
                files += file.parent.glob(file.name)
        if exposed := [str(file) for file in files if _is_open(file)]:
            message = f"may be a secret, and every user of this host may read or write {listed(exposed)}"
            yield Problem(path_text(where), line, message, "chmod o-rwx")


def _is_written_out(where: Path, text: str) -> bool:
    """Whether text in the file itself may be a secret."""
    if where[-1] != "dsn":
        return not references_in(text)
    try:
        password = conninfo_to_dict(text).get("password")
    except psycopg.ProgrammingError:
        return False
    return bool(password) and not references_in(str(password))
