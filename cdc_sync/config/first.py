"""The first configuration, as `cdc-sync init` writes it: what was guessed, with its reasons and doubts as comments."""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from cdc_sync.core.guessing import FIELDS, Guess, Proposal
from cdc_sync.core.identifiers import written

DOUBT = "DOUBT"
"""The word that every line begins with that a person must look at."""

_WIDTH = 118
_ASTRAL = 0x10000
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*")
_YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_HEADER = f"""\
# The first configuration of cdc-sync, written by `cdc-sync init` from what the database's catalog says: names, types,
# keys and indexes. Of rows it read at most the values of a flag of deletion, so look at each comment; what begins with
# {DOUBT} needs you most.
#
#   grep -n {DOUBT} THIS_FILE            what is left to decide
#   cdc-sync config validate          whether it can be read
#   cdc-sync check                    whether it fits the database, and what to do where not
#   cdc-sync sql install              notify mode: what a DBA reads and runs; then `cdc-sync sql grants`
#   cdc-sync run --dry-run            shows the calls and sends none
#
# Every key that is not here has its default: `cdc-sync config example` shows them all.
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What is not guessed from the tables.

    Attributes:
        dsn: the database, without secrets; empty if the PG* variables say it.
        dsn_comments: what to know about it.
        mode: how changes are noticed.
        mode_why: why so.
        timezone: of values without a zone.
        timezone_doubt: why that must be looked at; None if a person said it, or nothing depends on it.
        state: the store's path.
        others: other tables that could have been meant.
    """

    dsn: str
    dsn_comments: tuple[str, ...]
    mode: str
    mode_why: str
    timezone: str
    timezone_doubt: str | None
    state: str
    others: tuple[str, ...] = ()


def first_configuration(proposal: Proposal, answers: Answers) -> str:
    """The text of the file; a valid configuration, whatever is in doubt."""
    return "\n".join([_HEADER, *_undecided(proposal, answers), *_above(answers), *_watch(proposal, answers)]) + "\n"


def undecided(proposal: Proposal, answers: Answers) -> list[str]:
    """The doubts by which wrong things could be sent."""
    doubts = {
        "table": f"{', '.join(answers.others)} look like it too" if answers.others else None,
        "key": proposal.key_doubt,
        "timezone": answers.timezone_doubt,
    }
    found = [f"{field}: {doubt}" for field, doubt in doubts.items() if doubt is not None]
    found += [
        f"{field}: {guess.doubt}"
        for field, guess in proposal.guesses.items()
        if guess.doubt is not None and not guess.suggested
    ]
    if proposal.carriers:
        found.append(f"status: {', '.join(one.name for one in proposal.carriers)} may decide it too")
    return found


def _undecided(proposal: Proposal, answers: Answers) -> Iterator[str]:
    if found := undecided(proposal, answers):
        yield "# What could send wrong things. Decide each, correct the file, remove the entry: `cdc-sync run` refuses"
        yield "# while there is one; `run --dry-run`, `check` and `plan` work."
        yield "undecided:"
        for each in found:
            yield from textwrap.wrap(
                _quoted(" ".join(each.split())),
                _WIDTH,
                initial_indent="  - ",
                subsequent_indent="    ",
                break_on_hyphens=False,
                break_long_words=False,
            )
        yield ""


def _above(answers: Answers) -> Iterator[str]:
    yield "database:"
    for comment in answers.dsn_comments:
        yield from _comment(comment, "  ")
    yield f"  dsn: {_text(answers.dsn)}" if answers.dsn else '  dsn: ""  # the PG* variables say it all'
    yield from ("", "hellowork:", "  base_url: https://ats-partner.hellowork.com")
    yield from _doubt("how HelloWork knows that it is you: a header and its value, as agreed with HelloWork", "  ")
    yield '  # headers: {X-Api-Key: "${HELLOWORK_API_KEY}"}'
    yield from ("", "state:", "  # What HelloWork was told, and what waits: keep it on a disk that survives a restart.")
    yield from (f"  path: {_text(answers.state)}", "", "watches:", "  applications:")


def _watch(proposal: Proposal, answers: Answers) -> Iterator[str]:
    table = proposal.table
    yield from _comment(f"By its name and its columns; {table.size}.", "    ")
    others = ", ".join(answers.others)
    yield from _doubt(others and f"these look like it too: {others}", "    ")
    yield f"    table: {_text(str(table.name))}"
    yield from _doubt(proposal.key_doubt, "    ")
    yield f"    key: [{', '.join(_text(written(name)) for name in proposal.key)}]"
    yield "    columns:"
    for field in FIELDS:
        if field in proposal.guesses:
            yield from _field(field, proposal.guesses[field])
        if field == "status" and proposal.carriers:
            names = ", ".join(one.name for one in proposal.carriers)
            doubt = f"may also decide the status: {names}. If so, write this instead, with what weighs most first"
            yield from _doubt(doubt, "      ")
            yield f"      # {mapped('status', proposal.decided())}"
    yield from _timezone(proposal, answers)
    yield from _related(proposal)
    yield "    capture:"
    yield from _comment(answers.mode_why, "      ")
    yield f"      mode: {answers.mode}"
    yield from _watermark(proposal.watermark, answers)
    yield from _comment("From the ATS's labels to HelloWork's statuses; what is not here is sent as it is.", "    ")
    yield from ("    # status:", "    #   map: {LABEL: interview_by_recruiter}")


def _related(proposal: Proposal) -> Iterator[str]:
    tables = {str(guess.related) for guess in proposal.guesses.values() if guess.related is not None}
    pointing = [related(str(one.related), one.key) for one in proposal.carriers if one.related is not None]
    if tables:
        yield from _comment("What expressions read beside the row: when it changes, every row is compared.", "    ")
        yield "    related:"
        yield from (f"      - {related(name)}" for name in sorted(tables))
    if pointing:
        yield "    # With the status that other tables decide too:"
        yield from () if tables else ("    # related:",)
        yield from (f"    {'  # ' if tables else '#   '}- {entry}" for entry in pointing)


def _field(field: str, guess: Guess) -> Iterator[str]:
    yield from _comment(f"{field}: {guess.why}", "      ")
    yield from _doubt(guess.doubt, "      ")
    yield f"      {'# ' if guess.suggested else ''}{mapped(field, guess)}"


def mapped(field: str, guess: Guess) -> str:
    """A key of `columns`, as the file has it."""
    # What was not found still has to be a name; `check` says that there is no such column.
    column = guess.column or f"put_{field}_here"
    if guess.sql is None:
        return f"{field}: {_text(written(column))}"
    names = ", ".join(_text(written(name)) for name in (guess.depends_on if guess.depends_on is not None else [column]))
    return f"{field}: {{sql: {_quoted(guess.sql)}{f', depends_on: [{names}]' if names else ''}}}"


def related(table: str, key: str | None = None) -> str:
    """An entry of `related`, as the file has it; `key` holds the watched table's key."""
    return f"{{table: {_text(table)}, key: [{_text(written(key)) if key else ''}]}}"


def _timezone(proposal: Proposal, answers: Answers) -> Iterator[str]:
    if proposal.zoneless:
        names = ", ".join(map(written, proposal.zoneless))
        yield from _comment(f"{names}: their values have no time zone; this is the one that they are in.", "    ")
    yield from _doubt(answers.timezone_doubt, "    ")
    yield f"    timezone: {_text(answers.timezone)}"


def _watermark(watermark: Guess | None, answers: Answers) -> Iterator[str]:
    if watermark is None or watermark.column is None:
        yield "      # No column looks like the time of the last change, so polling is not possible as it is."
        return
    polls = answers.mode == "poll"
    use = "by which changed rows are found" if polls else "for capture.mode poll, should you choose it"
    yield from _comment(f"{use}: {watermark.why}", "      ")
    if polls and watermark.doubt is not None:
        yield from _doubt(watermark.doubt, "      ")
    if polls:
        yield from _doubt("does the ATS set it at every change of the status, the job and the deletion?", "      ")
    yield f"      watermark: {_text(written(watermark.column))}"


def _doubt(text: str | None, indent: str) -> Iterator[str]:
    return _comment(f"{DOUBT}: {text}" if text else "", indent)


def _comment(text: str, indent: str) -> Iterator[str]:
    """Lines of a comment, if there is any. A name may hold a line break, which must not end it."""
    shown, width = _readable(" ".join(text.split())), _WIDTH - len(indent)
    for line in textwrap.wrap(shown, width, break_on_hyphens=False, break_long_words=False):
        yield f"{indent}# {line}"


def _text(value: str) -> str:
    is_plain = _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS
    return value if is_plain else _quoted(value)


def _quoted(value: str) -> str:
    """Text in double quotes, in which nothing is taken for a reference."""
    return _readable(json.dumps(value.replace("${", "$${"), ensure_ascii=False))


def _readable(text: str) -> str:
    """Characters that YAML does not take, or that are not to be seen, as escapes of its double quotes."""
    return "".join(
        each if each.isprintable() else f"\\u{ord(each):04x}" if ord(each) < _ASTRAL else f"\\U{ord(each):08x}"
        for each in text
    )
