"""What people do in the stub Slack, and the payloads that the app gets of it.

Shapes: https://docs.slack.dev/apis/events-api/#event-object, .../reference/events/<event>,
.../interactivity/implementing-slash-commands, .../reference/interaction-payloads/<payload>.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from slackpush import Courier, Delivery
from slackrules import EVENT_SCOPES, KINDS
from slackworld import ANN, APP, BOT, TEAM, Channel, File, Message, Ticket, View, World, rich_text


class Acts:
    """Mixed into the server: `world`, `courier` and `random` are its."""

    world: World
    courier: Courier
    events: set[str]
    scopes: set[str]
    random: random.Random
    redeliver = 0.0
    echo = True
    _held: list[Callable[[], object]] | None = None
    _chosen: dict[tuple[str, str, str], dict[str, Any]]
    shown_view: Callable[[View], dict[str, Any]]
    take_reaction: Callable[[Message, str, str], None]

    # --- messages

    def say(
        self,
        user: str,
        channel: str,
        text: str,
        *,
        thread: str | None = None,
        files: Sequence[Any] = (),
        blocks: list[dict[str, Any]] | None = None,
        broadcast: bool = False,
        subtype: str = "",
    ) -> str:
        with self.world.lock:
            ids = [one if isinstance(one, str) else self._attach(user, *one) for one in files]
            person = self.world.users[user]
            assert not self.world.channels[channel].archived, "nobody can write there"
            message = Message(
                channel,
                self.world.next_ts(),
                user,
                text,
                rich_text(text) if blocks is None else blocks,
                thread or "",
                person.bot_id,
                files=ids,
                subtype=subtype or ("thread_broadcast" if broadcast else "file_share" if ids else ""),
            )
            self.world.put(message)
            self.happened("message", message)
            return message.ts

    def edit(self, user: str, channel: str, ts: str, text: str, *, blocks: list[dict[str, Any]] | None = None) -> None:
        with self.world.lock:
            message = self.world.find(channel, ts)
            before = self.world.shown(message)
            self.world.rewrite(message, user, text, rich_text(text) if blocks is None else blocks)
            self.happened("changed", message, before=before)

    def delete(self, user: str, channel: str, ts: str) -> None:
        with self.world.lock:
            message = self.world.find(channel, ts)
            before = self.world.shown(message)
            message.deleted = True
            self.happened("deleted", message, before=before)

    def unfurl(self, channel: str, ts: str) -> None:
        """A link's preview comes: the message changes, but nobody edited it."""
        with self.world.lock:
            message = self.world.find(channel, ts)
            before = self.world.shown(message)
            message.attachments = [
                {"id": 1, "from_url": "https://example.com/", "title": "Example", "fallback": "Example"}
            ]
            self.happened("changed", message, before=before)

    def react(self, user: str, channel: str, ts: str, name: str) -> None:
        with self.world.lock:
            message = self.world.find(channel, ts)
            assert user not in message.reactions.get(name, []), "that person has reacted so already"
            message.reactions.setdefault(name, []).append(user)
            self.happened("reaction_added", message, user=user, name=name)

    def unreact(self, user: str, channel: str, ts: str, name: str) -> None:
        with self.world.lock:
            message = self.world.find(channel, ts)
            assert user in message.reactions.get(name, []), "that person has not reacted so"
            self.take_reaction(message, user, name)
            self.happened("reaction_removed", message, user=user, name=name)

    def add_file(
        self,
        name: str,
        content: bytes | str,
        *,
        user: str = ANN,
        mimetype: str = "text/plain",
        channels: Sequence[str] = (),
    ) -> str:
        with self.world.lock:
            data = content.encode() if isinstance(content, str) else content
            file = File(self.world.next_id("F"), name, name, mimetype, data, user, list(channels))
            self.world.files[file.id] = file
            return file.id

    def _attach(self, user: str, name: str, content: bytes | str, mimetype: str = "text/plain") -> str:
        return self.add_file(name, content, user=user, mimetype=mimetype)

    # --- what the app is told of it

    def happened(self, kind: str, message: Message, *, before: Any = None, user: str = "", name: str = "") -> None:
        channel = self.world.channels[message.channel]
        at = {"channel": channel.id, "event_ts": message.ts, "channel_type": channel.kind}
        if (user or message.user) == BOT and not self.echo:
            return
        if kind == "message":
            self._message(message, channel, at)
        elif kind == "changed":
            ts = self.world.next_ts()
            shown = {**self.world.shown(message), "source_team": TEAM, "user_team": TEAM}
            if message.edited != before.get("edited"):
                self._mention(message, channel, self.world.shown(message))
            event = {"type": "message", "subtype": "message_changed", "message": shown, "previous_message": before}
            self._event(
                f"message.{KINDS[channel.kind]}", channel, {**event, **at, "hidden": True, "ts": ts, "event_ts": ts}
            )
        elif kind == "deleted":
            ts = self.world.next_ts()
            event = {"type": "message", "subtype": "message_deleted", "previous_message": before}
            event |= {"deleted_ts": message.ts, "hidden": True}
            self._event(f"message.{KINDS[channel.kind]}", channel, {**event, **at, "ts": ts, "event_ts": ts})
        else:
            item = {"type": "message", "channel": channel.id, "ts": message.ts}
            event = {"type": kind, "user": user, "reaction": name, "item": item, "item_user": message.user}
            self._event(kind, channel, {**event, "event_ts": self.world.next_ts()})

    def _message(self, message: Message, channel: Channel, at: dict[str, Any]) -> None:
        """A mention arrives twice, as app_mention (without files, not in direct messages) and as message."""
        event = self.world.shown(message)
        if not message.bot_id:
            event["client_msg_id"] = self.world.next_id("00000000-0000-4000-8000-", 36)
        team = self.world.users[message.user].team
        if team != TEAM:
            event |= {"user_team": team, "source_team": team}
        self._mention(message, channel, event)
        self._event(f"message.{KINDS[channel.kind]}", channel, {**event, **at})

    def _mention(self, message: Message, channel: Channel, event: dict[str, Any]) -> None:
        """An edit of a message with a mention sends app_mention again, with a new event id and `edited` in it:
        https://github.com/PostHog/posthog/pull/59517, https://github.com/slack-go/slack/pull/1256.
        """
        if f"<@{BOT}>" in message.text and channel.kind != "im" and message.user != BOT:
            mention = {k: v for k, v in event.items() if k not in ("files", "upload", "subtype")}
            mention |= {"type": "app_mention", "channel": channel.id, "event_ts": message.ts}
            self._event("app_mention", channel, mention)

    def _event(self, name: str, channel: Channel, event: dict[str, Any]) -> None:
        """Pushes it, if the app is subscribed to it, has its scope, and is in the channel."""
        if name not in self.events or EVENT_SCOPES[name] not in self.scopes or not channel.bot_in:
            return
        event_id = self.world.next_id("Ev", 13)
        payload = {
            "token": "stub-verification-token",
            "team_id": TEAM,
            "context_team_id": TEAM,
            "context_enterprise_id": None,
            "api_app_id": APP,
            "event": event,
            "type": "event_callback",
            "event_id": event_id,
            "event_time": int(self.world.clock()),
            "authorizations": [
                {"enterprise_id": None, "team_id": TEAM, "user_id": BOT, "is_bot": True, "is_enterprise_install": False}
            ],
            "is_ext_shared_channel": channel.shared,
            "event_context": f"4-{event_id}",
        }
        self._push(Delivery(self.world.next_id("env-", 16), "events_api", payload, event_id))

    def _push(self, delivery: Delivery) -> Delivery:
        again = self.random.uniform(0, 0.3) if delivery.retried and self.random.random() < self.redeliver else None
        if self._held is not None:
            self._held.append(lambda: self.courier.deliver(delivery, again_after=again))
            return delivery
        return self.courier.deliver(delivery, again_after=again)

    @contextmanager
    def out_of_order(self) -> Iterator[None]:
        """What happens inside is sent when it ends, shuffled."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self.random.shuffle(held)
            for send in held:
                send()

    # --- commands and interactions

    def _ticket(self, user: str, channel: str = "", message: str = "", thread: str = "") -> tuple[str, str]:
        """A trigger id and a response_url."""
        with self.world.lock:
            trigger, url = (
                self.world.next_id("trigger.", 20),
                f"{self.world.base}/respond/{self.world.next_id('r', 12)}",
            )
            now = self.world.clock()
            self.world.triggers[trigger] = Ticket(now, user, channel, message, thread)
            if channel:
                self.world.response_urls[url] = Ticket(now, user, channel, message, thread)
            return trigger, url

    def command(self, user: str, channel: str, text: str, *, command: str = "/threadwright") -> Delivery:
        """A slash command. Slack has none inside threads: .../interactivity/implementing-slash-commands."""
        assert "commands" in self.scopes, "the app has no commands"
        where = self.world.channels[channel]
        trigger, url = self._ticket(user, channel)
        payload = {
            "token": "stub-verification-token",
            "team_id": self.world.users[user].team,
            "team_domain": "acme",
            "channel_id": channel,
            "channel_name": {"im": "directmessage", "group": "privategroup"}.get(where.kind, where.name),
            "user_id": user,
            "user_name": self.world.users[user].name,
            "command": command,
            "text": text,
            "api_app_id": APP,
            "is_enterprise_install": "false",
            "response_url": url,
            "trigger_id": trigger,
        }
        return self._push(
            Delivery(self.world.next_id("env-", 16), "slash_commands", payload, trigger_id=trigger, response_url=url)
        )

    def _interaction(self, user: str, kind: str, more: dict[str, Any], **ticket: str) -> Delivery:
        person = self.world.users[user]
        trigger, url = self._ticket(user, **ticket)
        url = url if ticket else ""
        who = {"id": user, "username": person.name, "name": person.name, "team_id": person.team}
        base: dict[str, Any] = {"type": kind, "user": who, "api_app_id": APP, "token": "stub-verification-token"}
        base |= {"team": {"id": TEAM, "domain": "acme"}, "enterprise": None, "is_enterprise_install": False}
        base |= {"trigger_id": trigger} | ({"response_url": url} if url else {})
        return self._push(
            Delivery(
                self.world.next_id("env-", 16), "interactive", {**base, **more}, trigger_id=trigger, response_url=url
            )
        )

    def _where(self, channel: str) -> dict[str, str]:
        where = self.world.channels[channel]
        return {"id": channel, "name": {"im": "directmessage", "group": "privategroup"}.get(where.kind, where.name)}

    def press(
        self,
        user: str,
        channel: str,
        ts: str,
        action_id: str,
        *,
        state: dict[str, Any] | None = None,
        option: str | None = None,
        value: str | None = None,
    ) -> Delivery:
        """A button is pressed, or `option` chosen. `value`: a forged one, which is not in the message."""
        with self.world.lock:
            message = self.world.find(channel, ts)
            elements = {
                e["action_id"]: (block["block_id"], e) for block, e in interactive(self.world.with_ids(message))
            }
            assert action_id in elements, f"no {action_id} in that message, only {sorted(elements)}"
            values = {**(state or {}), **({action_id: option} if option is not None else {})}
            for key, chosen in values.items():
                block_id, element = elements[key]
                self._chosen[ts, user, key] = {block_id: {key: chosen_value(element, chosen)}}
            block_id, element = elements[action_id]
            action = {"action_id": action_id, "block_id": block_id, "type": element["type"]}
            if element["type"] == "button":
                action |= {key: element[key] for key in ("text", "value", "style", "url") if key in element}
                action |= {"value": value} if value is not None else {}
            else:
                action |= self._chosen[ts, user, action_id][block_id][action_id]
            all_values: dict[str, Any] = {}
            for (at, who, _), known in self._chosen.items():
                for block, inner in known.items() if (at, who) == (ts, user) else ():
                    all_values.setdefault(block, {}).update(inner)
            thread = {"thread_ts": message.thread_ts} if message.thread_ts else {}
            more = {
                "container": {
                    "type": "message",
                    "message_ts": ts,
                    "channel_id": channel,
                    "is_ephemeral": False,
                    **thread,
                },
                "channel": self._where(channel),
                "message": self.world.shown(message),
                "state": {"values": all_values},
                "actions": [{**action, "action_ts": self.world.next_ts()}],
            }
            return self._interaction(user, "block_actions", more, channel=channel, message=ts, thread=message.thread_ts)

    def shortcut(self, user: str, channel: str, ts: str, *, callback_id: str = "tw_give") -> Delivery:
        """A message shortcut."""
        with self.world.lock:
            message = self.world.find(channel, ts)
            more = {
                "callback_id": callback_id,
                "message_ts": ts,
                "channel": self._where(channel),
                "message": self.world.shown(message),
                "action_ts": self.world.next_ts(),
            }
            return self._interaction(
                user, "message_action", more, channel=channel, message=ts, thread=message.thread_ts
            )

    def submit(self, user: str, view_id: str, values: dict[str, Any]) -> Delivery:
        """A modal is sent with these values; what is not named keeps its initial value."""
        with self.world.lock:
            view = next(view for view in self.world.views if view.id == view_id)
            assert view.user == user, "the modal is not open for that person"
            shown = self.shown_view(view)
            state: dict[str, Any] = {}
            seen = set()
            for block, element in interactive(shown["blocks"]):
                key = element.get("action_id", "")
                seen.add(key)
                chosen = values.get(key, initial(element))
                assert chosen or block.get("optional") or block["type"] != "input", f"{key} must be filled in"
                state.setdefault(block["block_id"], {})[key] = chosen_value(element, chosen)
            assert not set(values) - seen, f"no such inputs: {set(values) - seen}"
            return self._interaction(
                user, "view_submission", {"view": {**shown, "state": {"values": state}}, "response_urls": []}
            )


def interactive(blocks: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each interactive element with its block."""
    for block in blocks:
        for element in [*block.get("elements", ()), block.get("accessory"), block.get("element")]:
            if element and "action_id" in element:
                yield block, element


def initial(element: dict[str, Any]) -> Any:
    if "initial_options" in element:
        return [option["value"] for option in element["initial_options"]]
    return element["initial_option"]["value"] if "initial_option" in element else element.get("initial_value")


def chosen_value(element: dict[str, Any], chosen: Any) -> dict[str, Any]:
    """As in `state.values`. AssertionError when the option is not offered."""
    options = [*element.get("options", ()), *(o for g in element.get("option_groups", ()) for o in g["options"])]
    offered = {option["value"]: option for option in options}
    kind = element["type"]
    if kind == "plain_text_input":
        return {"type": kind, "value": chosen or None}
    if kind in ("checkboxes", "multi_static_select"):
        return {"type": kind, "selected_options": [offered[one] for one in chosen or ()]}
    assert chosen is None or kind == "external_select" or chosen in offered, f"{chosen} is not offered: {list(offered)}"
    return {"type": kind, "selected_option": offered.get(chosen)}
