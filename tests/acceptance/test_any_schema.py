"""Tables as legacy ATSs have them: names, types and keys of every kind, from the DBA's scripts to HelloWork."""

from typing import Any

from support import strange
from support.installation import JOB, Installation, a_hurry
from support.sessions import Ats, run

BEYOND_DOUBLES = 9007199254740993
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
WATERMARK = '''"Modifié à 100% l'""été"""'''

TYPED = """
CREATE TYPE public.step AS ENUM ('à trier', 'entretien', '50%');
CREATE DOMAIN public.reference AS bigint CHECK (VALUE > 0);
CREATE TABLE public.typed (
    k uuid, part "char", id text COLLATE "C", step public.step, job public.reference, born date, seen timestamp(3),
    origin jsonb, gone boolean, delay numeric(4,1), touched timestamp, PRIMARY KEY (part, k)
);
INSERT INTO public.typed VALUES
    ('{uuid}', 'e', 'hw-typed', 'à trier', {job}, '2024-07-10', '2024-10-27 02:30', '{{"a": 1.10}}', NULL, 1.5, now());
"""
PADDED = """
CREATE TABLE public.padded (code char(8) PRIMARY KEY, state char(12), job numeric(20,0), touched date);
INSERT INTO public.padded VALUES ('hw-pad', 'open', 12, current_date);
"""
CAPITALS = """
CREATE TABLE public."Décisions" ("Id" int PRIMARY KEY, "Statut" text, "État" timestamptz);
INSERT INTO public."Décisions" VALUES (7, 'New', now());
"""


def watches(mode: str) -> dict[str, dict[str, Any]]:
    """One watch for each table."""
    found: dict[str, dict[str, Any]] = {
        "strange": {**strange.WATCH_SECTION, "capture": {"watermark": WATERMARK}},
        "typed": {
            "table": "public.typed",
            "key": ["k", "part"],
            "columns": {
                "application_id": "id",
                "status": "step",
                "job_id": "job",
                "created": "born",
                "event_date": "seen",
                "source": "origin",
                "deleted": "gone",
            },
            "timezone": "Europe/Paris",
            "extra": {"communicationDelay": "delay"},
        },
        "padded": {
            "table": "padded",
            "key": ["code"],
            "columns": {"application_id": "code", "status": "state", "job_id": "job", "created": "touched"},
        },
        "capitals": {
            "table": 'public."Décisions"',
            "key": ['"Id"'],
            "columns": {
                "application_id": {"sql": "'hw-' || t.\"Id\"", "depends_on": ['"Id"']},
                "status": {"sql": "t.\"Statut\" || ' %'", "depends_on": ['"Statut"']},
                "job_id": {"sql": "'1' -- the same for all", "depends_on": []},
                "created": '"État"',
            },
            "capture": {"watermark": '"État"'},
        },
    }
    for watch in found.values():
        capture = {"watermark": "touched", **watch.get("capture", {}), **a_hurry(mode)}
        watch.update(capture=capture, deletion_grace="500ms")
    return found


def create(ats: Ats) -> None:
    strange.create(ats)
    run(ats, "ALTER TABLE {table} ADD {watermark} timestamptz DEFAULT now()", table=strange.TABLE, watermark=WATERMARK)
    strange.insert(ats)
    for script in (TYPED, PADDED, CAPITALS):
        run(ats, script, uuid=UUID, job=str(BEYOND_DOUBLES))


def test_names_types_and_keys_of_every_kind(bare: Installation, mode: str) -> None:
    ats, hellowork = bare.ats, bare.hellowork
    ats.execute("SET timezone = 'Europe/Paris'")  # as the watch of the table `typed` has it
    create(ats)
    bare.document = {**bare.document, "watches": watches(mode)}
    bare.configure()
    bare.install()
    with bare.daemon() as daemon:

        def wait_for(application_id: str, status: str) -> None:
            daemon.wait_until(
                lambda: status in [told for told, _ in hellowork.told(application_id)], f"{status} for {application_id}"
            )

        # Keys change, and nothing else does; one of them is the application's id too.
        ats.execute("UPDATE public.padded SET code = 'hw-pad2', touched = current_date")
        ats.execute("UPDATE public.typed SET part = 'x', touched = clock_timestamp()")
        run(ats, "UPDATE {t} SET {k} = 2, {w} = clock_timestamp()", t=strange.TABLE, k=strange.NUMBER_KEY, w=WATERMARK)
        wait_for("hw-pad2", "open")
        ats.execute("UPDATE public.padded SET state = 'hired', touched = current_date")
        ats.execute("UPDATE public.typed SET step = '50%', touched = clock_timestamp()")
        ats.execute("""UPDATE public."Décisions" SET "Statut" = 'Hired', "État" = clock_timestamp()""")
        run(ats, "UPDATE {t} SET {s} = '50%s', {w} = clock_timestamp()", t=strange.TABLE, s=strange.STATUS, w=WATERMARK)
        wait_for("hw-pad2", "hired")
        wait_for("hw-typed", "50%")
        wait_for("hw-7", "Hired %")
        wait_for(strange.KEY, "50%s")
        run(ats, "DELETE FROM {t}", t=strange.TABLE)
        ats.execute("UPDATE public.typed SET gone = true, touched = clock_timestamp()")
        wait_for(strange.KEY, "deleted")
        wait_for("hw-typed", "deleted")
        wait_for("hw-pad", "deleted")
        bare.quiet(daemon)
        assert hellowork.told(strange.KEY) == [("50%s", "J1"), ("deleted", "J1")]
        assert hellowork.told("hw-7") == [("Hired %", "1")]
        assert hellowork.told("hw-pad2") == [("open", "12"), ("hired", "12")]
        assert hellowork.told("hw-typed") == [("50%", str(BEYOND_DOUBLES)), ("deleted", str(BEYOND_DOUBLES))]
        first, body = (call.body for call in hellowork.calls_for("hw-typed"))
        assert isinstance(first, dict)
        assert isinstance(body, dict)
        # Midnight in Paris, and in the hour that comes twice there its second coming.
        assert (first["created"], first["eventDate"]) == ("2024-07-09T22:00:00.000Z", "2024-10-27T01:30:00.000Z")
        # The row has the same date still, which has been sent.
        assert (body["created"], body["eventDate"] > first["eventDate"]) == (first["created"], True)
        assert (body["source"], body["communicationDelay"]) == ({"a": 1.1}, 1.5)
        for watch in daemon.report()["watches"]:
            assert watch["skipped"] == watch["dead_letters"] == 0
            assert watch["sweep_repairs"] == {} or mode == "poll"


def test_columns_get_other_types_while_the_daemon_runs(bare: Installation) -> None:
    bare.ats.execute("ALTER TABLE applications ALTER id TYPE int, ALTER hellowork_id TYPE varchar(20)")
    bare.install()
    bare.add("hw-1", "interview")
    bare.add("hw-2", "interview")
    with bare.daemon() as daemon:
        bare.ats.execute(
            "ALTER TABLE applications ALTER id TYPE bigint, ALTER hellowork_id TYPE varchar(40),"
            " ALTER deleted_at TYPE boolean USING deleted_at IS NOT NULL,"
            " ALTER created_at TYPE timestamp USING created_at AT TIME ZONE 'Asia/Tokyo'"
        )
        bare.ats.execute("SELECT setval(pg_get_serial_sequence('applications', 'id'), 3000000000)")
        bare.add("hw-of-three-thousand-million", "interview")
        bare.change("hw-1", status="hired")
        # The watch begins again, and its sweep reads the last row last.
        daemon.wait_until(lambda: bare.hellowork.told("hw-of-three-thousand-million"), "the new application's call")
        bare.settle(daemon)
        told = {id_: bare.hellowork.told(id_) for id_ in ("hw-of-three-thousand-million", "hw-1", "hw-2")}
        assert list(told.values()) == [[("interview", JOB)], [("hired", JOB)], []]
