"""config/odoo-recruitment.yaml says how it is adapted to an older Odoo; here that is done."""

import re
from pathlib import Path

from support.sessions import Ats
from support.source import opened

from cdc_sync.config import Config, parse

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "tests" / "acceptance" / "shapes" / "odoo-recruitment.sql"
EXAMPLE = ROOT / "config" / "odoo-recruitment.yaml"
NO_POOLS = (r"\n +AND t.pool_applicant_id IS DISTINCT FROM t.id", ""), (", pool_applicant_id, id", "")


def adapted(database: str, *replacements: tuple[str, str]) -> Config:
    """The example with some places of its text replaced."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for place, replacement in (("postgresql://cdc_sync@/odoo", database), *replacements):
        before, _, after = re.split(f"({place})", text)
        text = before + replacement + after
    return parse(text, name="adapted", environ={"HELLOWORK_API_KEY": "a-key"})


async def statuses(config: Config) -> list[str | None]:
    async with opened(config) as source:
        return [row.status for row in await source.rows()]


async def test_a_stage_whose_name_is_a_plain_column(database: str, ats: Ats) -> None:
    ats.execute(SCHEMA.read_bytes())
    ats.execute("INSERT INTO public.hr_applicant (stage_id, refuse_reason_id) VALUES (5, NULL), (6, NULL), (5, 1)")
    today = await statuses(adapted(database))

    ats.execute("ALTER TABLE public.hr_applicant DROP pool_applicant_id")
    ats.execute("ALTER TABLE public.hr_recruitment_stage ALTER name TYPE varchar USING coalesce(name ->> 'fr_FR', '-')")
    plain_name = r"coalesce\(.+'en_US'\)", "s.name"
    older = await statuses(adapted(database, *NO_POOLS, plain_name))
    ats.execute("ALTER TABLE public.hr_recruitment_stage DROP hired_stage")
    no_hired_stage = r"SELECT CASE WHEN s.hired_stage .+ END\n", "SELECT s.name\n"
    oldest = await statuses(adapted(database, *NO_POOLS, no_hired_stage))

    assert today == older == ["Proposition de contrat", "hired", "refused"]
    assert oldest == ["Proposition de contrat", "Contrat signé", "refused"]
