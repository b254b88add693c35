"""The image: small, an ordinary user in it, content with a root file system that it cannot write to, and it works."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import free_port
from support.emulated import EmulatorOptions
from support.hellowork_server import HelloWork
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, JOB, PASSWORD, Installation
from support.postgres import SETTINGS, create_ats, on_loopback
from support.waiting import wait_until

from cdc_sync.demo.postgres import server
from image.engine import BASE, Engine, base_image, engine, what_is_missing

SOURCE = Path(__file__).parents[2]
CACHE = SOURCE / "build" / "image"
IMAGE = "localhost/cdc-sync:test"
MOST_BYTES = 120 * 2**20
"""What the image may add to its base."""

# Of the longest test, whose fixtures build the image.
pytestmark = pytest.mark.timeout(400)

HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host", "--pull=never")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def podman() -> Iterator[Engine]:
    """podman, with the stand-in for the base image in it."""
    missing = what_is_missing()
    if missing is not None:
        pytest.exit(missing, returncode=pytest.ExitCode.USAGE_ERROR)
    with engine() as running:
        running.run("import", '--change=CMD ["python3"]', str(base_image(CACHE)), BASE)
        yield running


@pytest.fixture(scope="module")
def image(podman: Engine) -> str:
    """The image, built as the Dockerfile says; pip reaches its index as it does on this host."""
    given = [f"--env={name}" for name in os.environ if name.startswith("PIP_") and name != "PIP_FIND_LINKS"]
    files = [f"--volume={file}:{file}:ro" for file in ("/etc/pip.conf", "/etc/ssl/certs") if Path(file).exists()]
    podman.run(
        "build", "--isolation=chroot", "--pull=never", "--format=docker", "--network=host", *given, *files,
        f"--tag={IMAGE}", str(SOURCE),
    )  # fmt: skip
    return IMAGE


@pytest.fixture(scope="module")
def hellowork() -> Iterator[HelloWork]:
    """HelloWork, which refuses calls without our key."""
    with running_hellowork(EmulatorOptions(required_headers={"X-Api-Key": API_KEY})) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hellowork: HelloWork) -> Iterator[Installation]:
    """The ATS with its database, and the folder that an administrator gives to the container."""
    with server(server_binaries(), settings={**SETTINGS, **on_loopback()}) as own:
        create_ats(own.dsn)
        role = f"cdc_sync_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(own.dsn, autocommit=True) as ats:
            ats.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
            folder = tmp_path_factory.mktemp("site")
            made = Installation(folder, own.dsn, role=role, ats=ats, hellowork=hellowork, mode="notify")
            made.install()
            made.configure(
                database={"dsn": f"host=127.0.0.1 port={own.port} dbname=postgres user={role} password={PASSWORD}"},
                hellowork={"headers": {"X-Api-Key": "${HELLOWORK_API_KEY}"}},
                state={"path": "/var/lib/cdc-sync/state.db"},
                admin={"listen": f"127.0.0.1:{free_port()}", "token": None},
                log={"level": "info", "format": "auto"},
            )
            for path in (folder, *folder.parents[:2]):
                path.chmod(0o755)
            yield made


def start(podman: Engine, image: str, site: Installation, name: str) -> None:
    podman.run(
        "run", "--detach", f"--name={name}", *HARDENED, "--tmpfs=/tmp", f"--env=HELLOWORK_API_KEY={API_KEY}",
        "--volume=cdc-sync-state:/var/lib/cdc-sync", f"--volume={site.folder}:/etc/cdc-sync:ro", image,
    )  # fmt: skip


def test_it_is_small_and_its_user_is_nobody_special(podman: Engine, image: str) -> None:
    size, base = (int(podman.run("image", "inspect", "--format={{.Size}}", name)) for name in (image, BASE))
    assert size - base < MOST_BYTES
    config: dict[str, Any] = json.loads(podman.run("image", "inspect", "--format={{json .}}", image))
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"] == ["CMD", "cdc-sync", "status", "--healthy"]
    inside = podman.run(
        "run", "--rm", *HARDENED, "--entrypoint=/bin/sh", image, "-c", "id -u; command -v gcc make || :"
    )
    assert inside.split() == ["10001"]


def test_without_a_configuration_it_says_so(podman: Engine, image: str) -> None:
    code, said = podman.try_to("run", "--rm", *HARDENED, image)
    assert code == 78
    assert "/etc/cdc-sync/config.yaml: cannot be read: No such file" in said


def test_it_works_is_healthy_reloads_and_stops_as_process_1(podman: Engine, image: str, site: Installation) -> None:
    site.add("hw-1")
    start(podman, image, site, "first")
    wait_until(lambda: podman.try_to("healthcheck", "run", "first")[0] == 0, podman.try_to("logs", "first")[1])
    wait_until(lambda: "watching" in podman.run("logs", "first"), "the watch")
    site.change("hw-1", status="SEEN")
    wait_until(lambda: site.hellowork.told("hw-1") == [("SEEN", JOB)], "the call")
    lines = [json.loads(line) for line in podman.run("logs", "first").splitlines()]
    assert [line["application_id"] for line in lines if line["event"] == "sent"] == ["hw-1"]

    site.configure_watch(status={"map": {"HIRED": "hired"}})
    podman.run("kill", "--signal=HUP", "first")
    wait_until(lambda: "is in use" in podman.run("logs", "first"), "the reload")
    site.change("hw-1", status="HIRED")
    wait_until(lambda: site.hellowork.told("hw-1")[-1] == ("hired", JOB), "the call")

    podman.run("stop", "--time=10", "first")
    assert podman.run("inspect", "--format={{.State.ExitCode}}", "first").strip() == "0"
    assert json.loads(podman.run("logs", "first").splitlines()[-1])["event"] == "stopped"


def test_what_happens_between_two_containers_is_told_by_the_second(
    podman: Engine, image: str, site: Installation
) -> None:
    site.change("hw-1", status="BETWEEN")
    start(podman, image, site, "second")
    wait_until(lambda: site.hellowork.told("hw-1")[-1] == ("BETWEEN", JOB), "the call")
    # The daemon is a child of the first process, which no signal to the container would stop with it.
    podman.run("exec", "second", "sh", "-c", "kill -STOP $(cat /proc/1/task/1/children)")
    code, said = podman.try_to("healthcheck", "run", "second")
    assert code == 1, said
    podman.run("kill", "--signal=KILL", "second")
