"""The systemd units as text; `tests/systemd` boots one to see what they do."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "cdc_sync" / "files"

OF_A_TENANT = (
    ("Environment=CDC_SYNC_CONFIG=/etc/cdc-sync/%i/config.yaml\n", ""),
    ("User=cdc_sync_%i", "User=cdc_sync"),
    ("StateDirectory=cdc-sync-%i", "StateDirectory=cdc-sync"),
    ("of the ATS %i", "of the ATS"),
)


def settings(name: str) -> str:
    """A unit without its comments."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def test_a_tenants_unit_differs_in_nothing_but_what_is_its_own() -> None:
    tenant, alone = settings("cdc-sync@.service"), settings("cdc-sync.service")
    for own, common in OF_A_TENANT:
        assert own in tenant, own
        tenant = tenant.replace(own, common)
    alone = alone.replace("in the ATS's database", "in the database of the ATS")
    assert tenant == alone


def test_a_service_may_open_more_files_than_strangers_can_make_it_open() -> None:
    for name in ("cdc-sync.service", "cdc-sync@.service"):
        assert "\nLimitNOFILE=65536\n" in settings(name)
