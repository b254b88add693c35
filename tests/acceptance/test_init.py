"""`cdc-sync init`: from a database to a first configuration that works, without reading a row."""

import os
import pty
import select
import signal
import subprocess

import pytest
import yaml
from support.daemon_process import COMMAND, PATIENCE, Finished, environment
from support.installation import PASSWORD, Installation

FRENCH = """
CREATE TABLE public.etapes (id serial PRIMARY KEY, libelle text);
CREATE TABLE public.offres (id serial PRIMARY KEY, intitule text);
CREATE TABLE public.candidatures (
    id serial PRIMARY KEY, offre_id integer REFERENCES public.offres, etape_id integer REFERENCES public.etapes,
    id_hellowork text, date_candidature timestamp, date_maj timestamp, supprimee boolean, nom text, email text);
CREATE INDEX ON public.candidatures (id_hellowork);
INSERT INTO public.etapes (libelle) VALUES ('Reçue'), ('Entretien');
INSERT INTO public.offres (intitule) VALUES ('Boulanger');
INSERT INTO public.candidatures (offre_id, etape_id, id_hellowork, date_candidature, date_maj, nom, email)
VALUES (1, 1, 'hw-1', now(), now(), 'Secret Person', 'secret@example.org');
"""


@pytest.fixture
def french(notify: Installation) -> Installation:
    """The ATS of a French company, and nothing installed in it."""
    notify.uninstall()
    notify.ats.execute("DROP TABLE public.applications")
    notify.ats.execute(FRENCH.encode())
    return notify


def init(installation: Installation, *arguments: str) -> Finished:
    return installation.run_bare([*COMMAND, "init", "--dsn", installation.variables["ATS_DSN"], *arguments])


def test_from_a_database_to_the_first_call(french: Installation) -> None:
    """The whole way that the README tells, by the daemon's own role and without an edit but of the endpoint."""
    first = french.folder / "first.yaml"
    store = french.folder / "first.db"
    made = init(french, "--output", str(first), "--state", str(store), "--timezone", "Europe/Paris")
    assert made.code == 0, made.output
    assert "config validate" in made.stderr
    text = first.read_text(encoding="utf-8")
    assert f"; {text.count('# DOUBT: ')} doubt(s) in it" in made.stderr
    assert "Secret Person" not in text
    assert PASSWORD not in text
    assert "~/.pgpass" in text
    assert f"{french.role}:PASSWORD" in text
    validated = french.run("config", "validate", config=first)
    assert validated.code == 0, validated.output

    document = yaml.safe_load(text)
    watch = document["watches"]["applications"]
    assert watch["table"] == "public.candidatures"
    assert watch["columns"]["job_id"] == "offre_id"
    assert watch["related"] == [{"table": "public.etapes", "key": []}]
    assert watch["timezone"] == "Europe/Paris"
    document["hellowork"] = french.document["hellowork"]
    document["admin"] = {"listen": None}
    first.write_text(yaml.safe_dump(document))
    password = {"PGPASSWORD": PASSWORD}

    checked = french.run("check", config=first, variables=password)
    assert checked.code == 1
    assert "privileges" in checked.stdout
    for script in ("install", "grants"):
        applied = french.run("sql", script, *_role(script, french), "--apply", "--dsn", french.dsn, config=first)
        assert applied.code == 0, applied.output
    checked = french.run("check", config=first, variables=password)
    assert checked.code == 0, checked.output
    assert french.run("run", "--once", config=first, variables=password).code == 0
    french.ats.execute("UPDATE public.candidatures SET etape_id = 2")
    ended = french.run("run", "--once", config=first, variables=password)
    assert ended.code == 0, ended.output
    assert french.hellowork.told("hw-1") == [("Entretien", "1")]


def _role(script: str, installation: Installation) -> list[str]:
    return ["--role", installation.role] if script == "grants" else []


def test_it_is_printed_and_each_guess_has_its_reason(french: Installation) -> None:
    made = init(french)

    assert (made.code, made.stderr) == (0, "")
    lines = [line.strip() for line in made.stdout.splitlines()]
    for field in ("application_id", "status", "job_id", "created", "event_date"):
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{field}:"))
        assert any(line.startswith(f"# {field}: ") for line in lines[max(at - 4, 0) : at]), field
    assert any(line.startswith("# DOUBT: the server's own zone is") for line in lines)
    assert french.ats.execute("SELECT to_regnamespace('cdc_sync')").fetchone() == (None,)


def test_a_file_is_not_overwritten(french: Installation) -> None:
    there = french.folder / "mine.yaml"
    there.write_text("mine")

    refused = init(french, "--output", str(there))

    assert refused.code == 1
    assert "--force" in refused.stderr
    assert there.read_text() == "mine"
    assert init(french, "--output", str(there), "--force").code == 0
    assert "candidatures" in there.read_text()
    nowhere = init(french, "--output", str(french.folder / "nowhere" / "first.yaml"))
    assert nowhere.code == 1
    assert "cannot be written" in nowhere.stderr


def test_flags_answer_where_nobody_can(french: Installation) -> None:
    made = init(
        french,
        *("--table", "candidatures", "--mode", "poll", "--column", "status=nom", "--column", "watermark=date_maj"),
    )

    assert made.code == 0, made.output
    watch = yaml.safe_load(made.stdout)["watches"]["applications"]
    assert watch["columns"]["status"] == "nom"
    assert watch["capture"] == {"mode": "poll", "watermark": "date_maj"}
    assert "status: you named it" in made.stdout
    assert "DOUBT: it looks like personal data" in made.stdout


def test_a_flag_that_is_a_text_is_proposed_by_its_values(french: Installation) -> None:
    french.ats.execute("ALTER TABLE public.candidatures ALTER supprimee TYPE char(1) USING 'N'")
    unseen = init(french)
    french.ats.execute("INSERT INTO public.candidatures (supprimee) VALUES ('O')")
    seen = french.run_bare([*COMMAND, "init", "--dsn", french.dsn])

    assert "DOUBT: its values were not seen" in unseen.stdout
    deleted = yaml.safe_load(seen.stdout)["watches"]["applications"]["columns"]["deleted"]
    assert deleted == {"sql": "t.supprimee = 'O'", "depends_on": ["supprimee"]}


def test_an_expression_answers_too(french: Installation) -> None:
    sql = "CASE WHEN t.supprimee THEN 'gone' ELSE 'there' END"
    nested = "(SELECT x.libelle FROM public.etapes x WHERE x.id = t.etape_id)"

    made = init(french, "--column", f"status={sql};", "--column", f"source={nested}")

    assert made.code == 0, made.output
    columns = yaml.safe_load(made.stdout)["watches"]["applications"]["columns"]
    assert columns["status"] == {"sql": sql, "depends_on": ["supprimee"]}
    assert columns["source"] == {"sql": nested, "depends_on": ["etape_id"]}
    assert "it reads public.etapes: write each under related" in made.stdout


def test_the_columns_of_an_expression_are_in_doubt_where_postgresql_cannot_name_them(french: Installation) -> None:
    name = french.ats.info.dbname
    french.ats.execute(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC'.encode())

    made = init(french, "--column", "status=upper(t.nom)")

    assert made.code == 0, made.output
    assert yaml.safe_load(made.stdout)["watches"]["applications"]["columns"]["status"] == {"sql": "upper(t.nom)"}
    assert "DOUBT: name its columns in depends_on: permission denied to create temporary tables" in made.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--table", "candidature"], 1, "Did you mean public.candidatures?"),
        (["--table", "a.b.c"], 2, "is no table's name"),
        (["--column", "status=nowhere"], 2, "has no column nowhere; it has id, "),
        (["--column", "colour=nom"], 2, "expected FIELD=COLUMN"),
        (["--column", "status=a.b"], 2, "is no column's name"),
        (["--column", "status=upper(t.nowhere)"], 2, "which is called t: column t.nowhere does not exist"),
        (["--column", "watermark=upper(t.nom)"], 2, "is no column's name"),
        (["--mode", "sometimes"], 2, "is not one of 'notify', 'poll'"),
        (["--timezone", "Europe/Nowhere"], 2, "timezone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_answers_are_told(french: Installation, arguments: list[str], code: int, said: str) -> None:
    refused = init(french, *arguments)

    assert refused.code == code
    assert said in " ".join(refused.stderr.replace("│", " ").split())
    assert refused.stdout == ""


def test_a_database_without_such_a_table(notify: Installation) -> None:
    notify.uninstall()
    notify.ats.execute("DROP TABLE public.applications; CREATE TABLE public.invoices (id integer)")

    refused = init(notify)

    assert refused.code == 1
    assert "public.invoices" in refused.stderr
    assert "--table" in refused.stderr
    away = notify.run_bare([*COMMAND, "init", "--dsn", f"host=127.0.0.1 port=1 password={PASSWORD}"])
    assert away.code == 1
    assert "cannot be reached" in away.stderr


def test_a_view_is_polled_and_what_is_not_found_is_in_doubt(french: Installation) -> None:
    french.ats.execute("CREATE VIEW public.shown AS SELECT id, date_maj, etape_id AS colour FROM public.candidatures")

    made = init(french, "--table", "public.shown")

    assert made.code == 0
    watch = yaml.safe_load(made.stdout)["watches"]["applications"]
    assert watch["capture"]["mode"] == "poll"
    assert watch["columns"]["application_id"] == "put_application_id_here"
    assert "It is a view" in made.stdout


def test_a_superuser_is_told_to_have_a_role_made(french: Installation) -> None:
    made = french.run_bare([*COMMAND, "init", "--dsn", french.dsn])

    assert made.code == 0
    assert "CREATE ROLE cdc_sync LOGIN" in made.stdout


def test_on_a_terminal_it_asks_for_what_is_in_doubt(french: Installation) -> None:
    french.ats.execute("ALTER TABLE public.candidatures ADD statut text")
    french.ats.execute("CREATE TABLE public.applications (LIKE public.candidatures)")

    # The second table, and of the status another column, each after a mistake.
    text, asked = _on_a_terminal(french, ["9", "2", "nowhere", "statut", "America/Toronto"])

    watch = yaml.safe_load(text)["watches"]["applications"]
    assert "a number from 1 to 2" in asked
    assert "Which table holds the applications" in asked
    assert "has no column nowhere" in asked
    assert watch["table"] == "public.applications"
    assert watch["columns"]["status"] == "statut"
    assert watch["timezone"] == "America/Toronto"


def test_enter_decides_no_time_zone_that_only_the_server_has(french: Installation) -> None:
    name = french.ats.info.dbname
    french.ats.execute(f"ALTER DATABASE \"{name}\" SET timezone = 'Etc/UTC'".encode())

    text, asked = _on_a_terminal(french, [""] * 9)

    assert "which time zone? (-: leave it in doubt) [-]" in asked
    document = yaml.safe_load(text)
    assert any(each.startswith("timezone: ") for each in document["undecided"])


def test_on_a_terminal_it_offers_to_look_at_the_labels(french: Installation) -> None:
    first = french.folder / "first.yaml"
    options = ("--output", str(first), "--timezone", "Europe/Paris", "--force")

    refused, asked = _on_a_terminal(french, ["y"], *options)
    french.ats.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{french.role}"')
    shown, _ = _on_a_terminal(french, ["y"], *options)

    assert "Show the status's labels" in asked
    assert "Later: cdc-sync --config" in asked
    assert refused.strip() == ""
    assert "Reçue" in shown
    assert _on_a_terminal(french, ["n"], *options)[0].strip() == ""


def _on_a_terminal(installation: Installation, answers: list[str], *options: str) -> tuple[str, str]:
    """Run it with a terminal for its questions; returns what it printed and what was on the terminal."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, "init", "--dsn", installation.variables["ATS_DSN"], *options]
    printed = installation.folder / "printed.yaml"
    with printed.open("wb") as output:
        process = subprocess.Popen(command, stdin=theirs, stdout=output, stderr=theirs, env=environment({}))
    os.close(theirs)
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
    shown = b""
    while select.select([ours], [], [], PATIENCE)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break  # the other end is closed
    else:
        process.kill()
    os.close(ours)
    assert process.wait(PATIENCE) == 0, shown.decode()
    return printed.read_text(encoding="utf-8"), shown.decode()


def test_run_refuses_while_something_is_undecided_and_what_only_looks_works(notify: Installation) -> None:
    notify.add("hw-1")
    assert notify.run("run", "--once").code == 0
    notify.configure(undecided=["status: refuse_reason_id may decide it too"])

    for refusing in (["run"], ["run", "--once"]):
        refused = notify.run(*refusing)
        assert refused.code == 78, refused.output
        assert "undecided[0]: status: refuse_reason_id may decide it too; decide it" in refused.stderr
    checked = notify.run("check")
    assert checked.code == 0, checked.output
    assert "warning  configuration: undecided[0]: status: refuse_reason_id" in checked.stdout
    for looking in (["plan"], ["run", "--once", "--dry-run"], ["config", "validate"]):
        assert notify.run(*looking).code == 0

    notify.configure(undecided=[])
    with notify.daemon() as daemon:
        notify.configure(undecided=["key: none"])
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_event("undecided[0]: key: none")
        assert daemon.stop() == 0
