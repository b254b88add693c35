"""`cdc-sync files`: what an installation by pip needs beside it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.daemon_process import COMMAND, Finished, run_to_end

CARRIED = Path(__file__).parents[2] / "cdc_sync" / "files"


def files(*arguments: str) -> Finished:
    return run_to_end([*COMMAND, "files", *arguments], {})


def test_it_writes_units_alerts_and_dashboard_and_prints_each_path(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"

    written = files(str(folder))

    assert (written.code, written.stderr) == (0, "")
    assert written.stdout.splitlines() == sorted(str(folder / each.name) for each in CARRIED.iterdir())
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {
        each.name: each.read_bytes() for each in CARRIED.iterdir()
    }


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text("mine")

    refused = files(str(tmp_path))

    assert refused.code == 1
    assert "alerts.yaml cannot be written: File exists" in refused.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["alerts.yaml"]
    assert (tmp_path / "alerts.yaml").read_text() == "mine"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_prometheus_takes_the_alerts() -> None:
    command = ["promtool", "check", "rules", str(CARRIED / "alerts.yaml")]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
