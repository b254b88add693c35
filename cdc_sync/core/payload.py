"""The call itself: body and idempotency key, from the content alone.

Both are functions of the content, so every retry of a delivery, also after a crash, is the same request to the byte.
"""

import hashlib
from json.encoder import encode_basestring_ascii as _text

from cdc_sync.core.content import Content
from cdc_sync.core.instants import iso


def body(content: Content) -> bytes:
    """The JSON body, as HelloWork's page "Envoi changements de statut" documents it."""
    fields = [
        f'"status": {_text(content.status)}',
        f'"eventDate": "{iso(content.event_date)}"',
        f'"created": "{iso(content.created)}"',
        f'"jobId": {_text(content.job_id)}',
    ]
    if content.source is not None:
        # PostgreSQL wrote this JSON. It goes out as it is: reading it here could only change its numbers.
        fields.append(f'"source": {content.source}')
    if content.extra is not None and (further := content.extra.strip()[1:-1].strip()):
        fields.append(further)
    return f"{{{', '.join(fields)}}}".encode()


def idempotency_key(application_id: str, content: Content) -> str:
    """The same for every retry of the same content, another for any other content or application."""
    return request(application_id, content)[1]


def request(application_id: str, content: Content) -> tuple[bytes, str]:
    """The body, and the idempotency key of the call that carries it."""
    whose, url, data = application_id.encode(), content.url.encode(), body(content)
    # The lengths too: otherwise ("a", "bc") and ("ab", "c") would be one key.
    parts = (_length(whose), whose, _length(url), url, _length(data), data)
    return data, hashlib.sha256(b"".join(parts)).hexdigest()[:40]


def _length(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big")
