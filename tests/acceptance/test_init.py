"""`cdc-sync init`: from a database to a first configuration that works, without reading a row."""

import signal

import pytest
import yaml
from support.daemon_process import COMMAND, Finished
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
    """The whole way that the README tells, by the daemon's own role; a person decides id, status and zone."""
    first = french.folder / "first.yaml"
    store = french.folder / "first.db"
    made = init(french, "--output", str(first), "--state", str(store))
    assert made.code == 0, made.output
    text = first.read_text(encoding="utf-8")
    assert "Secret Person" not in text
    assert PASSWORD not in text
    validated = french.run("config", "validate", config=first)
    assert validated.code == 0, validated.output

    document = yaml.safe_load(text)
    watch = document["watches"]["applications"]
    assert watch["table"] == "public.candidatures"
    assert watch["columns"]["job_id"] == "offre_id"
    # As the file has it below its list of columns.
    status, related = (
        yaml.safe_load(line[2:]) for line in text.splitlines() if line.startswith(("# status: {", "# related"))
    )
    watch["columns"] |= {"application_id": "id_hellowork", **status}
    watch |= {**related, "timezone": "Europe/Paris"}
    del document["undecided"]
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


def test_what_it_is_not_sure_of_is_left_undecided_with_what_a_person_needs(french: Installation) -> None:
    french.ats.execute("CREATE TABLE public.rejets (candidature_id integer REFERENCES public.candidatures)")
    french.ats.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{french.role}"'.encode())

    made = init(french)

    assert (made.code, made.stderr) == (0, "")
    document = yaml.safe_load(made.stdout)
    assert {each.partition(":")[0] for each in document["undecided"]} == {"application_id", "status", "timezone"}
    columns = document["watches"]["applications"]["columns"]
    assert columns == {
        "application_id": "put_application_id_here",
        "status": "put_status_here",
        "job_id": "offre_id",
        "created": "date_candidature",
        "event_date": "date_maj",
    }
    assert "etape_id: integer, leads to public.etapes (Entretien, Reçue)" in made.stdout
    assert 'status: {sql: "(SELECT s.libelle FROM public.etapes s WHERE s.id = t.etape_id)"' in made.stdout
    assert "public.rejets refers to it by candidature_id" in made.stdout
    assert "email: text, a person's" in made.stdout
    assert "Secret Person" not in made.stdout
    assert "secret@example.org" not in made.stdout
    assert french.ats.execute("SELECT to_regnamespace('cdc_sync')").fetchone() == (None,)


def test_a_file_is_not_overwritten(french: Installation) -> None:
    there = french.folder / "mine.yaml"
    there.write_text("mine")

    refused = init(french, "--output", str(there))

    assert refused.code == 1
    assert "mine.yaml cannot be written: File exists. Name another place." in refused.stderr
    assert there.read_text() == "mine"


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
