"""Mistakes in the configuration: exit 78, all of them at once, where they are and how they are repaired."""

from pathlib import Path

from support.daemon_process import COMMAND
from support.installation import Installation

MISTAKES = """\
database:
  dsn: "postgresql://cdc_sync:planted-dsn-password@/ats"
  pasword: planted-misplaced-password
hellowork:
  headers: {X-Api-Key: "${NO_SUCH_VARIABLE}"}
"""


def test_every_mistake_is_told_at_once_and_no_secret_is(notify: Installation) -> None:
    file = notify.folder / "mistakes.yaml"
    file.write_text(MISTAKES)
    refused = notify.run("config", "validate", config=file)
    assert (refused.code, refused.stdout) == (78, "")
    places = ["watches", f"{file}:3: database.pasword", f"{file}:5: hellowork.headers.X-Api-Key"]
    assert all(place in refused.stderr for place in places)
    assert "planted" not in refused.output
    assert "Traceback" not in refused.output


def test_the_configuration_is_found_by_option_then_environment(notify: Installation) -> None:
    command = [*COMMAND, "config", "validate"]
    by_environment = notify.run_bare(command, {"CDC_SYNC_CONFIG": str(notify.config)})
    assert by_environment.code == 0
    assert str(notify.config) in by_environment.stdout
    by_option = notify.run("config", "validate", variables={"CDC_SYNC_CONFIG": "/nowhere/config.yaml"})
    assert by_option.code == 0
    by_argument = notify.run_bare([*command, str(notify.config)])
    assert by_argument.code == 0
    if not Path("/etc/cdc-sync/config.yaml").exists():
        by_default = notify.run_bare(command)
        assert by_default.code == 78
        assert "/etc/cdc-sync/config.yaml" in by_default.stderr
