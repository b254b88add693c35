"""A deleted row's key goes to another row: the application is gone all the same."""

from support.installation import JOB, Installation


def test_a_deletion_is_sent_though_the_rows_key_goes_to_a_new_row_at_once(installation: Installation) -> None:
    key = installation.add("hw-1", "interview")
    with installation.daemon() as daemon:
        with installation.ats.transaction():
            installation.delete("hw-1")
            installation.add(None, id=key, created_at="2024-05-05 10:00:00Z")
        daemon.wait_until(lambda: installation.hellowork.told("hw-1"), "the deletion")
        installation.settle(daemon)
        assert installation.hellowork.told("hw-1") == [("deleted", JOB)]
    assert "out of scope" not in installation.run("explain", "hw-1").stdout


def test_a_row_without_its_id_is_no_row_out_of_scope_though_the_history_is_over(notify: Installation) -> None:
    notify.add("hw-1", "interview")
    with notify.daemon() as daemon:
        notify.change("hw-1", hellowork_id=None)
        daemon.wait_until(lambda: "lost its application id" in notify.run("explain", "hw-1").stdout, "the loss")
    notify.configure(state={"history": "1ms"})
    with notify.daemon() as daemon:
        notify.settle(daemon)
    explained = notify.run("explain", "hw-1").stdout
    assert "id lost" not in explained
    assert "its row has lost its application id, which is no deletion" in explained
