"""docs/operations.md, the alerts and the dashboard tell of every message and alert, and of none that does not exist."""

import json
import logging
import re
import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from support.configurations import LEAST
from support.installation import merged
from support.observing import EXAMPLES

from cdc_sync.admin.server import AdminError
from cdc_sync.ats import errors
from cdc_sync.ats.row_security import Hiding, warning
from cdc_sync.config import exposures, parse, warnings
from cdc_sync.config.problems import Problem
from cdc_sync.core.events import Dispatch, Event, RowsHidden, StoreFailed, TakeOverBlocked, TriggersMissing, WatchLost
from cdc_sync.daemon.event_logger import EventLogger
from cdc_sync.daemon.logs import LOGGER, Fields
from cdc_sync.packaged import data
from cdc_sync.store import errors as store_errors
from cdc_sync.store.postgres import schema as postgres_schema
from cdc_sync.store.sqlite import schema

PACKAGE = Path(errors.__file__).parents[1]
DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
ALERTS = PACKAGE / "files" / "alerts.yaml"
DASHBOARD = PACKAGE / "files" / "grafana-dashboard.json"

ROWS = re.findall(r"^\| (error|warning) \| (?!`[a-z-]+` \| `)(?:\| )?`([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)
"""Level, message and remedy, as the page has them, of what has no code."""

CODED = re.findall(r"^\| (error|warning) \| `([a-z-]+)` \| `([^`]+)` \| .+ \|$", PAGE, re.MULTILINE)
"""Level, code and message of what has one."""

# What observations bring along is someone else's text, and stands here by where it comes from.
_FREE = (WatchLost, TriggersMissing, RowsHidden, StoreFailed, TakeOverBlocked)

# Raised by name, as it is for a StandbyError, or where a driver's error has a meaning of its own.
_RAISED = re.compile(r'\b(?:SourceError|super\(\).__init__)\(\s*"([a-z-]+)",')

SUSPICIOUS = """
state: {dsn: "dbname=state", path: state.db}
metrics: {per_watch: false}
watches:
  applications:
    status: {map: {a: sent, b: Hired}, unmapped: ignore}
    settle: {nothing: 5m}
  numbers:
    table: public.others
    key: [id]
    columns: {application_id: phone, status: stage_id, job_id: job_id, created: created_at}
  some_numbers:
    table: public.others
    key: [id]
    columns: {application_id: hellowork_id, status: stage_id, job_id: job_id, created: created_at}
    status: {map: {1: HIRED}}
    where: t.customer = 1
    hellowork: {headers: {X-Api-Key: same}}
  others_numbers:
    table: public.others
    key: [id]
    columns: {application_id: hellowork_id, status: stage_id, job_id: job_id, created: created_at}
    where: t.customer = 2
    hellowork: {headers: {X-Api-Key: same}}
undecided: ["status: something else may decide it too"]
"""


def codes_in(file: Path) -> set[str]:
    """The codes of a source's errors that a file raises."""
    return set(_RAISED.findall(file.read_text(encoding="utf-8")))


class TestMessages:
    """Every line of level warning or error has a row."""

    def test_every_message_has_a_row(self) -> None:
        without = [(level, text) for level, text in messages() if not rows_of(level, text)]

        assert without == []

    def test_every_row_has_a_message(self) -> None:
        used = {row for level, text in messages() for row in rows_of(level, text)}

        assert {(level, row) for level, row, _ in ROWS} - used == set()

    def test_no_row_stands_for_anything(self) -> None:
        assert [row for _, row, _ in ROWS if rows_of("error", "xyz") or rows_of("warning", "xyz")] == []

    def test_a_message_that_is_not_told_of_is_found(self) -> None:
        assert not rows_of("error", "the moon is in the way")
        assert not rows_of("warning", "given up, now a dead letter")

    def test_every_suspicion_is_among_the_examples(self) -> None:
        source = (PACKAGE / "config" / "config_warnings.py").read_text(encoding="utf-8")
        codes = set(re.findall(r'_warning\("([a-z-]+)"', source))
        assert {problem.code for problem in _warnings()} == codes


class TestCodes:
    """Every error of the ATS's database, and of the store, has a row, by its code."""

    def test_every_code_has_a_row_of_its_level_and_every_row_a_code(self) -> None:
        of_source = {meaning["code"].partition("/")[0] for meaning in errors.texts()["meanings"]} | {
            name.partition("/")[0] for name in errors.texts()["messages"]
        }
        of_source = of_source.union(*map(codes_in, PACKAGE.rglob("*.py")))
        expected = {("warning" if code in errors.UNREACHABLE else "error", code) for code in of_source}

        assert {(level, code) for level, code, _ in CODED} == expected | {
            ("error", name.partition("/")[0]) for name in store_errors.texts()["messages"]
        }

    def test_what_an_error_is_of_are_classes_of_the_driver(self) -> None:
        of = {name for meaning in errors.texts()["meanings"] for name in meaning["of"]} - {"text", "raised"}
        assert all(issubclass(getattr(psycopg.errors, name), psycopg.Error) for name in of)

    def test_each_message_has_a_row_of_its_code(self) -> None:
        messages = [
            *((meaning["code"].partition("/")[0], meaning["text"]) for meaning in errors.texts()["meanings"]),
            *((name.partition("/")[0], message) for name, message in errors.texts()["messages"].items()),
            *((name.partition("/")[0], message) for name, message in store_errors.texts()["messages"].items()),
            ("store-unusable", str(schema.translate(Path("state.db"), sqlite3.Error("disk full")))),
            ("store-unusable", str(postgres_schema.translate("postgresql://host/ats", psycopg.Error("disk full")))),
        ]
        assert [
            (code, message)
            for code, message in messages
            if not any(its == code and pattern(row).match(message) for _, its, row in CODED)
        ] == []

    @pytest.mark.parametrize("database", ["sqlite", "postgres"])
    def test_each_remedy_of_the_store_follows_its_error(self, database: str) -> None:
        texts = store_errors.texts()

        for mark, remedy in texts[database].items():
            if database == "sqlite":
                error = schema.translate(Path("x"), sqlite3.Error(f"a {mark} b"))
            else:
                error = postgres_schema.translate("x=y", getattr(psycopg.errors, mark)("x"))
            assert str(error).endswith(texts["remedies"][remedy])
        assert set(texts["remedies"]) == {*texts["sqlite"].values(), *texts["postgres"].values()}

    def test_a_line_of_the_log_has_the_code(self) -> None:
        lost = WatchLost("applications", "no such table", misconfigured=True, code="table-missing")
        records = logged(lost, StoreFailed("the disk is full", "applications", "store-unusable"))

        fields: list[Fields] = [record.__dict__["fields"] for record in records]
        said = [{name: value for name, value in of.items() if value is not None} for of in fields]
        assert said == [{"watch": "applications", "code": code} for code in ("table-missing", "store-unusable")]


def rows_of(level: str, text: str) -> list[tuple[str, str]]:
    """The rows that stand for a message."""
    return [(level, row) for its, row, _ in ROWS if its == level and pattern(row).match(text)]


def pattern(row: str) -> re.Pattern[str]:
    """What a row stands for: `…` is anything, and so is what follows."""
    return re.compile(".+".join(map(re.escape, row.removesuffix("…").split("…"))), re.DOTALL)


def messages() -> list[tuple[str, str]]:
    """Every message of level warning or error, with `…` for what differs."""
    return [
        *_lines(),
        *(("warning", str(problem)) for problem in _warnings()),
        *(("warning", text) for text in _exposures()),
        ("error", "capture.mode is notify, but …"),
        ("error", str(AdminError("…", "…"))),
        ("warning", warning([Hiding("public.applications", "cdc_sync", ())])),
    ]


def _lines() -> list[tuple[str, str]]:
    """The lines of the observations that have a text of their own."""
    records = logged(*(example for example in EXAMPLES if not isinstance(example, _FREE)))
    return [("error" if record.levelno == logging.ERROR else "warning", record.getMessage()) for record in records]


def logged(*observed: Event) -> list[logging.LogRecord]:
    """The records of these events of level warning or error."""
    found: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    kept = Kept()
    LOGGER.addHandler(kept)
    LOGGER.setLevel(logging.WARNING)
    try:
        emit = Dispatch(EventLogger().handlers).emit
        for event in observed:
            emit(event)
    finally:
        LOGGER.removeHandler(kept)
        LOGGER.setLevel(logging.NOTSET)
    return found


def _warnings() -> list[Problem]:
    document = merged(yaml.safe_load(LEAST), yaml.safe_load(SUSPICIOUS))
    return warnings(parse(yaml.safe_dump(document), name="suspicious", environ={}))


def _exposures() -> list[str]:
    """What is said of files that others may read or write, of a configuration that has one of each."""
    # Not in pytest's folders, which nobody else may enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file, store = Path(folder) / "config.yaml", Path(folder) / "state.db"
        text = yaml.safe_dump(
            merged(yaml.safe_load(LEAST), {"admin": {"token": "s" * 16}, "state": {"path": str(store)}})
        )
        for each in (file, store):
            each.write_text(text)
            each.chmod(0o666)
        return list(map(str, exposures(file, parse(text, name="exposed", environ={}))))


@cache
def families() -> dict[str, set[str]]:
    """The names under which samples are scraped, with their labels."""
    found: dict[str, set[str]] = {}
    for name, about in data("admin/metrics.yaml").items():
        labels = set(about.get("labels", ()))
        match about["kind"]:
            case "counter":
                found[f"{name}_total"] = labels
            case "histogram":
                found[f"{name}_bucket"] = labels | {"le"}
                found |= {f"{name}_{part}": labels for part in ("sum", "count")}
            case "gauge":
                found[name] = labels
    return found


def alerts() -> list[dict[str, Any]]:
    """The rules of the alerts."""
    return [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """Grafana's dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def expressions() -> list[str]:
    """What alerts and dashboard ask Prometheus."""
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    asked = [each["query"]["query"] for each in dashboard()["templating"]["list"] if each["type"] == "query"]
    return [*(rule["expr"] for rule in alerts()), *panels, *asked]


def listed(where: str, expression: str) -> set[str]:
    """The names in lists of labels."""
    return {name.strip() for names in re.findall(where, expression) for name in names.split(",")}


class TestMonitoring:
    """Alerts and dashboard ask for what there is."""

    def test_metrics_and_labels_exist(self) -> None:
        known = families()
        for expression in expressions():
            named = re.findall(r"\bcdc_sync_\w+", expression)
            assert {name for name in named if name not in known} == set(), expression

            labels = {"job", "instance"}.union(*(known[name] for name in named))
            written = " ".join(re.findall(r"\{([^}]*)\}", expression))
            used = set(re.findall(r"(\w+)(?==)", written))
            used |= listed(r"\b(?:by|on) \(([^)]*)\)", expression)
            assert used - labels == set(), expression

    def test_every_metric_of_trouble_is_watched(self) -> None:
        asked = " ".join(expressions())

        # Histograms are asked for by their buckets; what a fuse holds, and what becomes of a suspicion, by its entries.
        asides = {f"cdc_sync_{kind}_seconds_{part}" for kind in ("call", "queue") for part in ("sum", "count")}
        asides |= {"cdc_sync_fuse_blown", "cdc_sync_suspected_deletions"}
        asides |= {"cdc_sync_watch_standby", "cdc_sync_human_actions_total"}  # are none
        assert {name for name in families() if name not in asked} == asides

    def test_the_page_tells_what_to_do_about_each_alert(self) -> None:
        told = re.findall(r"^\| `(CdcSync\w+)` \| (.+) \|$", PAGE, re.MULTILINE)

        assert [name for name, _ in told] == [rule["alert"] for rule in alerts()]

    def test_the_link_of_each_alert_leads_to_its_row(self) -> None:
        """Of a browser that knows no text fragments, to the table."""
        headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}
        for rule in alerts():
            page, anchor, text = re.split("#|:~:text=", rule["annotations"]["runbook_url"])
            assert (page, text) == ("docs/operations/", rule["alert"])
            assert anchor in headings

    def test_an_alert_s_summary_uses_labels_that_it_has(self) -> None:
        for rule in alerts():
            kept = listed(r"\bby \(([^)]*)\)", rule["expr"])
            named = re.findall(r"\bcdc_sync_\w+", rule["expr"])
            labels = kept or {"job", "instance"}.union(*(families()[name] for name in named))

            assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= labels, rule["alert"]

    def test_panels_have_ids_and_places_of_their_own(self) -> None:
        panels = dashboard()["panels"]
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in panels)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]

        assert len({panel["id"] for panel in panels}) == len(panels)
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24
