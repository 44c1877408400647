"""The one door of a set-up: a forward proxy for registries, outside of the box, behind a unix socket.

It opens TLS itself, with certificates that the box alone trusts, so that it sees each request and not just where a
tunnel leads. What may pass is in `doorrules`. Two threads never share a connection: each of the box's has its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h11

from graph.errors import SandboxFailed, ThreadwrightError
from integrations.doorkeys import Authority
from integrations.doorrules import Asked, Denied, DoorRules, Host
from integrations.doorwire import Resolve, Sockets, StaleError, Upstream, Wire, resolve

CONNECTIONS = 128
"""At a time. Installers keep dozens open to each host that they talk to."""
_PATH_BYTES = 107
_TOLD = 50
_CLOSE_SECONDS = 5.0
# Of an answer: the connection's own, and what would send the client to a port or protocol that leads nowhere.
_DROPPED = frozenset(b"connection keep-alive proxy-connection transfer-encoding trailer upgrade alt-svc te".split())

log = logging.getLogger(__name__)


@dataclass
class Exchange:
    """A request and what became of it, as it is noted. Never headers, and no query: both may hold secrets."""

    method: str
    host: str = ""
    path: str = ""
    status: int = 0
    bytes: int = 0
    refused: str = ""
    by_rule: bool = field(default=False, repr=False)

    def asks(self, asked: Asked) -> None:
        self.host, self.path = asked.host.name, asked.path[:200]

    def deny(self, denied: Denied) -> None:
        self.host, self.refused, self.by_rule = self.host or denied.host, str(denied), denied.by_rule


class Door:
    """Listens at `folder/socket`; what the box has to trust is in `folder/ca.pem`. Open from the start to `close`.

    `note` is called once a request, from threads, one at a time. If it raises, the door closes and keeps the `error`.
    """

    def __init__(
        self,
        folder: Path,
        rules: DoorRules,
        note: Callable[..., Any],
        *,
        owner: int | None = None,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.rules, self.resolve = rules, resolve
        self.tls = tls or ssl.create_default_context()
        self.error: ThreadwrightError | None = None
        self.requests = 0
        self.refused: list[str] = []
        self.socket, self.certificate = folder / "socket", folder / "ca.pem"
        self.authority = Authority()
        self.sockets = Sockets()
        self._note = note
        self._total = self._sent = 0
        self._lock, self._noting = threading.Lock(), threading.Lock()
        self._left = threading.Condition()
        self._visits: dict[threading.Thread, Visit] = {}
        self._closing = threading.Event()
        self._listener = self._listen(folder, owner)
        self._porter = threading.Thread(target=self._receive, name="door", daemon=True)
        self._porter.start()

    def _listen(self, folder: Path, owner: int | None) -> socket.socket:
        if len(os.fsencode(self.socket)) > _PATH_BYTES:
            raise SandboxFailed(f"{self.socket} is too long a path for a socket: choose a shorter folder for the state")
        listener = socket.socket(socket.AF_UNIX)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            for left in (self.socket, self.certificate):
                left.unlink(missing_ok=True)
            # The folder may have been another user's before: no link of theirs is followed.
            with self.certificate.open("xb") as file:
                file.write(self.authority.pem)
                os.fchmod(file.fileno(), 0o644)
            listener.bind(str(self.socket))
            self.socket.chmod(0o600)
            if owner is not None and os.geteuid() == 0:
                os.chown(self.socket, owner, -1, follow_symlinks=False)
                os.chown(folder, owner, -1)
            listener.listen(2 * CONNECTIONS)
        except OSError as exc:
            listener.close()
            raise SandboxFailed(f"the door of set-up cannot be opened in {folder}: {exc.strerror or exc}") from exc
        return listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and wait for their threads."""
        self._shut()
        deadline = time.monotonic() + _CLOSE_SECONDS
        self._porter.join(_CLOSE_SECONDS)
        with self._left:
            threads = list(self._visits)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._visits:
            # A resolver cannot be woken. Such a thread finds the door closed when it gets its answer.
            log.warning("%d connections of the door still wait for a name to resolve", len(self._visits))
        for path in (self.socket, self.certificate):
            path.unlink(missing_ok=True)

    def _shut(self) -> None:
        self._closing.set()
        self.sockets.close()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        with self._left:
            self._left.notify_all()

    def _receive(self) -> None:
        with self._listener:
            while not self._closing.is_set():
                try:
                    sock = self._listener.accept()[0]
                    self.sockets.add(sock)
                except OSError as exc:
                    if not self._closing.wait(0.1):
                        log.warning("the door could not take a connection: %s", exc.strerror or exc)
                    continue
                self._make_room()
                self._begin(Visit(self, sock))

    def _begin(self, visit: Visit) -> None:
        thread = threading.Thread(target=self._attend, args=(visit,), name="door visit", daemon=True)
        with self._left:
            self._visits[thread] = visit
        try:
            thread.start()
        except RuntimeError as exc:
            log.warning("the door could not take a connection: %s", exc)
            with self._left:
                del self._visits[thread]
            self.sockets.drop(visit.wire.sock)

    def _make_room(self) -> None:
        """Wait until there are few enough connections. The one that was idle longest goes: clients take that well."""
        with self._left:
            while len(self._visits) >= CONNECTIONS and not self._closing.is_set():
                idle = {visit.wire.idle_since: visit for visit in self._visits.values()}
                since = [moment for moment in idle if moment is not None]
                if since:
                    self.sockets.wake(idle[min(since)].wire.sock)
                self._left.wait(0.1)

    def _attend(self, visit: Visit) -> None:
        try:
            visit.run()
        finally:
            with self._left:
                del self._visits[threading.current_thread()]
                self._left.notify_all()

    # What follows is for visits.

    def admit(self) -> None:
        """Raises Denied once there were too many requests."""
        with self._lock:
            if self.requests >= self.rules.requests:
                raise Denied(f"set-up has made {self.requests} requests, which is all it may")

    def count(self, *, taken: int = 0, sent: int = 0) -> None:
        """Count bytes that came for the box and that went out from it. Raises Denied when it is too much."""
        with self._lock:
            self._total += taken
            self._sent += sent
            if self._total > self.rules.total_bytes:
                raise Denied(f"set-up has loaded more than {self.rules.total_bytes} bytes in all")
            if self._sent > self.rules.upload_bytes:
                raise Denied(f"set-up has sent more than {self.rules.upload_bytes} bytes of requests")

    def record(self, exchange: Exchange) -> None:
        with self._lock:
            self.requests += 1
            line = exchange.refused
            if not exchange.host or not line.startswith(exchange.host):
                line = f"{exchange.host or 'malformed request'}: {line}"
            if exchange.by_rule and line not in self.refused and len(self.refused) < _TOLD:
                self.refused.append(line)
            silent = self.requests > self.rules.requests + 1  # the first beyond is told, the others only turned away
        with self._noting:
            if silent or self.error is not None:
                return
            try:
                self._note(
                    "network", method=exchange.method, host=exchange.host, path=exchange.path, status=exchange.status,
                    bytes=exchange.bytes, refused=exchange.refused,
                )  # fmt: skip
            except ThreadwrightError as exc:
                self.error = exc
                log.warning("the door closes, for what passes cannot be noted: %s", exc)
                self._shut()


class Visit:
    """One connection of the box, from its first byte to its last."""

    def __init__(self, door: Door, sock: socket.socket) -> None:
        self.wire = Wire(sock, serves=True)
        self._door = door
        self._upstream: Upstream | None = None

    def run(self) -> None:
        sound = False
        try:
            self._serve()
            sound = True
        except OSError as exc:
            # The box hung up, stalled, or the door closes.
            log.debug("a connection of the door ended: %s", exc)
            sound = True
        finally:
            if not sound:
                log.warning("a connection of the door ended by an error of ours", exc_info=True)
            self._leave()
            self._door.sockets.drop(self.wire.sock)

    def _serve(self) -> None:
        tunnel: Host | None = None
        while True:
            try:
                request = self.wire.request()
                has_body = request is not None and self.wire.has_body()
            except h11.RemoteProtocolError as exc:
                exchange = Exchange("?", tunnel.name if tunnel else "")
                self._deny(exchange, Denied("this is not HTTP/1.1 as the door reads it", status=400))
                log.debug("a malformed request: %s", exc)
                return
            if request is None:
                return
            if tunnel is None and request.method == b"CONNECT":
                tunnel = self._connect(request, has_body=has_body)
                if tunnel is not None:
                    continue
            else:
                self._answer(request, tunnel, has_body=has_body)
            if not self.wire.again():
                return

    def _connect(self, request: h11.Request, *, has_body: bool) -> Host | None:
        """Go on inside of a tunnel; None if there is none."""
        exchange = Exchange("CONNECT")
        try:
            self._door.admit()
            if has_body or any(name == b"upgrade" for name, _ in request.headers):
                raise Denied("this is not a plain CONNECT", status=400)
            if self.wire.http.trailing_data[0]:
                raise Denied("a tunnel is used once it is there", status=400)
            said = [value.decode("latin-1") for name, value in request.headers if name == b"host"]
            host = self._door.rules.tunnel(request.target.decode("ascii"), said[0] if said else None)
        except Denied as denied:
            self._deny(exchange, denied)
            return None
        self.wire.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        try:
            secured = self._door.sockets.secure(self.wire.sock, self._door.authority.context(host.name))
        except ssl.SSLError as exc:
            exchange.host, exchange.status = host.name, 200
            exchange.refused = f"TLS with the box came to nothing ({exc.reason or 'it hung up'})"
            self._door.record(exchange)
            raise
        self.wire = Wire(secured, serves=True)
        return host

    def _answer(self, request: h11.Request, tunnel: Host | None, *, has_body: bool) -> None:
        exchange = Exchange(request.method.decode("ascii")[:20])
        try:
            self._door.admit()
            if request.target.startswith(b"/"):
                exchange.path = request.target.partition(b"?")[0].decode("ascii")[:200]
            asked = self._door.rules.asked(
                request.method.decode("ascii"), request.target.decode("ascii"), list(request.headers), tunnel
            )
            exchange.asks(asked)
            if has_body:
                raise Denied("a request of set-up has no body", status=413)
            response = self._ask(asked)
        except Denied as denied:
            self._deny(exchange, denied)
            return
        exchange.status = response.status_code
        try:
            self._relay(response, exchange)
        except Denied as denied:
            # Too late for another answer. The connection ends short of what was promised, and the client sees that.
            exchange.deny(denied)
            self._door.sockets.wake(self.wire.sock)
        finally:
            self._door.record(exchange)

    def _ask(self, asked: Asked) -> h11.Response:
        """Gives the head of the answer, if the whole may be let in."""
        try:
            response, sent = self._ask_upstream(asked)
            self._door.count(sent=sent)
            size = int(dict(response.headers).get(b"content-length", b"0"))
            if asked.method != "HEAD" and size > self._door.rules.response_bytes:
                raise Denied(f"this answer is larger than the {self._door.rules.response_bytes} bytes that it may be")
        except Denied:
            self._leave()
            raise
        return response

    def _ask_upstream(self, asked: Asked) -> tuple[h11.Response, int]:
        if self._upstream is not None and self._upstream.host is asked.host:
            try:
                return self._upstream.ask(asked)
            except StaleError as exc:
                log.debug("%s had hung up: %r", asked.host.name, exc)
        self._leave()
        self._upstream = Upstream(asked.host, self._door.resolve, self._door.tls, self._door.sockets)
        return self._upstream.ask(asked)

    def _relay(self, response: h11.Response, exchange: Exchange) -> None:
        upstream = self._upstream
        assert upstream is not None  # noqa: S101 - for the type checker
        names = {name for name, _ in response.headers}
        # With both, one reader goes by the length and another by the chunks: only the chunks counted for us.
        dropped = _DROPPED | {b"content-length"} if b"transfer-encoding" in names else _DROPPED
        headers = [(name, value) for name, value in response.headers if name not in dropped]
        try:
            self.wire.send(h11.Response(status_code=response.status_code, headers=headers, reason=response.reason))
            for data in upstream.body():
                exchange.bytes += len(data)
                self._door.count(taken=len(data))
                if exchange.bytes > self._door.rules.response_bytes:
                    raise Denied(f"this answer is larger than {self._door.rules.response_bytes} bytes")
                self.wire.send(h11.Data(data=data))
            self.wire.send(h11.EndOfMessage())
        finally:
            if not upstream.again():
                self._leave()

    def _leave(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def _deny(self, exchange: Exchange, denied: Denied) -> None:
        """Say why, and note it. Clients show the phrase behind the status, if anything at all."""
        exchange.deny(denied)
        exchange.status = denied.status
        self._door.record(exchange)
        text = f"{denied}\n".encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
        if denied.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        unread = self.wire.http.their_state in {h11.SEND_BODY, h11.ERROR}
        if unread:
            headers.append(("Connection", "close"))
        head = h11.Response(status_code=denied.status, headers=headers, reason=text[:200].strip())
        body = [] if exchange.method == "HEAD" else [h11.Data(data=text)]
        self.wire.send(head, *body, h11.EndOfMessage())
        if unread:
            self.wire.linger()
