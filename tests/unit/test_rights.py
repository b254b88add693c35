"""The SQL of other roles' rights; what it does is held by tests with a server."""

from cdc_sync import rights
from cdc_sync.core.identifiers import QualifiedName

OBJECTS = "SELECT 'TABLE', 'ours', 10, NULL::aclitem[], ARRAY['SELECT'], false"
INSTALLERS = "SELECT 10::oid"


def test_every_part_is_put_in() -> None:
    for text in (rights.revoke(OBJECTS, INSTALLERS, "'the daemon'"), rights.exposed(OBJECTS, INSTALLERS)):
        assert OBJECTS in text
        assert INSTALLERS in text
        assert "{" not in text


def test_the_daemon_keeps_what_it_needs_and_where_it_is_not_known_everybody_does() -> None:
    assert "daemon CONSTANT pg_catalog.text := 'the daemon';" in rights.revoke(OBJECTS, INSTALLERS, "'the daemon'")
    assert "= daemon, true)" in rights.revoke(OBJECTS, INSTALLERS, "NULL")


GRANTS = rights.granted("'{ours}'", [("public", "t", ["{acls}"])], [("changes", "SELECT")], ["public"])


def test_what_is_granted_is_put_in_once_whatever_its_names_are() -> None:
    for block in (rights.all_granted(GRANTS), rights.take_back(GRANTS)):
        assert "role CONSTANT pg_catalog." in block
        assert ":= '{ours}';" in block
        assert """('public', 't', '{"{acls}"}')""" in block
        assert "('changes', 'SELECT')" in block
        assert "IN (NULL, 'public')" in block


def test_every_function_says_its_schema() -> None:
    """A role that may create functions must not have its own called by who runs the script."""
    for text in (rights.revoke(OBJECTS, INSTALLERS, "NULL"), rights.exposed(OBJECTS, INSTALLERS)):
        for function in ("aclexplode", "pg_has_role", "format", "array_agg", "string_agg", "unnest", "array_to_string"):
            assert f" {function}(" not in text


def test_owners_of_no_table_are_nobody() -> None:
    assert "(VALUES (NULL::pg_catalog.text, NULL::pg_catalog.text)) AS watched" in rights.owners(())


def test_a_dump_reads_what_the_tables_owners_are_given() -> None:
    owners = rights.owners([QualifiedName("public", "applications"), QualifiedName(None, "side")])
    assert "pg_catalog.text), ('public', 'applications'), (NULL, 'side')) AS watched" in owners
    for query in (rights.readable(owners, "c.relname = 'changes'"), rights.unreadable(owners, "c.relname = 'changes'")):
        assert owners in query
        assert "AND c.relname = 'changes'" in query
        assert "{" not in query
