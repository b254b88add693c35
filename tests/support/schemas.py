"""Schemas of other ATSs, written down as `cdc-sync init` sees them."""

from cdc_sync.ats.facts import Column, Reference
from cdc_sync.ats.survey import Survey, Table
from cdc_sync.core.identifiers import QualifiedName, parse_qualified


def a_column(text: str) -> Column:
    """`name type [unique] [enum] [->table.key]`; `_` in the type is a blank."""
    name, type_, *marks = text.split()
    reference = None
    for mark in marks:
        if mark.startswith("->"):
            table, _, key = mark[2:].rpartition(".")
            reference = Reference(parse_qualified(table), key)
    return Column(
        name,
        type_.replace("_", " "),
        is_enum="enum" in marks,
        unique="unique" in marks,
        reference=reference,
    )


def a_table(name: str, *columns: str, key: str | None = "id", kind: str = "r", rows: int = 1000) -> Table:
    """A table; its key is one column, or None."""
    schema, _, plain = name.rpartition(".")
    return Table(
        QualifiedName(schema or "public", plain), kind, rows, (key,) if key else (), tuple(map(a_column, columns))
    )


def a_survey(*tables: Table) -> Survey:
    """A database with these tables, as a superuser sees it."""
    return Survey(
        version=150000,
        in_recovery=False,
        identity="ats",
        position="",
        prepares_transactions=False,
        waits_for_standbys=False,
        user="postgres",
        database="ats",
        timezone="UTC",
        is_superuser=True,
        tables=tables,
        left_out=(),
    )


ODOO = (
    a_table("hr_recruitment_stage", "id integer", "sequence integer", "name jsonb", "hired_stage boolean"),
    a_table("hr_job", "id integer", "name jsonb", "active boolean"),
    a_table("hr_applicant_refuse_reason", "id integer", "name jsonb"),
    a_table(
        "hr_applicant",
        "id integer",
        "x_hellowork_id character_varying",
        "partner_name character_varying",
        "email_from character_varying(128)",
        "stage_id integer ->public.hr_recruitment_stage.id",
        "job_id integer ->public.hr_job.id",
        "refuse_reason_id integer ->public.hr_applicant_refuse_reason.id",
        "active boolean",
        "kanban_state character_varying",
        "date_last_stage_update timestamp_without_time_zone",
        "create_date timestamp_without_time_zone",
        "write_date timestamp_without_time_zone",
    ),
)

FRENCH = (
    a_table("etapes", "id integer", "libellé text", "ordre integer"),
    a_table("offres", "id integer", "intitule text"),
    a_table("candidats", "id integer", "nom text", "prenom text", "situation_familiale text", "date_naissance date"),
    a_table(
        "candidatures",
        "id integer",
        "candidat_id integer ->public.candidats.id",
        "offre_id integer ->public.offres.id",
        "étape_id integer ->public.etapes.id",
        "id_hellowork character_varying(64) unique",
        "date_candidature timestamp_without_time_zone",
        "date_maj timestamp_without_time_zone",
        "supprimée boolean",
        "origine text",
        "commentaire text",
    ),
    a_table("historique_candidatures", "id integer", "candidature_id integer", "statut text", "date_creation date"),
    a_table("pieces_candidature", "id integer", "candidature_id integer", "fichier text"),
)

RAILS = (
    a_table("job_postings", "id bigint", "title text"),
    a_table(
        "job_applications",
        "id bigint",
        "job_posting_id bigint ->public.job_postings.id",
        "candidate_name character_varying",
        "status app_status enum",
        "external_id uuid",
        "status_callback_url character_varying",
        "cv_url character_varying",
        "source character_varying",
        "created_at timestamp(6)_without_time_zone",
        "updated_at timestamp(6)_without_time_zone",
        "discarded_at timestamp(6)_without_time_zone",
    ),
    a_table("job_application_notes", "id bigint", "job_application_id bigint", "body text"),
    a_table("users", "id bigint", "email text", "state text", "created_at timestamp_without_time_zone"),
)

LEGACY = (
    a_table("ATS.STATUTS", "CODE integer", "LIBELLE character_varying(50)", key="CODE"),
    a_table(
        "ATS.CANDIDATURES",
        "NUM numeric(10)",
        "IDOFFRE numeric(10)",
        "CODESTATUT integer",
        "ETATCIVIL character_varying",
        "REFHELLOWORK character_varying(40)",
        "DATECREATION date",
        "DATEMODIF date",
        "SUPPRIME smallint",
        key="NUM",
    ),
)

PRISMA = (
    a_table("_prisma_migrations", "id text", "started_at timestamp_with_time_zone"),
    a_table("Job", "id text", "title text", "reference text unique"),
    a_table("Candidate", "id text", "email text", "firstName text"),
    a_table(
        "Application",
        "id text",
        'candidateId text ->public."Candidate".id',
        'jobId text ->public."Job".id',
        "status application_status enum",
        "hiredAt timestamp(3)_without_time_zone",
        "createdAt timestamp(3)_without_time_zone",
        "updatedAt timestamp(3)_without_time_zone",
    ),
)

HORILLA = (
    a_table("recruitment_recruitment", "id bigint", "title character_varying(50)", "is_active boolean"),
    a_table("base_jobposition", "id bigint", "job_position character_varying(50)"),
    a_table("recruitment_stage", "id bigint", "stage character_varying(50)", "stage_type character_varying(20)"),
    a_table(
        "recruitment_candidate",
        "id bigint",
        "name character_varying(100)",
        "email character_varying(254)",
        "source character_varying(20)",
        "hired boolean",
        "offer_letter_status character_varying(10)",
        "created_at timestamp_with_time_zone",
        "last_updated date",
        "hired_date date",
        "job_position_id_id bigint ->public.base_jobposition.id",
        "recruitment_id_id bigint ->public.recruitment_recruitment.id",
        "stage_id_id bigint ->public.recruitment_stage.id",
        "hellowork_id character_varying(64) unique",
    ),
    a_table(
        "recruitment_rejectedcandidate",
        "id bigint",
        "created_at timestamp_with_time_zone",
        "candidate_id_id bigint unique ->public.recruitment_candidate.id",
    ),
)

OPENATS = (
    a_table("jobs", "id integer", "slug character_varying(255) unique", "title text", "status job_status enum"),
    a_table("job_pipeline_stages", "id integer", "job_id integer ->public.jobs.id", "name character_varying(100)"),
    a_table(
        "candidates",
        "id integer",
        "first_name character_varying(100)",
        "email character_varying(255)",
        "job_id integer ->public.jobs.id",
        "current_stage_id integer ->public.job_pipeline_stages.id",
        "status candidate_status enum",
        "applied_at timestamp_without_time_zone",
        "updated_at timestamp_without_time_zone",
        "rejection_notice_sent_at timestamp_without_time_zone",
    ),
    a_table("candidate_rejections", "id integer", "candidate_id integer ->public.candidates.id", "reason text"),
    a_table("candidate_stage_history", "id integer", "candidate_id integer ->public.candidates.id"),
)
