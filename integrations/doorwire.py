"""The door's connections, on either side: sockets that can be woken, HTTP/1.1 over them, and the checked dial."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import cast

import h11

from integrations.doorrules import Asked, Denied, Host, check_addresses

Resolve = Callable[[str, int], list[str]]
_CHUNK = 1 << 16
_REQUEST_HEAD, _ANSWER_HEAD = 16 << 10, 64 << 10
"""Bytes at most. What a request says could be what the box carries out."""
IDLE_SECONDS, HEAD_SECONDS, STALL_SECONDS = 60.0, 30.0, 60.0
_CONNECT_SECONDS = 10.0
_LINGER_SECONDS, _LINGER_BYTES = 2.0, 1 << 20


def resolve(name: str, port: int) -> list[str]:
    """All addresses of a name."""
    return [str(found[4][0]) for found in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]


class Sockets:
    """The open sockets of a door. Shutting them down wakes the threads that wait at them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._open)

    def add(self, sock: socket.socket) -> None:
        """Raises OSError, with the socket closed, once the door is closed."""
        with self._lock:
            if not self._closed:
                self._open.add(sock)
                return
        sock.close()
        raise ConnectionAbortedError(errno.ECONNABORTED, "the door is closed")

    def secure(self, sock: socket.socket, context: ssl.SSLContext, *, name: str = "") -> ssl.SSLSocket:
        """Go on with TLS, as the client of the server `name`, or as the server. Raises OSError (SSLError is one)."""
        secured = context.wrap_socket(
            sock, server_side=not name, server_hostname=name or None, do_handshake_on_connect=False
        )
        self.drop(sock)
        self.add(secured)
        try:
            secured.settimeout(HEAD_SECONDS)
            secured.do_handshake()
        except OSError:
            self.drop(secured)
            raise
        return secured

    def drop(self, sock: socket.socket) -> None:
        # Under the lock: a descriptor that is closed may at once be another's, whom `wake` must not hit.
        with self._lock:
            self._open.discard(sock)
            sock.close()

    def wake(self, sock: socket.socket) -> None:
        """End the connection under whoever uses it."""
        with self._lock:
            if sock in self._open:
                self._shut(sock)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for sock in self._open:
                self._shut(sock)

    @staticmethod
    def _shut(sock: socket.socket) -> None:
        with suppress(OSError):
            # Not SSLSocket's own: it takes the TLS away from under the thread that reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Wire:
    """HTTP/1.1 over one socket."""

    def __init__(self, sock: socket.socket, *, serves: bool) -> None:
        self.sock = sock
        role, limit = (h11.SERVER, _REQUEST_HEAD) if serves else (h11.CLIENT, _ANSWER_HEAD)
        self.http = h11.Connection(role, max_incomplete_event_size=limit)
        self.idle_since: float | None = None
        """While the other side is not in the middle of anything."""

    def send(self, *events: h11.Event) -> int:
        """Gives how many bytes that were."""
        data = b"".join(self.http.send(event) or b"" for event in events)
        if data:
            self.sock.settimeout(STALL_SECONDS)
            self.sock.sendall(data)
        return len(data)

    def read(self, seconds: float) -> h11.Event | type[h11.PAUSED]:
        """The next event, if each read of it takes no longer than that. Raises OSError, RemoteProtocolError."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return cast("h11.Event | type[h11.PAUSED]", event)
            self._take(seconds)

    def _take(self, seconds: float) -> None:
        self.sock.settimeout(max(seconds, 0.001))
        self.http.receive_data(self.sock.recv(_CHUNK))

    def request(self) -> h11.Request | None:
        """The next request; None when there will be none. Raises OSError, RemoteProtocolError."""
        self.idle_since = time.monotonic()
        try:
            deadline = self.idle_since + IDLE_SECONDS
            while (event := self.http.next_event()) is h11.NEED_DATA:
                self._take(deadline - time.monotonic())
                if self.idle_since is not None:
                    # From its first byte on, a head has its time as a whole: else one that drips holds a thread.
                    self.idle_since, deadline = None, time.monotonic() + HEAD_SECONDS
        finally:
            self.idle_since = None
        if not isinstance(event, h11.Request):
            return None
        # What arrives in one piece goes past the limit of h11, which is for heads that are not yet whole.
        if len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > _REQUEST_HEAD:
            raise h11.RemoteProtocolError("a head that is too large")
        return event

    def has_body(self) -> bool:
        """Whether anything belongs to the request that was just read."""
        return not isinstance(self.http.next_event(), h11.EndOfMessage)

    def again(self) -> bool:
        """Make ready for the next request on this connection, if it may have one."""
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
            return True
        return False

    def linger(self) -> None:
        """Take what the box still sends: closing over it would take the answer away from under its eyes."""
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
            deadline, left = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES
            while left > 0 and (seconds := deadline - time.monotonic()) > 0:
                self.sock.settimeout(seconds)
                taken = len(self.sock.recv(_CHUNK))
                if not taken:
                    return
                left -= taken


class StaleError(Exception):
    """A connection that was used before ended before it answered: ask again over a new one."""


class Upstream:
    """A connection to a host, at an address that was checked. Everything it raises is Denied, or StaleError."""

    def __init__(self, host: Host, resolve: Resolve, tls: ssl.SSLContext, sockets: Sockets) -> None:
        self.host = host
        self._sockets = sockets
        self._wire = Wire(_dial(host, resolve, tls, sockets), serves=False)
        self._used = False

    def _denied(self, what: str) -> Denied:
        return Denied(f"{self.host.name} {what}", status=502, host=self.host.name)

    def ask(self, asked: Asked) -> tuple[h11.Response, int]:
        """The head of the answer, and how many bytes were sent for it."""
        request = h11.Request(method=asked.method, target=asked.target, headers=list(asked.headers))
        used, self._used = self._used, True
        try:
            sent = self._wire.send(request, h11.EndOfMessage())
            event = self._wire.read(STALL_SECONDS)
            while isinstance(event, h11.InformationalResponse):
                event = self._wire.read(STALL_SECONDS)
        except TimeoutError as exc:
            raise Denied(f"{self.host.name} does not answer", status=504, host=self.host.name) from exc
        except (OSError, h11.RemoteProtocolError) as exc:
            if used and not self._wire.http.trailing_data[0]:
                raise StaleError from exc
            raise self._denied("does not answer as a web server does") from exc
        if isinstance(event, h11.Response):
            return event, sent
        if used:
            raise StaleError
        raise self._denied("hung up without an answer")

    def body(self) -> Iterator[bytes]:
        try:
            while isinstance(event := self._wire.read(STALL_SECONDS), h11.Data):
                yield bytes(event.data)
        except (OSError, h11.RemoteProtocolError) as exc:
            raise self._denied("broke off in the middle of an answer") from exc
        if not isinstance(event, h11.EndOfMessage):
            raise self._denied("broke off in the middle of an answer")

    def again(self) -> bool:
        return self._wire.again()

    def close(self) -> None:
        self._sockets.drop(self._wire.sock)


def _dial(host: Host, resolve: Resolve, tls: ssl.SSLContext, sockets: Sockets) -> socket.socket:
    """One resolution; every answer checked; one of exactly those addresses dialled."""
    try:
        addresses = check_addresses(host, resolve(host.name, host.port))
    except OSError as exc:
        raise Denied(f"the name {host.name} does not resolve", status=502, host=host.name) from exc
    sock = _connect(host, addresses, sockets)
    if host.scheme == "http":
        return sock
    try:
        return sockets.secure(sock, tls, name=host.name)
    except ssl.SSLCertVerificationError as exc:
        why = f"{host.name} shows a certificate that is not valid: {exc.verify_message}"
        raise Denied(why, status=502, host=host.name) from exc
    except OSError as exc:
        raise Denied(f"{host.name} does not speak TLS as it should", status=502, host=host.name) from exc
    finally:
        sockets.drop(sock)  # `secure` took the descriptor over, or left it to us


def _connect(host: Host, addresses: list[str], sockets: Sockets) -> socket.socket:
    for address in addresses:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            sockets.add(sock)
            sock.settimeout(_CONNECT_SECONDS)
            sock.connect((address, host.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sockets.drop(sock)
        else:
            return sock
    raise Denied(f"{host.name} cannot be reached", status=502, host=host.name)
