"""The policy of the door: names, addresses, requests and credentials, without a network."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from doorstubs import HOSTILE
from hypothesis import example, given
from hypothesis import strategies as st

from graph.errors import BadInput
from integrations.doorrules import (
    REGISTRIES,
    Denied,
    DoorRules,
    Host,
    address_fault,
    check_addresses,
    normal_name,
    parse_host,
)

NEXUS = parse_host("nexus.corp:8443=10.1.2.0/24")
PLAIN = parse_host("http://mirror.corp:8081=10.1.2.0/24")
RULES = DoorRules((*REGISTRIES, NEXUS, PLAIN))
PYPI = RULES.tunnel("pypi.org:443", None)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_as_the_target_of_a_tunnel_as_a_host_header_and_in_a_url(name: str) -> None:
    with pytest.raises(Denied):
        RULES.tunnel(f"{name}:443", None)
    with pytest.raises(Denied):
        RULES.tunnel("pypi.org:443", name)
    if not name.startswith(("pypi.org/", "pypi.org?")):  # as part of a URL, these are pypi.org and a path
        with pytest.raises(Denied):
            RULES.asked("GET", f"https://{name}/simple/", (), PYPI)
    with pytest.raises(Denied):
        RULES.asked("GET", "/simple/", ((b"Host", name.encode("utf-8", "replace")),), PYPI)


def test_what_is_plainly_a_registry_is_let_through_in_any_case_and_with_its_root_dot() -> None:
    for said in ("pypi.org", "PyPI.org", "pypi.org.", "PYPI.ORG."):
        assert RULES.tunnel(f"{said}:443", said).name == "pypi.org"
        assert RULES.asked("GET", "/simple/", ((b"Host", said.encode()),), PYPI).headers == ((b"Host", b"pypi.org"),)
    assert {host.name for host in REGISTRIES} == {
        "pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "registry.yarnpkg.com", "index.crates.io",
        "static.crates.io", "crates.io", "proxy.golang.org", "sum.golang.org",
    }  # fmt: skip


@pytest.mark.parametrize(
    "target", ["pypi.org", "pypi.org:", "pypi.org:80", "pypi.org:0443", "pypi.org:+443", "pypi.org:443443",
               "pypi.org:0",
               "pypi.org:4 43", "pypi.org:443:443", "nexus.corp:443", "mirror.corp:8081", "/", "http://pypi.org:443"]
)  # fmt: skip
def test_a_tunnel_leads_to_the_port_and_scheme_of_its_host_alone(target: str) -> None:
    with pytest.raises(Denied):
        RULES.tunnel(target, None)


@pytest.mark.parametrize(
    "target", ["http://pypi.org/", "http://pypi.org:443/", "https://pypi.org/", "https://mirror.corp:8081/", "/simple/",
               "http://mirror.corp/", "ftp://mirror.corp:8081/", "mirror.corp:8081", "*", "//mirror.corp:8081/",
               "http://user@mirror.corp:8081/", "http:///x", "http://mirror.corp:8081\\@evil.com/"]
)  # fmt: skip
def test_without_a_tunnel_only_a_host_that_is_listed_with_http_is_asked(target: str) -> None:
    assert RULES.asked("GET", "http://mirror.corp:8081/x", (), None).host == PLAIN
    with pytest.raises(Denied):
        RULES.asked("GET", target, (), None)


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("POST", "/", (), 405), ("PUT", "/", (), 405), ("DELETE", "/", (), 405), ("OPTIONS", "/", (), 405),
        ("get", "/", (), 405),
        ("CONNECT", "pypi.org:443", (), 405), ("OPTIONS", "*", (), 405),
        ("GET", "/", ((b"Upgrade", b"websocket"),), 403), ("GET", "/", ((b"Content-Length", b"5"),), 413),
        ("GET", "/", ((b"Transfer-Encoding", b"chunked"),), 413), ("GET", "/", ((b"Content-Length", b"0, 5"),), 413),
        ("GET", "https://files.pythonhosted.org/", (), 421), ("GET", "/", ((b"Host", b"files.pythonhosted.org"),), 421),
        ("GET", "/", ((b"Host", b"pypi.org:8443"),), 421),
        ("GET", "/", ((b"Host", b"pypi.org"), (b"Host", b"evil.com")), 400),
        ("GET", "*", (), 400), ("GET", "/a#b", (), 400), ("GET", "/a\\b", (), 400), ("GET", "/a b", (), 400),
        ("GET", "/a\r\nX: y", (), 400), ("GET", "/a\0", (), 400), ("GET", "/ä", (), 400),
    ],
)  # fmt: skip
def test_a_request_is_refused_with_its_status(
    method: str, target: str, headers: tuple[tuple[bytes, bytes], ...], status: int
) -> None:
    assert RULES.asked("GET", "/", ((b"Host", b"pypi.org"), (b"Content-Length", b"0")), PYPI)
    with pytest.raises(Denied) as refused:
        RULES.asked(method, target, headers, PYPI)
    # What is not even a path is refused as that before its method is looked at.
    assert refused.value.status == (400 if target in {"*", "pypi.org:443"} else status)
    assert refused.value.by_rule


def test_what_tells_who_asks_and_what_is_the_connections_own_does_not_go_out() -> None:
    given_headers = (
        (b"Host", b"pypi.org"), (b"Accept", b"text/html"), (b"Authorization", b"Basic c3R1ZmY="), (b"Cookie", b"a=b"),
        (b"Proxy-Authorization", b"Basic x"), (b"Connection", b"keep-alive, X-Mine"), (b"X-Mine", b"1"),
        (b"TE", b"trailers"),
        (b"Range", b"bytes=0-9"), (b"Accept-Encoding", b"gzip"), (b"Expect", b"100-continue"),
        (b"Proxy-Connection", b"x"),
    )  # fmt: skip
    asked = RULES.asked("GET", "https://pypi.org?x=1", given_headers, PYPI)
    assert asked.target == "/?x=1"
    assert asked.headers == (
        (b"Host", b"pypi.org"), (b"Accept", b"text/html"), (b"Range", b"bytes=0-9"), (b"Accept-Encoding", b"gzip"),
    )  # fmt: skip


FORBIDDEN = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "0.0.0.0",
    "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.0.192", "198.18.0.1",
    "198.19.255.1",
    "192.88.99.1", "168.63.129.16", "100.100.100.200",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1", "2001:0:a9fe:a9fe::1", "100::1", "2001:2::1",
    "pypi.org", "", "1.2.3", "0x7f000001", "2130706433",
]  # fmt: skip
ALLOWED = [
    "151.101.0.223", "8.8.8.8", "192.0.2.1", "198.51.100.9", "203.0.113.7", "2a04:4e42::223", "2001:db8::1",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "11.0.0.1", "198.20.0.1", "2600::1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_inside_is_not_dialled_and_spoils_the_answers_beside_it(address: str) -> None:
    assert address_fault(address)
    for answers in ([address], ["151.101.0.223", address], [address, "151.101.0.223"]):
        with pytest.raises(Denied):
            check_addresses(PYPI, answers)


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_and_one_of_a_documentation_network_is_dialled(address: str) -> None:
    assert address_fault(address) == ""
    assert check_addresses(PYPI, [address, address]) == [address]


def test_a_named_network_opens_itself_alone_and_never_what_hands_out_credentials() -> None:
    assert check_addresses(NEXUS, ["10.1.2.3", "::ffff:10.1.2.3"]) == ["10.1.2.3", "::ffff:10.1.2.3"]
    with pytest.raises(Denied, match=r"10\.1\.3\.1 is not public"):
        check_addresses(NEXUS, ["10.1.2.3", "10.1.3.1"])
    wide = Host("all.corp", networks=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
    assert check_addresses(wide, ["127.0.0.1", "::1", "fd00::1"])
    for never in ("169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "fd00:ec2::254", "168.63.129.16"):
        with pytest.raises(Denied, match="never"):
            check_addresses(wide, [never])


def test_no_address_at_all_is_an_outage_and_not_a_refusal() -> None:
    with pytest.raises(Denied) as none:
        check_addresses(PYPI, [])
    assert not none.value.by_rule


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
@example(ipaddress.ip_address("::2"))
def test_an_address_that_is_let_through_is_no_local_one_in_any_disguise(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address_fault(str(address)):
        return
    meant = [address]
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped, address.sixtofour, *(address.teredo or ())
        meant += [inner for inner in wrapped if inner is not None]
    for inner in meant:
        kinds = inner.is_loopback, inner.is_link_local, inner.is_multicast, inner.is_unspecified
        assert not any(kinds), kinds


@given(st.ip_addresses(v=4, network="169.254.0.0/16") | st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_a_local_address_is_refused_in_every_disguise(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    teredo = (0x20010000 << 96) | (number ^ 0xFFFFFFFF)
    for disguise in (
        number,
        0xFFFF << 32 | number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | (number << 80),
        teredo,
    ):
        assert address_fault(str(ipaddress.IPv6Address(disguise)))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("pypi.org", Host("pypi.org")), (" PyPI.org. ", Host("pypi.org")),
        ("nexus.corp:8443", Host("nexus.corp", 8443)),
        ("http://nexus.corp:8081", Host("nexus.corp", 8081, "http")),
        ("http://nexus.corp", Host("nexus.corp", 80, "http")),
        ("https://nexus.corp/", Host("nexus.corp")),
        ("nexus.corp=10.1.2.0/24", Host("nexus.corp", networks=(ipaddress.ip_network("10.1.2.0/24"),))),
        ("http://nexus:8081=10.1.2.3+fd12::/64", Host("nexus", 8081, "http",
         (ipaddress.ip_network("10.1.2.3/32"), ipaddress.ip_network("fd12::/64")))),
    ],
)  # fmt: skip
def test_a_setting_names_a_host(text: str, host: Host) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name of a host"), ("https://nexus.corp/path", "not a host and a port|name of a host"),
        ("user@nexus.corp", "host"),
        ("ftp://nexus.corp", "only https and http"), ("10.1.2.3", "by its name"), ("[::1]", "by its name"),
        ("*.corp", "name of a host"),
        ("nexus.corp:99999", "host and a port"), ("nexus.corp=10.1.2.3/24", "not a network"),
        ("nexus.corp=", "not a network"),
        ("nexus.corp=0.0.0.0/0", "too wide"), ("nexus.corp=169.254.169.254", "never reached"),
        ("nexus.corp=fe80::/64", "never reached"),
        ("nexus.corp=x", "not a network"), ("nexus corp", "name of a host"),
        ("nexus.corp=10.0.0.0/8+", "not a network"),
    ],
)  # fmt: skip
def test_a_setting_that_names_none_is_refused_with_a_remedy(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"SETUP_HOSTS.*({why}).*nexus.corp=10.1.2.0/24"):
        parse_host(text)


def test_a_letter_that_becomes_an_ascii_one_when_lowered_is_not_taken_for_it() -> None:
    assert "\u212aiosk.corp".lower() == "kiosk.corp"
    with pytest.raises(BadInput):
        normal_name("\u212aiosk.corp")


def test_a_host_is_written_in_its_one_spelling() -> None:
    with pytest.raises(BadInput, match=r"'PyPI\.org' is to be written 'pypi\.org'"):
        Host("PyPI.org")


# Close to the allowed names, with what has fooled such doors before.
_PIECES = st.sampled_from(
    ["pypi.org", "crates.io", "nexus.corp", "evil.com", ".", "-", "@", ":", ":443", ":8443", "%00", "%2e", "\0",
    "\\", "/", "#", "?",
     "[", "]", "127.0.0.1", "::1", "0x7f", "2130706433", " ", "\t", "\r\n", "。", "ｐ", "\u212a", "\u0131", "\u200d",
     "*", "P", "a", "1"]
)  # fmt: skip
_HOSTILE_TEXT = st.lists(_PIECES, max_size=6).map("".join) | st.text(max_size=30)
_NAMES = {host.name for host in RULES.hosts}


def exactly_allowed(said: str, host: Host, port: int | None = None) -> bool:
    """Judged without the code under test: the text is the name in ASCII, or the name and its port."""
    plain = said.lower() if said.isascii() else ""
    with_port = {f"{host.name}:{host.port}", f"{host.name}.:{host.port}"}
    return plain in with_port or (host.port == port and plain in {host.name, f"{host.name}."})


@given(_HOSTILE_TEXT)
@example("pypi.org:443")
def test_a_tunnel_leads_to_exactly_one_of_the_allowed_names_or_nowhere(target: str) -> None:
    try:
        host = RULES.tunnel(target, None)
    except Denied:
        return
    assert host in RULES.hosts
    assert exactly_allowed(target, host)


@given(_HOSTILE_TEXT, st.sampled_from(["", "/", "/simple/", "?x", "#y", "//evil.com", "/@evil.com"]), st.booleans())
@example("mirror.corp:8081", "/", False)
def test_a_url_is_asked_of_exactly_the_allowed_host_that_it_names(said: str, rest: str, inside: bool) -> None:
    scheme, tunnel = ("https", PYPI) if inside else ("http", None)
    try:
        asked = RULES.asked("GET", f"{scheme}://{said}{rest}", (), tunnel)
    except Denied:
        return
    # Where the text itself ends in a path, what stands before it must be the name.
    authority = f"{said}{rest}".partition("/")[0].partition("?")[0]
    assert exactly_allowed(authority, asked.host, 443 if inside else 80)
    assert asked.headers[0] == (b"Host", asked.host.authority.encode())
    assert asked.target.startswith("/")


@given(_HOSTILE_TEXT)
def test_a_name_is_normal_once_and_for_all(text: str) -> None:
    try:
        name = normal_name(text)
    except BadInput:
        return
    assert normal_name(name) == name
    assert name.isascii()
    assert name == name.lower().strip(".")
    with pytest.raises(OSError):  # what the C library takes for an address is no name
        socket.inet_aton(name)


def secret(rules: DoorRules, host: Host, path: str) -> bytes:
    return dict(rules.asked("GET", path, (), host).headers).get(b"Authorization", b"")


def test_credentials_go_to_their_prefix_alone() -> None:
    rules = DoorRules(
        (*REGISTRIES, NEXUS),
        {
            "https://nexus.corp:8443/npm/": "Bearer npm", "https://nexus.corp:8443/npm/inner": "Bearer inner",
            "https://nexus.corp/": "Bearer other port", "https://evil.com/": "Bearer nobody",
        },
    )  # fmt: skip
    nexus, pypi = rules.tunnel("nexus.corp:8443", None), rules.tunnel("pypi.org:443", None)
    for path in ("/npm/", "/npm", "/npm/left-pad", "/npm/@scope%2fname", "/npm/x?y=/../", "/npm/a..b/c.d", "/npm//x"):
        assert secret(rules, nexus, path) == b"Bearer npm", path
    for path in ("/npm/inner", "/npm/inner/x"):
        assert secret(rules, nexus, path) == b"Bearer inner"
    assert secret(rules, nexus, "/npm/inner2") == b"Bearer npm"
    for path in ("/", "/npmx", "/npm2/", "/NPM/", "/%6epm/", "/other/", "//npm/", "/x?/npm/"):
        assert secret(rules, nexus, path) == b"", path
    assert secret(rules, pypi, "/npm/") == b""


@pytest.mark.parametrize(
    "path", ["..", ".", "../admin", "x/../../admin", "%2e%2e/admin", "..%2fadmin", "%2e%2e%2fadmin",
             "%252e%252e%252fadmin",
             "%25252e%25252e/x", "..;/admin", "..;x=y/admin", ".%2e/x", "..%5cadmin", "%00", "x%0d%0aHost:evil",
             ".. /x", "..%20/x",
             ".../x", "%2525252525252e/x"]
)  # fmt: skip
def test_a_path_that_could_lead_out_of_the_prefix_gets_no_credentials(path: str) -> None:
    rules = DoorRules((NEXUS,), {"https://nexus.corp:8443/npm/": "Bearer npm"})
    asked = None
    try:
        asked = rules.asked("GET", f"/npm/{path}", (), NEXUS)
    except Denied:
        return
    assert b"Authorization" not in dict(asked.headers)


def test_credentials_go_over_http_only_where_the_host_is_listed_with_it() -> None:
    rules = DoorRules(
        (PYPI, PLAIN, NEXUS), {"http://mirror.corp:8081/": "Basic x", "http://nexus.corp:8443/": "Basic y"}
    )
    assert dict(rules.asked("GET", "http://mirror.corp:8081/x", (), None).headers)[b"Authorization"] == b"Basic x"
    assert secret(rules, NEXUS, "/x") == b""


@pytest.mark.parametrize(
    ("prefix", "value"),
    [("nexus.corp/", "s3cret"), ("ftp://nexus.corp/", "s3cret"), ("https://user@nexus.corp/", "s3cret"),
    ("https://10.0.0.1/", "s3cret"),
     ("https://nexus.corp/a/../b", "s3cret"), ("https://nexus.corp/%61", "s3cret"), ("https://nexus.corp/?x", "s3cret"),
     ("https://nexus.corp/", "s3cret\r\nX: y"), ("https://nexus.corp/", "s3cretä"), ("https://nexus.corp/", " ")]
)  # fmt: skip
def test_credentials_that_cannot_be_given_are_refused_without_being_shown(prefix: str, value: str) -> None:
    with pytest.raises(BadInput) as refused:
        DoorRules((), {prefix: value})
    assert "s3cret" not in str(refused.value)


def test_rules_and_requests_do_not_print_credentials() -> None:
    rules = DoorRules((NEXUS,), {"https://nexus.corp:8443/": "Bearer s3cret"})
    asked = rules.asked("GET", "/x", (), NEXUS)
    assert secret(rules, NEXUS, "/x") == b"Bearer s3cret"
    assert "s3cret" not in f"{rules} {asked!r} {rules._credentials!r}"
