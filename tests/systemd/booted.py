"""The Debian package under a booted systemd: installed, started, reloaded, hung, stopped, removed; and nothing lost.

The machine shares this host's network: the database and HelloWork are the tests' own, on loopback. The steps build on
each other, as an operator's do, so they are one class and run in the order in which they stand.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
import yaml
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import free_port
from support.emulated import EmulatorOptions
from support.hellowork_server import HelloWork
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, JOB, PASSWORD, Installation, merged
from support.postgres import SETTINGS, create_ats, on_loopback
from support.reader import ROOT, Step, steps
from support.waiting import wait_until

from cdc_sync.demo.postgres import server
from systemd.machine import Machine, booted, root_file_system, what_is_missing

PACKAGE = "CDC_SYNC_TEST_DEB"
"""The variable that names the package under test."""

CACHE = Path(__file__).parents[2] / "build" / "systemd"
SYSTEMD = Path(__file__).parents[2] / "cdc_sync" / "files"
CONFIG = "/etc/cdc-sync/config.yaml"
UNIT = "cdc-sync.service"
PATIENCE = 60.0

PAGE = ROOT / "docs" / "operations.md"
THERE = "host=db.example dbname=ats user=cdc_sync"
SECRETS = {"database-password": f"{PASSWORD}\n", "hellowork-api-key": f"{API_KEY}\n"}

STARTED = "ActiveEnterTimestampMonotonic"
WATCHDOG = 6
OF_021 = """\
[Service]
DynamicUser=yes
User=cdc_sync_before
LoadCredential=database-password:/etc/cdc-sync/secrets/database-password
LoadCredential=hellowork-api-key:/etc/cdc-sync/secrets/hellowork-api-key
BindReadOnlyPaths=%d:/etc/cdc-sync/secrets
"""
"""What the unit had until 0.2.1: a user that systemd made, to whom it handed the secrets."""

HASTY = f"[Service]\nWatchdogSec={WATCHDOG}\nTimeoutAbortSec=1\nRestartSec=1\n"

# Of the longest test, whose fixtures may have to make the root file system.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def package() -> Path:
    """The package under test."""
    given = os.environ.get(PACKAGE)
    if given is None:
        pytest.exit(f"{PACKAGE} names no package: run `make test-systemd`", returncode=pytest.ExitCode.USAGE_ERROR)
    return Path(given).absolute()


@pytest.fixture(scope="module")
def machine(package: Path) -> Iterator[Machine]:
    """A machine on which nothing is installed yet."""
    missing = what_is_missing()
    if missing is not None:
        pytest.exit(missing, returncode=pytest.ExitCode.USAGE_ERROR)
    with booted(root_file_system(CACHE), {package.parent: "/srv/package"}) as running:
        yield running


@pytest.fixture(scope="module")
def hellowork() -> Iterator[HelloWork]:
    """HelloWork, which refuses calls without our key."""
    with running_hellowork(EmulatorOptions(required_headers={"X-Api-Key": API_KEY})) as running:
        yield running
        assert not [call for call in running.calls if call.violations or call.concurrent]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hellowork: HelloWork) -> Iterator["Site"]:
    """The ATS with its database, which can be reached over TCP."""
    with server(server_binaries(), settings={**SETTINGS, **on_loopback()}) as own:
        create_ats(own.dsn)
        role = f"cdc_sync_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(own.dsn, autocommit=True) as ats:
            ats.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
            made = Installation(
                tmp_path_factory.mktemp("site"), own.dsn, role=role, ats=ats, hellowork=hellowork, mode="notify"
            )
            made.install()
            yield Site(made, own.port, role)


class Site:
    """What surrounds the service: the ATS, and the configuration that an administrator writes for it."""

    def __init__(self, ats: Installation, port: int, role: str) -> None:
        self.ats = ats
        self._port = port
        self._role = role
        self._admin_port = free_port()

    def configuration(self, **watch: Any) -> str:
        """The configuration, with secrets in files of their own."""
        document = {
            "database": {"dsn": f"{self.place} password='${{file:secrets/database-password}}'"},
            "hellowork": {
                "base_url": self.ats.hellowork.url,
                "headers": {"X-Api-Key": "${file:secrets/hellowork-api-key}"},
            },
            "admin": {"listen": f"127.0.0.1:{self._admin_port}"},
            "watches": {"applications": {**self.ats.document["watches"]["applications"], **watch}},
        }
        return yaml.safe_dump(document)

    @property
    def place(self) -> str:
        """The database, as the pages have it: the host, its name, and the role."""
        return f"host=127.0.0.1 port={self._port} dbname=postgres user={self._role}"

    def decided(self, document: dict[str, Any], secrets: str) -> str:
        """What an administrator makes of a first configuration: decides, and names the secrets as the page shows."""
        columns = {"application_id": "hellowork_id", "status": "status", "job_id": "job_id"}
        here = {
            "undecided": [],
            "watches": {"applications": {"columns": columns}},
            "hellowork": {"base_url": self.ats.hellowork.url},
            "admin": {"listen": f"127.0.0.1:{self._admin_port}"},
        }
        return yaml.safe_dump(merged(merged(document, yaml.safe_load(secrets.replace(THERE, self.place))), here))

    def metrics(self) -> str:
        """What a scraper gets."""
        with urlopen(f"http://127.0.0.1:{self._admin_port}/metrics", timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text

    def tells(self, application_id: str, status: str) -> None:
        """Change an application, and wait until HelloWork has heard of it."""
        self.ats.change(application_id, status=status)
        self.knows(application_id, status)

    def knows(self, application_id: str, status: str) -> None:
        """Wait until HelloWork's last word of an application is this."""
        wait_until(
            lambda: self.ats.hellowork.told(application_id)[-1:] == [(status, JOB)], f"{application_id}: {status}"
        )


def share(machine: Machine, path: str, text: str, group: str = "cdc-sync") -> None:
    """Write a file that root and a group may read."""
    machine.run("install", "-D", "-g", group, "-m", "0640", "/dev/stdin", path, given=text)


class TestThePackage:
    """From the installation to the removal."""

    def test_is_installed_and_starts_nothing_without_a_configuration(self, machine: Machine, package: Path) -> None:
        machine.run("dpkg", "--install", f"/srv/package/{package.name}")
        assert machine.run("cdc-sync", "--version").startswith("cdc-sync ")
        assert machine.unit(UNIT, "ActiveState", "UnitFileState") == {
            "ActiveState": "inactive",
            "UnitFileState": "disabled",
        }

    def test_brings_its_man_page_its_documents_and_what_prometheus_and_grafana_need(self, machine: Machine) -> None:
        page = machine.run("zcat", "/usr/share/man/man1/cdc-sync.1.gz")
        assert '.SS "dead\\-letters retry"' in page
        assert "EXIT STATUS" in page
        for document in (
            "README.md",
            "README.fr.md",
            "docs/operations.md",
            "docs/fr/exploitation.md",
            "config/cdc-sync.example.yaml",
            "cdc_sync/files/alerts.yaml",
            "examples/grafana-dashboard.json",
        ):
            machine.run("test", "-s", f"/usr/share/doc/cdc-sync/{document}")

    @pytest.mark.parametrize("unit", [UNIT, "cdc-sync@acme.service"])
    def test_has_units_without_mistakes_and_without_needless_rights(self, machine: Machine, unit: str) -> None:
        assert machine.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", unit) == ""
        judged = machine.run("systemd-analyze", "security", "--no-pager", "--threshold=12", unit)
        assert float(judged.rsplit("exposure level for", 1)[1].split()[1]) <= 1.2

    def test_without_a_configuration_it_ends_once_and_says_why(self, machine: Machine) -> None:
        machine.try_to("systemctl", "start", UNIT)
        machine.wait_until("ActiveState", of=UNIT, is_="failed")
        assert machine.unit(UNIT, "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "78", "NRestarts": "0"}
        assert "cannot be read: No such file" in machine.journal(UNIT)

    def test_with_a_secret_that_is_missing_too(self, machine: Machine, site: Site) -> None:
        share(machine, CONFIG, site.configuration())
        share(machine, "/etc/cdc-sync/secrets/database-password", PASSWORD)
        machine.try_to("systemctl", "restart", UNIT)
        machine.wait_until("ActiveState", of=UNIT, is_="failed")
        assert "cannot read secrets/hellowork-api-key" in machine.journal(UNIT)

    def test_starts_and_works(self, machine: Machine, site: Site) -> None:
        machine.write(f"/run/systemd/system/{UNIT}.d/hasty.conf", HASTY)
        machine.run("systemctl", "daemon-reload")
        share(machine, "/etc/cdc-sync/secrets/hellowork-api-key", API_KEY)
        site.ats.add("hw-1")
        machine.run("systemctl", "enable", "--now", UNIT)
        wait_until(lambda: "2 applications known, 0 calls" in machine.journal(UNIT), "the baseline")
        site.tells("hw-1", "SEEN")
        wait_until(lambda: machine.unit(UNIT, "StatusText")["StatusText"] == "Leading", "the status")
        assert machine.unit(UNIT, "User", "NRestarts") == {"User": "cdc_sync", "NRestarts": "0"}
        assert machine.run("stat", "--format=%U %a", "/var/lib/cdc-sync/state.db").split() == ["cdc_sync", "600"]

    def test_writes_lines_with_priorities(self, machine: Machine) -> None:
        lines = map(json.loads, machine.journal(UNIT, "--output=json", "--grep=event=sent").splitlines())
        (sent,) = [line for line in lines if "application_id=hw-1 " in line["MESSAGE"]]
        assert sent["PRIORITY"] == "6"
        assert sent["MESSAGE"].startswith("event=sent watch=applications application_id=hw-1 ")
        everything = machine.run("journalctl", "--no-pager", "--output=json")
        assert API_KEY not in everything
        assert PASSWORD not in everything

    def test_its_metrics_have_the_process_s_memory_though_proc_is_mostly_hidden(self, site: Site) -> None:
        assert "process_resident_memory_bytes " in site.metrics()

    def test_reloads_without_a_restart(self, machine: Machine, site: Site) -> None:
        before = machine.unit(UNIT, "MainPID")
        share(machine, CONFIG, site.configuration(status={"map": {"HIRED": "hired"}}))
        machine.run("systemctl", "reload", UNIT)
        wait_until(lambda: "is in use" in machine.journal(UNIT), "the reload")
        site.ats.change("hw-1", status="HIRED")
        site.knows("hw-1", "hired")
        assert machine.unit(UNIT, "MainPID", "ActiveState") == {**before, "ActiveState": "active"}

    def test_uses_another_key_in_a_folder_of_keys_after_a_reload(self, machine: Machine, site: Site) -> None:
        document = yaml.safe_load(site.configuration())
        document["hellowork"]["accounts"] = {"acme": {"headers": {"X-Api-Key": "${file:keys/acme}"}}}
        document["watches"]["applications"]["account"] = "acme"
        share(machine, "/etc/cdc-sync/keys/acme", "a-revoked-key")
        share(machine, CONFIG, yaml.safe_dump(document))
        machine.run("systemctl", "reload", UNIT)
        wait_until(lambda: machine.journal(UNIT).count("is in use") == 2, "the reload")
        site.ats.change("hw-1", status="WITH ANOTHER KEY")
        wait_until(lambda: "[acme]: paused" in machine.run("cdc-sync", "status", check=False), "the refusal")
        share(machine, "/etc/cdc-sync/keys/acme", API_KEY)
        machine.run("systemctl", "reload", UNIT)
        site.knows("hw-1", "WITH ANOTHER KEY")
        for folder in ("secrets", "keys"):
            found = machine.run("stat", "--format=%U:%G %a", f"/etc/cdc-sync/{folder}")
            assert found.strip() == "root:cdc-sync 750"

    def test_refuses_to_reload_a_mistake_and_goes_on(self, machine: Machine, site: Site) -> None:
        share(machine, CONFIG, site.configuration(deletion_grace="soon", frist_status="send"))
        code, _ = machine.try_to("systemctl", "reload", UNIT)
        assert code != 0
        journal = machine.journal(UNIT)
        assert "deletion_grace" in journal
        assert "frist_status" in journal
        # Who sends the signal by hand is told the same, by the daemon.
        machine.run("systemctl", "kill", "--signal=HUP", UNIT)
        wait_until(
            lambda: machine.journal(UNIT).count("not reloaded, the configuration in use stays") >= 2, "the refusal"
        )
        site.tells("hw-1", "GOES ON")
        assert machine.unit(UNIT, "ActiveState")["ActiveState"] == "active"
        share(machine, CONFIG, site.configuration())
        machine.run("systemctl", "reload", UNIT)

    def test_is_started_again_when_it_hangs_and_nothing_is_lost(self, machine: Machine, site: Site) -> None:
        running_for = time.monotonic() - float(machine.unit(UNIT, STARTED)[STARTED]) / 1e6
        time.sleep(max(WATCHDOG + 1 - running_for, 0))
        assert machine.unit(UNIT, "NRestarts")["NRestarts"] == "0", "an idle daemon does not hang"
        machine.run("systemctl", "kill", "--signal=STOP", UNIT)
        site.ats.change("hw-1", status="WHILE IT HUNG")
        wait_until(lambda: machine.unit(UNIT, "NRestarts")["NRestarts"] == "1", "the restart")
        site.knows("hw-1", "WHILE IT HUNG")
        assert "watchdog" in machine.journal(UNIT).lower()

    def test_stops_quickly_and_nothing_is_lost(self, machine: Machine, site: Site) -> None:
        started = time.monotonic()
        machine.run("systemctl", "stop", UNIT)
        assert time.monotonic() - started < 20
        assert machine.unit(UNIT, "ActiveState", "Result", "ExecMainStatus") == {
            "ActiveState": "inactive",
            "Result": "success",
            "ExecMainStatus": "0",
        }
        site.ats.change("hw-1", status="WHILE IT WAS AWAY")
        machine.run("systemctl", "start", UNIT)
        site.knows("hw-1", "WHILE IT WAS AWAY")
        assert "0 calls" not in machine.run("journalctl", "--no-pager", "-I", "--unit", UNIT), (
            "it remembered everything"
        )

    def test_works_with_an_allow_list(self, machine: Machine, site: Site) -> None:
        text = (SYSTEMD / "ip-allow-list.conf").read_text()
        for line in ("IPAddressDeny=any", "IPAddressAllow=localhost"):
            assert f"#{line}\n" in text
            text = text.replace(f"#{line}\n", f"{line}\n")
        drop_in = f"/run/systemd/system/{UNIT}.d/ip-allow-list.conf"
        machine.write(drop_in, text)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", UNIT)
        judged = machine.run("systemd-analyze", "security", "--no-pager", UNIT)
        assert float(judged.rsplit("exposure level for", 1)[1].split()[1]) <= 1.0
        site.tells("hw-1", "AMONG FRIENDS")
        machine.run("rm", drop_in)
        machine.run("systemctl", "daemon-reload")

    def test_serves_another_tenant_beside_it(self, machine: Machine, site: Site) -> None:
        document = yaml.safe_load(site.configuration())
        document["watches"] = {"tenant": document["watches"]["applications"]}
        document["watches"]["tenant"]["capture"] = {"mode": "poll", "watermark": "updated_at"}
        document["admin"]["listen"] = None
        document["state"] = {"path": "/var/lib/cdc-sync-acme/state.db"}
        machine.run("systemd-sysusers", "--inline", "u cdc_sync_acme -")
        share(machine, "/etc/cdc-sync/acme/config.yaml", yaml.safe_dump(document), "cdc_sync_acme")
        for name, value in SECRETS.items():
            share(machine, f"/etc/cdc-sync/acme/secrets/{name}", value, "cdc_sync_acme")
        machine.run("systemctl", "start", "cdc-sync@acme")
        wait_until(lambda: "applications known" in machine.journal("cdc-sync@acme"), "the tenant's baseline")
        assert machine.unit("cdc-sync@acme", "User", "ActiveState") == {
            "User": "cdc_sync_acme",
            "ActiveState": "active",
        }
        assert "running" in machine.run("cdc-sync", "--config", "/etc/cdc-sync/acme/config.yaml", "status")
        machine.run("systemctl", "stop", "cdc-sync@acme")

    def test_is_removed_and_leaves_what_is_not_its_own(self, machine: Machine) -> None:
        machine.run("dpkg", "--remove", "cdc-sync")
        assert machine.unit(UNIT, "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}
        assert machine.try_to("test", "-e", "/usr/lib/cdc-sync")[0] == 1
        machine.run("test", "-e", CONFIG)
        machine.run("test", "-e", "/var/lib/cdc-sync/state.db")
        machine.run("dpkg", "--purge", "cdc-sync")
        for path in ("/etc/cdc-sync", "/var/lib/cdc-sync", "/var/lib/cdc-sync-acme"):
            assert machine.try_to("test", "-e", path)[0] == 1


class TestThePage:
    """docs/operations.md, whose commands are run as they stand there on a machine that has nothing of cdc-sync."""

    def follow(
        self, step: Step, machine: Machine, package: Path, site: Site, *, secrets: str = "", copy: str = ""
    ) -> None:
        """Run a block's lines, but for what needs a person, another host, or Debian's archive."""
        for line in step.lines:
            command = line.partition("#")[0].strip().replace(THERE, site.place)
            match command.split():
                case ["sudo", "apt", "install", *_]:
                    machine.run("dpkg", "--install", f"/srv/package/{package.name}")
                case ["sudoedit", file]:
                    machine.write(file, site.decided(yaml.safe_load(machine.run("cat", file)), secrets))
                case ["psql", *options]:
                    for script in (after for option, after in pairwise(options) if option == "-f"):
                        site.ats.ats.execute(machine.run("cat", f"/root/{script}").encode())
                case _:
                    name = command.rpartition("/secrets/")[2].rstrip("'")
                    written = command.replace("cdc-sync-2026-11-26T0900", copy)
                    # The machine has no sudo, and everything is run by root.
                    script = f'cd /root; sudo() {{ "$@"; }}; {written}'
                    machine.run("bash", "-c", script, given=SECRETS.get(name))

    def test_configures_and_starts_it(self, machine: Machine, package: Path, site: Site) -> None:
        machine.run("dpkg", "--install", f"/srv/package/{package.name}")
        site.ats.add("page-1")
        commands, secrets = steps(PAGE, "Configure and start it")
        self.follow(commands, machine, package, site, secrets=secrets.text)
        assert machine.unit(UNIT, "ActiveState", "UnitFileState") == {
            "ActiveState": "active",
            "UnitFileState": "enabled",
        }
        site.tells("page-1", "BY THE PAGE")

    def test_upgrades_it(self, machine: Machine, package: Path, site: Site) -> None:
        (commands,) = steps(PAGE, "Upgrade it")
        self.follow(commands, machine, package, site)
        site.tells("page-1", "UPGRADED BY THE PAGE")

    def test_goes_back(self, machine: Machine, package: Path, site: Site) -> None:
        (copy,) = machine.run("sh", "-c", "ls -d /var/backups/cdc-sync-*").split()
        (commands,) = steps(PAGE, "Back to the old version")
        self.follow(commands, machine, package, site, copy=Path(copy).name)
        site.tells("page-1", "BACK BY THE PAGE")
        assert machine.unit(UNIT, "ActiveState")["ActiveState"] == "active"


class TestAnInstallationOf021:
    """Its store was in /var/lib/private, and only root could read its secrets."""

    def test_goes_on_after_the_upgrade(self, machine: Machine, package: Path, site: Site) -> None:
        machine.run("dpkg", "--purge", "cdc-sync")
        machine.run("dpkg", "--install", f"/srv/package/{package.name}")
        # What the package's script asks for.
        older = "/^Package: cdc-sync$/,/^$/s/^Version: .*/Version: 0.2.1-1/"
        machine.run("sed", "--in-place", older, "/var/lib/dpkg/status")
        drop_in = f"/run/systemd/system/{UNIT}.d/of-021.conf"
        machine.write(drop_in, OF_021)
        machine.write(CONFIG, site.configuration())
        machine.write("/etc/cdc-sync/acme/config.yaml", site.configuration())
        machine.run("install", "-d", "-m", "0700", "/etc/cdc-sync/secrets")
        for name, value in SECRETS.items():
            machine.write(f"/etc/cdc-sync/secrets/{name}", value, "0600")
            machine.write(f"/etc/cdc-sync/acme/secrets/{name}", value, "0600")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", UNIT)
        wait_until(lambda: "applications known" in machine.journal(UNIT, "-I"), "the baseline")
        site.tells("hw-1", "BEFORE THE UPGRADE")
        machine.run("test", "-L", "/var/lib/cdc-sync")
        machine.run("rm", drop_in)
        site.ats.change("hw-1", status="DURING THE UPGRADE")
        machine.run("dpkg", "--install", f"/srv/package/{package.name}")
        site.knows("hw-1", "DURING THE UPGRADE")
        site.tells("hw-1", "AFTER THE UPGRADE")
        assert "queued: BEFORE THE UPGRADE" in machine.run("cdc-sync", "explain", "hw-1")
        assert machine.run("stat", "--format=%F %U", "/var/lib/cdc-sync").strip() == "directory cdc_sync"
        assert machine.try_to("test", "-e", "/var/lib/private/cdc-sync")[0] == 1
        of_acme = machine.run("stat", "--format=%U:%G %a", "/etc/cdc-sync/acme/secrets/hellowork-api-key")
        assert of_acme.strip() == "root:cdc_sync_acme 640"
