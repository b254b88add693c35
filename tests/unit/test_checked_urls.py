"""URLs of calls: which endpoint each belongs to, and that each is called as it was checked."""

from hypothesis import given
from hypothesis import strategies as st
from support.sending import SETTINGS, an_entry
from yarl import URL

from cdc_sync.core.outbox import DueEntries, Entry
from cdc_sync.core.status_url import AllowedHosts, endpoint_of
from cdc_sync.delivery.client import _as_it_stands
from cdc_sync.delivery.endpoints import Endpoints
from cdc_sync.delivery.memory import Lanes, Memory, lane_of
from cdc_sync.wall_clock import wall_clock

BASE = "https://ats-partner.hellowork.com"


@given(
    tails=st.lists(
        st.builds(
            "{}{}".format,
            st.sampled_from(["", ":443", ":44", "?a=https://evil.example", ":443?/"]),
            st.text(alphabet="/?:ab", max_size=6),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_an_entry_belongs_to_its_own_endpoint(tails: list[str]) -> None:
    endpoints = Endpoints(SETTINGS, wall_clock)
    memory = Memory(endpoints, Lanes(endpoints, lambda _: True))
    entries: dict[str, Entry] = {}
    for number, tail in enumerate(tails):
        entry = an_entry(str(number), base_url=BASE)
        url = f"{BASE}{tail}"
        try:
            endpoint_of(url)
        except ValueError:
            continue
        entries[str(number)] = entry._replace(content=entry.content._replace(url=url))

    found = {
        lane_of(entry): [each for each in entries.values() if lane_of(each) == lane_of(entry)]
        for entry in entries.values()
    }
    memory.take_in(DueEntries(found, {}))

    placed = {of[1]: endpoint.name for endpoint in endpoints.all.values() for of in endpoint.ready}
    assert placed == {number: endpoint_of(entry.content.url) for number, entry in entries.items()}


@given(
    url=st.builds(
        "{}{}".format,
        st.sampled_from([BASE, f"{BASE}:0443", "HTTPS://ATS-Partner.HelloWork.com", "http://[::1]:80"]),
        st.text(alphabet="/abz09.%2Fe-_~;:@?=&$'+", max_size=20),
    ).filter(lambda url: AllowedHosts(frozenset({"[::1]"}), base=f"{BASE}:443").refusal(url) is None)
)
def test_a_url_is_called_as_it_stands(url: str) -> None:
    origin, target = _as_it_stands(url)
    called, expected = URL(origin, encoded=True), URL(url, encoded=True)

    assert target in {expected.raw_path_qs, f"{expected.raw_path_qs}?"}  # yarl leaves an empty query out
    assert origin + target.removeprefix("/") == url or origin + target == url
    assert (called.host_port_subcomponent, called.port, called.scheme) == (
        expected.host_port_subcomponent,
        expected.port,
        expected.scheme,
    )
