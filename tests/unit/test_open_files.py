"""The limit of open files that the daemon gives itself."""

import resource

import pytest

from cdc_sync.daemon.running import allow_all_descriptors


def test_a_sandbox_that_forbids_to_raise_the_limit_keeps_nothing_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "setrlimit", forbidden)

    allow_all_descriptors()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
