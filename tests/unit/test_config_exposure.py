"""What other users of this host may do with the files that hold secrets."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.configurations import a_text

from cdc_sync.config import exposures, parse

SECRET = "planted-secret-0123456789"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def warned(folder: Path, changes: Mapping[str, object], mode: int) -> list[str]:
    """What is said of a configuration with values put at dotted paths, in a file of a mode."""
    file = folder / "config.yaml"
    text = a_text({"state.path": str(folder / "state.db"), **changes})
    file.write_text(text)
    file.chmod(mode)
    config = parse(text, name="config.yaml", environ={"HOST": "127.0.0.1", "PASSWORD": "x"})
    said = [str(problem) for problem in exposures(file, config)]
    assert SECRET not in repr(said)
    return [each.replace(str(folder), "…") for each in said]


INLINE = {
    "database.dsn": f"postgresql://cdc_sync:{SECRET}@127.0.0.1/ats",
    "state.dsn": f"host=127.0.0.1 password={SECRET}",
    "hellowork.headers": {"X-Api-Key": SECRET},
    "admin.token": SECRET,
    "notify.url": f"https://chat.example/{SECRET}",
}


@pytest.mark.parametrize("path", INLINE)
@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606])
def test_a_secret_in_a_file_that_others_may_read_is_warned_of(folder: Path, path: str, mode: int) -> None:
    said = warned(folder, {path: INLINE[path]}, mode)

    place = "hellowork.headers.X-Api-Key" if path == "hellowork.headers" else path
    wrong = "may be a secret, and every user of this host may read or write …/config.yaml"
    assert said[0] == f"{place}: {wrong}; chmod o-rwx …/config.yaml"
    assert len(said) == (2 if mode == 0o606 else 1)


@pytest.mark.parametrize(
    ("dsn", "is_secret"),
    [
        (f"host=${{HOST}} password={SECRET}", True),
        (f"postgresql://u:{SECRET}@${{HOST}}/ats", True),
        ("postgresql://u:${PASSWORD}@${HOST}:5432/ats", False),
        ("host=x password='${PASSWORD}' user=u", False),
    ],
)
def test_only_a_reference_in_the_passwords_place_keeps_it_out_of_the_file(
    folder: Path, dsn: str, *, is_secret: bool
) -> None:
    assert len(warned(folder, {"database.dsn": dsn}, 0o644)) == is_secret


def test_a_configuration_that_others_may_write_is_warned_of_whatever_is_in_it(folder: Path) -> None:
    (said,) = warned(folder, {}, 0o602)

    assert said.startswith("every user of this host may write …/config.yaml, and so decide where credentials are sent")
    assert said.endswith("; chmod o-w …/config.yaml")


def test_a_store_that_others_may_read_is_warned_of(folder: Path) -> None:
    (folder / "state.db").write_text("")
    (folder / "state.db").chmod(0o644)

    (said,) = warned(folder, {}, 0o644)
    assert said.startswith("state.path: every user of this host may read or write …/state.db, with what was sent")
    assert said.endswith("; chmod o-rwx …/state.db*")
    assert warned(folder, {"state.backend": "postgres"}, 0o644) == []
