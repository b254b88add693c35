"""The page's texts in French, by the English that stands in the templates.

`Language.text` sees to it that no line breaks before a colon or a question mark.
"""

FRENCH = {
    "Skip to the content": "Aller au contenu",
    "Application": "Candidature",
    "Look up": "Chercher",
    "Log in": "Se connecter",
    "Log out": "Se déconnecter",
    "This is not the token.": "Ce n'est pas le bon jeton.",
    "Too many wrong tokens were given. Try again in ten seconds.": (
        "Trop de jetons erronés ont été saisis. Réessayez dans dix secondes."
    ),
    "The token, which is admin.token of the configuration": "Le jeton : admin.token dans la configuration",
    "This was not done": "Cela n'a pas été fait",
    "Back to the overview": "Retour à la vue d'ensemble",
    # Lengths of time
    "{number} s": "{number} s",
    "{number} min": "{number} min",
    "{number} h": "{number} h",
    "{number} d": "{number} j",
    "in {length}": "dans {length}",
    "{length} ago": "il y a {length}",
    "since": "depuis",
    # The verdict
    "The state of cdc-sync": "L'état de cdc-sync",
    "All is well.": "Tout va bien.",
    "It works, and something waits for a person.": "Tout fonctionne, mais quelque chose attend une décision.",
    "The daemon does not answer. This is how it was.": "Le démon ne répond pas. Voici comment c'était.",
    "Something is wrong.": "Quelque chose ne va pas.",
    "{number} change is held": "{number} changement est retenu",
    "{number} changes are held": "{number} changements sont retenus",
    "{number} dead letter": "{number} envoi abandonné",
    "{number} dead letters": "{number} envois abandonnés",
    # Watches
    "Watches": "Surveillances",
    "baseline": "état initial",
    "Not configured: what waits is sent, but its changes are watched no more.": (
        "Absente de la configuration : ce qui attend est envoyé, mais ses changements ne sont plus surveillés."
    ),
    "Lag": "Retard",
    "Last change": "Dernier changement",
    "none yet": "aucun encore",
    "Applications known": "Candidatures connues",
    "To be sent": "À envoyer",
    "for {length} at most": "depuis {length} au plus",
    "Held": "Retenus",
    "Dead letters": "Envois abandonnés",
    "Dead letter": "Envoi abandonné",
    "A daemon stands by": "Un démon se tient prêt à prendre le relais",
    "Rows that cannot be reported": "Lignes impossibles à transmettre",
    "Suspected deletions": "Suppressions présumées",
    "Repaired by sweeps": "Réparé par les balayages",
    # Calls
    "Calls of the last {number} hours": "Appels des {number} dernières heures",
    "Acknowledged: {number}": "Acceptés : {number}",
    "failed and tried again: {number}": "échoués, à réessayer : {number}",
    "given up: {number}": "abandonnés : {number}",
    "Calls in steps of ten minutes: acknowledged ones rise from the axis, failed ones hang below it.": (
        "Appels par pas de dix minutes : les acceptés montent de l'axe, les échoués pendent au-dessous."
    ),
    "The same as a table": "Les mêmes chiffres en tableau",
    "From (UTC)": "Depuis (UTC)",
    "Acknowledged": "Acceptés",
    "Tried again": "À réessayer",
    "Given up": "Abandonnés",
    "None.": "Aucun.",
    "Last calls": "Derniers appels",
    "Last failures": "Derniers échecs",
    "acknowledged": "accepté",
    "to be tried again": "à réessayer",
    "given up": "abandonné",
    "{number} attempt": "{number} tentative",
    "{number} attempts": "{number} tentatives",
    # Held entries and dead letters
    "Release": "Envoyer",
    "Discard": "Écarter",
    "Retry": "Réessayer",
    "Retry all": "Tout réessayer",
    "Discard all": "Tout écarter",
    "One call will be made to HelloWork.": "Un appel sera fait à HelloWork.",
    "{number} call will be made to HelloWork.": "{number} appel sera fait à HelloWork.",
    "{number} calls will be made to HelloWork.": "{number} appels seront faits à HelloWork.",
    "Nothing is told: HelloWork is taken to know the present state. This cannot be undone.": (
        "Rien n'est transmis : HelloWork est censé connaître l'état présent. C'est sans retour."
    ),
    "Nothing is told: HelloWork is taken to know the present states. This cannot be undone.": (
        "Rien n'est transmis : HelloWork est censé connaître les états présents. C'est sans retour."
    ),
    "To send them, or to take them as told:": "Pour les envoyer, ou les tenir pour transmis :",
    "HelloWork's reply": "La réponse de HelloWork",
    "and more:": "et d'autres :",
    "and {number} more": "et {number} autres",
    "{number} entry was released.": "{number} changement est libéré.",
    "{number} entries were released.": "{number} changements sont libérés.",
    "{number} entry was discarded.": "{number} changement est écarté.",
    "{number} entries were discarded.": "{number} changements sont écartés.",
    "{number} dead letter is sent again.": "{number} envoi abandonné est réessayé.",
    "{number} dead letters are sent again.": "{number} envois abandonnés sont réessayés.",
    "This page can release, retry and discard once admin.token is configured.": (
        "Cette page permet d'envoyer, de réessayer et d'écarter dès que admin.token est configuré."
    ),
    # Endpoints
    "Endpoints": "Destinations",
    "takes calls": "accepte les appels",
    "asks to wait": "demande d'attendre",
    "does not work": "ne fonctionne pas",
    "refuses our credentials": "refuse nos identifiants",
    "next try": "prochain essai",
    "paused by an operator": "envoi mis en pause par une personne",
    "Pause sending": "Mettre l'envoi en pause",
    "Everything is kept, and nothing is sent there until somebody resumes it.": (
        "Tout est conservé, et rien n'y est envoyé jusqu'à la reprise."
    ),
    "Resume sending": "Reprendre l'envoi",
    "What waits is sent.": "Ce qui attend est envoyé.",
    "Sending is paused.": "L'envoi est en pause.",
    "Sending is resumed.": "L'envoi a repris.",
    # One application
    "job": "offre",
    "deleted": "supprimée",
    "row": "ligne",
    "queued": "en file",
    "due": "prévu",
    "No watch knows it. Is it the id on HelloWork's side, and did the daemon run since its row exists?": (
        "Aucune surveillance ne la connaît. Est-ce l'identifiant côté HelloWork, et le démon a-t-il tourné depuis que "
        "sa ligne existe ?"
    ),
    "HelloWork was told": "HelloWork a reçu",
    "nothing yet": "rien encore",
    "Its row seems gone": "Sa ligne semble avoir disparu",
    "a fresh read will tell": "une nouvelle lecture le dira",
    "Its row cannot be reported": "Sa ligne est impossible à transmettre",
    "Its row is out of scope": "Sa ligne est hors du périmètre",
    "no calls are made for it": "aucun appel n'est fait pour elle",
    "Its story": "Son histoire",
    "attempt {number}": "tentative {number}",
    "found by": "vu par",
    "again": "nouvel essai",
    "to be sent": "à envoyer",
    "held": "retenu",
    "undone before it was sent": "annulé avant l'envoi",
    "called, its answer is not known": "appelé, réponse inconnue",
    "its row seems gone": "sa ligne semble avoir disparu",
    "released by a person": "libéré par une personne",
    "discarded by a person": "écarté par une personne",
    "retried by a person": "réessayé par une personne",
    "resent by a person": "renvoyé par une personne",
    # The foot
    "As of": "État au",
    "keep up to date": "tenir à jour",
}
