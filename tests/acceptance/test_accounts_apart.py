"""Nothing of one account ever goes out with another's headers, whatever happens meanwhile.

Each write of the ATS's gives the row a status that names its account: so each call tells by itself whose it is.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from support.daemon_process import DaemonProcess
from support.hellowork_server import HelloWork
from support.installation import SENTINEL, Installation
from support.numbered_work import status_of

SEED = 20261201
APPLICATIONS = [f"hw-{number}" for number in range(12)]
WRITES = 60

_KINDS = [{"kind": "status", "status": 503}, {"kind": "lost_answer"}]
_TROUBLE = {"kind": "random", "rate": 0.4, "seed": SEED, "kinds": _KINDS}


class Customers:
    """The customers of one table, and the configuration that follows them.

    Attributes:
        names: of those with an account.
        rounds: all names before, by the number of the configuration.
    """

    def __init__(self, ats: Installation, names: Sequence[str]) -> None:
        self.rounds = dict[int, Sequence[str]]()
        self._ats, self._dice, self._writes = ats, random.Random(SEED), 0  # noqa: S311 - a test's
        ats.ats.execute("ALTER TABLE public.applications ADD tenant text DEFAULT 'default'")
        for number, application_id in enumerate(APPLICATIONS):
            ats.add(application_id, tenant=names[number % len(names)])
        self.configure(*names)
        ats.configure_watch(columns={"account": "tenant"})
        ats.install()

    def configure(self, *names: str) -> None:
        """Give these customers an account each, with new keys."""
        self.names = self.rounds[len(self.rounds) + 1] = names
        self._ats.document["hellowork"]["accounts"] = {
            name: {"headers": {"X-Api-Key": "${HELLOWORK_API_KEY}", "X-Key": f"{name} {len(self.rounds)}"}}
            for name in names
        }
        self._ats.configure()

    def write(self, *, rows_of: str | None = None, to: str | None = None) -> None:
        """Change some applications; every third one gets another customer, or each of `rows_of` gets `to`."""
        where = "WHERE hellowork_id <> %s" + ("" if rows_of is None else " AND tenant = %s")
        found = self._ats.ats.execute(
            f"SELECT hellowork_id, tenant FROM public.applications {where} ORDER BY 1",  # noqa: S608 - its own text
            [each for each in (SENTINEL, rows_of) if each is not None],
        ).fetchall()
        for id_, tenant in found if rows_of else [self._dice.choice(found) for _ in range(WRITES)]:
            self._writes += 1
            moved = self._dice.choice(self.names) if self._dice.random() < 0.3 else tenant
            owner = to or moved
            self._ats.change(id_, tenant=owner, status=f"{owner}/{self._writes}")

    def rows(self) -> dict[str, tuple[str, str]]:
        """The customer and the status of each row."""
        query = "SELECT hellowork_id, tenant, status FROM public.applications WHERE hellowork_id <> %s"
        return {id_: (tenant, status) for id_, tenant, status in self._ats.ats.execute(query, (SENTINEL,))}


class Call(NamedTuple):
    """What a call has; `key` is the customer's name and the configuration's number."""

    application_id: str
    status: str
    key: str

    @property
    def customer(self) -> str:
        return self.key.split()[0]

    @property
    def round(self) -> int:
        """The configuration's number."""
        return int(self.key.split()[1])


def calls_of(hellowork: HelloWork) -> list[Call]:
    """All calls, answered or not."""
    return [
        Call(call.application_id or "", status_of(call), call.headers["X-Key"])
        for call in hellowork.calls
        if call.application_id != SENTINEL
    ]


def test_each_call_has_the_headers_of_the_account_that_its_row_names(notify: Installation) -> None:
    customers, hellowork = Customers(notify, ["acme", "beta", "gamma"]), notify.hellowork
    notify.share_store()

    def calls_with_these_keys(daemon: DaemonProcess) -> None:
        number = str(len(customers.rounds))
        daemon.wait_until(
            lambda: any(call.key.endswith(number) for call in calls_of(hellowork)), "calls with the present keys"
        )

    hellowork.will(_TROUBLE)
    with notify.daemon() as daemon:
        customers.write()
        calls_with_these_keys(daemon)
        customers.configure("acme", "beta", "gamma")
        daemon.reload()
        customers.write()
        calls_with_these_keys(daemon)
        customers.configure("acme", "beta")
        daemon.reload()
        customers.write(rows_of="gamma", to="gamma")
        customers.write()
        calls_with_these_keys(daemon)
        daemon.kill()
    # beta is renamed while nothing runs.
    customers.configure("acme", "omega")
    with notify.daemon() as daemon:
        customers.write(rows_of="beta", to="omega")
        customers.write()
        calls_with_these_keys(daemon)
        customers.configure("acme", "omega", "gamma")
        daemon.reload()
        customers.write()
        calls_with_these_keys(daemon)
        daemon.kill()
    hellowork.will_work()
    with notify.daemon() as daemon:
        notify.settle(daemon)
        calls = calls_of(hellowork)
        assert {call.application_id: (call.customer, call.status) for call in calls} == customers.rows()

    for call in calls:
        assert call.customer == call.status.split("/")[0]
        assert call.customer in customers.rounds[call.round]
    assert [call.round for call in calls] == sorted(call.round for call in calls), "no former key comes back"
    assert {call.round for call in calls} == customers.rounds.keys()
