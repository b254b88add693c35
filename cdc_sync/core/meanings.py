"""The words and types by which a column is taken for something, in English and French, and how a name is read.

A name is taken apart into words: `date_création`, `DateCreation`, `DATECREATION` and `x_hellowork_id`.

The weights only have an order: from what is always meant (`hellowork`) to what is sometimes (`state`).
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["text", "number", "uuid", "enum", "json", "boolean", "timestamptz", "timestamp", "date", "other"]
"""What sort of value a column has."""

TYPES: Mapping[str, Kind] = {
    **dict.fromkeys(("text", "character", "character varying", "citext", "name"), "text"),
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric"), "number"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    "uuid": "uuid",
    "boolean": "boolean",
    "date": "date",
}
"""The kinds of types by their names in SQL; of the others `guessing.Column` knows."""

_INSTANTS: frozenset[Kind] = frozenset({"timestamptz", "timestamp", "date"})

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SHORTEST_GLUED = 4
"""Letters of a word that is recognised inside another one; shorter ones are everywhere."""

_GLUED = 1
"""What a word weighs less if it is only part of another."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """How a column is recognised.

    Attributes:
        words: what its name may say, and how much that tells.
        never: what its name does not say.
        kinds: what its values may be.
        least: the score below which it is not even a guess.
        sure: the score from which on a guess is made without a doubt, if nothing else comes near.
    """

    words: Mapping[str, int]
    never: frozenset[str]
    kinds: frozenset[Kind]
    least: int = 4
    sure: int = 7


def _weights(text: str) -> Mapping[str, int]:
    """Words as `word:weight`, separated by blanks."""
    return MappingProxyType({word: int(number) for word, _, number in (entry.partition(":") for entry in text.split())})


def _meaning(words: str, never: str, kinds: frozenset[Kind], **scores: int) -> Meaning:
    return Meaning(_weights(words), frozenset(never.split()), kinds, **scores)


_IDS: frozenset[Kind] = frozenset({"text", "number", "uuid"})
_FLAGS: frozenset[Kind] = frozenset({"boolean", "number", "text"})
_CHANGED = "updated:8 update:8 modified:8 modification:8 modifie:8 modifiee:8 modif:8 maj:8 changed:7 change:6 "
_CHANGED += "changement:6 write:6 edited:5 last:1 derniere:1 jour:2"
_NO_CHANGE = "created create creation deleted suppression naissance birth birthday login viewed cv entretien interview"

MEANINGS: Mapping[str, Meaning] = MappingProxyType(
    {
        "application_id": _meaning(
            "hellowork:10 hw:9 external:4 externe:4 ext:4 partner:4 partenaire:4 remote:4 application:3 "
            "candidature:3 id:1 ref:1 reference:1 uuid:1",
            "url uri lien date job offre offer annonce poste user status statut token",
            _IDS,
            # An ATS knows other partners too: only HelloWork's name is sure.
            sure=9,
        ),
        "status_url": _meaning(
            "url:3 uri:3 lien:2 callback:5 webhook:4 endpoint:3 status:3 statut:3 hellowork:4 api:2",
            "cv resume photo avatar linkedin job offre annonce site image logo",
            frozenset({"text"}),
            least=5,
        ),
        "status": _meaning(
            "status:8 statut:8 stage:7 etape:7 etat:6 state:6 phase:5 step:4 avancement:4 workflow:4 situation:3 "
            "stat:4 id:0 code:0",
            "date dt at on by par url uri api reason motif previous old ancien prev last changed update updated email "
            "mail payment marital familiale famille civil kanban country postal is has sync statistique",
            frozenset({"text", "enum", "number", "uuid"}),
        ),
        "job_id": _meaning(
            "job:7 offer:7 offre:7 vacancy:7 annonce:6 poste:6 requisition:6 posting:6 opening:5 position:4 mission:4 "
            "recrutement:3 recruitment:3 id:1 ref:1 reference:1 code:1 num:1 numero:1",
            "title titre intitule label libelle date url uri type status statut name nom description lettre letter "
            "category categorie contrat",
            _IDS,
        ),
        "created": _meaning(
            "created:8 create:8 creation:8 cree:8 creee:8 crea:7 inserted:6 insertion:6 applied:6 postule:6 "
            "submitted:6 received:5 reception:5 recue:5 recu:5 depot:5 ajout:5 added:5 candidature:6 application:6 "
            "saisie:4 date:1",
            "updated update modified modification modif maj deleted suppression naissance birth entretien interview "
            "embauche hired closed status statut stage etape write",
            _INSTANTS,
        ),
        "event_date": _meaning(f"{_CHANGED} status:4 statut:4 stage:4 etape:4", _NO_CHANGE, _INSTANTS),
        "watermark": _meaning(_CHANGED, f"{_NO_CHANGE} status statut stage etape", _INSTANTS),
        "deleted": _meaning(
            "deleted:8 supprime:8 supprimee:8 suppression:8 suppr:7 delete:7 removed:7 efface:7 effacee:7 trashed:6 "
            "corbeille:6 discarded:6",
            "by par reason motif user comment commentaire token",
            _FLAGS | _INSTANTS,
        ),
        "archived": _meaning(
            "archived:6 archive:6 archivee:6 archivage:6 active:5 actif:5 inactive:5 inactif:5 desactive:5",
            "by par reason motif user comment commentaire token",
            _FLAGS | _INSTANTS,
        ),
        "source": _meaning(
            "source:8 origine:7 provenance:7 origin:6 canal:6 channel:6 sourcing:5",
            "id url code date",
            frozenset({"text", "enum", "json"}),
        ),
    }
)
"""By the thing's name in the configuration; `archived` is a state that may mean deleted, or not."""

LABELS = _weights(
    "label:9 libelle:9 intitule:8 name:8 nom:8 title:7 titre:7 designation:7 stage:6 etape:6 statut:6 status:6 phase:5 "
    "etat:5 state:5 step:5 description:4 code:4 type:-4"
)
"""What the column of a stage's or status's label is called."""

APPLICATIONS = _weights(
    "application:10 candidature:10 candidacy:9 candidacie:9 postulation:9 applicant:8 candidat:3 candidate:3"
)
"""What a table of applications is called."""

_ABOUT_THEM = """
history historique histo log journal audit note comment commentaire file fichier document attachment piece tag rel stage
etape statut status reason motif category categorie archive tmp temp backup old sauvegarde bak message mail email event
evenement answer reponse question type source setting parametre template modele score rejection rejet refus refuse stat
export import queue config
"""
ABOUT_THEM = frozenset(_ABOUT_THEM.split())
"""What the name of a table says that only has something about applications."""

YES = frozenset({"o", "oui", "y", "yes", "1", "t", "true", "v", "vrai", "x"})
NO = frozenset({"n", "non", "no", "0", "f", "false", "faux"})
"""How a flag is written, in lower case."""

OF_LOOKUPS = frozenset({"ref", "referentiel", "lookup", "list", "liste", "table", "tbl", "param", "code", "t", "r"})
"""What the name of a lookup table says beside what it is a list of."""

NUMBERS = frozenset({"id", "fk", "num", "numero", "no"})
"""What the name of a column says that is a number or leads to another table."""

_PERSONAL = """
phone telephone tel mobile portable gsm fax mail email courriel prenom firstname lastname surname forename birth dob
naissance adresse address street zip zipcode postal salary salaire salarial remuneration pretention iban ssn nir gender
sexe civilite nationalite nationality nomcandidat titulaire
"""
PERSONAL = frozenset(_PERSONAL.split())
"""What the name of a column says that has personal data."""

_PERSONAL_ALONE = frozenset({"fname", "lname", "ddn", "secu"})
"""The same, but not glued to another word: `refname` and `security` are no person's."""

_NAMES = frozenset({"name", "nom"})
_PEOPLE = """
candidate candidat applicant partner person personne contact first last full family given usage display complet
"""
_OF_PEOPLE = _NAMES | frozenset(_PEOPLE.split())

_DECISIONS = """
reject:rejected rejet:rejected refus:rejected declin:rejected withdr:whithdrawn desist:whithdrawn hire:hired
embauch:hired cancel:canceled annul:canceled convert:converted accept:accepted reason:closed motif:closed
clos:closed clot:closed interview:interview_by_recruiter entretien:interview_by_recruiter
"""
DECISIONS: Mapping[str, str] = MappingProxyType(
    {stem: status for stem, _, status in (entry.partition(":") for entry in _DECISIONS.split())}
)
"""How a word begins that says what became of an application, and the status for it; what weighs more comes first."""


_NO_DECISION = """
by par user interviewer term condition cgu rgpd gdpr privacy consent newsletter count nb nombre
"""
_UNDECIDED = frozenset(_NO_DECISION.split())


def decision(name: str) -> str | None:
    """The status that a name speaks of; None if it speaks of none."""
    said = words(name)
    if said & _UNDECIDED:
        return None
    return next((status for stem, status in DECISIONS.items() if any(word.startswith(stem) for word in said)), None)


def is_personal(name: str) -> bool:
    """Whether a column has personal data by its name: a telephone, a mail, an address, a person's name."""
    said = words(name)
    return says(said, PERSONAL) or bool(said & _PERSONAL_ALONE or (said & _NAMES and said <= _OF_PEOPLE))


def words(name: str) -> frozenset[str]:
    """The words of a name, in lower case without accents; of a plural the singular too."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = {part.lower() for part in _PARTS.findall(plain)}
    return frozenset(found | {word[:-1] for word in found if word.endswith("s")})


def weight(name: frozenset[str], known: Mapping[str, int]) -> int:
    """How much a name says: the sum of its known words' weights, each once.

    A word that is glued to another (`codestatut`, `IDOFFRE`) counts a little less.
    """
    exact = name & known.keys()
    total = sum(known[word] for word in exact)
    # The singular of a known word is no word of its own: `status` has none.
    for word in name - exact - {known_word[:-1] for known_word in exact}:
        inside = [known[part] - _GLUED for part in known if _is_glued(part, word) and part not in exact]
        total += max(inside, default=0)
    return total


def says(name: frozenset[str], forbidden: Iterable[str]) -> bool:
    """Whether a name has one of these words, alone or glued to another."""
    return any(part in name or any(_is_glued(part, word) for word in name) for part in forbidden)


def _is_glued(part: str, word: str) -> bool:
    return len(part) >= _SHORTEST_GLUED and part != word and (word.startswith(part) or word.endswith(part))
