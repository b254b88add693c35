"""docs/metrics.md names every metric, as it is."""

import re
from importlib.resources import files
from pathlib import Path

import yaml

_BY_KIND = yaml.safe_load(files("cdc_sync.admin").joinpath("metrics.yaml").read_text("utf-8"))
_OF_ALL = {name for names in _BY_KIND.pop("of_all").values() for name in names}
_METRICS = [
    (name, kind, "" if labels == "none" else labels.replace(" ", ", "), text)
    for kind, groups in _BY_KIND.items()
    for labels, texts in groups.items()
    for name, text in texts.items()
]
_DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
_ROW = re.compile(r"^\| `(cdc_sync_\w+)` \| (\w+) \| ([\w, ]*?) ?\| (.+) \|$", re.MULTILINE)


def test_the_document_lists_every_metric_with_its_labels_and_help() -> None:
    documented = [(name, kind, labels, text) for name, kind, labels, text in _ROW.findall(_DOCUMENT.read_text())]

    assert sorted(documented) == sorted(_METRICS)


def test_the_document_speaks_of_no_other() -> None:
    text = _DOCUMENT.read_text()
    documented = {name for name, *_ in _ROW.findall(text)}

    spoken_of = {name.removesuffix("_total") for name in re.findall(r"cdc_sync_\w+", text)}

    assert spoken_of == documented


def test_the_document_lists_what_is_not_added_up_over_many_watches() -> None:
    section = _DOCUMENT.read_text().partition("## With hundreds of watches\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"^\| `(cdc_sync_\w+)` \|", section, re.MULTILINE)) == _OF_ALL
