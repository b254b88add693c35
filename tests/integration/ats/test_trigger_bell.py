"""When the triggers ring: only while somebody waits to be woken."""

from collections.abc import Callable

import pytest
from support.sessions import Ats, OpenSession
from support.watched import a_config, install_triggers

Rung = Callable[[], int]
CHANGE = "UPDATE public.applications SET status = status || '.'"


@pytest.fixture
def rung(open_session: OpenSession) -> Rung:
    """How often the bell has rung since it was asked last."""
    listener = open_session()
    listener.execute("LISTEN cdc_sync")

    def count() -> int:
        # A commit queues its notification before it returns, and a reply comes after the notifications before it.
        listener.execute("SELECT")
        return len(list(listener.notifies(timeout=0)))

    return count


@pytest.fixture(autouse=True)
def _armed(ats: Ats) -> None:
    ats.execute("INSERT INTO public.applications (id, status) VALUES (1, 'new'), (2, 'new')")
    install_triggers(ats, a_config())
    arm(ats, 60)


def arm(ats: Ats, seconds: int) -> None:
    ats.execute("SELECT setval('cdc_sync.bell', extract(epoch FROM clock_timestamp())::bigint + %s)", [seconds])


def test_what_is_not_recorded_does_not_ring(ats: Ats, rung: Rung) -> None:
    ats.execute("UPDATE public.applications SET notes = 'x'")
    with ats.transaction(force_rollback=True):
        ats.execute(CHANGE)

    assert rung() == 0


def test_a_lease_that_ran_out_is_as_if_disarmed(ats: Ats, rung: Rung) -> None:
    arm(ats, -1)

    ats.execute(CHANGE)

    assert rung() == 0


def test_a_session_that_has_a_lock_timeout_does_not_ring(ats: Ats, rung: Rung) -> None:
    """In its COMMIT it would wait for NOTIFY's lock for no longer than that, and the COMMIT would fail."""
    ats.execute("SET lock_timeout = '1h'")

    ats.execute(CHANGE)
    assert rung() == 0

    ats.execute("SET lock_timeout = 0")
    ats.execute(CHANGE)
    assert rung() == 1


def test_what_was_rolled_back_to_a_savepoint_rings_with_the_next_change(ats: Ats, rung: Rung) -> None:
    with ats.transaction():
        ats.execute("SAVEPOINT one; UPDATE public.applications SET status = 'never'; ROLLBACK TO one")
        ats.execute(CHANGE)

    assert rung() == 1


def test_without_wakeup_it_never_rings(ats: Ats, rung: Rung) -> None:
    install_triggers(ats, a_config(capture={"wakeup": "none"}))

    ats.execute(CHANGE)

    assert rung() == 0


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_with_an_older_snapshot_sees_the_bell_as_it_is(
    ats: Ats, other: Ats, rung: Rung, level: str
) -> None:
    arm(ats, -1)
    with other.transaction():
        other.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
        other.execute("SELECT count(*) FROM public.applications")
        arm(ats, 60)

        other.execute(CHANGE)

    assert rung() == 1
