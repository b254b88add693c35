"""Who makes the tables of a store in PostgreSQL again beside its daemon has made a new store."""

from support.installation import Installation


def test_the_present_rows_are_known_to_a_new_store(notify: Installation) -> None:
    notify.share_store()
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        notify.ats.execute("DROP SCHEMA cdc_sync CASCADE")
        daemon.wait_for_event("cannot be used")
        notify.install()
        notify.share_store()
        daemon.wait_for_event("2 applications known, 0 calls", 2)
        daemon.wait_until_ready()
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1") == []


def test_a_leader_whose_row_is_gone_starts_again(notify: Installation) -> None:
    notify.share_store()
    with notify.daemon() as daemon:
        notify.ats.execute("DELETE FROM cdc_sync.leader")
        daemon.wait_for_event("this daemon leads", 2)
        daemon.wait_until_ready()
