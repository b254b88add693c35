"""Digests of rows, made by the server: a sweep compares them where a row is as it was when it was last compared.

A row's digest covers all that its reading depends on (`Mapping.decisive`) and the caller's `shape`, which stands for
the rules: so two rows of one digest and one key say the same, by whatever configuration. Session settings change no
digest in a way that could make two different rows alike; the worst that they do is that a row is read once more.

A page of digests is one JSON text that goes from the server to the store as it is. Each of its elements, in the order
of the keys, is a text:

- sixteen hexadecimal digits and the row's key, as the store writes it (`store.columns.key_text`): to be compared;
- `n`: no row of HelloWork's, for it has no id;
- `o` and a JSON array of the row's key and its application's id: out of scope;
- `?`: the digests say nothing of it. It is to be read.

The digest is the 64-bit hash by which PostgreSQL spreads texts over partitions (`hashtextextended`, since 11: Bob
Jenkins' lookup3, whose author offers it as a probably unique identifier); on 10, half of an md5. Nothing here is a
secret or is signed. Of all changes, one in 10^19 would leave the digest as it is. Should another major version hash
otherwise, each row is read once.
"""

import json

from psycopg import sql

from cdc_sync.core.rows import Key
from cdc_sync.source.mapping import Mapping

LENGTH = 16
"""Characters of a digest: 64 bits as hexadecimal digits."""

_HASHES_SINCE = 110000
_HASH = """encode(int8send(pg_catalog.hashtextextended((%s::text || ROW({})::text) COLLATE "C", 0)), 'hex')"""
_MD5 = "left(md5(%s::text || ROW({})::text), 16)"


def of_row(mapping: Mapping) -> sql.Composed:
    """A row's digest; the parameter is the shape."""
    return sql.SQL(_HASH if mapping.server_version >= _HASHES_SINCE else _MD5).format(mapping.decisive)


def element(mapping: Mapping) -> sql.Composed:
    """A row's element of a page; the parameter is the shape."""
    columns, key = mapping.watch.columns, _key_text(mapping)
    has_no_id, has_no_url = mapping.is_none(columns.application_id), mapping.is_none(columns.status_url)
    digest = sql.SQL("{} || {}").format(of_row(mapping), key)
    if mapping.watch.where:
        out_of_scope = sql.SQL("CASE WHEN {} THEN '?' ELSE 'o' || json_build_array({}, {})::text END").format(
            has_no_id, key, mapping.application_id
        )
        digest = sql.SQL("CASE WHEN NOT {} THEN {} ELSE {} END").format(mapping.scope, out_of_scope, digest)
    # The key of a type that has a value with no text is no key of ours.
    return sql.SQL("coalesce(CASE WHEN {} AND {} THEN 'n' ELSE {} END, '?')").format(has_no_id, has_no_url, digest)


_NOTHING_TO_ESCAPE = frozenset({"smallint", "integer", "bigint", "uuid"})
"""Types of digits, and of the digits and hyphens of a UUID."""


def _key_text(mapping: Mapping) -> sql.Composed:
    """A row's key as the store writes it."""
    parts = [
        # Each closes the literal around it and opens the next.
        sql.SQL("""\"' || {} || '\"""" if type_ in _NOTHING_TO_ESCAPE else "' || to_json({})::text || '").format(text)
        for text, type_ in zip(mapping.key_texts, mapping.key_type_names, strict=True)
    ]
    return sql.SQL("('[{}]')").format(sql.SQL(",").join(parts))


def keys_of(digests: str, places: list[int]) -> list[Key] | None:
    """The keys of the rows at these places of a page; None if one of them has none to tell."""
    elements: list[str] = json.loads(digests)
    texts: list[str] = []
    for place in places:
        match elements[place][0]:
            case "?" | "n":
                return None
            case "o":
                texts.append(json.loads(elements[place][1:])[0])
            case _:
                texts.append(elements[place][LENGTH:])
    return [tuple(json.loads(text)) for text in texts]
