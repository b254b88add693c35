"""What `cdc-sync sql verify` says of what is installed."""

import pytest
from support.roles import NewRole
from support.sessions import Ats, OpenSession, rows, run
from support.watched import a_config, install_triggers

from cdc_sync.ats.scripts import install
from cdc_sync.ats.verifying import verify
from cdc_sync.config import Config

RELATED = [{"table": "public.rejections", "key": ["application"]}]
OBJECTS = 1 + 2 + 1 + 2 * 2
"""The log, two sequences, a function, and two triggers for each of the two tables."""


def wrong(session: Ats, config: Config | None = None) -> dict[str, str]:
    """What is not ok, by object."""
    found = rows(session, verify((config or a_config(related=RELATED)).watches))
    return {name: state for _, _, name, _, _, state in found if state != "ok"}


@pytest.fixture
def installed(ats: Ats) -> Ats:
    ats.execute("CREATE TABLE public.rejections (application bigint)")
    install_triggers(ats, a_config(related=RELATED))
    return ats


@pytest.mark.usefixtures("installed")
def test_any_role_may_ask_and_everything_is_ok_right_after_the_installation(
    new_role: NewRole, open_session: OpenSession
) -> None:
    role = new_role()
    found = rows(open_session(user=role, password=role), verify(a_config(related=RELATED).watches))

    assert [row[-1] for row in found] == ["ok"] * OBJECTS


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        ("DROP TABLE cdc_sync.changes", {"cdc_sync.changes": "missing"}),
        ("DROP SEQUENCE cdc_sync.bell", {"cdc_sync.bell": "missing"}),
        ("DROP SEQUENCE cdc_sync.missed_applications", {"cdc_sync.missed_applications": "missing"}),
        (
            "ALTER TABLE public.rejections DISABLE TRIGGER cdc_sync_applications$1_row",
            {"cdc_sync_applications$1_row": "disabled"},
        ),
        (
            "DROP TRIGGER cdc_sync_applications_row ON public.applications",
            {"cdc_sync_applications_row": "missing"},
        ),
        (
            # Somebody has made the comparison cheaper.
            (
                "DROP TRIGGER cdc_sync_applications_row ON public.applications;"
                "CREATE TRIGGER cdc_sync_applications_row AFTER UPDATE ON public.applications"
                " FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE PROCEDURE cdc_sync.record_applications()"
            ),
            {"cdc_sync_applications_row": "different"},
        ),
        (
            # Somebody has edited the function, which keeps its comment.
            (
                "CREATE OR REPLACE FUNCTION cdc_sync.record_applications() RETURNS trigger LANGUAGE plpgsql"
                " AS 'BEGIN RETURN NULL; END'"
            ),
            {"cdc_sync.record_applications": "different"},
        ),
        ("ALTER FUNCTION cdc_sync.record_applications() RESET ALL", {"cdc_sync.record_applications": "different"}),
        (
            "ALTER FUNCTION cdc_sync.record_applications() SECURITY INVOKER",
            {"cdc_sync.record_applications": "different"},
        ),
        (
            "CREATE RULE r AS ON INSERT TO cdc_sync.changes DO ALSO NOTIFY somebody",
            {"cdc_sync.changes": "different"},
        ),
        ("ALTER TABLE cdc_sync.changes ENABLE ROW LEVEL SECURITY", {"cdc_sync.changes": "different"}),
        (
            (
                "CREATE TRIGGER t BEFORE INSERT ON cdc_sync.changes FOR EACH ROW"
                " EXECUTE PROCEDURE suppress_redundant_updates_trigger()"
            ),
            {"cdc_sync.changes": "different"},
        ),
        (
            "CREATE FUNCTION cdc_sync.record_former() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            {"cdc_sync.record_former": "left over"},
        ),
    ],
)
def test_what_was_done_to_it_since_is_told(installed: Ats, harm: str, found: dict[str, str]) -> None:
    run(installed, harm)

    assert wrong(installed) == found


def test_the_script_may_have_gone_through_a_file_of_windows(ats: Ats) -> None:

    ats.execute(install(a_config()).replace("\n", "\r\n").encode())

    assert wrong(ats, a_config()) == {}


def test_triggers_that_must_fire_always_are_disabled_otherwise(installed: Ats) -> None:
    always = a_config(related=RELATED, capture={"replicated": True})
    assert set(wrong(installed, always).values()) == {"disabled"}

    install_triggers(installed, always)

    assert wrong(installed, always) == {}
