from cdc_sync.core.database_identity import judged


def test_a_store_of_its_own_database() -> None:
    assert judged("ats of cluster 1", "ats of cluster 1").state == "ok"


def test_a_store_that_belongs_to_none_yet() -> None:
    found = judged(None, "ats of cluster 1")
    assert found.state == "ok"
    assert "ats of cluster 1" in found.message


def test_a_copy() -> None:
    found = judged("ats of cluster 1", "ats of cluster 2")
    assert (found.check, found.state) == ("identity", "failed")
    assert "ats of cluster 1" in found.message
    assert "a store of its own" in (found.remedy or "")
