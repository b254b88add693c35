"""What a running daemon tells a scraper: the metrics that only its work can make."""

from support.daemon_process import DaemonProcess
from support.installation import Installation

OF_WATCH = '{watch="applications"}'


def scrape(daemon: DaemonProcess) -> dict[str, float]:
    """Every sample, by its name and labels as they are written."""
    status, text = daemon.get("/metrics")
    assert status == 200
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_metrics_follow_the_work(installation: Installation, mode: str) -> None:
    with installation.daemon() as daemon:
        installation.add("hw-1")
        installation.settle(daemon)
        samples = scrape(daemon)

        assert samples[f"cdc_sync_watch_connected{OF_WATCH}"] == 1
        assert samples[f"cdc_sync_known_applications{OF_WATCH}"] == 2
        assert samples['cdc_sync_calls_total{outcome="acknowledged",watch="applications"}'] == 2
        assert samples[f"cdc_sync_call_seconds_count{OF_WATCH}"] == 2
        assert samples[f"cdc_sync_last_change_timestamp_seconds{OF_WATCH}"] > 1_700_000_000
        assert samples[f'cdc_sync_delivery_lag_seconds{{endpoint="{installation.hellowork.url}"}}'] == 0
        assert samples["cdc_sync_conditions"] == 0
        # A drain looks every second here, a poll ten times as often; the machine may have other work.
        assert 0 <= samples[f"cdc_sync_capture_lag_seconds{OF_WATCH}"] < 60
        listens = f"cdc_sync_notify_queue_usage_ratio{OF_WATCH}" in samples
        assert listens == (mode == "notify")
        if listens:
            assert 0 <= samples[f"cdc_sync_notify_queue_usage_ratio{OF_WATCH}"] < 0.01
