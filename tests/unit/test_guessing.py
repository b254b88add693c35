"""What is guessed of schemas of several kinds, and how sure of it the guess mentions to be."""

from dataclasses import replace

import pytest
from support.schemas import FRENCH, LEGACY, ODOO, RAILS, a_column, a_table

from cdc_sync.config.guessing import Guess, Proposal, Table, flags, label_of, propose, rank
from cdc_sync.config.meanings import is_personal, mentions, weight, words
from cdc_sync.core.identifiers import QualifiedName


def proposed(tables: tuple[Table, ...], **chosen: str) -> Proposal:
    return propose(rank(tables)[0], tables, chosen)


def columns(proposal: Proposal) -> dict[str, str | None]:
    return {field: guess.column for field, guess in proposal.guesses.items() if not guess.suggested}


def a_guess(*described: str, key: str | None = "id") -> Proposal:
    table = a_table("applications", *described, key=key)
    return propose(table, [table])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("date_création", {"date", "creation"}),
        ("DateCreation", {"date", "creation"}),
        ("DATE_MAJ", {"date", "maj"}),
        ("x_hellowork_id", {"x", "hellowork", "id"}),
        ("offres2024", {"offres", "offre", "2024"}),
        ("jobID", {"job", "id"}),
    ],
)
def test_a_name_has_words(name: str, expected: set[str]) -> None:
    assert words(name) == expected


def test_a_word_inside_another_counts_a_little_less() -> None:
    known = {"statut": 8, "code": 1, "id": 1}

    assert weight(words("statut"), known) == 8
    assert weight(words("CODESTATUT"), known) == 7
    assert weight(words("code_statut"), known) == 9
    assert weight(words("idee"), known) == 0  # `id` is too short to be seen in there
    assert mentions(words("SITUATIONFAMILIALE"), {"familiale"})
    assert not mentions(words("familiarity"), {"familiale"})


@pytest.mark.parametrize(
    ("tables", "expected"),
    [(ODOO, "hr_applicant"), (FRENCH, "candidatures"), (RAILS, "job_applications"), (LEGACY, "CANDIDATURES")],
    ids=["odoo", "french", "rails", "legacy"],
)
def test_the_table_is_found(tables: tuple[Table, ...], expected: str) -> None:
    assert rank(tables)[0].name.name == expected


def test_no_table_is_better_than_a_wrong_one() -> None:
    assert (
        rank([a_table("invoices", "id integer", "amount numeric"), a_table("users", "id integer", "email text")]) == []
    )


def test_a_table_is_better_than_its_view_and_a_big_one_than_a_small_one() -> None:
    described = ("id integer", "hellowork_id text", "status text", "job_id integer", "created_at date")
    small = a_table("applications_a", *described, rows=10)
    big = a_table("applications_b", *described, rows=10_000)
    view = a_table("applications", *described, kind="v", rows=10_000)

    assert rank([view, small, big]) == [big, small, view]


def test_odoo() -> None:
    found = proposed(ODOO)

    assert columns(found) == {
        "application_id": "x_hellowork_id",
        "status": "stage_id",
        "job_id": "job_id",
        "created": "create_date",
        "event_date": "date_last_stage_update",
    }
    status = found.guesses["status"]
    assert status.sql == (
        "(SELECT coalesce(s.name ->> 'fr_FR', s.name ->> 'en_US') FROM public.hr_recruitment_stage s"
        " WHERE s.id = t.stage_id)"
    )
    assert status.related == QualifiedName("public", "hr_recruitment_stage")
    assert "translated" in (status.doubt or "")
    assert found.guesses["deleted"].suggested
    assert found.guesses["deleted"].sql == "NOT t.active"
    assert found.watermark is not None
    assert found.watermark.column == "write_date"
    assert found.zoneless == ("create_date", "date_last_stage_update", "write_date")


def test_french() -> None:
    found = proposed(FRENCH)

    assert columns(found) == {
        "application_id": "id_hellowork",
        "status": "étape_id",
        "job_id": "offre_id",
        "created": "date_candidature",
        "event_date": "date_maj",
        "source": "origine",
        "deleted": "supprimée",
    }
    status = found.guesses["status"]
    assert status.sql == '(SELECT s."libellé" FROM public.etapes s WHERE s.id = t."étape_id")'
    assert status.doubt is None
    assert "public.etapes" in status.why
    assert found.guesses["application_id"] == Guess("id_hellowork", "by its name, it is unique, it is indexed")
    assert found.key == ("id",)
    assert found.key_doubt is None


def test_rails() -> None:
    found = proposed(RAILS)

    assert columns(found) == {
        "application_id": "external_id",
        "status_url": "status_callback_url",
        "status": "status",
        "job_id": "job_posting_id",
        "created": "created_at",
        "event_date": "updated_at",
        "source": "source",
        "deleted": "discarded_at",
    }
    assert found.guesses["status"].why == "by its name, it is an enumeration, it has about 6 different values"
    assert "look whether it is" in (found.guesses["application_id"].doubt or "")


def test_the_day_of_entry_is_a_creation_date_to_be_looked_at() -> None:
    found = a_guess("id integer", "dt_naissance date", "dt_saisie date !")

    assert columns(found)["created"] == "dt_saisie"
    assert found.guesses["created"].doubt == "its name is vague: look whether it is"


def test_upper_case_without_separators_and_without_foreign_keys() -> None:
    found = proposed(LEGACY)

    assert columns(found) == {
        "application_id": "REFHELLOWORK",
        "status": "CODESTATUT",
        "job_id": "IDOFFRE",
        "created": "DATECREATION",
        "deleted": "SUPPRIME",
    }
    assert found.guesses["application_id"].doubt is None
    status = found.guesses["status"]
    assert status.sql == '(SELECT s."LIBELLE" FROM "ATS"."STATUTS" s WHERE s."CODE" = t."CODESTATUT")'
    assert "no foreign key leads" in (status.doubt or "")
    assert found.guesses["deleted"].sql == 't."SUPPRIME" <> 0'
    assert "its values were not seen" in (found.guesses["deleted"].doubt or "")
    event_date = found.guesses["event_date"]
    assert event_date.suggested
    assert "no time of day" in (event_date.doubt or "")
    assert found.zoneless == ("DATECREATION", "DATEMODIF")


def test_a_required_field_that_is_not_found_is_named() -> None:
    found = a_guess("nothing text", key=None)

    assert columns(found) == {"application_id": None, "status": None, "job_id": None, "created": None}
    assert all(guess.doubt for guess in found.guesses.values())
    assert found.watermark is None
    assert found.key == ("nothing",)
    assert "unique" in (found.key_doubt or "")
    assert a_guess("name text", "num_id integer", key=None).key == ("num_id",)


def test_rivals_cast_a_doubt() -> None:
    found = a_guess("id integer", "status text", "Statut text")

    assert found.guesses["status"].column == "status"
    assert found.guesses["status"].doubt == 'it could also be "Statut"'


def test_two_that_could_be_the_job_cast_a_doubt() -> None:
    found = a_guess("id integer", "job_posting_id integer ->public.posts.id", "offre_id integer ->public.offres.id")

    assert found.guesses["job_id"].column == "job_posting_id"
    assert found.guesses["job_id"].doubt == "it could also be offre_id"
    assert a_guess("id integer", "job_id integer", "mission text").guesses["job_id"].doubt is None
    found = a_guess(
        "id integer",
        "job_position_id bigint indexed ->public.positions.id",
        "recruitment_id bigint indexed ->public.recruitments.id",
    )
    assert found.guesses["job_id"].doubt == "it could also be recruitment_id"


def test_a_person_knows_better() -> None:
    table = a_table("applications", "id integer", "status text", "progress text", "seen_on date", "flag smallint")
    chosen = {"status": "progress", "event_date": "seen_on", "deleted": "flag", "watermark": "seen_on"}

    found = propose(table, [table], chosen)

    assert found.guesses["status"] == Guess("progress", "you named it")
    assert found.guesses["deleted"].sql == "t.flag <> 0"
    assert found.watermark == Guess("seen_on", "you named it")
    assert propose(table, [table], {"status": "nowhere"}).guesses["status"].column == "status"


def test_a_number_without_a_table_is_no_label() -> None:
    assert "status.map" in (a_guess("id integer", "status integer").guesses["status"].doubt or "")
    assert a_guess("id integer", "status text").guesses["status"].doubt is None


@pytest.mark.parametrize(
    "lookup",
    [
        a_table("other_things", "id integer", "label text"),
        a_table("statuts", "id integer", "rank integer"),  # no label
        a_table("statuts", "label text", key=None),
        a_table("applications_archive", "id integer", "label text"),
    ],
)
def test_another_table_is_not_the_numbers_meaning(lookup: Table) -> None:
    table = a_table("applications", "id integer", "statut_id integer")

    assert propose(table, [table, lookup]).guesses["status"].sql is None


def test_a_reference_to_what_cannot_be_seen_is_taken_as_it_is() -> None:
    table = a_table("applications", "id integer", "stage_id integer ->hidden.stages.id")

    assert propose(table, [table]).guesses["status"].sql is None


def test_a_lookup_of_applications_alone_is_none() -> None:
    table = a_table("candidatures", "id integer", "statut_candidature integer")
    lookup = a_table("statuts_candidatures", "id integer", "libelle text")

    sql = propose(table, [table, lookup]).guesses["status"].sql
    assert sql == "(SELECT s.libelle FROM public.statuts_candidatures s WHERE s.id = t.statut_candidature)"
    table = a_table("candidatures", "id integer", "code_statut integer")
    lookup = a_table("ref_statut", "code integer", "libelle text", key="code")
    assert propose(table, [table, lookup]).guesses["status"].related == lookup.name
    coded = a_table("candidatures", "id integer", "statut character(3)")
    by_code = a_table("t_ref_statut", "code character(3) !", "libelle text", key="code")
    assert propose(coded, [coded, by_code]).guesses["status"].related == by_code.name
    assert propose(coded, [coded, lookup]).guesses["status"].sql is None  # its key is a number
    only_codes = a_table("ref_statut", "statut text !", key="statut")
    assert propose(coded, [coded, only_codes]).guesses["status"].sql is None


def test_a_lookups_own_key_is_no_label() -> None:
    lookup = a_table("etape", "code_etape character(2) !", "libelle character(30)", key="code_etape")
    table = a_table("candidature", "id integer", "code_etape character(2) ->public.etape.code_etape")

    sql = propose(table, [table, lookup]).guesses["status"].sql

    assert sql == "(SELECT s.libelle FROM public.etape s WHERE s.code_etape = t.code_etape)"


def test_a_letter_may_decide_the_status_as_a_boolean_does() -> None:
    table = a_table("candidature", "id integer", "statut text", "fg_embauche character(1)", "embauche_par text")

    (carrier,) = propose(table, [table]).carriers

    assert (carrier.name, carrier.status) == ("fg_embauche", "hired")
    assert carrier.condition.startswith("upper(t.fg_embauche) IN ('1', 'O', ")


def test_many_different_values_speak_against_a_status() -> None:
    found = a_guess("id integer", "state text ~5000", "stage text ~8")

    assert found.guesses["status"].column == "stage"
    assert found.guesses["status"].doubt is None


def test_the_ats_s_own_number_is_not_hellowork_s() -> None:
    table = a_table("applications", "hellowork_id integer", "external_ref text", key="hellowork_id")

    assert propose(table, [table]).guesses["application_id"].column == "external_ref"


@pytest.mark.parametrize(
    ("described", "sql"),
    [("active boolean", "NOT t.active"), ("actif boolean", "NOT t.actif"), ("archived_at date", None)],
)
def test_an_archive_may_mean_deleted(described: str, sql: str | None) -> None:
    guess = a_guess("id integer", described).guesses["deleted"]

    assert guess.suggested
    assert guess.sql == sql
    assert "does it mean deleted?" in (guess.doubt or "")


def test_a_label_is_what_people_read() -> None:
    assert label_of(a_table("stages", "id integer", "code text", "label text")) == a_column("label text")
    assert label_of(a_table("stages", "id integer", "colour text")) is None
    assert label_of(a_table("stages", "id integer")) is None
    for name in ("stage", "etape", "libelle", "title", "statut"):
        assert label_of(a_table("x", "id integer", f"{name}_type text", f"{name} text")) == a_column(f"{name} text")


def test_kinds_of_types() -> None:
    kinds = {
        "timestamp(3)_with_time_zone": "timestamptz",
        "timestamp_without_time_zone": "timestamp",
        "character_varying(10)": "text",
        "numeric(10,0)": "number",
        "point": "other",
    }
    assert {type_: a_column(f"x {type_}").kind for type_ in kinds} == kinds


@pytest.mark.parametrize(
    "name",
    ["partner_phone", "TELEPHONE", "email_source", "nom", "PrenomStatut", "candidate_name", "birth_date", "salaire"],
)
def test_personal_data_is_never_proposed(name: str) -> None:
    assert is_personal(name)
    for field in ("partner", "candidate", "first"):
        found = a_guess("id integer", f"{field}_{name} text")
        assert columns(found) == {"application_id": None, "status": None, "job_id": None, "created": None}


@pytest.mark.parametrize(
    "name", ["display_name", "nom_complet", "nomcandidat", "fname", "ddn", "titulaire", "numero_secu"]
)
def test_other_names_of_personal_data_are_known(name: str) -> None:
    assert is_personal(name)


@pytest.mark.parametrize(
    "name", ["stage_name", "nom_statut", "hellowork_id", "job_name", "source", "stage", "security", "refname"]
)
def test_what_is_not_a_persons_is_no_personal_data(name: str) -> None:
    assert not is_personal(name)


@pytest.mark.parametrize(
    ("field", "column", "doubt"),
    [
        ("application_id", "partner_phone", "it looks like personal data, which HelloWork must not receive"),
        ("status", "seen_on", "it is of type date, which is odd for this"),
        ("status", "status_reason", "its name means something else"),
        ("application_id", "id", "it looks like a number of the ATS's own, and HelloWork's id is needed"),
        ("status", "progress", None),
    ],
)
def test_what_a_person_names_keeps_its_doubt_if_it_looks_wrong(field: str, column: str, doubt: str | None) -> None:
    table = a_table(
        "applications", "id integer", "partner_phone text", "seen_on date", "status_reason text", "progress text"
    )

    assert propose(table, [table], {field: column}).guesses[field] == Guess(column, "you named it", doubt)


def test_a_person_may_give_an_expression() -> None:
    table = a_table("applications", "id integer", "status text")
    given = Guess(None, "you gave it", sql="upper(t.status)", depends_on=("status",))

    assert propose(table, [table], {"status": given}).guesses["status"] == given


ALL_SPELLINGS = "IN ('1', 'O', 'OUI', 'T', 'TRUE', 'V', 'VRAI', 'X', 'Y', 'YES')"


@pytest.mark.parametrize(
    ("described", "values", "sql", "doubt"),
    [
        ("supprime character(1)", ("N", "O"), "t.supprime = 'O'", None),
        ("fg_suppr character_varying(1)", ("", "Y", "o"), "t.fg_suppr IN ('Y', 'o')", None),
        ("is_deleted text", ("f", "t"), "t.is_deleted = 't'", None),
        ("is_deleted text", ("false", "true"), "t.is_deleted = 'true'", None),
        ("supprime smallint", ("0", "1"), "t.supprime = 1", None),
        ("supprime character(1)", ("N",), f"upper(t.supprime) {ALL_SPELLINGS}", "of its values only 'N' was seen"),
        ("supprime character(1)", ("A", "O"), f"upper(t.supprime) {ALL_SPELLINGS}", "only 'A', 'O' was seen"),
        ("supprime character(1)", (), f"upper(t.supprime) {ALL_SPELLINGS}", "its values were not seen"),
        ("supprime character(1)", None, f"upper(t.supprime) {ALL_SPELLINGS}", "its values were not seen"),
        ("supprime integer", ("0", "7"), "t.supprime <> 0", "of its values only '0', '7' was seen"),
    ],
)
def test_a_text_may_be_a_flag(described: str, values: tuple[str, ...] | None, sql: str, doubt: str | None) -> None:
    column = replace(a_column(described), values=values)
    table = replace(a_table("applications", "id integer"), columns=(a_column("id integer"), column))

    guess = propose(table, [table]).guesses["deleted"]

    assert flags(table) == [column.name]
    assert (guess.column, guess.sql, guess.suggested) == (column.name, sql, False)
    assert (guess.doubt is None) == (doubt is None)
    assert (doubt or "") in (guess.doubt or "")


@pytest.mark.parametrize(
    ("described", "values", "sql"),
    [
        ("actif character(1)", ("N", "O"), "t.actif = 'N'"),
        ("is_active integer", ("0", "1"), "t.is_active = 0"),
        ("is_active integer", None, "t.is_active = 0"),
        ("archive character(1)", ("N", "O"), "t.archive = 'O'"),
        ("desactive character(1)", ("N", "O"), "t.desactive = 'O'"),
    ],
)
def test_an_archive_may_be_a_text_too(described: str, values: tuple[str, ...] | None, sql: str) -> None:
    column = replace(a_column(described), values=values)
    table = replace(a_table("applications", "id integer"), columns=(column,))

    guess = propose(table, [table]).guesses["deleted"]

    assert (guess.sql, guess.suggested) == (sql, True)
    assert "does it mean deleted?" in (guess.doubt or "")


@pytest.mark.parametrize("values", [("a long text", "b"), tuple("abcdef")])
def test_a_text_with_other_values_is_no_flag(values: tuple[str, ...]) -> None:
    column = replace(a_column("suppression text"), values=values)
    table = replace(a_table("applications", "id integer"), columns=(column,))

    assert "deleted" not in propose(table, [table]).guesses
    named = propose(table, [table], {"deleted": "suppression"}).guesses["deleted"]
    assert "does the expression say" in (named.doubt or "")
    assert "a long text" not in (named.doubt or "")


@pytest.mark.parametrize(
    ("described", "condition", "status"),
    [
        ("hired boolean", "t.hired", "hired"),
        ("canceled smallint", "t.canceled <> 0", "canceled"),
        ("active boolean", "NOT t.active", "inactive"),
        ("actif integer", "t.actif = 0", "inactive"),
        ("rejected_at timestamp_without_time_zone", "t.rejected_at IS NOT NULL", "rejected"),
        ("refuse_reason_id integer ->public.reasons.id", "t.refuse_reason_id IS NOT NULL", "rejected"),
        ("refuse_reason_id integer", "t.refuse_reason_id IS NOT NULL", "rejected"),
        ("motif_id integer ->public.motifs_refus.id", "t.motif_id IS NOT NULL", "rejected"),
        ("motif_id integer ->public.motifs.id", "t.motif_id IS NOT NULL", "closed"),
        ("outcome uuid ->public.rejections.id", "t.outcome IS NOT NULL", "rejected"),
        ("motif_refus text", "t.motif_refus <> ''", "rejected"),
    ],
)
def test_another_column_may_also_decide_the_status(described: str, condition: str, status: str) -> None:
    found = a_guess("id integer", "status text", described)

    assert [(one.condition, one.status) for one in found.carriers] == [(condition, status)]
    decided = found.decided()
    assert decided.sql == f"CASE WHEN {condition} THEN '{status}' ELSE t.status END"
    assert decided.depends_on == ("status", described.split(maxsplit=1)[0])


@pytest.mark.parametrize(
    "described",
    ["hired_by_id integer", "accepted_terms boolean", "active_since date", "reason text", "refus text", "x integer",
     "owner_id integer ->public.users.id", "converted json", "email_rejected boolean"],
)  # fmt: skip
def test_what_decides_nothing_is_not_listed(described: str) -> None:
    assert a_guess("id integer", "status text", described).carriers == ()


@pytest.mark.parametrize(
    ("other", "carries"),
    [
        (a_table("rejected", "id integer", "application_id integer ->public.applications.id"), True),
        (a_table("interviews", "id integer", "application_id integer"), True),
        (a_table("interviews", "id integer", "application_id text"), False),
        (a_table("interviews", "id integer", "candidate_id integer ->public.candidates.id"), False),
        (a_table("notes", "id integer", "application_id integer ->public.applications.id"), False),
        (a_table("interviews", "id integer", "application_id integer", kind="v"), False),
    ],
)
def test_a_table_that_leads_to_the_application_may_also_decide(other: Table, *, carries: bool) -> None:
    table = a_table("applications", "id integer", "stage stage_type enum")

    found = propose(table, [table, other])

    if not carries:
        assert found.carriers == ()
        return
    (one,) = found.carriers
    assert (one.name, one.related, one.key) == (str(other.name), other.name, "application_id")
    exists = f"EXISTS (SELECT FROM {other.name} r WHERE r.application_id = t.id)"
    assert found.decided().sql == f"CASE WHEN {exists} THEN '{one.status}' ELSE t.stage::text END"
    assert found.decided().depends_on == ("stage", "id")
    assert propose(replace(table, key=()), [table, other]).carriers == ()


@pytest.mark.parametrize("type_", ["smallint", "uuid"])
def test_a_bare_number_is_not_sent_where_something_else_may_decide(type_: str) -> None:
    found = a_guess("id integer", f"statut {type_}", "embauche boolean")

    assert found.guesses["status"].doubt is not None
    assert found.decided().sql == "CASE WHEN t.embauche THEN 'hired' ELSE NULL END"


def test_what_weighs_most_decides_first() -> None:
    described = ("entretien_le date", "active boolean", "embauche boolean", "annulee boolean", "refusee boolean")

    found = a_guess("id integer", *described)

    assert [one.name for one in found.carriers] == ["refusee", "embauche", "annulee", "entretien_le", "active"]
    assert str(found.decided().sql).endswith("THEN 'inactive' ELSE NULL END")
    given = Guess(None, "you gave it", sql="upper(t.x)", depends_on=("x",))
    assert propose(found.table, [found.table], {"status": given}).carriers == ()
