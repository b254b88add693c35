"""What is allowed in a configuration, and hardly ever meant."""

from collections.abc import Iterator
from typing import Literal

from cdc_sync.config.disclosure import path_text
from cdc_sync.config.document import Path
from cdc_sync.config.models import SHORTEST_TOKEN, Config
from cdc_sync.config.problems import Problem
from cdc_sync.config.watch import Watch
from cdc_sync.core.hellowork_statuses import MEANINGS, OWN_SIDE, meant

Code = Literal[
    "dsn-unused", "path-relative", "token-short", "status-of-hellowork", "status-nearly-a-code", "status-never-sent"
]
"""What is suspicious, as a stable name."""


def warnings(config: Config) -> list[Problem]:
    """What is suspicious in a valid configuration; the problems have no line, as the file is not at hand any more."""
    found: list[Problem] = []
    if config.state.backend == "sqlite" and config.state.dsn is not None:
        found.append(
            _suspicion(
                "dsn-unused",
                ("state", "dsn"),
                None,
                "is not used by backend sqlite",
                "set state.backend: postgres, or remove it",
            )
        )
    if config.state.backend == "sqlite" and not config.state.path.is_absolute():
        found.append(
            _suspicion(
                "path-relative",
                ("state", "path"),
                str(config.state.path),
                "is relative to whatever folder the command is run in; in another one it would begin with a new store, "
                "which takes all that it finds as told",
                "write the whole path",
            )
        )
    token = config.admin.token
    if token is not None and len(token.get_secret_value()) < SHORTEST_TOKEN:
        found.append(
            _suspicion(
                "token-short",
                ("admin", "token"),
                None,
                f"has fewer than {SHORTEST_TOKEN} characters, so that it could be guessed",
                "`openssl rand -hex 16` prints a good one",
            )
        )
    for name, watch in config.watches.items():
        found += _labels(("watches", name), watch)
        found += _never_sent(("watches", name), watch)
    return found


def _labels(path: Path, watch: Watch) -> Iterator[Problem]:
    sent: dict[Path, str] = {(*path, "status", "map", label): status for label, status in watch.status.map.items()}
    sent[*path, "status", "deleted"] = watch.status.deleted
    for place, status in sent.items():
        code = meant(status)
        if status in OWN_SIDE:
            message = f"is HelloWork's own code for its side of the exchange ({MEANINGS[status]})"
            yield _suspicion(
                "status-of-hellowork",
                place,
                status,
                message,
                "send the ATS's own label, or a code for what a recruiter did",
            )
        elif code is not None:
            yield _suspicion(
                "status-nearly-a-code",
                place,
                status,
                "is nearly a code of HelloWork's",
                f'HelloWork spells it "{code}"',
            )


def _never_sent(path: Path, watch: Watch) -> Iterator[Problem]:
    if watch.status.unmapped == "send":
        return
    sent = {*watch.status.map.values(), watch.status.deleted}
    named: dict[Path, str] = {(*path, "settle", status): status for status in watch.settle if status != "default"}
    for field, extra in watch.extra.items():
        named |= {(*path, "extra", field, "only_for", i): status for i, status in enumerate(extra.only_for)}
    for place, status in named.items():
        if status not in sent:
            yield _suspicion(
                "status-never-sent",
                place,
                status,
                "is never sent: status.map has no label for it, and status.unmapped is not send",
                "name the status as it is sent, not the ATS's label",
            )


def _suspicion(code: Code, path: Path, found: str | None, message: str, suggestion: str) -> Problem:
    return Problem(path_text(path), None, None, found, message, suggestion, code)
