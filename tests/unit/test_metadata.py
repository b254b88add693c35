"""What a package index shows."""

import re
from importlib.metadata import metadata
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"


def test_the_description_leads_nowhere_that_an_index_does_not_have() -> None:
    description = metadata("cdc-sync").json["description"]

    assert "# cdc-sync" in description
    links = re.findall(r"\]\(([^)]*)\)|<img", str(description))
    assert [link for link in links if not re.match(r"https?://|#", link)] == []


def test_the_python_versions_are_those_of_the_workflow() -> None:
    classified = [
        classifier.rsplit(" ", 1)[1]
        for classifier in metadata("cdc-sync").get_all("Classifier") or ()
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", classifier)
    ]
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]

    for name in ("check", "test", "postgresql"):
        assert jobs[name]["strategy"]["matrix"]["python"] == classified
