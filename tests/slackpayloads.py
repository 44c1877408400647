"""Payloads as Slack sends them (https://docs.slack.dev/reference/events, .../reference/interaction-payloads), and what
its Web API answers. Every call makes new ones, so that a test may change them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from bot.chat import TryLater, Undeliverable
from bot.slack.payloads import Me

Payload = dict[str, Any]

TEAM, OTHER_TEAM = "T0123TEAM", "T0999THEIRS"
ME = Me(user="U0BOT", bot="B0BOT", team=TEAM, app="A0BOT")
ANN, BEN, STRANGER, ROBOT, ROBOT_ID = "U0ANN", "U0BEN", "U0STRANGER", "U0ROBOT", "B0ROBOT"
CHANNEL, DIRECT, MPIM = "C0GENERAL", "D0ANN", "G0GROUP"
ROOT, REPLY, CARD = "1766000000.000100", "1766000060.000200", "1766000001.000150"
EDITED = "1766000090.000000"
EVENT, TRIGGER = "Ev0123ABCD", "13345224609.738474920.8088930838d88f008e0"
URL = "https://hooks.slack.com/actions/T0123TEAM/1/abc"


def rich(*elements: Payload, block_id: str = "x1y2") -> list[Payload]:
    section = {"type": "rich_text_section", "elements": list(elements)}
    return [{"type": "rich_text", "block_id": block_id, "elements": [section]}]


def words(text: str) -> Payload:
    return {"type": "text", "text": text}


def mention(user: str = ME.user) -> Payload:
    return {"type": "user", "user_id": user}


def event(inner: Payload, **more: Any) -> Payload:
    return {
        "token": "z26uFbvR1xHJEdHE1OQiO6t8",
        "team_id": TEAM,
        "context_team_id": TEAM,
        "api_app_id": ME.app,
        "event": inner,
        "type": "event_callback",
        "event_id": EVENT,
        "event_time": 1766000000,
        "authorizations": [{"enterprise_id": None, "team_id": TEAM, "user_id": ME.user, "is_bot": True}],
        "is_ext_shared_channel": False,
        "event_context": "4-eyJldCI6Im1lc3NhZ2UifQ",
        **more,
    }


def said(text: str = "add retries", **more: Any) -> Payload:
    """A message as it stands in an event, and inside of message_changed."""
    return {
        "client_msg_id": "aa3d0a6b-1d2e-4e5f-8a9b-000000000001",
        "type": "message",
        "text": text,
        "user": ANN,
        "ts": ROOT,
        "team": TEAM,
        "blocks": rich(words(text)),
        **more,
    }


def message(text: str = "add retries", **more: Any) -> Payload:
    where = {"channel": CHANNEL, "event_ts": ROOT, "channel_type": "channel"}
    return event({**said(text), **where, **more})


def app_mention(**more: Any) -> Payload:
    inner = said(f"<@{ME.user}> add retries", type="app_mention", channel=CHANNEL, event_ts=ROOT)
    return event({**inner, "blocks": rich(mention(), words(" add retries")), **more})


def threaded(text: str = "and a test", **more: Any) -> Payload:
    return message(text, ts=REPLY, thread_ts=ROOT, parent_user_id=ANN, event_ts=REPLY, **more)


def file(**more: Any) -> Payload:
    return {
        "id": "F0LOG",
        "created": 1766000000,
        "name": "out.log",
        "title": "out.log",
        "mimetype": "text/plain",
        "filetype": "text",
        "user": ANN,
        "mode": "hosted",
        "size": 12,
        "url_private": "https://files.slack.com/files-pri/T0123TEAM-F0LOG/out.log",
        "permalink": "https://acme.slack.com/files/U0ANN/F0LOG/out.log",
        **more,
    }


def file_share() -> Payload:
    return message(f"<@{ME.user}> see the log", subtype="file_share", files=[file()], upload=False)


def thread_broadcast() -> Payload:
    return threaded("all of you", subtype="thread_broadcast", root={**said(), "reply_count": 1})


def bot_message(**more: Any) -> Payload:
    """As an incoming webhook posts it: without a user."""
    inner = {"type": "message", "subtype": "bot_message", "text": "build failed", "username": "CI", "ts": ROOT}
    inner |= {"bot_id": ROBOT_ID, "app_id": "A0ROBOT", "channel": CHANNEL, "channel_type": "channel", "event_ts": ROOT}
    return event({**inner, **more})


def by_app(**more: Any) -> Payload:
    """As an app with a bot user posts it: no subtype."""
    profile = {"id": ROBOT_ID, "app_id": "A0ROBOT", "name": "ci", "deleted": False, "team_id": TEAM}
    who = {"user": ROBOT, "bot_id": ROBOT_ID, "app_id": "A0ROBOT", "bot_profile": profile}
    return message("build failed", **{**who, **more})


def changed(new: Payload, old: Payload, **more: Any) -> Payload:
    where = {"channel": CHANNEL, "channel_type": "channel", "hidden": True, "ts": EDITED, "event_ts": EDITED}
    inner = {"type": "message", "subtype": "message_changed", "message": new, "previous_message": old}
    return event({**inner, **where, **more})


def edited(text: str = "add two retries", *, by: str = ANN, **more: Any) -> Payload:
    new = said(text, edited={"user": by, "ts": EDITED}, source_team=TEAM, user_team=TEAM, **more)
    return changed({**new, "blocks": more.get("blocks", rich(words(text), block_id="n3w"))}, said(**more))


def unfurled() -> Payload:
    preview = [{"id": 1, "from_url": "https://example.com/", "title": "Example", "fallback": "Example"}]
    return changed(said(attachments=preview), said())


def deleted(**more: Any) -> Payload:
    where = {"channel": CHANNEL, "channel_type": "channel", "hidden": True, "ts": EDITED, "event_ts": EDITED}
    inner = {"type": "message", "subtype": "message_deleted", "deleted_ts": REPLY}
    old = said("and a test", ts=REPLY, thread_ts=ROOT, parent_user_id=ANN)
    return event({**inner, "previous_message": old, **where, **more})


def tombstone() -> Payload:
    """A deleted message with replies stays as a stone."""
    stone = {"type": "message", "subtype": "tombstone", "text": "This message was deleted.", "user": "USLACKBOT"}
    stone |= {"hidden": True, "ts": ROOT, "thread_ts": ROOT, "reply_count": 1, "latest_reply": REPLY}
    return changed(stone, said(thread_ts=ROOT, reply_count=1))


def reaction(name: str = "white_check_mark", *, kind: str = "reaction_added", **more: Any) -> Payload:
    item = {"type": "message", "channel": CHANNEL, "ts": CARD}
    inner = {"type": kind, "user": ANN, "reaction": name, "item": item, "item_user": ME.user, "event_ts": EDITED}
    return event({**inner, **more})


def command(text: str = "status", **more: str) -> Payload:
    return {
        "token": "gIkuvaNzQIHg97ATvDxqgjtO",
        "team_id": TEAM,
        "team_domain": "acme",
        "channel_id": CHANNEL,
        "channel_name": "general",
        "user_id": ANN,
        "user_name": "ann",
        "command": "/threadwright",
        "text": text,
        "api_app_id": ME.app,
        "is_enterprise_install": "false",
        "response_url": URL,
        "trigger_id": TRIGGER,
        **more,
    }


def interaction(kind: str, **more: Any) -> Payload:
    return {
        "type": kind,
        "user": {"id": ANN, "username": "ann", "name": "ann", "team_id": TEAM},
        "api_app_id": ME.app,
        "token": "Shh_its_a_seekrit",
        "trigger_id": TRIGGER,
        "team": {"id": TEAM, "domain": "acme"},
        "enterprise": None,
        "is_enterprise_install": False,
        **more,
    }


def press(action_id: str, value: Payload | str | None = None, **more: Any) -> Payload:
    action = {"action_id": action_id, "block_id": "b1", "type": "button", "action_ts": EDITED}
    action |= {"text": {"type": "plain_text", "text": "Stop", "emoji": False}}
    action |= {} if value is None else {"value": value if isinstance(value, str) else json.dumps(value)}
    container = {"type": "message", "message_ts": CARD, "channel_id": CHANNEL, "is_ephemeral": False}
    return interaction(
        "block_actions",
        container={**container, "thread_ts": ROOT},
        channel={"id": CHANNEL, "name": "general"},
        message={"type": "message", "user": ME.user, "bot_id": ME.bot, "ts": CARD, "thread_ts": ROOT, "text": "card"},
        state={"values": {}},
        response_url=URL,
        actions=[action],
        **more,
    )


def stop() -> Payload:
    return press("tw_stop", {"t": "tw-k3f9"})


def finish() -> Payload:
    return press("tw_finish", {"t": "tw-k3f9"})


def move() -> Payload:
    return press("tw_move", {"t": "tw-k3f9"})


def answer(words: str = "loud") -> Payload:
    return press("tw_answer_0", {"q": "q1", "a": words})


def answers() -> Payload:
    pressed = press("tw_answers", {"q": "q1", "n": 3})
    chosen = {"text": {"type": "plain_text", "text": "for all"}, "value": "1"}
    pressed["state"]["values"] = {
        "b1": {"tw_choose_0": {"type": "radio_buttons", "selected_option": chosen}},
        "b2": {"tw_choose_1": {"type": "static_select", "selected_option": None}},
        "b3": {"tw_choose_2": {"type": "static_select", "selected_option": {**chosen, "value": "0"}}},
    }
    return pressed


def shortcut() -> Payload:
    return interaction(
        "message_action",
        callback_id="tw_give",
        message_ts=REPLY,
        action_ts=EDITED,
        response_url=URL,
        channel={"id": CHANNEL, "name": "general"},
        message=said("the greeting is too soft", user=BEN, ts=REPLY, thread_ts=ROOT),
    )


def submitted(name: str, metadata: Payload, **inputs: Payload) -> Payload:
    return interaction(
        "view_submission",
        view={
            "id": "V0123",
            "team_id": TEAM,
            "type": "modal",
            "callback_id": name,
            "private_metadata": json.dumps(metadata),
            "hash": "1766000000.abc",
            "state": {"values": {block: {block: element} for block, element in inputs.items()}},
            "app_id": ME.app,
            "bot_id": ME.bot,
        },
        response_urls=[],
    )


def typed(value: str | None) -> Payload:
    return {"type": "plain_text_input", "value": value}


def selected(value: str | None) -> Payload:
    option = value and {"text": {"type": "plain_text", "text": value}, "value": value}
    return {"type": "static_select", "selected_option": option}


def give(*, repo: str | None = "acme/api", text: str = "greet louder", options: str | None = "budget=1") -> Payload:
    metadata = {"channel": CHANNEL, "thread": ROOT, "message": REPLY}
    return submitted("tw_give", metadata, text=typed(text), repo=selected(repo), options=typed(options))


def moved(*, repo: str | None = None, other: str | None = "acme/web") -> Payload:
    metadata = {"t": "tw-k3f9", "channel": CHANNEL, "thread": ROOT}
    return submitted("tw_move", metadata, repo=selected(repo), typed=typed(other))


SAMPLES: dict[str, Callable[[], Payload]] = {
    one.__name__: one
    for one in (
        *(message, app_mention, threaded, file_share, thread_broadcast, bot_message, by_app, edited, unfurled, deleted),
        *(tombstone, reaction, command, stop, finish, move, answer, answers, shortcut, give, moved),
    )
}


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each field and list item in a payload."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from spots(one, (*path, name))


# The Web API


def person(user: str, name: str = "", **more: Any) -> Payload:
    """https://docs.slack.dev/reference/objects/user-object."""
    name = name or user.removeprefix("U0").title()
    return {
        "id": user,
        "team_id": TEAM,
        "name": name.lower(),
        "deleted": False,
        "real_name": f"{name} Doe",
        "profile": {"display_name": name, "real_name": f"{name} Doe", "team": TEAM},
        "is_bot": False,
        "is_restricted": False,
        "is_ultra_restricted": False,
        "is_app_user": False,
        **more,
    }


def channel(number: str = CHANNEL, name: str = "general", **more: Any) -> Payload:
    return {"id": number, "name": name, "is_channel": True, "is_im": False, "is_ext_shared": False, **more}


class SmallSlack:
    """Answers three methods in their documented shapes, and refuses all else. `trouble`: raised by the next calls."""

    ARGUMENTS = {  # noqa: RUF012
        "users.info": {"user"},
        "conversations.info": {"channel"},
        "conversations.replies": {"channel", "ts", "latest", "oldest", "inclusive", "limit", "cursor"},
    }

    def __init__(self, *people: Payload, channels: tuple[Payload, ...] = (), messages: list[Payload] | None = None):
        self.people = {one["id"]: one for one in people}
        self.channels = {one["id"]: one for one in channels}
        self.messages = messages or []
        self.files: dict[str, bytes] = {}
        self.page = 200
        self.pages_given: int | None = None
        """After so many pages of a thread Slack asks to wait."""
        self.trouble: list[Exception] = []
        self.calls: list[tuple[str, str]] = []

    def call(self, method: str, **arguments: Any) -> Payload:
        assert method in self.ARGUMENTS, f"no method {method}"
        assert set(arguments) <= self.ARGUMENTS[method], f"{method} knows no {set(arguments)}"
        self.calls.append((method, str(arguments.get("user") or arguments["channel"])))
        if self.trouble:
            raise self.trouble.pop(0)
        match method:
            case "users.info":
                return self._one("user", self.people, arguments["user"])
            case "conversations.info":
                return self._one("channel", self.channels, arguments["channel"])
            case _:
                return self._replies(**arguments)

    def _one(self, kind: str, known: dict[str, Payload], number: str) -> Payload:
        if number not in known:
            raise Undeliverable(f"{kind}_not_found")
        return {"ok": True, kind: known[number]}

    def _replies(
        self, *, channel: str, ts: str, limit: int, latest: str = "9", cursor: str = "", **_: object
    ) -> Payload:
        assert 0 < limit <= 1000
        if not self.messages or self.messages[0]["ts"] != ts:
            raise Undeliverable("That thread was deleted.")
        start, size = int(cursor or 0), min(limit, self.page)
        if self.pages_given is not None and start >= self.pages_given * size:
            raise TryLater("Slack asks to wait 60 s before conversations.replies.", 60)
        within = [one for one in self.messages if one["ts"] < latest]
        page, more = within[start : start + size], start + size < len(within)
        # Real Slack begins later pages with the root as well.
        page = page if not start else [self.messages[0], *page]
        follow = {"next_cursor": str(start + size)} if more else {"next_cursor": ""}
        return {"ok": True, "messages": page, "has_more": more, "response_metadata": follow}

    def fetch(self, url: str, limit: int) -> bytes:
        self.calls.append(("download", url))
        if self.trouble:
            raise self.trouble.pop(0)
        if url not in self.files:
            raise Undeliverable("That file was deleted.")
        if len(self.files[url]) > limit:
            raise Undeliverable(f"That file is longer than {limit:,} bytes.")
        return self.files[url]
