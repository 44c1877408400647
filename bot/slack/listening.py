"""Listening to Slack through bolt: Socket Mode or HTTP, the same listeners; and the threads that go with it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slack_bolt import Ack, App, BoltResponse
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.socket_mode import SocketModeClient

from bot.chat import Desk, DeskClosed, Mail, TryLater, Undeliverable
from bot.commands import BadOption, parse
from bot.slack.blocks import give_modal, move_modal
from bot.slack.catchup import CatchUp
from bot.slack.handling import Handling, Slack
from bot.slack.intake import Intake
from bot.slack.payloads import BadPayload, Heard, Me, read
from bot.slack.people import People
from bot.slack.posting import SlackChat
from bot.slack.reading import Reader
from bot.slack.status import WorkingStatus
from bot.slack.web import Web

log = logging.getLogger(__name__)

CONNECT_AGAIN = 5.0
PING_SECONDS = 3
"""The library notices a cut connection at its next ping."""
_bolt_log = logging.getLogger(f"{__name__}.bolt")
_bolt_log.setLevel(logging.CRITICAL)
"""It warns of tokens that it does not use, and calls what Slack sends again an error of ours."""


@dataclass(frozen=True)
class Config:
    """`app_token`: Socket Mode; without one, HTTP with the signing secret."""

    bot_token: str
    app_token: str = ""
    signing_secret: str = ""
    api_url: str = "https://slack.com/api/"
    allowed: tuple[str, ...] = ()


def who_am_i(web: Web) -> Me:
    """Raises TryLater, which says in plain words what is wrong with the token."""
    answer = web.call("auth.test")
    return Me(user=answer["user_id"], bot=answer.get("bot_id", ""), team=answer["team_id"])


def slack_of(config: Config, me: Me, web: Web, desk: Desk, mail: Mail) -> Slack:
    people = People(web, me, allowed_bots=config.allowed, allowed_people=config.allowed)
    return Slack(me, web, SlackChat(web, me), people, desk, mail)


def bolt_app(config: Config, slack: Slack, intake: Intake) -> App:
    """Every listener stores and then acknowledges; one that could not store is not acknowledged."""
    me = slack.me
    result = AuthorizeResult(
        enterprise_id=None, team_id=me.team, bot_user_id=me.user, bot_id=me.bot, bot_token=config.bot_token
    )
    app = App(
        client=slack.web.client,
        # With the answer at hand, bolt never asks Slack before it lets an event through.
        authorize=lambda **_: result,
        request_verification_enabled=False,  # the HTTP side verifies, before anything is parsed
        process_before_response=True,
        logger=_bolt_log,
    )
    listeners = Listeners(slack, intake)
    app.event(re.compile(".*"))(listeners.event)
    app.command(re.compile(".*"))(listeners.event)
    app.action(re.compile(".*"))(listeners.action)
    app.shortcut("tw_give")(listeners.shortcut)
    app.view(re.compile(".*"))(listeners.view)
    app.error(_failed)
    return app


def _failed(error: Exception) -> BoltResponse:
    if not isinstance(error, DeskClosed):
        log.error("a listener failed", exc_info=error)
    return BoltResponse(status=503, body="not stored")


class Listeners:
    def __init__(self, slack: Slack, intake: Intake) -> None:
        self._slack = slack
        self._intake = intake

    def event(self, body: dict[str, Any], ack: Ack) -> None:
        self._intake.take(body)
        ack()

    def action(self, body: dict[str, Any], ack: Ack) -> None:
        """A pressed button; "Wrong repository" opens a form first."""
        actions = body.get("actions") or [{}]
        if actions[0].get("action_id") == "tw_move":
            heard = self._read(body)
            if heard is not None:
                repositories = list(self._slack.desk.repositories())
                place = {"channel": heard.channel, "thread": heard.thread}
                self._open(body, with_place(move_modal(heard.task, repositories), place))
        else:
            self._intake.take(body)
        ack()

    def shortcut(self, body: dict[str, Any], ack: Ack) -> None:
        message, channel = body.get("message") or {}, (body.get("channel") or {}).get("id", "")
        place = {
            "channel": channel,
            "thread": message.get("thread_ts") or message.get("ts", ""),
            "message": message.get("ts", ""),
        }
        text = str(message.get("text") or "")
        self._open(body, give_modal(text, list(self._slack.desk.repositories()), json.dumps(place)))
        ack()

    def view(self, body: dict[str, Any], ack: Ack) -> None:
        """A form: what is wrong in it is said in it."""
        heard = self._read(body)
        if heard is not None and heard.kind == "move" and not heard.verb:
            ack(response_action="errors", errors={"repo": "Choose a repository, or type owner/name."})
            return
        if heard is not None and heard.kind == "give":
            try:
                said = parse(heard.text)
            except BadOption as exc:
                ack(response_action="errors", errors={"options": str(exc)[:2000]})
                return
            if not getattr(said, "text", "x").strip():
                ack(response_action="errors", errors={"text": "Tell me what to change."})
                return
        self._intake.take(body)
        ack()

    def _read(self, body: dict[str, Any]) -> Heard | None:
        try:
            return read(body, self._slack.me)
        except BadPayload as exc:
            log.warning("Slack sent something that I cannot read: %s", exc)
            return None

    def _open(self, body: Mapping[str, Any], view: dict[str, Any]) -> None:
        try:
            self._slack.web.call("views.open", trigger_id=body.get("trigger_id", ""), view=view)
        except (TryLater, Undeliverable) as exc:
            log.warning("a form could not be opened: %s", exc)


def with_place(view: dict[str, Any], place: Mapping[str, str]) -> dict[str, Any]:
    return {**view, "private_metadata": json.dumps({**json.loads(view["private_metadata"]), **place})}


# The threads


class Listener:
    """What reads the mail, catches up and shows the working status; transports push into `app`."""

    def __init__(self, config: Config, slack: Slack) -> None:
        self.config = config
        self.slack = slack
        self.intake = Intake(slack.mail, slack.desk, slack.me)
        self.app = bolt_app(config, slack, self.intake)
        self.catch_up = CatchUp(slack, self.intake)
        self.connected = threading.Event()

    def threads(self, stop: threading.Event) -> list[threading.Thread]:
        """Not started yet. Each ends soon after `stop`."""
        reader = Reader(self.slack.mail, Handling(self.slack))
        runs: dict[str, Callable[[threading.Event], None]] = {
            "slack mail": reader.run,
            "slack catch-up": self.catch_up.run,
            "slack status": WorkingStatus(self.slack).run,
        }
        if self.config.app_token:
            runs["slack socket"] = self._socket
        else:
            self.connected.set()
        return [threading.Thread(target=run, args=(stop,), name=name, daemon=True) for name, run in runs.items()]

    def _socket(self, stop: threading.Event) -> None:
        handler = SocketModeHandler(self.app, self.config.app_token, ping_interval=PING_SECONDS)
        handler.client.on_message_listeners.append(self._said_hello)
        try:
            while not stop.is_set():
                try:
                    handler.client.connect()
                except (SlackApiError, SlackClientError, OSError) as exc:
                    log.warning("Slack's socket does not open: %s", in_words(exc))
                    stop.wait(CONNECT_AGAIN)
                else:
                    break
            stop.wait()
        finally:
            hang_up(handler.client)

    def _said_hello(self, message: str) -> None:
        """Slack greets every new connection: before it there was a gap."""
        if '"hello"' in message[:200] and json.loads(message).get("type") == "hello":
            self.connected.set()
            self.catch_up.wanted.set()


def hang_up(client: SocketModeClient) -> None:
    """Close at once: left alone, the library first sits out a read of 3 s and a wait of 1 s for its queue.

    What was not acknowledged by then comes again, and is known.
    """
    client.auto_reconnect_enabled = client.default_auto_reconnect_enabled = False
    client.closed = True
    connection = client.current_session.sock if client.current_session else None
    if connection is not None:
        with contextlib.suppress(OSError):  # it may be cut already
            connection.shutdown(socket.SHUT_RDWR)
    client.enqueue_message("{}")
    client.close()


def in_words(exc: Exception) -> str:
    if isinstance(exc, SlackApiError):
        error = exc.response.get("error", "")
        if error in ("invalid_auth", "not_authed", "token_revoked", "account_inactive"):
            return "Slack does not accept SLACK_APP_TOKEN. Make a new one (Basic Information, App-Level Tokens)."
        if error in ("missing_scope", "not_allowed_token_type"):
            return "SLACK_APP_TOKEN lacks the scope connections:write."
        return f"Slack says {error}."
    return f"{type(exc).__name__}: {exc}"


@contextmanager
def running(listener: Listener, more: Callable[[threading.Event], None]) -> Iterator[threading.Event]:
    """All threads of the listener, and `more` (the drainer), until the block ends."""
    stop = threading.Event()
    threads = [
        *listener.threads(stop),
        threading.Thread(target=more, args=(stop,), name="slack drainer", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


__all__ = ["Config", "Listener", "running", "slack_of", "who_am_i"]
