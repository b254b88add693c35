"""Which connection strings let somebody on the way read along."""

import pytest

from cdc_sync.config.dsn import encryption


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE", "PGGSSENCMODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "postgresql://127.0.0.1,[::1]:5433/ats",
        "host=db.internal hostaddr=127.0.0.1",
        "postgresql://db.internal/ats?sslmode=verify-full",
        "postgresql://db.internal/ats?sslrootcert=system",
        "service=ats",
    ],
)
def test_encrypted_and_near_connections_have_no_warning(dsn: str) -> None:
    found = encryption("encryption", "database.dsn", dsn)

    # Of a service's file nothing is known.
    assert (found.state, found.message) == ("ok", "database.dsn names no server beyond this machine without encryption")
    assert found.remedy is None


@pytest.mark.parametrize(
    ("dsn", "far"),
    [
        ("postgresql://u:secret@db.internal/ats", "db.internal"),
        ("host=localhost,db.internal sslmode=disable password=secret", "db.internal"),
        ("host=localhost hostaddr=10.0.0.1 sslmode=allow password=secret", "10.0.0.1"),
        ("postgresql://db.internal/ats?service=x&sslmode=prefer", "db.internal"),
    ],
)
def test_the_warning_names_what_to_write(dsn: str, far: str) -> None:
    found = encryption("encryption", "database.dsn", dsn)

    assert found.state == "warning"
    assert f"to {far} go unencrypted" in found.message
    assert "sslmode=verify-full" in (found.remedy or "")
    assert "require_auth=scram-sha-256" in (found.remedy or "")
    assert "secret" not in found.message + (found.remedy or "")
