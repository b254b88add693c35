"""A daemon of a tool's own, on a configuration of a tool's own."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import yaml
from support.daemon_process import DaemonProcess, free_port
from support.installation import TOKEN

HOUR = 3600.0


class OwnDaemon:
    """Watches a database; its files are in the folder, and its calls go to `base_url`, or nowhere."""

    def __init__(
        self, folder: Path, dsn: str, watches: Mapping[str, object], base_url: str = "", level: str = "debug"
    ) -> None:
        self._folder, self._port = folder, free_port()
        self.config, self.store = folder / "config.yaml", folder / "state.db"
        document = {
            "database": {"dsn": dsn},
            "hellowork": {"base_url": base_url or f"http://127.0.0.1:{free_port()}"},
            "state": {"path": str(self.store)},
            "admin": {"listen": f"127.0.0.1:{self._port}", "token": TOKEN},
            "log": {"level": level, "format": "json"},
            "watches": watches,
        }
        self.config.write_text(yaml.safe_dump(document))

    def start(self, run: str = "run") -> DaemonProcess:
        """Start it, with its output in the folder's file of this name."""
        return DaemonProcess(["--config", str(self.config), "run"], {}, self._folder / run, self._port, TOKEN)


def peak(daemon: DaemonProcess, is_over: Callable[[], object]) -> int:
    """Its most resident memory until something is over."""
    process, started, most = psutil.Process(daemon.pid), time.monotonic(), 0
    while not is_over():
        most = max(most, process.memory_info().rss)
        if time.monotonic() - started > HOUR:
            raise TimeoutError
        time.sleep(0.1)
    return most
