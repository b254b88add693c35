"""URLs as rows may have them: what may be called, what is an id, and the many ways to pretend."""

import re
import string
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from yarl import URL

from cdc_sync.core.status_url import AllowedHosts, build, endpoint_of, id_in, id_refusal, is_loopback, names_loopback

OUT_OF_PLACE = "cannot stand in a URL's path: a proxy that decodes the path would lead it elsewhere"

BASE = "https://ats-partner.hellowork.com"
ALLOWED = AllowedHosts(
    frozenset({"staging.example:8443", "standard.example:443", "localhost:8080", "[::1]", "[::1]:8080", "10.0.0.1"}),
    base=f"{BASE}:443",
)
ELSEWHERE = "a proxy that decodes its path would lead it elsewhere"
NOT_PLAIN = "it is not a plain https URL"


@pytest.mark.parametrize(
    "url",
    [
        f"{BASE}/v1/applications/1/status",
        "HTTPS://ATS-Partner.HelloWork.COM:443/v1/applications/1/status",
        f"{BASE}/v1/applications/a%2Fb%20c/status?x=1&y=%20/?:@",
        f"{BASE}/a.b/..c/d../...",
        "https://staging.example:8443/v1/applications/1/status",
        "https://standard.example/v1/applications/1/status",
        "http://localhost:8080/v1/applications/1/status",
        "http://[::1]:8080/v1/applications/1/status",
    ],
)
def test_urls_that_may_be_called(url: str) -> None:
    assert ALLOWED.refusal(url) is None
    assert endpoint_of(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        # Another host.
        ("https://evil.example/v1/applications/1/status", "its origin https://evil.example:443 is neither"),
        # Another port, or another scheme, of a host that is allowed.
        (f"{BASE}:8443/", "its origin https://ats-partner.hellowork.com:8443"),
        ("https://staging.example/", "its origin https://staging.example:443"),
        ("http://localhost/", "its origin http://localhost:80"),
        # Other ways to write an allowed address are other names.
        ("https://[0:0:0:0:0:0:0:1]/", r"its origin https://\[0:0:0:0:0:0:0:1\]:443"),
        ("https://0x7f000001/", "its origin https://0x7f000001:443"),
        # Not https.
        ("http://ats-partner.hellowork.com/v1/applications/1/status", "it is http: only https"),
        ("//ats-partner.hellowork.com/", NOT_PLAIN),
        ("", NOT_PLAIN),
        ("https:///v1/applications/1/status", NOT_PLAIN),
        # User names, fragments, and what makes two parsers disagree.
        ("https://ats-partner.hellowork.com@evil.example/", NOT_PLAIN),
        (f"{BASE}#@evil.example/", NOT_PLAIN),
        (f"{BASE}\\@evil.example/", NOT_PLAIN),
        # Blanks and line ends, the trailing one above all, which a pattern's `$` would overlook.
        (f"{BASE}/v1/applications/1/status\n", NOT_PLAIN),
        (f"{BASE}/a b", NOT_PLAIN),
        # Letters and digits that only look, or fold, like ASCII.
        ("http\u017f://ats-partner.hellowork.com/", NOT_PLAIN),
        ("https://ats-partner.hellowor\u212a.com/", NOT_PLAIN),
        (f"{BASE}:\u0664\u0664\u0663/", NOT_PLAIN),
        # Ports.
        (f"{BASE}:0/", NOT_PLAIN),
        (f"{BASE}:/", NOT_PLAIN),
        # Hosts that are none.
        ("https://-ats.hellowork.com/", NOT_PLAIN),
        ("https://ats-partner.hellowork.com./", NOT_PLAIN),
        ("https://[::1%25eth0]/", NOT_PLAIN),
        # Dots that a client or a server would take away, and with them the path that was checked.
        (f"{BASE}/v1/applications/../status", ELSEWHERE),
        (f"{BASE}/v1/applications/a%252F%252E%252e%252Fb/status", ELSEWHERE),
        (f"{BASE}/v1/applications/1%0D%0AHost:%20evil/status", ELSEWHERE),
        (f"{BASE}/v1/applications/hw-6/status%3F/status", ELSEWHERE),
        (f"{BASE}/v1/applications/%2Fhw-6/status", "the application's id '/hw-6' cannot stand in a URL's path"),
    ],
)
def test_urls_that_may_not_be_called(url: str, why: str) -> None:
    refusal = ALLOWED.refusal(url)

    assert refusal is not None
    assert refusal.startswith("the URL ")
    assert why.replace("\\", "") in refusal


@given(
    st.builds(
        "{}://{}{}{}{}".format,
        st.sampled_from(["https", "http", "HTTPS", "http\u017f", "ftp"]),
        st.sampled_from(["", "a@", "a:b@", "\\", "[", " "]),
        st.sampled_from(["ats-partner.hellowork.com", "evil.example", "localhost", "[::1]", "127.0.0.1", "10.0.0.1"]),
        st.sampled_from(["", ":", ":1", ":443", ":99999", ":٣", ".", "@evil.example", "#", "\\.evil.example"]),
        st.text(alphabet=string.printable + "é\u0663\u017f", max_size=12),
    )
)
def test_what_may_be_called_goes_where_the_http_client_reads_it_to_go(url: str) -> None:
    if ALLOWED.refusal(url) is None:
        read = URL(url)
        host = f"[{read.host}]" if read.host == "::1" else read.host
        origin = f"{read.scheme}://{host}:{read.port}"
        default = {"http": 80, "https": 443}[read.scheme]
        assert (
            origin == ALLOWED.base
            or f"{host}:{read.port}" in ALLOWED.names
            or (read.port == default and host in ALLOWED.names)
        )
        assert read.user is read.password is None
        assert read.raw_fragment == ""
        assert endpoint_of(url) == origin


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://evil.example/x", "evil.example"),
        (f"{BASE}:8443/x", "ats-partner.hellowork.com:8443"),
        ("http://localhost:08081/x", "localhost:8081"),
    ],
)
def test_a_refusal_names_the_entry_that_would_allow_it(url: str, entry: str) -> None:
    refusal = ALLOWED.refusal(url)

    assert refusal is not None
    assert refusal.endswith(f"add {entry!r} to that list")
    assert AllowedHosts(frozenset({entry})).refusal(url) is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("LocalHost", True), ("127.0.0.1", True), ("127.255.255.254", True), ("[::1]", True),
        ("[0:0:0:0:0:0:0:1]", True), ("::1", True),
        ("128.0.0.1", False), ("126.255.255.255", False), ("[::2]", False), ("[::]", False),
        ("10.0.0.1", False), ("localhost.example", False), ("xlocalhost", False), ("127.1", False),
        ("2130706433", False), ("0x7f.0.0.1", False), ("127.0.0.1.example", False),
        ("127.0.0.1:80", False), ("", False), ("[]", False),
    ],
)  # fmt: skip
def test_loopback(host: str, *, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("header", "loopback"), [("[::1]:8765", True), ("pointed.here.example:8765", False), ("[::1", False)]
)
def test_a_host_header_names_this_machine_or_not(header: str, loopback: bool) -> None:  # noqa: FBT001 - a parameter
    assert names_loopback(header) is loopback


@pytest.mark.parametrize(
    ("application_id", "segment"),
    [("12345", "12345"), ("../a?b#c&d=e", "..%2Fa%3Fb%23c%26d%3De"), ("%2F", "%252F"), ("é b+c", "%C3%A9%20b%2Bc")],
)
def test_an_id_is_one_segment_of_the_documented_path(application_id: str, segment: str) -> None:
    assert build(BASE, application_id) == f"{BASE}/v1/applications/{segment}/status"


@pytest.mark.parametrize(
    ("url", "application_id"),
    [
        (f"{BASE}/v1/applications/1/status", "1"),
        (f"{BASE}/v1/applications/1/status?token=x", "1"),
        (f"{BASE}/v1/applications/1/status/v1/applications/2/status", "2"),
        (f"{BASE}/v1/applications/a%2F%C3%A9/status", "a/é"),
        (f"{BASE}/v1/applications/100%/status", "100%"),
        # Not UTF-8: to replace the odd bytes would make one application of two.
        (f"{BASE}/v1/applications/a%C3/status", None),
        (f"{BASE}/v1/applications//status", None),
        (f"{BASE}/v1/applications/1/status\n", None),
        (f"{BASE}/?/v1/applications/1/status", None),
        ("/v1/applications/1/status", None),
    ],
)
def test_the_id_inside_a_status_url(url: str, application_id: str | None) -> None:
    assert id_in(url) == application_id


@pytest.mark.parametrize(
    "application_id",
    [
        ".", "..", "a/../hw-6", "../../admin", "./hw-6", "hw-6/.", "hw-6/x/..", "..\\hw-6", "a\\..\\hw-6", "a\\../hw-6",
        "%2e", "%2E%2e", "a%2f..%2Fhw-6", "a%252f%252e%252E%252fhw-6", "%25252e", "a%5c..%5chw-6", "%2%65",
        "..;", "a/..;x=1/hw-6", "a/..%3bx/hw-6", ".;x",
        "/hw-6", "hw-6/", "a//b", "\\", "%2fhw-6", ";x", "a/;x/b",
        "hw-6/status?", "hw-6/status#", "hw-6/status%3F", "hw-6/Status;x%252523",
        "hw-6\\status/?",
    ],
)  # fmt: skip
def test_ids_that_could_leave_their_place_in_a_path_cannot_be_used(application_id: str) -> None:
    assert id_refusal(application_id) == f"the application's id {application_id!r} {OUT_OF_PLACE}"


@pytest.mark.parametrize("character", ["a", "é", "\U0001d4b3", "%", "/", "\n"])
def test_an_id_has_at_most_300_characters(character: str) -> None:
    refusal = "the application's id has more than 300 characters"
    longest = character * 300

    assert id_refusal(longest) != refusal
    assert id_refusal(longest + character) == refusal
    assert ALLOWED.refusal(build(BASE, longest + character)) is not None


def encoded(text: str, times: int) -> str:
    for _ in range(times):
        text = quote(text, safe="")
    return text


@pytest.mark.parametrize("character", ["é", "%", " ", "?", "/x"])
def test_an_id_is_encoded_three_times_at_most(character: str) -> None:
    usable, other = f"a{encoded(character, 3)}", f"a{encoded(character, 4)}"

    assert id_refusal(usable) is None
    assert ALLOWED.refusal(build(BASE, usable)) is None
    assert id_refusal(other) == f"the application's id {other!r} {OUT_OF_PLACE}"
    assert ELSEWHERE in (ALLOWED.refusal(build(BASE, other)) or "")


def resolved(path: str) -> str:
    """A path without repeated slashes and segments of dots (RFC 3986, 5.2.4), as all of these servers do it."""
    kept: list[str] = []
    segments = [segment for segment in path.split("/")[1:] if segment]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


def nginx(path: str) -> str:
    """Decodes once, resolves, and encodes again for `proxy_pass` with a path: no slash, of course."""
    return quote(resolved(unquote(path)), safe="/;:@&=+$,!*'()~")


def apache(path: str) -> str:
    """Resolves what is not encoded, decodes (`AllowEncodedSlashes On`), and resolves again."""
    return quote(resolved(unquote(resolved(re.sub("(?i)%2e", ".", path)))), safe="/;:@&=+$,!*'()~")


def haproxy(path: str) -> str:
    """`normalize-uri percent-decode-unreserved`, `path-strip-dot`, `path-strip-dotdot`, `path-merge-slashes`."""
    return resolved(
        re.sub("%(2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])", lambda hit: unquote(hit[0]), path)
    )


def decoded_twice(path: str) -> str:
    """A server that decodes once more than it should."""
    return nginx(unquote(path))


def windows(path: str) -> str:
    """A server to which a backslash is a slash."""
    return nginx(unquote(path).replace("\\", "/"))


def careless(path: str) -> str:
    """Passes on what it has decoded: for whoever comes next, a path ends at its query or fragment."""
    return re.split("[?#]", resolved(unquote(path)))[0]


def servlet(path: str) -> str:
    """A servlet container: a segment ends at its parameters."""
    return nginx("/".join(segment.partition(";")[0] for segment in path.split("/")))


SERVERS = st.lists(
    st.sampled_from([nginx, apache, haproxy, decoded_twice, windows, careless, servlet]), min_size=1, max_size=3
)
PIECES = ["..", "/..;x", "/", "\\", ";", "%", ".", "2e", "2F", "5c", "25", "3b", "hw-6", "é", "?", "3f", "/status"]
TRICKS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)


def without_parameters(segment: str) -> str:
    while (decoded := unquote(segment)) != segment:
        segment = decoded
    return segment.partition(";")[0]


@settings(max_examples=5 * settings().max_examples)
@given(TRICKS, SERVERS)
def test_no_proxy_takes_a_usable_id_out_of_its_place(application_id: str, servers: list[Callable[[str], str]]) -> None:
    assume(id_refusal(application_id) is None)
    url = build(BASE, application_id)
    assert ALLOWED.refusal(url) is None
    path = url.removeprefix(BASE)
    for server in servers:
        path = server(path)
        assert path.startswith("/v1/applications/")
        if server is careless and not path.endswith("/status"):
            return  # cut off at a ? or # of the id: nobody's status URL
        assert path.endswith("/status")
        if (reached := re.fullmatch("/v1/applications/([^/]+)/status", path)) is not None:
            assert without_parameters(reached[1]) == without_parameters(application_id)


@settings(max_examples=5 * settings().max_examples)
@given(TRICKS, SERVERS)
def test_no_proxy_takes_a_rows_url_elsewhere(tricks: str, servers: list[Callable[[str], str]]) -> None:
    path = "/v1/applications/" + tricks
    assume(ALLOWED.refusal(BASE + path) is None)
    path = path.partition("?")[0]  # no server reads a query as a path
    for server in servers:
        path = server(path)
        assert path.startswith("/v1/applications")
