"""How the stub Slack delivers: envelopes over Socket Mode, or signed HTTP POSTs, with their retries."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve


@dataclass
class Delivery:
    """One event, command or interaction on its way to the app. Times: seconds of `time.monotonic()`."""

    id: str
    kind: str  # events_api | slash_commands | interactive
    payload: dict[str, Any]
    event_id: str = ""
    trigger_id: str = ""
    response_url: str = ""
    tries: int = 0
    sent: list[float] = field(default_factory=list)
    acked: float | None = None
    latency: float | None = None
    lost: bool = False
    answer: dict[str, Any] | None = None
    reason: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def retried(self) -> bool:
        """Slack tries events again, not commands and interactions: https://docs.slack.dev/apis/events-api/#retries."""
        return self.kind == "events_api"


class Courier:
    """One thread that sends what is due; over HTTP a pool of them waits for the answers."""

    def __init__(self, app: str, secret: str) -> None:
        self.secret = secret
        self.app = app
        self.request_url: str | None = None
        self.redeliver_after = 3.0
        self.retry_delays: tuple[float, ...] = (0.05, 0.1, 0.2)
        self.answer_within = 3.0
        self.deliveries: list[Delivery] = []
        self.problems: list[str] = []
        self.changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._closing = False
        self._envelopes: dict[str, tuple[Delivery, float]] = {}
        self._connections: list[ServerConnection] = []
        self._turn = itertools.count()
        self._tickets: set[str] = set()
        self._pool = ThreadPoolExecutor(32, thread_name_prefix="slack-push")
        self._local = threading.local()
        # The client pings by itself; compression and our own pings would only cost time.
        self._sockets: Server = serve(
            self._attend, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1
        )
        self._threads = [
            threading.Thread(target=self._sockets.serve_forever, daemon=True, name="slack-sockets"),
            threading.Thread(target=self._run, daemon=True, name="slack-courier"),
        ]
        for thread in self._threads:
            thread.start()

    # --- what is due

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        with self._wake:
            heappush(self._due, (time.monotonic() + seconds, next(self._order), act))
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closing and (not self._due or self._due[0][0] > time.monotonic()):
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closing:
                    return
                _, _, act = heappop(self._due)
            act()

    def deliver(self, delivery: Delivery, *, again_after: float | None = None) -> Delivery:
        """Takes it in; `again_after`: it is sent a second time then, acknowledged or not."""
        with self.changed:
            self.deliveries.append(delivery)
        self.at(0, lambda: self._send(delivery))
        if again_after is not None:
            self.at(again_after, lambda: self._send(delivery, extra=True))
        return delivery

    def _send(self, delivery: Delivery, *, extra: bool = False) -> None:
        if extra or not (delivery.acked or delivery.lost):
            if self.request_url:
                self._spawn(self._post, delivery, self.request_url, extra)
            else:
                self._emit(delivery, extra)

    def _spawn(self, act: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # the pool is closed: so are we
            self._pool.submit(act, *args)

    def _failed(self, delivery: Delivery, reason: str, wait: float = 0) -> None:
        """It was not acknowledged: once more after a while, three times, then never."""
        if delivery.acked or delivery.lost:
            return
        retry = delivery.tries - 1
        delivery.reason = reason
        if delivery.retried and retry < len(self.retry_delays) and reason != "no_retry":
            delay = wait if reason == "timeout" else self.retry_delays[retry]
            self.at(delay, lambda: self._send(delivery))
            return
        self._end(delivery, lost=True)

    def _end(self, delivery: Delivery, *, lost: bool = False, answer: Any = None, latency: float | None = None) -> None:
        with self.changed:
            if lost:
                delivery.lost = True
            elif delivery.acked is None:
                delivery.acked = time.monotonic()
                delivery.latency, delivery.answer, delivery.lost = latency, answer, False
            delivery.done.set()
            self.changed.notify_all()

    # --- Socket Mode: https://docs.slack.dev/apis/events-api/using-socket-mode

    def socket_url(self) -> str:
        """A link that is good for one connection."""
        ticket = secrets.token_hex(8)
        self._tickets.add(ticket)
        return f"ws://127.0.0.1:{self._sockets.socket.getsockname()[1]}/link/?ticket={ticket}&app_id={self.app}"

    @property
    def sockets(self) -> int:
        return len(self._connections)

    def _attend(self, connection: ServerConnection) -> None:
        request = connection.request
        ticket = parse_qs(urlsplit(request.path if request else "").query).get("ticket", [""])[0]
        if ticket not in self._tickets:
            connection.close(4001, "invalid ticket")
            return
        self._tickets.discard(ticket)
        info = {"connection_info": {"app_id": self.app}, "debug_info": {"host": "stub", "build_number": 1}}
        with self.changed:
            number = len(self._connections) + 1
        connection.send(json.dumps({"type": "hello", "num_connections": number, **info}))
        with self.changed:
            self._connections.append(connection)
            self.changed.notify_all()
        try:
            for text in connection:
                self._acknowledged(text if isinstance(text, str) else text.decode())
        except (ConnectionClosed, OSError):
            pass
        finally:
            self._forget(connection)

    def _forget(self, connection: ServerConnection) -> None:
        with self.changed:
            if connection in self._connections:
                self._connections.remove(connection)
            self.changed.notify_all()

    def _acknowledged(self, text: str) -> None:
        now = time.monotonic()
        try:
            said = json.loads(text)
            delivery, sent = self._envelopes[said["envelope_id"]]
        except (ValueError, KeyError, TypeError):
            self.problems.append(f"not an acknowledgement: {text[:200]}")
            return
        if set(said) - {"envelope_id", "payload"}:
            self.problems.append(f"unknown fields in an acknowledgement: {text[:200]}")
        self._end(delivery, answer=said.get("payload"), latency=now - sent)

    def _emit(self, delivery: Delivery, extra: bool) -> None:
        if not extra:
            delivery.tries += 1
        with self.changed:
            connections = list(self._connections)
        if not connections:
            if not extra:
                self._failed(delivery, "no_socket")
            return
        envelope_id = delivery.id if delivery.tries == 1 and not extra else secrets.token_hex(16)
        envelope: dict[str, Any] = {"envelope_id": envelope_id, "payload": delivery.payload, "type": delivery.kind}
        envelope["accepts_response_payload"] = not delivery.retried
        if delivery.retried:
            retry = max(delivery.tries - 1, int(extra))
            envelope |= {"retry_attempt": retry, "retry_reason": (delivery.reason or "timeout") if retry else ""}
        now = time.monotonic()
        self._envelopes[envelope_id] = delivery, now
        delivery.sent.append(now)
        connection = connections[next(self._turn) % len(connections)]
        try:
            connection.send(json.dumps(envelope))
        except (ConnectionClosed, OSError):
            self._forget(connection)
            if not extra:
                self._failed(delivery, "no_socket")
            return
        if not extra:
            wait = self.redeliver_after
            self.at(wait, lambda: self._failed(delivery, "timeout"))

    def refresh_sockets(self) -> None:
        """Tells every connection to come again, and closes it soon after, as Slack does."""
        for connection in list(self._connections):
            self._forget(connection)
            with suppress(ConnectionClosed, OSError):
                connection.send(
                    json.dumps({"type": "disconnect", "reason": "refresh_requested", "debug_info": {"host": "stub"}})
                )
            self.at(0.3, partial(self._spawn, connection.close))

    def drop_sockets(self) -> None:
        """Cuts the TCP connections, without a closing frame."""
        for connection in list(self._connections):
            self._forget(connection)
            with suppress(OSError):
                connection.socket.shutdown(2)

    # --- HTTP: https://docs.slack.dev/apis/events-api/using-http-request-urls

    def sign(self, body: bytes, *, at: float | None = None) -> dict[str, str]:
        """https://docs.slack.dev/authentication/verifying-requests-from-slack: v0, HMAC-SHA256 over the raw bytes."""
        stamp = str(int(time.time() if at is None else at))
        digest = hmac.new(self.secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}

    def challenge(self) -> bytes:
        """Asks the request URL to prove itself, as when it is entered: .../reference/events/url_verification."""
        assert self.request_url
        token = secrets.token_hex(8)
        body = json.dumps({"token": "stub", "challenge": token, "type": "url_verification"}).encode()
        headers = {"Content-Type": "application/json", **self.sign(body)}
        status, data, _ = self._exchange(self.request_url, body, headers)
        assert (status, token.encode() in data) == (200, True), f"{status}: {data!r}"
        return data

    @staticmethod
    def body(delivery: Delivery) -> tuple[bytes, str]:
        """Events are JSON, commands and interactions forms."""
        if delivery.kind == "events_api":
            return json.dumps(delivery.payload).encode(), "application/json"
        form = delivery.payload if delivery.kind == "slash_commands" else {"payload": json.dumps(delivery.payload)}
        return urlencode(form).encode(), "application/x-www-form-urlencoded"

    def _post(self, delivery: Delivery, url: str, extra: bool) -> None:
        if not extra:
            delivery.tries += 1
        body, kind = self.body(delivery)
        headers = {"Content-Type": kind, "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)"}
        retry = max(delivery.tries - 1, int(extra))
        if delivery.retried and retry:
            headers |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": delivery.reason or "http_timeout"}
        now = time.monotonic()
        delivery.sent.append(now)
        try:
            status, data, no_retry = self._exchange(url, body, {**headers, **self.sign(body)})
        except TimeoutError:
            reason = "http_timeout"
        except (OSError, http.client.HTTPException):
            reason = "connection_failed"
        else:
            if 200 <= status < 300:
                self._end(delivery, answer=_json(data), latency=time.monotonic() - now)
                return
            reason = "no_retry" if no_retry else "http_error"
        if not extra:
            self._failed(delivery, reason)

    def _exchange(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, bool]:
        """Over a connection that this thread keeps; a kept one may have been closed meanwhile, so once more then."""
        parts = urlsplit(url)
        kept: dict[str, http.client.HTTPConnection] = self._local.__dict__.setdefault("kept", {})
        for fresh in (False, True):
            connection = kept.pop(parts.netloc, None) if not fresh else None
            if connection is None and not fresh:
                continue
            connection = connection or http.client.HTTPConnection(parts.netloc, timeout=self.answer_within)
            try:
                connection.request("POST", parts.path or "/", body, headers)
                response = connection.getresponse()
                data = response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                if fresh:
                    raise
                continue
            except BaseException:
                connection.close()
                raise
            if not response.will_close:
                kept[parts.netloc] = connection
            return response.status, data, response.headers.get("x-slack-no-retry") == "1"
        raise AssertionError("unreachable")

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        for connection in list(self._connections):
            with suppress(ConnectionClosed, OSError):
                connection.socket.shutdown(2)
        self._sockets.shutdown()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.join(5)


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data) if data else None
    except ValueError:
        return {"text": data.decode("utf-8", "replace")}
    return found if isinstance(found, dict) else None
