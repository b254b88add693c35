"""The page: the status report as HTML. No script, no external asset; everything from outside is escaped."""

from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8886; vertical-align: top }
.good { color: light-dark(#0a6b2d, #6fd08c) } .bad { color: light-dark(#a3120a, #ff9a8f) }
"""

_WATCH_COLUMNS = (
    "watch",
    "mode",
    "known",
    "pending",
    "held",
    "dead_letters",
    "skipped",
    "suspected_deletions",
    "sweep_repairs",
)


def render(report: dict[str, Any]) -> str:
    """The whole page for a status report."""
    wrong = [f"{item['name']}: {item['message']}" for item in report["conditions"]]
    wrong += [
        f"fuse {watch['watch']}: {watch['fuse_reason']}" for watch in report["watches"] if watch["fuse"] == "blown"
    ]
    wrong += [
        f"held {watch['watch']}: {watch['held_reason']}"
        for watch in report["watches"]
        if watch["held"] and watch["fuse"] == "whole"
    ]
    verdict = (
        '<p class="good"><strong>All is well.</strong></p>'
        if not wrong
        else f'<ul class="bad">{"".join(f"<li>{escape(text)}</li>" for text in wrong)}</ul>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="10">'
        f"<title>cdc-sync</title><style>{_STYLE}</style></head><body><main><h1>cdc-sync</h1>{verdict}"
        f"<h2>Watches</h2>{_table(_WATCH_COLUMNS, report['watches'])}"
        f"<h2>Endpoints</h2>{_table(('endpoint', 'mode', 'reason', 'until'), report['endpoints'])}"
        "<h2>Last failures</h2>"
        f"{_table(('at', 'watch', 'application_id', 'event', 'reason'), report['last_failures'])}"
        f"<h2>Rows that cannot be reported</h2>"
        f"{_table(('watch', 'application_id', 'key', 'reason'), report['skipped_rows'])}"
        f"<p>{escape(report['at'])}</p></main></body></html>"
    )


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f'<th scope="col">{escape(column.replace("_", " "))}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row[column])}</td>' for column in columns)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, dict):  # numbers by cause
        return escape(", ".join(f"{cause}: {number}" for cause, number in value.items()) or "none")
    if isinstance(value, list):
        return escape(", ".join(map(str, value)))
    return "" if value is None else escape(str(value))
