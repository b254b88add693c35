"""Mistakes in the configuration: exit 78, all of them at once, where they are and how they are repaired."""

from pathlib import Path

from support.daemon_process import COMMAND
from support.installation import Installation


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


def test_the_journal_has_the_reason_as_an_error(notify: Installation) -> None:
    notify.config.write_text("log: [json]\n")

    as_journal = ["sh", "-c", 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$@"', "sh"]
    run = notify.run_bare([*as_journal, *COMMAND, "--config", str(notify.config), "run"])

    assert run.code == 78
    assert run.stderr
    assert all(line.startswith("<3>") for line in run.stderr.splitlines())
