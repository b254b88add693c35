"""Schemas of other ATSs, written down as `cdc-sync init` sees them."""

from cdc_sync.config.guessing import Column, Reference, Table
from cdc_sync.core.identifiers import QualifiedName, parse_qualified


def a_column(text: str) -> Column:
    """`name type [!] [unique] [indexed] [enum] [->table.key] [~distinct]`; `!` is NOT NULL, `_` in the type a blank."""
    name, type_, *marks = text.split()
    reference, distinct = None, None
    for mark in marks:
        if mark.startswith("->"):
            table, _, key = mark[2:].rpartition(".")
            reference = Reference(parse_qualified(table), key)
        if mark.startswith("~"):
            distinct = int(mark[1:])
    return Column(
        name,
        type_.replace("_", " "),
        is_enum="enum" in marks,
        not_null="!" in marks,
        unique="unique" in marks,
        indexed="indexed" in marks,
        reference=reference,
        distinct=distinct,
    )


def a_table(name: str, *columns: str, key: str | None = "id", kind: str = "r", rows: int = 1000) -> Table:
    """A table; its key is one column, or None."""
    schema, _, plain = name.rpartition(".")
    return Table(
        QualifiedName(schema or "public", plain), kind, rows, (key,) if key else (), tuple(map(a_column, columns))
    )


ODOO = (
    a_table("hr_recruitment_stage", "id integer !", "sequence integer", "name jsonb !", "hired_stage boolean"),
    a_table("hr_job", "id integer !", "name jsonb !", "active boolean"),
    a_table("hr_applicant_refuse_reason", "id integer !", "name jsonb !"),
    a_table(
        "hr_applicant",
        "id integer !",
        "x_hellowork_id character_varying",
        "partner_name character_varying",
        "email_from character_varying(128)",
        "stage_id integer indexed ->public.hr_recruitment_stage.id",
        "job_id integer ->public.hr_job.id",
        "refuse_reason_id integer ->public.hr_applicant_refuse_reason.id",
        "active boolean",
        "kanban_state character_varying !",
        "date_last_stage_update timestamp_without_time_zone",
        "create_date timestamp_without_time_zone",
        "write_date timestamp_without_time_zone",
    ),
)

FRENCH = (
    a_table("etapes", "id integer !", "libellé text", "ordre integer"),
    a_table("offres", "id integer !", "intitule text"),
    a_table("candidats", "id integer !", "nom text", "prenom text", "situation_familiale text", "date_naissance date"),
    a_table(
        "candidatures",
        "id integer !",
        "candidat_id integer ->public.candidats.id",
        "offre_id integer ->public.offres.id",
        "étape_id integer ->public.etapes.id",
        "id_hellowork character_varying(64) unique indexed",
        "date_candidature timestamp_without_time_zone !",
        "date_maj timestamp_without_time_zone indexed",
        "supprimée boolean",
        "origine text",
        "commentaire text",
    ),
    a_table("historique_candidatures", "id integer !", "candidature_id integer", "statut text", "date_creation date"),
    a_table("pieces_candidature", "id integer !", "candidature_id integer", "fichier text"),
)

RAILS = (
    a_table("job_postings", "id bigint !", "title text"),
    a_table(
        "job_applications",
        "id bigint !",
        "job_posting_id bigint indexed ->public.job_postings.id",
        "candidate_name character_varying",
        "status app_status enum ~6",
        "external_id uuid indexed",
        "status_callback_url character_varying",
        "cv_url character_varying",
        "source character_varying",
        "created_at timestamp(6)_without_time_zone !",
        "updated_at timestamp(6)_without_time_zone !",
        "discarded_at timestamp(6)_without_time_zone",
    ),
    a_table("job_application_notes", "id bigint !", "job_application_id bigint", "body text"),
    a_table("users", "id bigint !", "email text", "state text", "created_at timestamp_without_time_zone"),
)

LEGACY = (
    a_table("ATS.STATUTS", "CODE integer !", "LIBELLE character_varying(50)", key="CODE"),
    a_table(
        "ATS.CANDIDATURES",
        "NUM numeric(10) !",
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
