"""The store as `cdc-sync check` finds it: looked at and left as it is, beside a daemon that may be writing to it."""

import os
import pwd
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from cdc_sync.core.findings import Finding, Tell, check_disk_space
from cdc_sync.store.lock import holder_of
from cdc_sync.store.sqlite.driver import run
from cdc_sync.store.sqlite.schema import translate, version_of
from cdc_sync.store.statements import migrations


def check_store(path: Path, tell: Tell) -> str | None:
    """Tell of the file, its folder, its disk and its lock.

    Returns the identity of the database that the store belongs to; None if it belongs to none yet.
    """
    if not _check_folder(path, tell):
        return None
    folder = path.absolute().parent
    tell(check_disk_space(shutil.disk_usage(folder).free, str(folder)))
    _check_lock(path, tell)
    if not path.exists():
        tell(Finding("store", "ok", f"{path} does not exist yet: the daemon makes it at its first start"))
        return None
    unusable = [file for file in _files(path) if not os.access(file, os.R_OK | os.W_OK, effective_ids=True)]
    if unusable:
        names = " ".join(map(str, unusable))
        message = f"{_user()} may not read and write {', '.join(map(str, unusable))}"
        tell(Finding("store", "failed", message, f"chown {_user()} {names}   # the user that the daemon runs as"))
        return None
    return _check_content(path, tell)


def _check_folder(path: Path, tell: Tell) -> bool:
    folder = path.absolute().parent
    user = _user()
    if not _is_folder(folder):
        remedy = f"install -d -m 0700 -o {user} {folder}   # the user that the daemon runs as"
        tell(Finding("store", "failed", f"the folder of state.path, {folder}, does not exist", remedy))
        return False
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        tell(
            Finding(
                "store",
                "failed",
                f"{user} may not write in {folder}, or its disk is mounted read-only: two more files stand beside the "
                f"store",
                f"chown {user} {folder}   # the user that the daemon runs as",
            )
        )
        return False
    return True


def _is_folder(folder: Path) -> bool:
    """Whether it is there, or hidden from us by the folder above."""
    try:
        return folder.is_dir()
    except PermissionError:
        return True


def _check_lock(path: Path, tell: Tell) -> None:
    holder = holder_of(path)
    by = "nobody: no daemon runs" if holder is None else f"the daemon (process {holder or 'unknown'})"
    tell(Finding("store-lock", "ok", f"the store is worked on by {by}"))


def _check_content(path: Path, tell: Tell) -> str | None:
    newest = len(migrations("sqlite"))
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as store:
            tables = store.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            version = version_of(store)
            bound = run(store, "about", name="database") if 0 < version <= newest else None
    except sqlite3.Error as error:
        tell(Finding("store", "failed", translate(path, error), f"sqlite3 {path} 'PRAGMA integrity_check'"))
        return None
    if tables and version == 0:
        message = f"{path} is an SQLite file of something else: it has tables, and none is cdc-sync's"
        tell(Finding("store", "failed", message, "Choose another state.path."))
    elif version > newest:
        message = f"{path} was written by a newer cdc-sync (schema {version}; this one knows {newest})"
        remedy = "Run that version, or restore the store's backup from before the upgrade."
        tell(Finding("store", "failed", message, remedy))
    elif version < newest:
        tell(Finding("store", "ok", f"{path} has schema {version}; the daemon's next start brings it to {newest}"))
    else:
        tell(Finding("store", "ok", f"{path} can be written, and has this version's schema"))
    return str(bound[0][0]) if bound else None


def _files(path: Path) -> list[Path]:
    beside = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", ".lock")]
    return [file for file in beside if file.exists()]


def _user() -> str:
    """The user that this process runs as, by name if it has one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
