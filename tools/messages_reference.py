"""docs/messages.md, from the texts of the package: `python tools/messages_reference.py > docs/messages.md`."""

import re
from collections.abc import Iterator
from pathlib import Path

from cdc_sync.daemon.logs import LINES
from cdc_sync.packaged import data

_HEADER = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")


def page() -> str:
    """The whole page."""
    parts = [_HEADER]
    parts += ["## Of the ATS's database\n", "| code | message |", "|---|---|", *_coded("ats/errors.yaml"), ""]
    parts += ["## Of the store\n", "| code | message |", "|---|---|", *_coded("store/errors.yaml"), ""]
    parts += ["## Other lines of the log\n", "| level | message |", "|---|---|", *_lines()]
    return "\n".join(parts)


def _coded(file: str) -> Iterator[str]:
    texts = data(file)
    found = [(each["code"], each["text"]) for each in texts.get("meanings", ())]
    found += texts["messages"].items()
    rows = {f"| `{code.partition('/')[0]}` | {_beginning(text)} |" for code, text in found}
    yield from sorted(rows)


def _lines() -> Iterator[str]:
    found = set[str]()
    for line in LINES.values():
        for case in [line] if "level" in line else [line[value] for value in line if value != "by"]:
            if case["level"] in {"warning", "error"} and not re.fullmatch(r"{\w+}", case["message"]):
                found.add(f"| {case['level']} | {_beginning(case['message'])} |")
    yield from sorted(found)


def _beginning(text: str) -> str:
    """The first sentence that says something, without placeholders."""
    sentences = re.split(r"(?<=[.?:;]) ", re.sub(r"\{[^}]*\}", "…", " ".join(text.split())))
    sentence = next(each for each in sentences if re.search(r"\w", each))
    return sentence.rstrip(":;").replace("|", "\\|")


if __name__ == "__main__":
    print(page())
