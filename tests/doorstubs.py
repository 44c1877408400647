"""What is on either side of the door in tests: a registry that is strict about what reaches it, names, raw clients."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from graph.errors import ThreadwrightError
from integrations import boxdoor
from integrations.door import Door
from integrations.doorkeys import Authority
from integrations.doorrules import DoorRules, Host

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
FORBIDDEN = {
    "cookie", "proxy-authorization", "proxy-connection", "upgrade", "transfer-encoding", "content-length", "te",
    "expect", "keep-alive", "connection", "http2-settings", "trailer",
}  # fmt: skip
"""No request that comes through the door has these."""
HOSTILE = [
    "pypi.org\0.evil.com", "evil.com\0.pypi.org", "pypi.org\0", "pypi.org%00.evil.com", "evil.com%00pypi.org",
    "pypi.org%2eevil.com",
    "%70ypi.org", "user@pypi.org", "pypi.org@evil.com", "user:word@pypi.org", "evil-pypi.org", "pypi.org.evil.com",
    "evilpypi.org",
    "xpypi.org", "sub.pypi.org", "org", "pypi.or", "pypi.orgg", ".pypi.org", "pypi..org", "pypi.org..",
    "pypi.org evil.com",
    " pypi.org", "pypi.org ", "pypi.org\t", "pypi.org\r\nHost: evil.com", "pypi.org\n", "pypi.org\\.evil.com",
    "evil.com\\@pypi.org",
    "pypi.org/", "pypi.org/../evil.com", "pypi.org#evil.com", "pypi.org?evil.com", "pypi。org", "pypı.org", "pypi.oｒg",
    "рypi.org", "pypi.org\u200b", "\u212arates.io", "xn--pypi-.org", "2130706433", "0x7f000001", "0177.0.0.1",
    "127.1", "127.0.0.1", "127.0.0.1.", "0", "0x7f.0.0.1", "1.2.3.0x4", "[::1]", "::1", "[::ffff:169.254.169.254]",
    "[fe80::1%25eth0]",
    "fe80::1%eth0", "[pypi.org]", "localhost", "metadata.google.internal", "169.254.169.254", "github.com", "", ".",
    "*", "*.pypi.org",
    "a" * 64 + ".org", "a." * 130 + "org", "-pypi.org", "pypi-.org", "pypi_.org", "evil.com:443@pypi.org",
    "pypi.org,evil.com",
]  # fmt: skip
"""What could be taken for pypi.org, or for nothing, by one of two readers."""


@dataclass
class Answer:
    """What the registry says under a path. `raw`: those bytes and nothing else, and then it hangs up."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    raw: bytes | None = None
    hangs_up_after: bool = False
    waits: bool = False


@dataclass(frozen=True)
class Seen:
    method: str
    host: str
    path: str
    sni: str
    headers: dict[str, str]
    connection: int


class Registry:
    """Serves `answers` by path, with TLS under whatever name is asked for, unless `plain`. Keeps what it saw."""

    def __init__(self, answers: Mapping[str, Answer], *, plain: bool = False, address: str = "127.0.0.1") -> None:
        self.answers = dict(answers)
        self.authority = Authority()
        self.seen: list[Seen] = []
        self.connections = 0
        self.complaints: list[str] = []
        self.closing = threading.Event()
        self._server = _Server((address, 0), _Handler)
        self._server.registry = self
        self._server.tls = None if plain else self._context()
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def choose(sock: Any, name: str | None, context: ssl.SSLContext) -> int | None:
            if not name:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            sock.said_name = name
            sock.context = self.authority.context(name)
            return None

        context.sni_callback = choose
        return context

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.pem.decode())

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    registry: Registry
    tls: ssl.SSLContext | None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The door may hang up on us at any time; what is wrong with a request is in `complaints`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        registry = self.server.registry
        registry.connections += 1
        self.connection_number = registry.connections
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        registry = self.server.registry
        headers = {name.lower(): value for name, value in self.headers.items()}
        sni = getattr(self.request, "said_name", "")
        seen = Seen(self.command, headers.get("host", ""), self.path, sni, headers, self.connection_number)
        registry.seen.append(seen)
        if FORBIDDEN & set(headers):
            registry.complaints.append(f"these do not belong here: {sorted(FORBIDDEN & set(headers))}")
        if sni and seen.host.partition(":")[0] != sni:
            registry.complaints.append(f"Host {seen.host} under the name {sni}")
        self._say(registry.answers.get(self.path.partition("?")[0], Answer(b"no such thing", 404)))

    do_HEAD = do_GET

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            self.server.registry.complaints.append(f"{name[3:]} reached the registry")
        raise AttributeError(name)

    def _say(self, answer: Answer) -> None:
        if answer.waits:
            self.server.registry.closing.wait(30)
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self._write(answer)
        self.close_connection = answer.hangs_up_after

    def _write(self, answer: Answer) -> None:
        if not answer.chunked:
            self.wfile.write(answer.body)
            return
        for at in range(0, len(answer.body), 1000):
            part = answer.body[at : at + 1000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")


class Names:
    """A resolver: for each name its answers in turn, the last one for ever after. Keeps what it was asked."""

    def __init__(self, answers: Mapping[str, list[list[str]]] | None = None) -> None:
        self._answers = {name: list(turns) for name, turns in (answers or {}).items()}
        self.asked: list[str] = []

    def __call__(self, name: str, port: int) -> list[str]:
        self.asked.append(name)
        turns = self._answers.get(name, [["127.0.0.1"]])
        return turns.pop(0) if len(turns) > 1 else turns[0]


class Notes:
    """Where the door notes; with `fails` set, it cannot."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.fails: ThreadwrightError | None = None

    def __call__(self, kind: str, **fields: Any) -> None:
        assert kind == "network"
        if self.fails:
            raise self.fails
        json.dumps(fields)
        self.lines.append(fields)


class Reply:
    """An answer as it came over a raw connection."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.phrase = lines[0].partition(" ")[2].partition(" ")[2]
        pairs = (line.partition(":") for line in lines[1:])
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.body = body


class Client:
    """Speaks to the door's socket with bytes that a test chooses."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(door.socket))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, *, head_only: bool = False) -> Reply:
        """One answer: by its length, or until the door hangs up."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._more()
            if not more:
                return Reply(data, b"")
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        reply = Reply(head, body)
        length = int(reply.headers.get("content-length", "-1"))
        while not head_only and (length < 0 or len(reply.body) < length) and not reply.body.endswith(b"\r\n0\r\n\r\n"):
            more = self._more()
            if not more:
                break
            reply.body += more
        return reply

    def _more(self) -> bytes:
        try:
            return self.sock.recv(1 << 16)
        except (ConnectionError, ssl.SSLError):
            return b""

    def ask(self, head: bytes, **options: Any) -> Reply:
        self.send(head)
        return self.read(**options)

    def tunnel(self, authority: str) -> Reply:
        """CONNECT, and TLS if the door says yes."""
        reply = self.ask(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("latin-1"), head_only=True)
        if reply.status == 200:
            trust = ssl.create_default_context(cadata=self._door.certificate.read_text())
            self.sock = trust.wrap_socket(self.sock, server_hostname=authority.partition(":")[0])
        return reply

    def get(self, host: str, path: str, *headers: str, method: str = "GET") -> Reply:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
        return self.ask("\r\n".join(lines).encode("latin-1"), head_only=method == "HEAD")


@dataclass
class Set:
    """A registry, a door that leads to it, and what they keep."""

    folder: Path
    registry: Registry
    names: Names
    notes: Notes
    door: Door

    @property
    def at(self) -> str:
        return f"pypi.org:{self.registry.port}"

    def client(self) -> Client:
        return Client(self.door)

    def get(self, path: str, *headers: str, method: str = "GET") -> Reply:
        with self.client() as client:
            assert client.tunnel(self.at).status == 200
            return client.get(self.at, path, *headers, method=method)


@contextmanager
def opened(
    folder: Path,
    answers: Mapping[str, Answer],
    *,
    hosts: Callable[[int], tuple[Host, ...]] = lambda port: (Host("pypi.org", port, "https", LOOPBACK),),
    names: Names | None = None,
    plain: bool = False,
    **rules: Any,
) -> Iterator[Set]:
    """A door to a registry that is called pypi.org."""
    registry = Registry(answers, plain=plain)
    notes, names = Notes(), names or Names()
    made = rules.pop("credentials", lambda port: {})(registry.port)
    policy = DoorRules(hosts(registry.port), made, **rules)
    try:
        with Door(folder / "door", policy, notes, resolve=names, tls=registry.trust) as door:
            yield Set(folder, registry, names, notes, door)
    finally:
        registry.close()
    assert registry.complaints == []


@contextmanager
def forwarder(path: Path) -> Iterator[int]:
    """`boxdoor.py` as it runs in a box; gives its port."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [sys.executable, "-I", "-S", boxdoor.__file__, str(port), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield port
        finally:
            process.kill()


def environment(door: Door, port: int) -> dict[str, str]:
    """As clients in the box see it: nothing of the operator's."""
    proxy, certificate = f"http://127.0.0.1:{port}", str(door.certificate)
    return {
        "PATH": os.defpath, "HTTP_PROXY": proxy, "http_proxy": proxy, "HTTPS_PROXY": proxy, "https_proxy": proxy,
        "SSL_CERT_FILE": certificate, "CURL_CA_BUNDLE": certificate, "PIP_CERT": certificate,
    }  # fmt: skip
