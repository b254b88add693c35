"""`cdc-sync check` as people and scripts use it, beside a daemon at work and before there is any."""

import json
from typing import Any

from support.daemon_process import DaemonProcess
from support.installation import API_KEY, PASSWORD, Installation


def found(checked: str) -> list[dict[str, Any]]:
    """The findings of `check --json`."""
    findings: list[dict[str, Any]] = json.loads(checked)
    for finding in findings:
        assert finding.keys() == {"check", "state", "message", "remedy", "watch", "database"}
        assert finding["state"] in {"ok", "warning", "failed"}
        assert (finding["remedy"] is None) == (finding["state"] == "ok")
    return findings


def test_all_is_well_before_the_first_start_and_beside_the_daemon(installation: Installation) -> None:
    before = installation.run("check", "--json")
    assert before.code == 0, before.output
    assert {finding["state"] for finding in found(before.stdout)} == {"ok"}
    assert not installation.store.exists()
    with installation.daemon() as daemon:
        installation.add("hw-1")
        installation.settle(daemon)
        told = len(installation.hellowork.calls)
        the_metrics_follow_the_work(daemon, installation)

        beside = installation.run("check")

        assert beside.code == 0, beside.output
        *lines, summary = beside.stdout.splitlines()
        assert all(line.startswith("ok ") for line in lines)
        assert summary == f"{len(lines)} checks: 0 failed, 0 warning(s)"
        assert "the store belongs to this database" in beside.stdout
        assert len(installation.hellowork.calls) == told
        installation.change("hw-1", status="SEEN")
        installation.settle(daemon)
        assert not daemon.events_named("lost")


def the_metrics_follow_the_work(daemon: DaemonProcess, installation: Installation) -> None:
    """Two calls were made; these samples only the daemon's work can make."""
    lines = [line.rsplit(" ", 1) for line in daemon.get("/metrics")[1].splitlines() if not line.startswith("#")]
    samples = {name: float(value) for name, value in lines}
    of_watch = '{watch="applications"}'
    assert samples[f"cdc_sync_watch_connected{of_watch}"] == 1
    assert samples[f"cdc_sync_known_applications{of_watch}"] == 2
    assert samples['cdc_sync_calls_total{outcome="acknowledged",watch="applications"}'] == 2
    assert samples[f"cdc_sync_call_seconds_count{of_watch}"] == 2
    assert 0 <= samples[f"cdc_sync_capture_lag_seconds{of_watch}"] < 60
    assert (f"cdc_sync_notify_queue_usage_ratio{of_watch}" in samples) == (installation.mode == "notify")


def test_an_invalid_configuration_is_78(notify: Installation) -> None:
    notify.configure_watch(capture={"mode": "sometimes"}, status={"unmapped": "maybe"})

    told = notify.run("check")
    assert told.code == 78
    assert "capture.mode" in told.stderr
    nowhere = notify.run("check", "--json", config=notify.folder / "nowhere.yaml")
    assert nowhere.code == 78


def test_nothing_can_be_reached(notify: Installation) -> None:
    notify.configure(hellowork={"base_url": "http://127.0.0.1:1"})
    away = notify.run("check", "--json", variables={"ATS_DSN": f"host=127.0.0.1 port=1 password={PASSWORD}"})

    assert away.code == 1
    failed = {item["check"]: item["remedy"] for item in found(away.stdout) if item["state"] == "failed"}
    assert failed.keys() == {"connection", "endpoint"}
    assert "psql 'host=127.0.0.1 port=1'" in failed["connection"]
    assert API_KEY not in away.output


def test_a_store_below_a_file_cannot_be_made(notify: Installation) -> None:
    notify.configure(state={"path": str(notify.config / "state.db")})
    assert "failed" in {
        item["state"] for item in found(notify.run("check", "--json").stdout) if item["check"] == "store"
    }
