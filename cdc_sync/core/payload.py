"""The call itself: body, dates in it and idempotency key, from the content alone.

Both are functions of the content, so every retry of a delivery, also after a crash, is the same request to the byte.
"""

import hashlib
import struct
from datetime import timedelta
from json.encoder import encode_basestring_ascii as _text

from cdc_sync.core.content import Content
from cdc_sync.core.instants import EPOCH

_EPOCH = EPOCH.replace(tzinfo=None)
_as_length = struct.Struct(">Q").pack


def request(application_id: str, content: Content) -> tuple[bytes, str]:
    """The JSON body, as HelloWork's page "Envoi changements de statut" documents it, and the call's idempotency key.

    The key is the same for every retry of the same content, another for any other content or application.
    """
    text = (
        f'{{"status": {_text(content.status)}, "eventDate": "{iso(content.event_date)}", '
        f'"created": "{iso(content.created)}", "jobId": {_text(content.job_id)}'
    )
    if content.source is not None:
        # PostgreSQL wrote this JSON. It goes out as it is: reading it here could only change its numbers.
        text += f', "source": {content.source}'
    if content.extra is not None and (further := content.extra.strip()[1:-1].strip()):
        text += f", {further}"
    data = f"{text}}}".encode()
    whose, url = application_id.encode(), content.url.encode()
    # The lengths too: otherwise ("a", "bc") and ("ab", "c") would be one key.
    parts = (_as_length(len(whose)), whose, _as_length(len(url)), url, _as_length(len(data)), data)
    return data, hashlib.sha256(b"".join(parts)).hexdigest()[:40]


def body(content: Content) -> bytes:
    """The body alone."""
    return request("", content)[0]


def idempotency_key(application_id: str, content: Content) -> str:
    """The key alone."""
    return request(application_id, content)[1]


def iso(instant: int) -> str:
    """Write an instant as HelloWork documents it: UTC, milliseconds, `Z`."""
    return f"{(_EPOCH + timedelta(milliseconds=instant)).isoformat(timespec='milliseconds')}Z"
