"""Log-ins: how long they last, and how many."""

from cdc_sync.admin.access import LIFETIME, Sessions


def test_a_log_in_lasts_for_its_time() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    cookie = sessions.open()

    now = LIFETIME - 1
    assert sessions.find(cookie) is not None
    now = LIFETIME
    assert sessions.find(cookie) is None
    now = 0
    assert sessions.find(cookie) is None, "it is forgotten"


def test_each_has_secrets_of_its_own() -> None:
    sessions = Sessions(lambda: 0.0)
    cookies = [sessions.open() for _ in range(3)]
    found = [sessions.find(cookie) for cookie in cookies]

    secrets = {*cookies, *(session.form_token for session in found if session is not None)}
    assert len(secrets) == 6
    assert all(len(secret) == 43 for secret in secrets), "256 bits"


def test_nobody_elses_cookie_is_found() -> None:
    sessions = Sessions(lambda: 0.0)
    sessions.open()

    for cookie in ("", "x", "\udcff"):
        assert sessions.find(cookie) is None


def test_the_oldest_ends_where_there_are_too_many() -> None:
    sessions = Sessions(lambda: 0.0)
    cookies = [sessions.open() for _ in range(65)]

    assert sessions.find(cookies[0]) is None
    assert all(sessions.find(cookie) for cookie in cookies[1:])
