"""Slack's payloads as `Heard`: events here, commands and buttons and forms in `interactions`. Pure.

A payload is what bolt has: the whole body of the Events API, the fields of a slash command's form, or the decoded
`payload` of an interaction. Shapes: https://docs.slack.dev/apis/events-api, https://docs.slack.dev/reference/events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bot.slack import interactions
from bot.slack.heard import (
    BadPayload,
    FileRef,
    Heard,
    Json,
    Kind,
    Me,
    identity,
    inner,
    listed,
    optional,
    stamp,
    text,
    token,
)

SUBTYPES = frozenset({"", "file_share", "thread_broadcast", "me_message", "bot_message"})
"""Of messages in which somebody says something; all others are Slack's own notes, such as `channel_join`."""
REACTIONS: Mapping[str, str] = MappingProxyType(
    {"white_check_mark": "approve", "heavy_check_mark": "approve", "x": "reject", "octagonal_sign": "stop"}
)
SLACKBOT = "USLACKBOT"
_GONE = frozenset({"tombstone", "hidden_by_limit"})
"""Modes of files that are not there any more."""

# https://docs.slack.dev/messaging/formatting-message-text#advanced
_MENTION = re.compile(
    r"<@([UW][A-Z0-9]+)(?:\|[^<>]*)?>|<!subteam\^(S[A-Z0-9]+)[^<>]*>|<!(here|channel|everyone)[^<>]*>"
)


def read(payload: Mapping[str, Any], me: Me) -> Heard | None:
    """What was done; None: nothing of ours (our own messages, link previews, notes of Slack's). Raises BadPayload."""
    if not isinstance(payload, Mapping):
        raise BadPayload("the payload is no object")
    if payload.get("type") == "event_callback":
        return _event(payload, me)
    if payload.get("type") is None and "command" in payload:
        return interactions.command(payload, me)
    if payload.get("type") is None and "ssl_check" in payload:
        return None
    return interactions.interaction(payload, me)


def keys(payload: Mapping[str, Any], me: Me) -> list[str]:
    """What it is known by, when it comes again or as two events. Empty for what `read` has no use for.

    A mention comes as `app_mention` and as `message`, of which only the second has the files: the first must not
    claim the message. Raises BadPayload.
    """
    heard = read(payload, me)
    if heard is None:
        return []
    if heard.kind in ("reaction", "unreaction"):
        return [f"event/{heard.id}"]
    if heard.kind in ("message", "edit", "delete"):
        return [f"event/{token(payload, 'event_id')}", *_message_keys(heard)]
    return [heard.id.replace("-", "/", 1)]


def _message_keys(heard: Heard) -> list[str]:
    place = f"{heard.channel}/{heard.message}"
    if heard.kind == "edit":
        return [f"{place}/edit/{heard.id.rpartition('-')[2]}"]
    if heard.kind == "delete":
        return [f"{place}/delete"]
    return [] if heard.app_mention else [place]


def _event(payload: Json, me: Me) -> Heard | None:
    event = inner(payload, "event")
    match text(event, "type"):
        case "app_mention":
            # An edit sends it again; `message_changed` says that better.
            return None if event.get("edited") else _message(payload, event, me)
        case "message":
            match text(event, "subtype", ""):
                case "message_changed":
                    return _changed(payload, event, me)
                case "message_deleted":
                    return _deleted(payload, event, stamp(event, "deleted_ts"), me)
                case _:
                    return _message(payload, event, me)
        case "reaction_added" | "reaction_removed":
            return _reaction(payload, event, me)
        case _:
            return None


# Messages


def _message(payload: Json, event: Json, me: Me) -> Heard | None:
    if text(event, "subtype", "") not in SUBTYPES or _own(event, me):
        return None
    ts = stamp(event, "ts")
    heard = _said("message", token(payload, "event_id"), event, event, ts, me)
    if not heard.user:
        raise BadPayload("user is missing")
    if event["type"] == "app_mention":
        return replace(heard, app_mention=True, mentions_me=True)
    return heard


def _changed(payload: Json, event: Json, me: Me) -> Heard | None:
    """Edits by people only: https://docs.slack.dev/reference/events/message/message_changed.

    Link previews, reply counts and edits by apps change a message, too.
    """
    message, before = inner(event, "message"), optional(event, "previous_message")
    subtype = text(message, "subtype", "")
    if subtype == "tombstone":
        # What becomes of a deleted message that has replies.
        return _deleted(payload, event, stamp(message, "ts"), me)
    edited = optional(message, "edited")
    if not edited or subtype not in SUBTYPES or _own(message, me) or _own(edited, me):
        return None
    if before and _words(before) == _words(message):
        return None
    token(payload, "event_id")
    ts, at, channel = stamp(message, "ts"), stamp(edited, "ts"), identity(event, "channel")
    heard = _said("edit", f"edit-{channel}-{ts}-{at}", event, message, ts, me)
    if not heard.user:
        raise BadPayload("user is missing")
    return replace(heard, target=ts)


def _deleted(payload: Json, event: Json, ts: str, me: Me) -> Heard | None:
    """Slack tells whose message it was, not who deleted it."""
    before = optional(event, "previous_message")
    if text(before, "subtype", "") not in SUBTYPES or _own(before, me):
        return None
    return replace(_said("delete", token(payload, "event_id"), event, before, ts, me), target=ts)


def _said(kind: Kind, number: str, event: Json, message: Json, ts: str, me: Me) -> Heard:
    """`event` tells where, `message` what and by whom."""
    said, blocks = text(message, "text", ""), listed(message, "blocks")
    mentioned = frozenset(_mentioned(said, blocks))
    thread, channel = stamp(message, "thread_ts", ts), identity(event, "channel")
    robot = identity(message, "bot_id", "")
    user = identity(message, "user", robot)
    bot = bool(robot) or user == SLACKBOT or text(message, "subtype", "") == "bot_message"
    return Heard(
        id=number,
        kind=kind,
        channel=channel,
        thread=thread,
        message=ts,
        user=user,
        bot=bot,
        text=said,
        blocks=blocks,
        files=_files(message),
        direct=text(event, "channel_type", "") == "im" or channel.startswith("D"),
        mentions_me=me.user in mentioned,
        mentions_others=bool(mentioned - {me.user}),
        root=thread == ts,
        foreign_team=_foreign(message, me),
        bot_ids=tuple(dict.fromkeys(filter(None, (user, robot, _app(message))))) if bot else (),
    )


def _own(message: Json, me: Me) -> bool:
    ours = (
        (identity(message, "user", ""), me.user),
        (identity(message, "bot_id", ""), me.bot),
        (_app(message), me.app),
    )
    return any(theirs and theirs == mine for theirs, mine in ours)


def _app(message: Json) -> str:
    return identity(message, "app_id", "") or identity(optional(message, "bot_profile"), "app_id", "")


def _foreign(message: Json, me: Me) -> str:
    """https://docs.slack.dev/apis/slack-connect: whose member the writer is."""
    fields = [identity(message, name, "") for name in ("user_team", "source_team", "team")]
    fields.append(identity(optional(message, "user_profile"), "team", ""))
    return next((team for team in fields if team and team != me.team), "")


def _files(message: Json) -> tuple[FileRef, ...]:
    return tuple(
        FileRef(
            id=identity(file, "id"),
            name=text(file, "name", "") or text(file, "title", "") or "file",
            mimetype=text(file, "mimetype", ""),
            size=_size(file.get("size")),
            url=text(file, "url_private", ""),
        )
        for file in listed(message, "files")
        if text(file, "mode", "") not in _GONE
    )


def _size(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _mentioned(said: str, blocks: tuple[Json, ...]) -> Iterator[str]:
    """Ids of people and groups, and `here`, `channel`, `everyone`."""
    yield from _in_text(said)
    for value in _objects(blocks):
        # Elements of rich_text: https://docs.slack.dev/reference/block-kit/blocks/rich-text-block
        field = {"user": "user_id", "usergroup": "usergroup_id", "broadcast": "range", "mrkdwn": "text"}
        kind = value.get("type")
        found = value.get(field.get(kind, "")) if isinstance(kind, str) else None
        if isinstance(found, str):
            yield from _in_text(found) if kind == "mrkdwn" else (found,)


def _in_text(said: str) -> Iterator[str]:
    return (found[found.lastindex or 0] for found in _MENTION.finditer(said))


def _objects(blocks: tuple[Json, ...]) -> Iterator[Json]:
    """Every object in there. Without recursion, since anything may be nested as deep as it likes."""
    left: list[Any] = list(blocks)
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            yield value
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value


def _words(message: Json) -> tuple[str, list[str]]:
    """What an edit can change of what was said; Slack makes up the ids of blocks anew each time."""
    objects = _objects(listed(message, "blocks"))
    scalars = [
        f"{name}={value!r}"
        for one in objects
        for name, value in sorted(one.items())
        if name != "block_id" and not isinstance(value, Mapping | list | tuple)
    ]
    return text(message, "text", ""), scalars


# Reactions


def _reaction(payload: Json, event: Json, me: Me) -> Heard | None:
    """https://docs.slack.dev/reference/events/reaction_added."""
    item = inner(event, "item")
    if text(item, "type") != "message" or _own(event, me):
        return None
    name = text(event, "reaction").partition("::")[0]
    ts, channel, user = stamp(item, "ts"), identity(item, "channel"), identity(event, "user")
    return Heard(
        id=token(payload, "event_id"),
        kind="reaction" if event["type"] == "reaction_added" else "unreaction",
        channel=channel,
        thread=ts,
        user=user,
        bot=user == SLACKBOT,
        bot_ids=(user,) if user == SLACKBOT else (),
        direct=channel.startswith("D"),
        reaction=REACTIONS.get(name, name),
        target=ts,
        on_ours=text(event, "item_user", "") == me.user,
        foreign_team=_foreign(event, me),
    )


__all__ = ["REACTIONS", "SUBTYPES", "BadPayload", "FileRef", "Heard", "Me", "keys", "read"]
