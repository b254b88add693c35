"""The store for the databases that the configuration names: which one each is, and who captures it."""

import json
from collections.abc import Mapping, Sequence

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.events import PersonActed
from cdc_sync.core.findings import host_name
from cdc_sync.store.driver import Role, Transaction, add_history, job, note, value
from cdc_sync.store.errors import another_database
from cdc_sync.store.protocol import FROM_DATABASE, database_note


class Databases(Role):
    """See the module's text. The section `database` has the name ""."""

    @job
    async def bind(
        self, transaction: Transaction, identity: str, database: str = "", section: str = "database"
    ) -> None:
        """Bind a configured name ("" is the section `database`) to a database.

        Its `section` of the configuration is for the error.

        Raises:
            AnotherDatabaseError: it is bound to another one.
        """
        name = database_note("database", database)
        bound = await note(transaction, name)
        if not bound:
            await transaction.run("set_about", name=name, value=identity)
        elif bound != identity:
            raise another_database(self.driver.name, database, section, bound, identity)

    async def identity(self, database: str = "") -> str | None:
        """The database to which a configured name is bound."""
        found: str | None = await self.driver.value("about", name=database_note("database", database))
        return found

    async def hosts(self, database: str = "") -> tuple[str, ...]:
        """The hosts by which a database was reached last; empty if unknown."""
        hosts = json.loads(await self.driver.value("about", name=database_note("hosts", database)) or "{}")
        # Earlier versions wrote a socket's folder.
        return tuple(host_name(*host.rsplit(":", 1)) for host in hosts.get("hosts", ()))

    async def set_hosts(self, hosts: Sequence[str], database: str = "") -> None:
        """Set a database's hosts."""
        await self.driver.transact(lambda t: _set_hosts(t, hosts, database))

    @job
    async def rebind(
        self,
        transaction: Transaction,
        identity: str,
        hosts: Sequence[str],
        positions: Mapping[str, Mapping[str, str]],
        by: PersonActed,
    ) -> None:
        """Bind a configured name, on which a person acts, to another database, with these positions by watch."""
        database = by.on or ""
        rows = [(watch, name, value) for watch, of in sorted(positions.items()) for name, value in of.items()]
        await transaction.run("set_about", name=database_note("database", database), value=identity)
        await _set_hosts(transaction, hosts, database)
        await transaction.write("set_position", rows)
        detail = {"who": by.who, "database": database, "identity": identity}
        await add_history(transaction, [HistoryEntry(by.at, "", "", "database-adopted", detail)])

    async def set_captured_from(self, watch: str, database: str) -> None:
        """Record the new name of a watch's database."""
        await self.driver.write("set_position", [(watch, FROM_DATABASE, database)])

    @job
    async def begin_capture(self, transaction: Transaction, watch: str, session: str) -> str | None:
        """Record, in a shared store, this daemon's session on the ATS's database; returns the watch's one before."""
        await transaction.run("add_watch", watch=watch)
        before: str | None = await value(transaction, "session", watch=watch)
        await transaction.run("set_session", watch=watch, session=session)
        return before


async def _set_hosts(transaction: Transaction, hosts: Sequence[str], database: str) -> None:
    value = json.dumps({"hosts": hosts}, ensure_ascii=False)
    await transaction.run("set_about", name=database_note("hosts", database), value=value)
