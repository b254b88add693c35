"""docs/hellowork-id.md: what is there to paste works as it stands there, with a daemon, on an ATS without the id."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from psycopg import errors
from support.installation import Installation, merged

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "hellowork-id.md").read_text(encoding="utf-8")

COLUMN, SIDE, URL, VIEW = "A column of the table", "A side table", "The status URL in a free field", "A view"

ATS = """
CREATE TABLE public.applications (id bigint PRIMARY KEY, status text, job_id text, created_at timestamptz,
                                  updated_at timestamptz, external_ref text);
CREATE INDEX ON public.applications (updated_at);
INSERT INTO public.applications SELECT i, 'NEW', 'job-1', now(), now() - interval '1 day', 'n/a'
  FROM generate_series(1, 3) AS i;
"""

Block = tuple[str, str]


def blocks(text: str) -> list[Block]:
    """The blocks of code of a text, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(title: str) -> list[Block]:
    """The blocks of a section."""
    (text,) = (part for part in PAGE.split("\n## ") if part.startswith(f"{title}\n"))
    return blocks(text)


def statements(script: str) -> Iterator[str]:
    """The statements of a block, as psql sends them: one by one."""
    return (each for each in script.split(";\n") if each.strip())


def follow(ats: Installation, parts: list[Block]) -> None:
    """Do what some blocks say, in their order."""
    for language, text in parts:
        match language:
            case "sql":
                for statement in statements(text):
                    ats.ats.execute(statement.encode())
            case "yaml":
                piece = {"watches": {"applications": yaml.safe_load(text)}}
                ats.document = merged(ats.document, piece)
                ats.configure()
            case _ if "\\copy public.known_ids" in text:
                ats.ats.execute("INSERT INTO public.known_ids VALUES (1, 'hw-1'), (2, 'hw-2')")


@pytest.fixture
def ats(bare: Installation) -> Installation:
    bare.ats.execute("DROP TABLE public.applications")
    bare.ats.execute(ATS.encode())
    columns = {name: name for name in ("status", "job_id")} | {"created": "created_at", "application_id": "id"}
    bare.document["watches"]["applications"]["columns"] = columns
    return bare


def url(ats: Installation, id_: str) -> str:
    return f"{ats.hellowork.url}/v1/applications/{id_}/status"


def is_told(ats: Installation, id_: str) -> bool:
    return ats.hellowork.told(id_) == [("INTERVIEW", "job-1")]


def works(ats: Installation) -> None:
    """Rows 1 and 2 are HelloWork's hw-1 and hw-2, and row 3 is not: `check` agrees, and so do the calls."""
    ats.install()
    findings = json.loads(ats.run("check", "--json").stdout)
    wrong = {each["check"]: each["message"] for each in findings if each["watch"] and each["state"] != "ok"}
    assert {check for check in wrong if check != "key"} == set(), wrong
    assert ("key" in wrong) == ("for_hellowork" in ats.document["watches"]["applications"]["table"])
    with ats.daemon() as daemon:
        daemon.wait_for_event("applications known")
        ats.ats.execute("UPDATE public.applications SET status = 'INTERVIEW', updated_at = clock_timestamp()")
        for id_ in ("hw-1", "hw-2"):
            daemon.wait_until(partial(is_told, ats, id_), id_)
        ats.ats.execute("DELETE FROM public.applications WHERE id IN (1, 3)")
        daemon.wait_until(lambda: ats.hellowork.told("hw-1")[-1][0] == "deleted", "the deletion")
        ats.quiet(daemon)
        assert len(ats.hellowork.calls) == 3


def test_a_column(ats: Installation) -> None:
    follow(ats, section(COLUMN))
    works(ats)


def test_a_side_table(ats: Installation) -> None:
    follow(ats, section(SIDE))
    ats.ats.execute("INSERT INTO public.applications_hellowork VALUES (1, 'hw-1'), (2, 'hw-2')")
    works(ats)
    assert ats.ats.execute("SELECT id FROM public.applications_hellowork").fetchall() == [(2,)]
    with pytest.raises(errors.FeatureNotSupported):
        ats.ats.execute("TRUNCATE public.applications")


@pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql here")
def test_a_file_is_copied_into_the_side_table_as_a_whole(ats: Installation) -> None:
    follow(ats, section(SIDE)[:2])
    (lines,) = (text for language, text in section(SIDE) if language == "csv")
    (command,) = (text for language, text in section(SIDE) if not language and "\\copy" in text)
    file = ats.folder / "links.csv"

    def copied(text: str) -> str:
        file.write_text(text, encoding="utf-8")
        here = command.replace("-d ats", f"-d {shlex.quote(ats.dsn)}")
        ended = subprocess.run(["bash", "-c", here], cwd=ats.folder, check=False, capture_output=True, text=True)  # noqa: S607
        return ended.stdout + ended.stderr

    ats.ats.execute("UPDATE public.applications SET id = id + 41")
    assert 'Key (id)=(99) is not present in table "applications"' in copied(f"{lines}99,hw-9\n")
    assert copied(lines) == "COPY 2\n"
    ids = "SELECT id, hellowork_id FROM public.applications_hellowork ORDER BY id"
    assert ats.ats.execute(ids).fetchall() == [(42, "hw-1"), (43, "hw-2")]
    for again in (lines, "id,hellowork_id\n44,hw-1\n"):
        assert "duplicate key value violates unique constraint" in copied(again)


def test_the_url_in_a_free_field(ats: Installation) -> None:
    # HelloWork is on this machine.
    parts = [(language, text.replace("https:", "http:")) for language, text in section(URL)]
    follow(ats, parts)
    for number in (1, 2):
        ats.ats.execute(
            "UPDATE public.applications SET external_ref = %s WHERE id = %s", (url(ats, f"hw-{number}"), number)
        )
    works(ats)


@pytest.mark.parametrize("mode", ["poll"])
def test_a_view_which_blocks_a_migration(ats: Installation) -> None:
    follow(ats, section(SIDE)[:1])
    ats.ats.execute("INSERT INTO public.applications_hellowork VALUES (1, 'hw-1'), (2, 'hw-2')")
    follow(ats, section(VIEW))
    ats.configure_watch(capture={"poll_interval": "100ms", "sweep": "1s"})
    works(ats)
    with pytest.raises(errors.FeatureNotSupported):
        ats.ats.execute("ALTER TABLE public.applications ALTER COLUMN status TYPE varchar(80)")
