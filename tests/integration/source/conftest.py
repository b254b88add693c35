from collections.abc import Callable, Iterator

import psycopg
import pytest
from support.sessions import Ats, OpenSession, sessions
from support.watched import grant, install_triggers

from cdc_sync.config import Config

NewRole = Callable[..., str]


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
