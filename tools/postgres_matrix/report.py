"""The table of a matrix run, for people."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from postgres_matrix.running import Outcome

_HEAD = ("PostgreSQL", "passed", "failed", "skipped", "seconds")


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The table; below it failures, and the reasons of skipped tests."""
    lines = [_HEAD, *map(_line, outcomes)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    table = [
        f"| {' | '.join(text.rjust(width) for text, width in zip(line, widths, strict=True))} |"
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join([*table, *_below(outcomes)])


def _line(outcome: Outcome) -> tuple[str, ...]:
    skipped = sum(outcome.skipped.values())
    failed = f"{len(outcome.failed)}" if outcome.trouble is None else f"{len(outcome.failed)} (did not finish)"
    return (outcome.version, str(outcome.passed), failed, str(skipped), f"{outcome.seconds:.0f}")


def _below(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        for what in (*([outcome.trouble] if outcome.trouble else []), *outcome.failed):
            yield f"\n- {outcome.version}: {what}"
    reasons = defaultdict[str, list[str]](list)
    for outcome in outcomes:
        for reason, number in outcome.skipped.items():
            reasons[reason].append(f"{outcome.version} ({number})")
    if reasons:
        yield "\nSkipped, with the number of tests:\n"
        yield from (f"- {reason}: {', '.join(where)}" for reason, where in sorted(reasons.items()))
