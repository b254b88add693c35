"""A proxy that decodes paths stands in front of HelloWork: no id may lead a call to another application or page."""

import json
from collections.abc import Iterator

import pytest
from support.installation import JOB, Installation
from support.nginx import nginx, nginx_binary

TRICKS = {
    "a/../hw-6": "another application, by way of its neighbour",
    "../../admin/users": "another page",
    "%2e%2e/hw-6": "dots that are encoded already",
    "/hw-6": "a segment that is empty",
}


@pytest.fixture
def behind_nginx(notify: Installation) -> Iterator[Installation]:
    binary = nginx_binary()
    if binary is None:
        pytest.skip("needs nginx (Debian: apt-get install nginx-light)")
    with nginx(binary, notify.hellowork.url) as url:
        notify.configure(hellowork={"base_url": url})
        yield notify


def test_an_id_that_a_proxy_would_lead_elsewhere_is_never_called(behind_nginx: Installation) -> None:
    behind_nginx.add("hw-6")
    for application_id in TRICKS:
        behind_nginx.add(application_id)
    with behind_nginx.daemon() as daemon:
        for application_id in ("hw-6", *TRICKS):
            behind_nginx.change(application_id, status="SEEN" if application_id == "hw-6" else "ADMIN")
        behind_nginx.settle(daemon)
        assert behind_nginx.hellowork.told("hw-6") == [("SEEN", JOB)]
        assert {call.application_id for call in behind_nginx.hellowork.calls} == {"hw-6", "hw-sentinel"}
        reasons = {row["application_id"]: row["reason"] for row in daemon.report()["skipped_rows"]}
        assert reasons.keys() == TRICKS.keys()
        assert all("a proxy that decodes the path would lead it elsewhere" in reason for reason in reasons.values())


def test_nor_is_a_rows_url_that_leads_elsewhere(behind_nginx: Installation) -> None:
    base = behind_nginx.document["hellowork"]["base_url"]
    behind_nginx.configure_watch(columns={"status_url": "status_api_url"})
    tails = {
        "hw-7": "/v1/applications/a%2F..%2Fhw-6/status",
        "hw-8": "/v1/applications/x/%2e%2e%2fhw-6/status",
        "hw-9": "/v1/applications/a%252F%252e%252e/../hw-6/status",
    }
    for application_id in ("hw-6", *tails):
        behind_nginx.add(application_id)
    behind_nginx.install()
    with behind_nginx.daemon() as daemon:
        for application_id, tail in tails.items():
            behind_nginx.change(application_id, status="ADMIN", status_api_url=f"{base}{tail}")
        behind_nginx.settle(daemon)
        assert {call.application_id for call in behind_nginx.hellowork.calls} == {"hw-sentinel"}
        letters = json.loads(behind_nginx.run("dead-letters", "list", "--json").stdout)
        assert {letter["application_id"] for letter in letters} == tails.keys()
        assert all("a proxy that decodes its path would lead it elsewhere" in letter["reason"] for letter in letters)
