"""A strict stub Slack over real sockets: Web API, Socket Mode, signed HTTP pushes, with faults on demand.

It refuses what Slack refuses (slackrules, slackblocks, slackmethods name their sources), so a test that passes here
says something about Slack.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from slackacts import Acts
from slackblocks import check_blocks
from slackhttp import Http
from slackmethods import Methods
from slackpush import Courier, Delivery
from slackrules import ALL_EVENTS, ALL_SCOPES, METHODS, Refused, arguments, check_text
from slackworld import (
    ANN,
    APP,
    BEN,
    BOT,
    BOT_ID,
    ELSEWHERE,
    GENERAL,
    GONE,
    GROUP,
    GUEST,
    OLD,
    OTHER_TEAM,
    PRIVATE,
    ROBOT,
    ROBOT_ID,
    SECRET,
    SHARED,
    SOLO,
    STRANGER,
    TEAM,
    Ephemeral,
    Message,
    Response,
    World,
)

__all__ = [
    "ALL_EVENTS",
    "ALL_SCOPES",
    "ANN",
    "APP",
    "BEN",
    "BOT",
    "BOT_ID",
    "ELSEWHERE",
    "GENERAL",
    "GONE",
    "GROUP",
    "GUEST",
    "OLD",
    "OTHER_TEAM",
    "PRIVATE",
    "ROBOT",
    "ROBOT_ID",
    "SECRET",
    "SHARED",
    "SOLO",
    "STRANGER",
    "TEAM",
    "Call",
    "Delivery",
    "Fault",
    "Message",
    "SlackServer",
]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call. `done`: it is carried out all the same. `drop`: closed without an answer."""

    code: int = 0
    retry_after: int = 0
    says: str = ""
    wait: float = 0.0
    done: bool = False
    drop: bool = False
    raw: bytes = b""

    @staticmethod
    def limited(retry_after: float = 1) -> Fault:
        """Whole seconds, as in Slack: https://docs.slack.dev/apis/web-api/rate-limits."""
        return Fault(429, math.ceil(retry_after), "ratelimited")

    @staticmethod
    def status(code: int, *, done: bool = False) -> Fault:
        return Fault(code, raw=b"<html>upstream trouble</html>", done=done)

    @staticmethod
    def drop_before() -> Fault:
        return Fault(drop=True)

    @staticmethod
    def drop_after() -> Fault:
        return Fault(drop=True, done=True)

    @staticmethod
    def delay(seconds: float) -> Fault:
        return Fault(wait=seconds, done=True)

    @staticmethod
    def not_json() -> Fault:
        return Fault(200, raw=b"{not json")

    @staticmethod
    def error(name: str) -> Fault:
        return Fault(200, says=name)


@dataclass(frozen=True)
class Call:
    method: str
    args: dict[str, Any]
    at: float
    status: int
    error: str = ""


@dataclass(frozen=True)
class Limit:
    calls: int
    seconds: float
    per_channel: bool


class SlackServer(Acts):
    """See the parts for what it does: `world` the state, `methods` the Web API, `courier` the deliveries."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        scopes: Iterable[str] = ALL_SCOPES,
        events: Iterable[str] = ALL_EVENTS,
    ) -> None:
        self.scopes, self.events = set(scopes), set(events)
        self.random = random.Random(seed)
        self._chosen = {}
        self.bot_token, self.app_token = "xoxb-stub-bot-token", "xapp-1-stub-app-token"
        self.signing_secret = "stub-signing-secret"
        self.world = World(clock, seed)
        self.courier = Courier(APP, self.signing_secret)
        self.methods = Methods(self.world, self.happened, lambda: self.scopes)
        self.methods.socket_url = self.courier.socket_url
        self.shown_view, self.take_reaction = self.methods.shown_view, self.methods.take_reaction
        self.calls: list[Call] = []
        self.problems = self.courier.problems
        self.revoked = ""
        self.fault_rate = 0.0
        self.fault_methods: set[str] = set()
        self.fault_kinds: tuple[Fault, ...] = (
            Fault.status(500),
            Fault.drop_before(),
            Fault.drop_after(),
            Fault.limited(1),
        )
        self._faults: list[tuple[str, str | None, Fault]] = []
        self._until: dict[tuple[str, str | None], float] = {}
        self._limits: dict[str, Limit] = {}
        self._recent: dict[tuple[str, str], deque[float]] = {}
        self.closing = threading.Event()
        self._http = Http(self)
        self.world.base = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.url = f"{self.world.base}/api/"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True, name="slack-http")
        self._thread.start()

    def __enter__(self) -> SlackServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self.courier.close()

    def __getattr__(self, name: str) -> Any:
        """The rest belongs to a part: `ephemerals`, `views`, `dm`, `sockets`, `deliveries`, `non_marketplace`, ..."""
        if name not in ("world", "courier", "methods"):
            for part in (self.world, self.courier, self.methods):
                if hasattr(part, name):
                    return getattr(part, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        for part in ("world", "courier", "methods") if name not in self.__dict__ else ():
            if part in self.__dict__ and name in self.__dict__[part].__dict__:
                setattr(self.__dict__[part], name, value)
                return
        super().__setattr__(name, value)

    def hang_up(self, handler: Any) -> None:
        """Closes a SocketModeHandler without its waits: its reads last 3 s, its queue 1 s, and it closes after them."""
        handler.client.auto_reconnect_enabled = handler.client.default_auto_reconnect_enabled = False
        handler.client.closed = True
        self.courier.drop_sockets()
        handler.client.enqueue_message("{}")
        handler.close()

    # --- settings

    def push_to(self, url: str | None) -> None:
        self.courier.request_url = url

    def join(self, channel: str) -> None:
        self.world.channels[channel].members.add(BOT)

    def leave(self, channel: str) -> None:
        self.world.channels[channel].members.discard(BOT)

    def archive(self, channel: str) -> None:
        self.world.channels[channel].archived = True

    def revoke(self, error: str = "token_revoked") -> None:
        self.revoked = error

    def restore(self) -> None:
        self.revoked = ""

    def fault(self, method: str, fault: Fault, *, times: int = 1, channel: str | None = None) -> None:
        assert method in {*METHODS, "*", "upload", "download", "respond"}
        with self.world.lock:
            self._faults += [(method, channel, fault)] * times

    def rate_limit(self, method: str, *, channel: str | None = None, seconds: float = 30) -> None:
        self._until[method, channel] = self.world.clock() + seconds

    def limit(self, method: str, calls: int, seconds: float, *, per_channel: bool = True) -> None:
        self._limits[method] = Limit(calls, seconds, per_channel)

    # --- looking

    def messages(self, channel: str, thread: str | None = None) -> list[Message]:
        with self.world.lock:
            found = sorted(self.world.said[channel].values(), key=lambda message: message.ts)
            return [m for m in found if not m.deleted and (thread is None or thread in (m.ts, m.thread_ts))]

    def message(self, channel: str, ts: str) -> Message:
        return self.world.said[channel][ts]

    def posts(self, channel: str | None = None) -> list[Message]:
        channels = [channel] if channel else list(self.world.channels)
        found = [m for one in channels for m in self.messages(one) if m.bot_id == BOT_ID]
        return sorted(found, key=lambda message: message.ts)

    def called(self, method: str) -> list[Call]:
        return [call for call in list(self.calls) if call.method == method]

    def unacknowledged(self) -> list[Delivery]:
        return [one for one in list(self.courier.deliveries) if one.acked is None]

    def lost(self) -> list[Delivery]:
        return [one for one in list(self.courier.deliveries) if one.lost]

    def latencies(self) -> list[float]:
        return [one.latency for one in list(self.courier.deliveries) if one.latency is not None]

    def wait(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            with self.courier.changed:
                self.courier.changed.wait(0.01)

    def wait_socket(self, n: int = 1, seconds: float = 10) -> None:
        self.wait(lambda: self.courier.sockets >= n, seconds)

    def settle(self, seconds: float = 10) -> None:
        """Until each delivery is acknowledged or lost."""
        deadline = time.monotonic() + seconds
        for delivery in list(self.courier.deliveries):
            assert delivery.done.wait(max(0, deadline - time.monotonic())), f"not settled: {delivery}"

    # --- answering

    def fault_of(self, method: str, channel: str) -> Fault | None:
        for entry in self._faults:
            if entry[0] in (method, "*") and entry[1] in (None, channel):
                self._faults.remove(entry)
                return entry[2]
        may = self.fault_rate and (not self.fault_methods or method in self.fault_methods)
        if may and self.random.random() < self.fault_rate:
            return self.random.choice(self.fault_kinds)
        return self._limited(method, channel)

    def _limited(self, method: str, channel: str) -> Fault | None:
        now = self.world.clock()
        until = max(self._until.get((method, channel), 0), self._until.get((method, None), 0))
        if until > now:
            return Fault.limited(until - now)
        limit = self._limits.get(method)
        if self.methods.non_marketplace and method in ("conversations.replies", "conversations.history"):
            limit = Limit(1, 60, per_channel=False)
        if limit is None:
            return None
        recent = self._recent.setdefault((method, channel if limit.per_channel else ""), deque())
        while recent and recent[0] <= now - limit.seconds:
            recent.popleft()
        if len(recent) >= limit.calls:
            return Fault.limited(recent[0] + limit.seconds - now)
        recent.append(now)
        return None

    def answer(self, method: str, token: str, given: dict[str, Any]) -> tuple[int, Any, dict[str, str]] | None:
        """Status, body (bytes or JSON) and headers; None: the connection is closed."""
        channel = given.get("channel") or given.get("channel_id") or ""
        with self.world.lock:
            fault = self.fault_of(method, str(channel))
            at = self.world.clock()
            done = self._carry_out(method, token, given) if fault is None or fault.done else None
        if fault and fault.wait:
            self.closing.wait(fault.wait)
        status, error = (
            (200, done.get("error", "")) if done else (fault.code if fault else 0, fault.says if fault else "")
        )
        if fault and fault.drop:
            status, error = 0, "dropped"
        elif fault and fault.code:
            status, error = fault.code, fault.says or f"http_{fault.code}"
        self.calls.append(Call(method, given, at, status, error))
        with self.courier.changed:
            self.courier.changed.notify_all()
        if fault and fault.drop:
            return None
        headers = {"x-oauth-scopes": ",".join(sorted(self.scopes - {"connections:write"}))} if done else {}
        if fault and fault.code:
            retry = {"Retry-After": str(fault.retry_after)} if fault.code == 429 else {}
            return fault.code, fault.raw or {"ok": False, "error": fault.says}, {**headers, **retry}
        return 200, done, headers

    def _carry_out(self, method: str, token: str, given: dict[str, Any]) -> dict[str, Any]:
        try:
            if method not in METHODS:
                raise Refused("unknown_method", req_method=method)
            self._check_token(method, token)
            self.methods.need(*METHODS[method].scopes)
            return {"ok": True, **self.methods.call(method, arguments(method, given))}
        except Refused as refused:
            return {"ok": False, "error": refused.error, **refused.extra}

    def _check_token(self, method: str, token: str) -> None:
        """https://docs.slack.dev/authentication/tokens: not_authed, invalid_auth, not_allowed_token_type."""
        if not token:
            raise Refused("not_authed")
        if token not in (self.bot_token, self.app_token):
            raise Refused("invalid_auth")
        if self.revoked:
            raise Refused(self.revoked)
        if (token == self.app_token) != METHODS[method].app_token:
            raise Refused("not_allowed_token_type")

    def respond(self, url: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """https://docs.slack.dev/interactivity/handling-user-interaction/#message_responses: 5 times in 30 minutes."""
        with self.world.lock:
            ticket = self.world.response_urls.get(url)
            if ticket is None or ticket.uses >= 5 or self.world.clock() - ticket.at > 30 * 60:
                return 404, b"used_url" if ticket and ticket.uses >= 5 else b"expired_url"
            ticket.uses += 1
            try:
                if not body.get("delete_original"):
                    check_text(body, 40_000)
                    check_blocks(body.get("blocks", []), self.world.refused_blocks)
            except Refused as refused:
                return 400, refused.error.encode()
            self.world.responses.append(Response(url, body, self.world.clock()))
            original = self.world.said[ticket.channel].get(ticket.message)
            if original and body.get("delete_original"):
                original.deleted = True
            elif original and body.get("replace_original"):
                self.world.rewrite(original, BOT, body.get("text", ""), body.get("blocks", []))
            elif body.get("response_type") == "in_channel":
                self.methods.post(ticket.channel, {"thread_ts": ticket.thread, **body})
            else:
                said = (ticket.thread, body.get("text", ""), body.get("blocks", []), self.world.clock())
                self.world.ephemerals.append(Ephemeral(ticket.channel, ticket.user, *said))
            return 200, b"ok"
