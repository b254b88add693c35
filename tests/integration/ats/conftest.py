from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.postgres import Cluster, fresh_database
from support.renewed import renew
from support.rig import OpenRig, Rig, rig
from support.roles import NewRole, roles
from support.sessions import Ats, OpenSession, sessions
from support.watched import a_config, install_triggers

from cdc_sync.ats.intake import Steps


@pytest.fixture(scope="session")
def one_database(cluster: Cluster) -> Iterator[str]:
    with fresh_database(cluster) as dsn:
        yield dsn


@pytest.fixture
def database(cluster: Cluster, one_database: str) -> str:
    """As the fixture of this name elsewhere; many tests are here."""
    renew(cluster, one_database)
    return one_database


@pytest.fixture
def open_session(database: str) -> Iterator[OpenSession]:
    with sessions(database) as open_session:
        yield open_session


@pytest.fixture
def ats(open_session: OpenSession) -> Ats:
    """A session of the ATS, as superuser."""
    return open_session()


@pytest.fixture
def other(open_session: OpenSession) -> Ats:
    """Another session of the ATS."""
    return open_session()


@pytest.fixture
def new_role(database: str) -> Iterator[NewRole]:
    with roles(database) as new_role:
        yield new_role


@pytest.fixture
def steps() -> Steps:
    """How large the steps of the watches of `open_rig` are, unless it is told otherwise."""
    return Steps()


@pytest.fixture
def open_rig(database: str, ats: Ats, tmp_path: Path, steps: Steps) -> OpenRig:
    @asynccontextmanager
    async def open_rig(
        *, install: bool = True, adopt: bool = True, steps: Steps = steps, **watch: Any
    ) -> AsyncIterator[Rig]:
        config = a_config(database, **watch)
        if install:
            install_triggers(ats, config)
        async with rig(config, tmp_path, steps) as made:
            if adopt:
                await made.adopt()
            yield made

    return open_rig
