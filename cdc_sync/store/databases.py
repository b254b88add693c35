"""The store for the databases that the configuration names: which one each is, and who captures it."""

import json
from collections.abc import Mapping, Sequence

from cdc_sync.core.findings import host_name
from cdc_sync.store.driver import Role, Transaction, job
from cdc_sync.store.errors import another_database
from cdc_sync.store.protocol import FROM_DATABASE, hosts_note, identity_note


class Databases(Role):
    """See the module's text. The section `database` has the name ""."""

    async def bind(self, identity: str, database: str = "", section: str = "database") -> None:
        """Bind a configured name ("" is the section `database`) to a database.

        Its `section` of the configuration is for the error.

        Raises:
            AnotherDatabaseError: it is bound to another one.
        """
        note = identity_note(database)
        if (bound := await self.driver.note(note)) is None:
            await self.driver.transact(lambda t: t.run("set_about_first", name=note, value=identity))
            bound = await self.driver.note(note)
        if bound is not None and bound != identity:
            raise another_database(self.driver.name, database, section, bound, identity)

    async def identity(self, database: str = "") -> str | None:
        """The database to which a configured name is bound."""
        return await self.driver.note(identity_note(database))

    async def hosts(self, database: str = "") -> tuple[str, ...]:
        """The hosts by which a database was reached last; empty if unknown."""
        text = await self.driver.note(hosts_note(database))
        hosts = json.loads(text)["hosts"] if text else []
        # Earlier versions wrote a socket's folder.
        return tuple(host_name(*host.rsplit(":", 1)) for host in hosts)

    async def set_hosts(self, hosts: Sequence[str], database: str = "") -> None:
        """Set a database's hosts."""
        await self.driver.transact(lambda t: t.run("set_about", name=hosts_note(database), value=_text_of(hosts)))

    @job
    async def rebind(
        self,
        transaction: Transaction,
        identity: str,
        hosts: Sequence[str],
        positions: Mapping[str, Mapping[str, str]],
        database: str = "",
    ) -> None:
        """Bind a configured name to another database, with these capture positions by watch."""
        rows = [(watch, name, value) for watch, of in sorted(positions.items()) for name, value in of.items()]
        await transaction.run("set_about", name=identity_note(database), value=identity)
        await transaction.run("set_about", name=hosts_note(database), value=_text_of(hosts))
        await transaction.write("set_position", rows)

    async def set_captured_from(self, watch: str, database: str) -> None:
        """Record the new name of a watch's database."""
        await self.driver.write("set_position", [(watch, FROM_DATABASE, database)])

    @job
    async def begin_capture(self, transaction: Transaction, watch: str, session: str) -> str | None:
        """Record, in a shared store, this daemon's session on the ATS's database; returns the watch's one before."""
        rows = await transaction.rows("session", watch=watch)
        if not rows:
            await transaction.run("add_watch", watch=watch)
        await transaction.run("set_session", watch=watch, session=session)
        return str(rows[0][0]) if rows and rows[0][0] is not None else None


def _text_of(hosts: Sequence[str]) -> str:
    return json.dumps({"hosts": hosts}, ensure_ascii=False)
