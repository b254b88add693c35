"""Receivers of notices: a webhook over HTTP, and a command that keeps what it gets."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_KEEP = """
import os, sys
with open(sys.argv[1], "a") as kept:
    kept.write(sys.stdin.read() + "\\n")
    kept.write(" ".join(sorted(os.environ)) + "\\n")
"""


class Webhook:
    """A chat tool's address; it answers with `status`, or only once `answer` is set.

    Attributes:
        messages: what was POSTed.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        self.answer = threading.Event()
        self.answer.set()
        self.url = ""


@contextmanager
def a_webhook() -> Iterator[Webhook]:
    """A webhook that works."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            webhook.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            webhook.answer.wait(60)
            self.send_response(webhook.status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        webhook.url = f"http://127.0.0.1:{server.server_port}/hooks/a-planted-secret"
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield webhook
        finally:
            webhook.answer.set()
            server.shutdown()
            serving.join()


def keeping(file: Path) -> list[str]:
    """A command that appends what it gets, and the names of its variables, to a file."""
    return [sys.executable, "-c", _KEEP, str(file)]


def kept(file: Path) -> list[dict[str, Any]]:
    """The messages that such a command got."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines[::2]]
