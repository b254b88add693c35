"""The commands as operators and scripts use them: output, JSON, exit codes, with the daemon up or down."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest
from support.daemon_process import COMMAND, PATIENCE, environment
from support.installation import JOB, Installation


def test_a_plan_and_an_explanation_tell_what_was_told_and_what_would_be(notify: Installation) -> None:
    notify.add("hw-1")
    notify.add("hw-2")
    with notify.daemon() as daemon:
        notify.hellowork.will({"kind": "status", "status": 503, "body": "busy " * 500, "application_id": "hw-1"})
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1"), "the call that is acknowledged")
        notify.settle(daemon)
        assert daemon.stop() == 0
    notify.change("hw-1", status="HIRED", job_id="job-2")
    notify.delete("hw-2")
    notify.add("hw-3")
    planned = notify.run("plan", "--json", "--watch", "applications")
    assert planned.code == 0
    items = {item["application_id"]: item for item in json.loads(planned.stdout)}
    assert items.keys() == {"hw-1", "hw-2", "hw-3"}
    assert items["hw-1"]["watch"] == "applications"
    assert items["hw-1"]["action"] == "send"
    assert items["hw-1"]["kinds"] == ["job", "status"]
    assert items["hw-1"]["told"] == {"status": "SEEN", "job_id": JOB, "deleted": False}
    assert items["hw-1"]["observed"] == {"status": "HIRED", "job_id": "job-2", "deleted": False}
    assert (items["hw-2"]["action"], items["hw-2"]["transition"]) == ("send", "deleted")
    assert items["hw-3"]["kinds"] == ["first"]
    assert "3 applications: 3 send" in notify.run("plan").stdout
    assert len(notify.hellowork.calls_for("hw-1")) == 2  # a plan sends nothing
    explained = notify.run("explain", "hw-1", "--json")
    (story,) = json.loads(explained.stdout)
    assert (story["watch"], story["application_id"]) == ("applications", "hw-1")
    assert story["told"]["status"] == "SEEN"
    queued, answered, acknowledged = story["events"]
    assert (queued["event"], queued["by"], queued["kinds"]) == ("queued", "notify", ["status"])
    assert queued["due_at"] == queued["at"]
    assert (answered["event"], answered["status"], len(answered["body"])) == ("answered", 503, 2_000)
    assert (acknowledged["event"], acknowledged["body"]) == (
        "acknowledged",
        '{"result": "Status was updated successfully"}',
    )
    request = story["told_request"]
    assert {(call.raw, call.idempotency_key) for call in notify.hellowork.calls_for("hw-1")} == {
        (request["body"], request["idempotency_key"])
    }
    told = notify.run("explain", "hw-1").stdout
    assert request["idempotency_key"] in told
    assert "HelloWork acknowledged: SEEN, job job-1" in told
    assert not story["discarded"]
    adopted = notify.run("explain", "hw-2").stdout
    assert "assumed to be known to HelloWork: NEW, job job-1, since 20" in adopted
    assert "HelloWork acknowledged:" not in adopted
    unknown = notify.run("explain", "hw-9")
    assert (unknown.code, unknown.stdout) == (1, "")


def test_whether_the_daemon_is_alive(notify: Installation) -> None:
    def asked() -> tuple[int, str]:
        told = notify.run("status", "--healthy")
        return told.code, told.stdout

    store = f"no daemon works on the store {notify.store}\n"
    assert asked() == (1, store)
    notify.configure(database={"dsn": "host=127.0.0.1 port=1 user=nobody connect_timeout=1"})
    with notify.daemon(ready=False) as daemon:
        daemon.wait_until_not_ready("cannot be reached")
        assert asked() == (0, "healthy\n"), "a database that is down is no reason for another process"
        daemon.send_signal(signal.SIGSTOP)
        code, said = asked()
        assert code == 1
        assert said == f"the daemon does not answer on 127.0.0.1:{notify.admin_port}: timed out\n"
        daemon.kill()
    assert asked() == (1, store)


def ended(installation: Installation, *command: str, stdout: IO[str], stderr: IO[str]) -> int:
    """The exit code of a command with this output."""
    line, variables = [*COMMAND, "--config", str(installation.config), *command], environment(installation.variables)
    return subprocess.run(
        line, env=variables, stdout=stdout, stderr=stderr, cwd=installation.folder, check=False
    ).returncode


@pytest.mark.parametrize("command", ["config example", "status", "sql install", "check", "plan"])
def test_output_that_cannot_be_written_is_no_traceback(notify: Installation, command: str) -> None:
    assert notify.run("run", "--once").code == 0
    errors = notify.folder / "errors"
    with Path("/dev/full").open("w") as full, errors.open("w") as stderr:
        assert ended(notify, *command.split(), stdout=full, stderr=stderr) == 1

    assert "No space left on device" in errors.read_text()
    assert "Traceback" not in errors.read_text()


def test_an_invalid_configuration_ends_with_78_though_nobody_hears_why(notify: Installation) -> None:
    notify.config.write_text("no_such_key: 1\n")
    with Path("/dev/full").open("w") as full:
        assert ended(notify, "run", stdout=full, stderr=full) == os.EX_CONFIG


@pytest.mark.parametrize("once", [(), ("--once",)])
def test_a_dry_run_of_which_only_the_head_is_read(notify: Installation, once: tuple[str, ...]) -> None:
    notify.add_many("hw-", 900)  # more than a pipe holds
    notify.configure_watch(baseline="send")
    line = [*COMMAND, "--config", str(notify.config), "run", "--dry-run", *once]
    errors = notify.folder / "errors"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            line, env=environment(notify.variables), stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("would POST ")
        process.stdout.close()
        try:
            assert process.wait(PATIENCE) == 1
        finally:
            process.kill()

    assert "Traceback" not in errors.read_text()
