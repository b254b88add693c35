"""docs/messages.md, docs/operations.md, the alerts and the dashboard know every message and alert, and no other."""

import json
import re
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import messages_reference
import psycopg
import pytest
import yaml

from cdc_sync.ats import errors
from cdc_sync.packaged import data
from cdc_sync.store import errors as store_errors
from cdc_sync.store.postgres import schema as postgres_schema
from cdc_sync.store.sqlite import schema

PACKAGE = Path(errors.__file__).parents[1]
DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
ALERTS = PACKAGE / "files" / "alerts.yaml"
DASHBOARD = PACKAGE / "files" / "grafana-dashboard.json"

# Raised where a driver's error has a meaning of its own.
_RAISED = re.compile(r'\bSourceError\(\s*"([a-z-]+)",')


def codes_in(file: Path) -> set[str]:
    """The codes of a source's errors that a file raises."""
    return set(_RAISED.findall(file.read_text(encoding="utf-8")))


def test_the_page_of_messages_is_the_tool_s() -> None:
    assert (DOCS / "messages.md").read_text(encoding="utf-8") == messages_reference.page() + "\n", (
        "write it again: python tools/messages_reference.py > docs/messages.md"
    )


class TestCodes:
    """Every error of the ATS's database, and of the store, has a row, by its code."""

    def test_every_code_has_a_row(self) -> None:
        raised = set[str]().union(*map(codes_in, PACKAGE.rglob("*.py")))
        rows = set(re.findall(r"^\| `([a-z-]+)` \|", (DOCS / "messages.md").read_text(encoding="utf-8"), re.MULTILINE))
        assert raised - rows == set()

    def test_what_an_error_is_of_are_classes_of_the_driver(self) -> None:
        of = {name for meaning in errors.TEXTS["meanings"] for name in meaning["of"]} - {"text", "raised"}
        assert all(issubclass(getattr(psycopg.errors, name), psycopg.Error) for name in of)

    @pytest.mark.parametrize("database", ["sqlite", "postgres"])
    def test_each_remedy_of_the_store_follows_its_error(self, database: str) -> None:
        texts = store_errors.TEXTS

        for mark, remedy in texts[database].items():
            if database == "sqlite":
                error = schema.translate(Path("x"), sqlite3.Error(f"a {mark} b"))
            else:
                error = postgres_schema.translate("x=y", getattr(psycopg.errors, mark)("x"))
            assert str(error).endswith(texts["remedies"][remedy])
        assert set(texts["remedies"]) == {*texts["sqlite"].values(), *texts["postgres"].values()}


@cache
def families() -> dict[str, set[str]]:
    """The names under which samples are scraped, with their labels."""
    found: dict[str, set[str]] = {}
    of_kind = [(kind, data("admin/metrics.yaml")[kind]) for kind in ("counter", "gauge", "histogram")]
    metrics = [(kind, labels, name) for kind, groups in of_kind for labels, names in groups.items() for name in names]
    for kind, names_of_labels, name in metrics:
        labels = {*names_of_labels.split()} - {"none"}
        match kind:
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
