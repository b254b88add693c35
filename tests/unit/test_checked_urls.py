"""URLs of calls: which endpoint each belongs to, and that each is called as it was checked."""

from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from cdc_sync.core.status_url import AllowedHosts
from cdc_sync.delivery.client import _as_it_stands

BASE = "https://ats-partner.hellowork.com"


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
