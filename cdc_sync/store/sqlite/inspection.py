"""The store as `cdc-sync check` finds it: looked at and left as it is, beside a daemon that may be writing to it."""

import os
import pwd
import shutil
from contextlib import closing
from pathlib import Path

from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.store.errors import check_disk_space, failed, usable
from cdc_sync.store.sqlite.driver import run
from cdc_sync.store.sqlite.schema import guarded, holder_of, open_file, version_of
from cdc_sync.store.statements import migrations


def check_store(path: Path, tell: Tell) -> str | None:
    """Tell of the file, its folder, its disk and its lock.

    Returns the identity of the database that the store belongs to; None if it belongs to none yet.
    """
    folder, user = path.absolute().parent, _user()
    if not _is_folder(folder):
        tell(failed("folder-missing", folder=folder, user=user))
        return None
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        tell(failed("folder-unwritable", folder=folder, user=user))
        return None
    tell(check_disk_space(shutil.disk_usage(folder).free, str(folder)))
    holder = holder_of(path)
    by = "nobody: no daemon runs" if holder is None else f"the daemon (process {holder or 'unknown'})"
    tell(Finding("store-lock", "ok", f"the store is worked on by {by}"))
    if not path.exists():
        tell(Finding("store", "ok", f"{path} does not exist yet: the daemon makes it at its first start"))
        return None
    files = [file for suffix in ("", "-wal", "-shm", ".lock") if (file := Path(f"{path}{suffix}")).exists()]
    if unusable := [str(file) for file in files if not os.access(file, os.R_OK | os.W_OK, effective_ids=True)]:
        tell(failed("files-unusable", user=user, files=", ".join(unusable), arguments=" ".join(unusable)))
        return None
    return _check_content(path, tell)


def _check_content(path: Path, tell: Tell) -> str | None:
    try:
        store = open_file(path, read_only=True)
        with guarded(path, store), closing(store):
            version = version_of(store, path)
            bound = run(store, "about", name="database") if version else []
    except StoreError as error:
        message, _, remedy = str(error).rpartition(". ")
        if error.code == "store-unusable":
            message, remedy = str(error), f"sqlite3 {path} 'PRAGMA integrity_check'"
        tell(Finding("store", "failed", message, remedy))
        return None
    tell(usable(str(path), version, len(migrations("sqlite"))))
    return str(bound[0][0]) if bound else None


def _is_folder(folder: Path) -> bool:
    """Whether it is there, or hidden from us by the folder above."""
    try:
        return folder.is_dir()
    except PermissionError:
        return True


def _user() -> str:
    """The user that this process runs as, by name if it has one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
