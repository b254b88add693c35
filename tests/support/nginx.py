"""A real nginx, by default configured as its manual shows it: it decodes the path that it passes on."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.daemon_process import PATIENCE, free_port, is_listened_on
from support.waiting import wait_until

_SETTINGS = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


def nginx_binary() -> str | None:
    """The program, if the machine has it (Debian: apt-get install nginx-light)."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def nginx(binary: str, behind: str, location: str = "location / { proxy_pass BEHIND/; }") -> Iterator[str]:
    """Start one in front of a base URL, which BEHIND stands for in what is configured; yield its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cdc") as folder:
        settings = Path(folder) / "nginx.conf"
        settings.write_text(_SETTINGS.format(folder=folder, port=port, location=location.replace("BEHIND", behind)))
        errors = Path(folder) / "error.log"
        with subprocess.Popen([binary, "-p", folder, "-e", str(errors), "-c", str(settings)]) as process:
            try:
                wait_until(lambda: is_listened_on(port), "nginx listens", PATIENCE)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
