"""What another role has put in the way of a script, before it runs or while it waits, gives that role nothing."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from support.roles import NewRole
from support.sessions import Ats, OpenSession, one, rows, run
from support.waiting import wait_until
from support.watched import a_config, install_triggers, some_config

from cdc_sync.ats import side_table
from cdc_sync.ats.scripts import install

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.applications'::regclass"

PLANTED = """
CREATE SCHEMA cdc_sync;
CREATE TABLE cdc_sync.changes (watch text, operation "char", row_key text[], changed_at timestamptz);
"""

CAST = """
CREATE TYPE public.reference AS ENUM ('1', '2', '3');
CREATE TABLE public.ran_as (who text);
GRANT INSERT ON public.ran_as TO PUBLIC;
CREATE FUNCTION public.planted(public.reference) RETURNS {to} LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO public.ran_as SELECT current_user; RETURN '1'; END$$;
CREATE CAST (public.reference AS {to}) WITH FUNCTION public.planted(public.reference);
"""


@pytest.fixture
def stranger(new_role: NewRole) -> str:
    return new_role()


def test_a_schema_cannot_be_planted_while_the_script_waits(
    ats: Ats, stranger: str, open_session: OpenSession, database: str
) -> None:
    run(ats, f"GRANT CREATE ON DATABASE {one(ats, 'SELECT quote_ident(current_database())')} TO {stranger}")
    theirs, busy = open_session(user=stranger, password=stranger), open_session()
    busy.execute("BEGIN; INSERT INTO public.applications (id) VALUES (99)")

    with ThreadPoolExecutor() as pool:
        installs = pool.submit(open_session().execute, install(a_config()).encode())
        wait_until(lambda: one(ats, WAITING), "the script waits")
        plants = pool.submit(run, theirs, PLANTED)
        wait_until(
            lambda: one(ats, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 2, "both"
        )
        busy.execute("COMMIT")
        installs.result()
        with pytest.raises(psycopg.errors.UniqueViolation):
            plants.result()

    me = one(ats, "SELECT current_user")
    assert rows(ats, "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'cdc_sync'") == [(me,)]


@pytest.mark.parametrize("to", ["json", "text"])
def test_the_cast_of_a_keys_type_is_not_called(ats: Ats, to: str) -> None:
    run(ats, CAST, to=to)
    columns = {"application_id": "ref", "status": "status", "job_id": "status", "created": {"sql": "now()"}}
    ats.execute("CREATE TABLE public.typed (ref public.reference PRIMARY KEY, status text)")
    install_triggers(ats, some_config("", {"w": {"table": "public.typed", "key": ["ref"], "columns": columns}}))

    ats.execute("INSERT INTO public.typed VALUES ('2', 'new')")
    ats.execute("UPDATE public.typed SET ref = '3'")
    ats.execute("DELETE FROM public.typed")

    logged = [(["2"],), (["3"],), (["2"],), (["3"],)]
    assert rows(ats, "SELECT row_key FROM cdc_sync.changes ORDER BY changed_at") == logged
    assert rows(ats, "SELECT who FROM public.ran_as") == []


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE VIEW public.applications_hellowork AS SELECT 1::bigint AS id, 'x'::text AS hellowork_id",
        "CREATE TABLE public.applications_hellowork (id bigint, hellowork_id text)",
    ],
)
def test_a_strangers_side_table_is_refused(ats: Ats, stranger: str, open_session: OpenSession, planted: str) -> None:
    run(ats, f"GRANT CREATE ON SCHEMA public TO {stranger}")
    run(open_session(user=stranger, password=stranger), planted)

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="applications_hellowork is there"):
        run(ats, side_table.script(a_config().watches["applications"], "cdc_sync"))
    ats.execute("ROLLBACK")


def test_what_was_there_before_is_found_whatever_a_backslash_means(ats: Ats) -> None:
    ats.execute("CREATE TABLE public.rejections (application_id bigint)")
    config = a_config(related=[{"table": "public.rejections", "key": ["application_id"]}])
    install_triggers(ats, config)
    # As 0.2.0 named the function of a related table.
    ats.execute("""
        CREATE FUNCTION cdc_sync.record_applications$1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        DROP TRIGGER cdc_sync_applications$1_row ON public.rejections;
        CREATE TRIGGER cdc_sync_applications$1_row AFTER INSERT ON public.rejections
            FOR EACH ROW EXECUTE PROCEDURE cdc_sync.record_applications$1();
        SET standard_conforming_strings = off;
    """)

    install_triggers(ats, config)

    assert one(ats, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'cdc_sync'::regnamespace") == 1


def test_a_log_with_somebodys_trigger_is_refused(ats: Ats) -> None:
    install_triggers(ats, a_config())
    run(
        ats,
        "CREATE TRIGGER planted BEFORE INSERT ON cdc_sync.changes FOR EACH ROW"
        " EXECUTE PROCEDURE suppress_redundant_updates_trigger()",
    )

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"cdc_sync\.changes has triggers or rules"):
        install_triggers(ats, a_config())
