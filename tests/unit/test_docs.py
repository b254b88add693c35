"""The documents tell the truth about commands, options, configuration and each other."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from support.configurations import LEAST
from support.installation import merged
from support.keys import ANY_NAME, all_sections

from cdc_sync.cli import app
from cdc_sync.config import Config, parse, warnings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ENGLISH, FRENCH = ROOT / "README.md", ROOT / "README.fr.md"
GUIDE, FRENCH_GUIDE = DOCS / "getting-started.md", DOCS / "fr" / "premiers-pas.md"
DBAS, FRENCH_DBAS = DOCS / "for-dbas.md", DOCS / "fr" / "pour-les-dba.md"
CUSTOMERS, FRENCH_CUSTOMERS = DOCS / "many-customers.md", DOCS / "fr" / "clients-multiples.md"
DATA, FRENCH_DATA = DOCS / "personal-data.md", DOCS / "fr" / "donnees-personnelles.md"
OPERATIONS, FRENCH_OPERATIONS = DOCS / "operations.md", DOCS / "fr" / "exploitation.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[(?:[^\]\[]|!\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"(?:^| +)(?:#|--) .*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)

# Where a line of a shell begins a command.
_CALL = re.compile(r"(?:^|\bsudo |\bsh -c '|&& |\.venv/bin/|exec cdc-sync )cdc-sync (?=[\w-])([^#>|;&']*)")
_NO_COMMAND = {"cdc-sync store"}
"""What is written like a command and is none: the name of the store's connections."""


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", text)


def name(page: Path) -> str:
    """A page's name, for people."""
    return str(page.relative_to(ROOT))


def test_links_lead_somewhere() -> None:
    lost = [f"{name(page)}: {target}" for page in PAGES for target in links(page) if not is_there(page, target)]

    assert lost == []


def links(page: Path) -> list[str]:
    """Where a page leads to within the repository, the pictures too."""
    text = re.sub(r"`[^`\n]*`", "", prose(page.read_text(encoding="utf-8")))
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def is_there(page: Path, target: str) -> bool:
    """Whether a link's file exists, and has the anchor."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return False
    return not anchor or anchor in anchors(file)


def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(prose(page.read_text(encoding="utf-8")))
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_code_names_no_document_that_does_not_exist() -> None:
    sources = [file for suffix in ("py", "sql", "html") for file in ROOT.glob(f"cdc_sync/**/*.{suffix}")]
    named = {
        document for file in sources for document in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8"))
    }

    assert named
    assert {document for document in named if not (ROOT / document).exists()} == set()


class TestCommands:
    """What is written as a call of cdc-sync can be called."""

    def test_every_command_is_told_of(self) -> None:
        told = {path for page in PAGES for call in calls(page) for path in [resolved(call)[0]]}

        assert {path for path, _ in leaves()} - told == set()

    def test_every_call_exists(self) -> None:
        called = [(name(page), call) for page in PAGES for call in calls(page)]

        assert [f"{page}: {call}: {problem}" for page, call in called if (problem := resolved(call)[1])] == []


def calls(page: Path) -> list[str]:
    """The calls of a page, without `cdc-sync` itself."""
    text = page.read_text(encoding="utf-8")
    lines = [line for language, block in _FENCE.findall(text) if not language for line in block.splitlines()]
    spans = [" ".join(span.split()) for span in _INLINE.findall(prose(text))]
    found = [call for line in (*lines, *spans) if line not in _NO_COMMAND for call in _CALL.findall(line)]
    return [call.strip() for call in found]


def leaves() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the way to it."""
    todo: list[tuple[str, ...]] = [()]
    while todo:
        path = todo.pop()
        command = command_at(path)
        if below := getattr(command, "commands", None):
            todo += [(*path, each) for each in below]
        else:
            yield path, command


def resolved(call: str) -> tuple[tuple[str, ...], str | None]:
    """The command of a call, and what is wrong with it."""
    path: tuple[str, ...] = ()
    command = command_at(path)
    words = iter(shlex.split(call.replace("[", " ").replace("]", " ")))
    for word in words:
        if word.startswith("-"):
            option = word.partition("=")[0]
            if option in {"-h", "--help"}:
                continue
            found = next((each for each in command.params if option in (*each.opts, *each.secondary_opts)), None)
            if found is None:
                return path, f"no option {option}"
            if not getattr(found, "is_flag", False) and "=" not in word:
                next(words, None)
        elif below := getattr(command, "commands", None):
            if word not in below:
                return path, f"no command {word}"
            path = (*path, word)
            command = command_at(path)
    return path, None


@cache
def command_at(path: tuple[str, ...]) -> Any:
    """The command, or the group of some, to which words lead."""
    return command_at(path[:-1]).get_command(None, path[-1]) if path else typer.main.get_command(app)


@pytest.mark.parametrize("page", [page for page in PAGES if "```yaml" in page.read_text("utf-8")], ids=name)
def test_pieces_of_configuration_are_valid(page: Path) -> None:
    for piece in pieces(page):
        # The secrets' files are not on this machine.
        text = re.sub(r"\$\{file:[^}]*\}", "a-secret-that-is-long-enough", yaml.safe_dump(piece))
        environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "a-secret-that-is-long-enough")
        document = merged(yaml.safe_load(LEAST), yaml.safe_load(text))

        assert warnings(parse(yaml.safe_dump(document), name=name(page), environ=environ)) == []


def pieces(page: Path) -> list[dict[str, object]]:
    """The blocks of a page that are sections of a configuration."""
    blocks = [block for language, block in _FENCE.findall(page.read_text(encoding="utf-8")) if language == "yaml"]
    return [
        piece
        for piece in map(yaml.safe_load, blocks)
        if isinstance(piece, dict) and piece.keys() <= Config.model_fields.keys()
    ]


class TestFrench:
    """A French page has the structure, the code, the figures and the links of the English one, in words of its own."""

    PAIRS = (
        (ENGLISH, FRENCH),
        (GUIDE, FRENCH_GUIDE),
        (DBAS, FRENCH_DBAS),
        (CUSTOMERS, FRENCH_CUSTOMERS),
        (DATA, FRENCH_DATA),
    )

    @pytest.mark.parametrize(("english", "french"), PAIRS)
    def test_it_says_the_same(self, english: Path, french: Path) -> None:
        for part in (calls, figures, blocks, places):
            assert part(english) == part(french), part.__name__
        assert french in leads_to(english)
        assert english in leads_to(french)

    def test_every_french_page_is_compared_but_the_brief_one(self) -> None:
        assert {french for _, french in self.PAIRS} == {FRENCH, *(DOCS / "fr").glob("*.md")} - {FRENCH_OPERATIONS}


def places(page: Path) -> Counter[tuple[Path, str | int]]:
    """Where a page leads to, by its English page and the number of the heading there; not pictures, nor itself in the
    other language."""
    translated = {french: english for english, french in (*TestFrench.PAIRS, (OPERATIONS, FRENCH_OPERATIONS))}
    found = Counter[tuple[Path, str | int]]()
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        english = translated.get(file, file)
        if file.suffix != ".png" and (file == page or english != translated.get(page, page)):
            found[english, anchors(file).index(anchor) if anchor else ""] += 1
    return found


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code, without comments; not drawings, which hold words."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [(language, _COMMENT.sub("", block)) for language, block in found if "┌" not in block]


def figures(page: Path) -> list[Counter[str]]:
    """The numbers of each section of a page, of its text alone; 1,5 is 1.5 and 2 000 is 2,000."""
    text = re.sub(r"\]\([^)]*\)", "]", _INLINE.sub("", prose(page.read_text(encoding="utf-8"))))
    return [
        Counter(re.sub(r"[,.  \xa0](?=\d)", "", found) for found in re.findall(r"\d+(?:[,.  \xa0]\d+)*", section))
        for section in re.split(r"^#+ ", text, flags=re.MULTILINE)
    ]


def leads_to(page: Path) -> set[Path]:
    """The files that a page leads to."""
    return {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}


def test_every_key_exists() -> None:
    """What is written as a key of the configuration is one."""
    assert [(name(page), key) for page in PAGES for key in keys(page) if not is_key(key)] == []


_FILES = {"state.db", "state.db.lock", "metrics.md"}


@cache
def sections() -> dict[str, set[str]]:
    """The keys of each section, by the section's path without the names that people choose."""
    found: dict[str, set[str]] = {}
    for path, keys in all_sections():
        found.setdefault(".".join(part for part in path if part != ANY_NAME), set()).update(keys)
    return found


def keys(page: Path) -> list[str]:
    """The keys that a page names by a path, `capture.mode` for instance."""
    spans = _INLINE.findall(prose(page.read_text(encoding="utf-8")))
    dotted = [found[1] for span in spans if (found := re.match(r"([a-z_]+\.[a-z_.]+)(?::|$)", span))]
    first = {part for path in sections() for part in path.split(".")}
    return [key for key in dotted if key.split(".")[0] in first and key not in _FILES and not key.endswith(".py")]


def is_key(key: str) -> bool:
    """Whether a path, or its end, leads to a key."""
    paths = {f"{path}.{each}".lstrip(".") for path, fields in sections().items() for each in fields}
    return any(path == key or path.endswith(f".{key}") for path in paths)
