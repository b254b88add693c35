"""PostgreSQL's own extensions, where the server that tests run on has them."""

import psycopg
import pytest

from support.sessions import Ats, run


def create_extension(ats: Ats, name: str, schema: str = "public") -> None:
    """Create an extension; skip the test if it is not there, or is another version's."""
    try:
        run(ats, "CREATE EXTENSION {name} SCHEMA {schema}", name=name, schema=schema)
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError) as error:
        pytest.skip(f"this PostgreSQL has no {name}: {error}")
