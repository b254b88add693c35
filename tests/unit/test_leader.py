"""Whose calls have surely ended, and which configurations are alike."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.configurations import WATCH, a_config

from cdc_sync.config import Config
from cdc_sync.config.tenants import Tenant, expanded
from cdc_sync.store import lead
from cdc_sync.store.lead import Leader
from cdc_sync.store.opening import configuration_of

HERE = Leader.here("")


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """Another process of this host, which lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def led_by(process: int) -> Leader:
    return replace(HERE, process=process, place=lead._place_of(process))


class TestSurelyEnded:
    def test_one_that_stopped_in_order(self, child: "subprocess.Popen[bytes]") -> None:
        leader = led_by(child.pid)

        assert not leader.has_surely_ended
        assert replace(leader, stopped=True).has_surely_ended

    def test_an_earlier_run_of_this_process(self) -> None:
        """It has ended its calls before it stands by again."""
        assert HERE.has_surely_ended
        assert not replace(HERE, place="another-boot pid:[1] 1").has_surely_ended

    def test_a_process_of_this_host_that_is_gone(self, child: "subprocess.Popen[bytes]") -> None:
        leader = led_by(child.pid)
        seen = [leader.has_surely_ended]

        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        seen.append(leader.has_surely_ended)  # nobody has reaped it
        child.wait()
        seen.append(leader.has_surely_ended)

        assert seen == [False, True, True]

    def test_one_whose_number_another_process_has(self, child: "subprocess.Popen[bytes]") -> None:
        """That one began at another moment."""
        assert replace(led_by(child.pid), process=os.getpid()).has_surely_ended

    @pytest.mark.parametrize("place", ["", "another-boot pid:[1] 123", "no spaces", "{boot} pid:[1] {start}"])
    def test_nothing_is_known_of_another_host_boot_or_container(
        self, place: str, child: "subprocess.Popen[bytes]"
    ) -> None:
        """A container has its own process numbers: one that is missing here may be a process there."""
        led = led_by(child.pid)
        boot, _, start = led.place.split()
        child.kill()
        child.wait()

        assert not replace(led, place=place.format(boot=boot, start=start)).has_surely_ended

    def test_nothing_is_known_where_the_boot_is_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As under systemd with ProcSubset=pid: then all hosts would look like one."""
        monkeypatch.setattr(lead, "_BOOT_ID", Path("/proc/there/is/none"))

        found = Leader.here("")

        assert found.place == ""
        assert not replace(found, process=2**22).has_surely_ended
        assert not replace(found, process=2**22, place=" pid:[4026531836] 123").has_surely_ended

    def test_a_process_that_is_hidden_has_not_ended(
        self, child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As under systemd with ProtectProc=invisible, if it is another user's."""
        led = led_by(child.pid)
        monkeypatch.setattr(lead, "_place_of", _hidden)

        assert not led.has_surely_ended
        child.kill()
        child.wait()
        assert led.has_surely_ended


def _hidden(_: int) -> str:
    raise FileNotFoundError


class TestConfigurations:
    @pytest.mark.parametrize(
        "changes",
        [
            {"admin.listen": "127.0.0.1:9000"},
            {"log.level": "debug"},
            {"state.path": "/srv/state.db"},
            {"hellowork.headers": {"X-Api-Key": "another secret"}},
        ],
        ids=["address", "log", "path", "secret"],
    )
    def test_what_two_daemons_need_not_have_in_common(self, changes: dict[str, Any]) -> None:
        before = {"hellowork.headers": {"X-Api-Key": "a secret"}}

        assert configuration_of(a_config(before)) == configuration_of(a_config({**before, **changes}))

    @pytest.mark.parametrize(
        "changes",
        [{"hellowork.timeout": "7s"}, {f"{WATCH}.status.map": {"1": "HIRED"}}, {f"{WATCH}.columns.job_id": "other"}],
        ids=["timeout", "status", "column"],
    )
    def test_what_they_must(self, changes: dict[str, Any]) -> None:
        assert configuration_of(a_config()) != configuration_of(a_config(changes))

    def test_a_standby_that_has_not_looked_for_tenants_has_the_leaders_configuration(self) -> None:
        found, _ = expanded(with_template(), {"applications": [Tenant(None, "one"), Tenant(None, "two")]}, str)

        assert configuration_of(found) == configuration_of(with_template())


def with_template(changes: dict[str, Any] | None = None) -> Config:
    return a_config({f"{WATCH}.for_each": {"schemas": "%"}, f"{WATCH}.table": "applications", **(changes or {})})
