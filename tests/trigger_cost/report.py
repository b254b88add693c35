"""What was measured, as a table and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from trigger_cost.measuring import Figure

_HEAD = ("workload", "clients", "wakeup", "bare/s", "ratio", "spread", "target", "added µs", "CPU µs", "per")


def as_json(facts: Mapping[str, object], figures: Sequence[Figure]) -> str:
    """One object: `facts`, and a list of `figures`."""
    lines = [{**asdict(figure), "missed": figure.missed} for figure in figures]
    return json.dumps({"facts": facts, "figures": lines}, indent=2)


def as_table(facts: Mapping[str, object], figures: Sequence[Figure]) -> str:
    """For people; a target that is not met is marked."""
    lines = [_HEAD, *map(_line, figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join([*_said(facts), "", *(_aligned(line, widths) for line in lines)])


def _said(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{name}: {value}"


def _line(figure: Figure) -> tuple[str, ...]:
    most = "" if figure.target is None else f"≤ {figure.target:g}{' µs' if figure.per == 'row' else ''}"
    return (
        figure.workload,
        str(figure.clients),
        "notify" if figure.variant == "rung" else "none",
        f"{figure.bare_rate:,.0f}",
        f"{figure.ratio:.2f}",
        f"{figure.least:.2f} … {figure.greatest:.2f}",
        f"{most} MISSED" if figure.missed else most,
        f"{figure.added:.1f}",
        f"{figure.added_cpu:.1f}",
        figure.per,
    )


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
