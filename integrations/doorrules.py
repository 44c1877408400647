"""What the door of a set-up lets through: which hosts, at which addresses, which requests. Pure: no network here.

A name is normalised once. The same string is then matched, resolved, and used for SNI, `Host` and certificate: two
readings of one name are how such doors have been opened.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_to_bytes

from graph.errors import BadInput, Refused

Scheme = Literal["https", "http"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Header = tuple[bytes, bytes]

RESPONSE_BYTES = 1 << 30
TOTAL_BYTES = 4 << 30
REQUESTS = 20_000
UPLOAD_BYTES = 32 << 20
"""Of request heads. Nothing else goes out, but paths and headers can carry words to a host that strangers can read."""
PORTS: Mapping[Scheme, int] = {"https": 443, "http": 80}

# Never reached, whatever is named: the cloud's metadata services hand out the machine's own credentials.
_NEVER = tuple(ipaddress.ip_network(text) for text in (
    "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
    "100.100.100.200", "168.63.129.16", "192.0.0.192",  # metadata outside of link-local; the second is a public address
    "::", "fe80::/10", "ff00::/8", "fd00:ec2::254", "fd20:ce::254",
    # Tunnels that wrap an IPv4 address; no registry is behind one.
    "2001::/32", "2002::/16", "64:ff9b:1::/48", "192.88.99.0/24",
))  # fmt: skip
# Reached only where a setting names the network. Listed rather than asking `is_global`: that lets through addresses
# which embed a private one, and calls the documentation networks (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24) not
# global, which closed networks use for their mirrors and where nothing else of an operator's is.
_PRIVATE = tuple(ipaddress.ip_network(text) for text in (
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "::1", "100::/64", "2001:2::/48", "fc00::/7", "fec0::/10",
))  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AUTHORITY = re.compile(r"([^:@\[\]]*)(?::([1-9][0-9]{0,4}))?")
_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_ORIGIN = re.compile(r"/[!-~]*")
# Of a request; the connection's own, and what could carry who somebody is. `Host` is set anew.
_STRIPPED = frozenset(
    b"host connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding"
    b" upgrade expect content-length authorization cookie http2-settings".split()
)


class Denied(Refused):
    """A request that the door does not let through, or whose host does not serve it. The message goes to the box."""

    def __init__(self, message: str, *, status: int = 403, host: str = "") -> None:
        super().__init__(message)
        self.status, self.host = status, host

    @property
    def by_rule(self) -> bool:
        """Not an outage: the same request would be denied again."""
        return self.status < 500


def normal_name(text: str) -> str:
    """The one spelling of a host's name. Raises BadInput for whatever is not plainly a name."""
    name = (text[:-1] if text.endswith(".") else text).lower()
    # `lower` makes ASCII of a few other letters (the Kelvin sign): ask the text as it came.
    if not text.isascii() or not name or len(name) > 253:
        raise BadInput("this is not the name of a host")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise BadInput("this is not the name of a host")
    # What ends in a number is an address to `getaddrinfo` and to browsers: 2130706433, 0x7f000001, 127.1.
    if _NUMBER.fullmatch(labels[-1]):
        raise BadInput("a host is given by its name, not by its address")
    return name


def split_authority(text: str, port: int) -> tuple[str, int]:
    """`name` or `name:port`; `port` where none is said. Raises BadInput."""
    if text.startswith("["):
        raise BadInput("a host is given by its name, not by its address")
    found = _AUTHORITY.fullmatch(text)
    if found is None or int(found[2] or port) > 65535:
        raise BadInput("this is not a host and a port")
    return normal_name(found[1]), int(found[2] or port)


@dataclass(frozen=True)
class Host:
    """One host that set-up may reach, by exactly this name."""

    name: str
    port: int = 443
    scheme: Scheme = "https"
    networks: tuple[Network, ...] = ()
    """Where its addresses may be although they are not public."""

    def __post_init__(self) -> None:
        if normal_name(self.name) != self.name:
            raise BadInput(f"The host {self.name!r} is to be written {normal_name(self.name)!r}.")

    @property
    def authority(self) -> str:
        """As in `Host`: without the port where it is the scheme's own."""
        return self.name if self.port == PORTS[self.scheme] else f"{self.name}:{self.port}"


GO = tuple(map(Host, ("proxy.golang.org", "sum.golang.org")))
"""For Go modules alone: the proxy fetches from any host that it is asked for."""
REGISTRIES = (*map(Host, (
    "pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "registry.yarnpkg.com",
    "index.crates.io", "static.crates.io", "crates.io",
)), *GO)  # fmt: skip
"""Without github.com: strangers can write there, so whoever can read there can be told things."""


def parse_host(text: str) -> Host:
    """An entry of SETUP_HOSTS: `name`, `name:port`, `http://name:port`; `=network+network` behind it for private ones.

    Raises BadInput.
    """
    said, named, networks = text.strip().partition("=")
    scheme, marked, rest = said.partition("://")
    if not marked:
        scheme, rest = "https", said
    rest = rest.removesuffix("/")
    try:
        spoken = _scheme(scheme)
        name, port = split_authority(rest, PORTS[spoken])
        return Host(name, port, spoken, tuple(map(_network, networks.split("+"))) if named else ())
    except BadInput as exc:
        raise BadInput(
            f"SETUP_HOSTS: {text!r} is not understood: {exc}. Write a host as `pypi.org`, `nexus.corp:8443` or "
            "`http://nexus.corp:8081`, and one at a private address as `nexus.corp=10.1.2.0/24`."
        ) from exc


def _scheme(text: str) -> Scheme:
    for scheme in PORTS:
        if text.lower() == scheme:
            return scheme
    raise BadInput("only https and http are spoken")


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError as exc:
        raise BadInput(f"{text.strip()!r} is not a network ({exc})") from exc
    if network.prefixlen < 7:
        raise BadInput(f"{network} is too wide")
    if any(network.version == never.version and network.subnet_of(never) for never in _NEVER):  # type: ignore[arg-type]
        raise BadInput(f"{network} is never reached from set-up: link-local, metadata and the like")
    return network


def address_fault(text: str, networks: Iterable[Network] = ()) -> str:
    """Why the door may not dial this address; empty if it may."""
    try:
        address = _embedded(ipaddress.ip_address(text))
    except ValueError:
        return "is not an address"
    if any(address in network for network in _NEVER):
        return "is never reached from set-up"
    if any(address in network for network in networks):
        return ""
    return "is not public" if any(address in network for network in _PRIVATE) else ""


def _embedded(address: Address) -> Address:
    """The IPv4 address that this one means, where it means one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    # NAT64 is how networks with IPv6 alone reach the rest. The first two addresses of ::/96 have meanings of their own.
    wraps = address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if wraps else address.ipv4_mapped or address


def check_addresses(host: Host, answers: Iterable[str]) -> list[str]:
    """All that a resolution gave, if each may be dialled. One that may not spoils the rest. Raises Denied."""
    addresses = list(dict.fromkeys(answers))
    if not addresses:
        raise Denied(f"{host.name} has no address", status=502, host=host.name)
    for address in addresses:
        fault = address_fault(address, host.networks)
        if fault:
            raise Denied(f"{host.name}: its address {address[:60]} {fault}", host=host.name)
    return addresses


@dataclass(frozen=True)
class Asked:
    """A request that may go out."""

    method: str
    host: Host
    target: str
    headers: tuple[Header, ...] = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class _Credential:
    at: tuple[str, str, int]
    path: str
    value: bytes = field(repr=False)


def _credential(prefix: str, value: str) -> _Credential:
    """Raises BadInput, never with the value in its words."""
    found = _URL.fullmatch(prefix)
    if found is None or not _ORIGIN.fullmatch(found[3] or "/") or _misleading(found[3]) or set(found[3]) & set("?#%\\"):
        raise BadInput(f"Credentials are given for a URL such as `https://nexus.corp/repository/`, not for {prefix!r}.")
    if not value.strip() or not value.isascii() or not value.isprintable():
        raise BadInput(f"The credentials for {prefix} are empty, or have characters that a header cannot carry.")
    scheme = _scheme(found[1])
    try:
        name, port = split_authority(found[2], PORTS[scheme])
    except BadInput as exc:
        raise BadInput(f"Credentials cannot be given for {prefix!r}: {exc}.") from exc
    return _Credential((scheme, name, port), found[3].rstrip("/") + "/", value.strip().encode())


def _misleading(path: str) -> bool:
    """Whether a server might read another path than is written: dot segments, also encoded, once or several times."""
    data = path.encode()
    for _ in range(4):
        decoded = unquote_to_bytes(data)
        if decoded == data:
            break
        data = decoded
    else:
        return True
    segments = (segment.split(b";")[0] for segment in data.replace(b"\\", b"/").split(b"/"))
    dots = any(b"." in segment and not segment.strip(b". ") for segment in segments)
    return dots or any(byte < 0x20 or byte == 0x7F for byte in data)


@dataclass(frozen=True)
class DoorRules:
    """What one set-up may ask, and how much it may be given."""

    hosts: tuple[Host, ...] = REGISTRIES
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By URL prefix, the value of `Authorization`. Added outside of the box."""
    response_bytes: int = RESPONSE_BYTES
    total_bytes: int = TOTAL_BYTES
    requests: int = REQUESTS
    upload_bytes: int = UPLOAD_BYTES
    _credentials: tuple[_Credential, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parsed = [_credential(prefix, value) for prefix, value in self.credentials.items()]
        # The longest prefix that fits decides.
        parsed.sort(key=lambda credential: -len(credential.path))
        object.__setattr__(self, "_credentials", tuple(parsed))

    def tunnel(self, target: str, host_header: str | None) -> Host:
        """The host of a CONNECT. Raises Denied."""
        name, port = self._authority(target, 0)
        if not port:
            raise Denied("CONNECT needs a host and a port", status=400)
        host = self._find("https", name, port)
        self._same_host(host, host_header)
        return host

    def asked(self, method: str, target: str, headers: Iterable[Header], tunnel: Host | None) -> Asked:
        """What goes out for a request of the box, inside of `tunnel` if there is one. Raises Denied."""
        given = tuple(headers)
        host, path = self._place(target, tunnel)
        if method not in {"GET", "HEAD"}:
            raise Denied(f"{method[:20]}: set-up may only GET and HEAD", status=405, host=host.name)
        names = {name.lower() for name, _ in given}
        if b"upgrade" in names:
            raise Denied("a connection cannot be upgraded to another protocol", host=host.name)
        lengths = [value for name, value in given if name.lower() == b"content-length"]
        if b"transfer-encoding" in names or any(value.strip() != b"0" for value in lengths):
            raise Denied("a request of set-up has no body", status=413, host=host.name)
        hosts = [value.decode("latin-1") for name, value in given if name.lower() == b"host"]
        if len(hosts) > 1:
            raise Denied("a request has one Host", status=400, host=host.name)
        self._same_host(host, hosts[0] if hosts else None)
        return Asked(method, host, path, self._outgoing(host, path, given))

    def _place(self, target: str, tunnel: Host | None) -> tuple[Host, str]:
        """Host and path of a request's target: a whole URL outside of a tunnel, as a rule a path inside."""
        url = _URL.fullmatch(target)
        if url is not None:
            scheme = _scheme(url[1])
            name, port = self._authority(url[2], PORTS[scheme])
            if tunnel is None and scheme == "https":
                raise Denied("https goes through CONNECT", status=400, host=name)
            host = self._find(scheme, name, port)
            path = url[3] if url[3].startswith("/") else f"/{url[3]}"
        elif tunnel is not None:
            host, path = tunnel, target
        else:
            raise Denied("a proxy is asked for a whole URL", status=400)
        if tunnel is not None and host is not tunnel:
            raise Denied(f"this connection leads to {tunnel.name} alone", status=421, host=host.name)
        if not _ORIGIN.fullmatch(path) or "#" in path or "\\" in path:
            raise Denied("this path is malformed", status=400, host=host.name)
        return host, path

    @staticmethod
    def _authority(text: str, port: int) -> tuple[str, int]:
        try:
            return split_authority(text, port)
        except BadInput as exc:
            raise Denied(str(exc), status=400) from exc

    def _find(self, scheme: Scheme, name: str, port: int) -> Host:
        for host in reversed(self.hosts):  # what an operator adds comes behind the registries, and says more
            if (host.scheme, host.name, host.port) == (scheme, name, port):
                return host
        where = name if port == PORTS["https"] and scheme == "https" else f"{scheme}://{name}:{port}"
        raise Denied(f"{where} is not among the hosts that set-up may reach (SETUP_HOSTS)", host=name)

    def _same_host(self, host: Host, said: str | None) -> None:
        """`Host` decides on many a server what is served: it must say the host that was checked."""
        if said is None:
            return  # HTTP/1.0
        if self._authority(said, PORTS[host.scheme]) != (host.name, host.port):
            raise Denied(f"this request leads to {host.name} and names another Host", status=421, host=host.name)

    def _outgoing(self, host: Host, target: str, given: tuple[Header, ...]) -> tuple[Header, ...]:
        # What `Connection` names belongs to the box's connection too.
        named = {
            word.strip().lower() for name, value in given if name.lower() == b"connection" for word in value.split(b",")
        }
        kept = [(name, value) for name, value in given if name.lower() not in _STRIPPED | named]
        authorization = self._authorization(host, target)
        extra = [(b"Authorization", authorization)] if authorization else []
        return ((b"Host", host.authority.encode()), *kept, *extra)

    def _authorization(self, host: Host, target: str) -> bytes:
        path = target.partition("?")[0]
        if _misleading(path):
            return b""
        for credential in self._credentials:
            at_root = f"{path}/" == credential.path
            if credential.at == (host.scheme, host.name, host.port) and (at_root or path.startswith(credential.path)):
                return credential.value
        return b""


def without_go(rules: DoorRules) -> DoorRules:
    """The same for what is no Go module."""
    return dataclasses.replace(rules, hosts=tuple(host for host in rules.hosts if host not in GO))
