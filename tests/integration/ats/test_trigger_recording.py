"""What the triggers write into the change log, operation by operation."""

import pytest
from support.sessions import Ats, rows, run
from support.versions import needs
from support.watched import a_config, install_triggers, some_config

UPSERT = """
INSERT INTO public.applications (id, status) VALUES (1, 'applied'), (2, 'hired'), (8, 'new')
    ON CONFLICT (id) DO UPDATE SET status = excluded.status
"""


def recorded(ats: Ats) -> list[tuple[str, list[str] | None]]:
    """What the log holds, and then no more."""
    return sorted(rows(ats, "DELETE FROM cdc_sync.changes RETURNING operation::text, row_key"), key=str)


@pytest.fixture
def installed(ats: Ats) -> Ats:
    """Three applications, 1 to 3, and triggers."""
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, notes)"
        " SELECT n, 'a' || n, 'applied', 'J1', 'none' FROM generate_series(1, 3) n"
    )
    install_triggers(ats, a_config())
    return ats


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO public.applications (id) VALUES (7)", [("I", ["7"])]),
        ("UPDATE public.applications SET status = 'hired' WHERE id = 1", [("U", ["1"])]),
        ("UPDATE public.applications SET status = NULL WHERE id = 1", [("U", ["1"])]),
        ("UPDATE public.applications SET deleted_at = now() WHERE id = 1", [("U", ["1"])]),
        ("UPDATE public.applications SET id = 9 WHERE id = 1", [("U", ["1"]), ("U", ["9"])]),
        ("DELETE FROM public.applications WHERE id = 1", [("D", ["1"])]),
        ("TRUNCATE public.applications", [("T", None)]),
        ("UPDATE public.applications SET updated_at = now(), created_at = now(), notes = 'called'", []),
        ("UPDATE public.applications SET status = status, job_id = job_id, hellowork_id = hellowork_id", []),
        ("DELETE FROM public.applications WHERE false", []),
        ("INSERT INTO public.applications (id) VALUES (1) ON CONFLICT DO NOTHING", []),
        (UPSERT, [("I", ["8"]), ("U", ["2"])]),
    ],
)
def test_each_operation_records_its_key_and_what_changes_nothing_that_is_compared_none(
    installed: Ats, statement: str, expected: list[tuple[str, list[str]]]
) -> None:
    run(installed, statement)

    assert recorded(installed) == expected


def test_copy_records_every_row(installed: Ats) -> None:
    with installed.cursor().copy("COPY public.applications (id, status) FROM STDIN") as copy:
        copy.write_row((11, "imported"))
        copy.write_row((12, "imported"))

    assert recorded(installed) == [("I", ["11"]), ("I", ["12"])]


def test_merge_records_each_branch(installed: Ats) -> None:
    needs(installed, 15, "MERGE")
    installed.execute(
        """
        MERGE INTO public.applications t USING (VALUES (1, 'hired'), (2, 'gone'), (9, 'new')) AS s (id, status)
           ON s.id = t.id
         WHEN MATCHED AND s.status = 'gone' THEN DELETE
         WHEN MATCHED THEN UPDATE SET status = s.status
         WHEN NOT MATCHED THEN INSERT (id, status) VALUES (s.id, s.status)
        """
    )

    assert recorded(installed) == [("D", ["2"]), ("I", ["9"]), ("U", ["1"])]


def test_two_rows_that_swap_their_keys_record_all_of_them(installed: Ats) -> None:
    installed.execute("ALTER TABLE public.applications DROP CONSTRAINT applications_pkey")
    installed.execute("UPDATE public.applications SET id = 3 - id WHERE id IN (1, 2)")

    assert recorded(installed) == [("U", ["1"]), ("U", ["1"]), ("U", ["2"]), ("U", ["2"])]


def test_a_cascade_records_what_it_took_along(ats: Ats) -> None:
    ats.execute("CREATE TABLE jobs (id int PRIMARY KEY)")
    ats.execute("CREATE TABLE candidacies (id int, job int REFERENCES jobs ON DELETE CASCADE ON UPDATE CASCADE)")
    columns = {"application_id": "id", "status": "job", "job_id": "job", "created": {"sql": "now()"}}
    install_triggers(ats, some_config("", {"w": {"table": "candidacies", "key": ["id"], "columns": columns}}))
    ats.execute("INSERT INTO jobs VALUES (1), (2)")
    ats.execute("INSERT INTO candidacies VALUES (10, 1), (20, 2)")
    recorded(ats)

    ats.execute("UPDATE jobs SET id = 3 WHERE id = 1")
    assert recorded(ats) == [("U", ["10"])]
    ats.execute("DELETE FROM jobs")
    assert recorded(ats) == [("D", ["10"]), ("D", ["20"])]


def test_a_column_that_a_before_trigger_changes_is_noticed(installed: Ats) -> None:
    installed.execute(
        "CREATE FUNCTION derive() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.status := upper(NEW.notes); RETURN NEW; END $$"
    )
    installed.execute(
        "CREATE TRIGGER derive BEFORE UPDATE ON public.applications FOR EACH ROW EXECUTE PROCEDURE derive()"
    )

    installed.execute("UPDATE public.applications SET notes = 'hired' WHERE id = 1")

    assert recorded(installed) == [("U", ["1"])]


@pytest.mark.parametrize(
    ("kind", "since", "status"),
    [
        ("STORED", 12, "label"),
        # A trigger does not see its value, which is computed when it is read.
        ("VIRTUAL", 18, {"sql": "upper(t.notes)", "depends_on": ["notes"]}),
    ],
    ids=str,
)
def test_a_generated_column_is_noticed(ats: Ats, kind: str, since: int, status: object) -> None:
    needs(ats, since, f"{kind.lower()} generated columns")
    run(ats, "ALTER TABLE public.applications ADD label text GENERATED ALWAYS AS (upper(notes)) {kind}", kind=kind)
    install_triggers(ats, a_config(columns={"status": status}))
    ats.execute("INSERT INTO public.applications (id, notes) VALUES (1, 'new')")
    recorded(ats)

    ats.execute("UPDATE public.applications SET notes = 'NEW'")
    assert recorded(ats) == ([] if kind == "STORED" else [("U", ["1"])])  # to compare rows tells it is no change
    ats.execute("UPDATE public.applications SET notes = 'hired'")
    assert recorded(ats) == [("U", ["1"])]


# Values are compared as they are stored: json and point have no equality, and that of numeric is lenient.


@pytest.mark.parametrize(
    ("type_", "before", "same", "after"),
    [
        ("json", '{"a": 1}', '{"a": 1}', '{"a":  1}'),
        ("jsonb", '{"a": 1}', '{ "a" : 1 }', '{"a": 2}'),
        ("point", "(1,2)", "(1,2)", "(1,3)"),
        ("numeric", "1.0", "1.0", "1.00"),
        ("text", "x" * 5000, "x" * 5000, "x" * 4999 + "y"),
    ],
)
def test_a_change_of_any_type_is_seen(ats: Ats, type_: str, before: str, same: str, after: str) -> None:
    run(ats, "ALTER TABLE public.applications ADD odd {type_}", type_=type_)
    # Not compressed, so that the long text is stored out of line.
    if type_ == "text":
        ats.execute("ALTER TABLE public.applications ALTER odd SET STORAGE EXTERNAL")
    install_triggers(ats, a_config(columns={"status": "odd"}))
    run(ats, "INSERT INTO public.applications (id, odd) VALUES (1, %s::{type_})", [before], type_=type_)
    recorded(ats)

    run(ats, "UPDATE public.applications SET odd = %s::{type_}", [same], type_=type_)
    ats.execute("UPDATE public.applications SET notes = 'touched'")
    assert recorded(ats) == []
    run(ats, "UPDATE public.applications SET odd = %s::{type_}", [after], type_=type_)
    assert recorded(ats) == [("U", ["1"])]


@pytest.fixture
def related(ats: Ats) -> Ats:
    ats.execute("CREATE TABLE public.rejections (id int, application bigint, reason text, touched date)")
    ats.execute("CREATE TABLE public.stages (id int, label text, code text)")
    ats.execute("INSERT INTO public.rejections VALUES (1, 10, 'x')")
    ats.execute("INSERT INTO public.stages VALUES (1, 'new'), (2, 'old')")
    rejections = {"table": "public.rejections", "key": ["application"], "columns": ["reason"]}
    install_triggers(ats, a_config(related=[rejections, {"table": "public.stages", "key": []}]))
    return ats


def test_a_table_that_concerns_all_asks_once_in_a_transaction(related: Ats) -> None:
    with related.transaction():
        related.execute("UPDATE public.stages SET label = label || '!'")
        related.execute("INSERT INTO public.stages SELECT i, 'x' FROM generate_series(3, 9) i")
        related.execute("INSERT INTO public.applications (id) VALUES (1), (2)")
        related.execute("UPDATE public.stages SET label = label || '?'")
    related.execute("DELETE FROM public.stages WHERE id > 2")

    assert recorded(related) == [("D", None), ("I", ["1"]), ("I", ["2"]), ("U", None)]


def test_what_asked_and_was_rolled_back_has_not_asked(related: Ats) -> None:
    with related.transaction():
        related.execute("SAVEPOINT one; UPDATE public.stages SET label = 'never'; ROLLBACK TO one")
        related.execute("UPDATE public.stages SET label = 'renamed'")

    assert recorded(related) == [("U", None)]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO public.rejections VALUES (2, 20, 'y')", [("I", ["20"])]),
        ("INSERT INTO public.rejections VALUES (2, NULL, 'y')", [("I", [None])]),
        ("UPDATE public.rejections SET reason = 'z'", [("U", ["10"])]),
        ("UPDATE public.rejections SET reason = reason, touched = now()", []),
        ("UPDATE public.rejections SET application = 30", [("U", ["10"]), ("U", ["30"])]),
        ("DELETE FROM public.rejections", [("D", ["10"])]),
        ("TRUNCATE public.rejections", [("T", None)]),
        ("INSERT INTO public.stages VALUES (3, 'hired')", [("I", None)]),
        ("UPDATE public.stages SET code = 'x' WHERE id = 1", [("U", None)]),
        ("DELETE FROM public.stages WHERE id = 2", [("D", None)]),
        ("TRUNCATE public.stages", [("T", None)]),
    ],
)
def test_its_rows_lead_to_the_application_or_else_to_all(
    related: Ats, statement: str, expected: list[tuple[str, list[str]]]
) -> None:
    run(related, statement)

    assert recorded(related) == expected
