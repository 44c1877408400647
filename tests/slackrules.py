"""What Slack's Web API accepts: methods, their arguments, the kind of token and the scopes; how it refuses.

The sources are the pages of the methods, https://docs.slack.dev/reference/methods/<method>, unless a rule names one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Refused(Exception):
    """An answer with `ok: false`: `error` is Slack's word for it, `extra` goes into the answer beside it."""

    def __init__(self, error: str, **extra: Any) -> None:
        super().__init__(error)
        self.error = error
        self.extra = extra


def invalid(*messages: str) -> Refused:
    """`invalid_arguments`, with what is wrong: https://docs.slack.dev/apis/web-api/#responses."""
    return Refused("invalid_arguments", response_metadata={"messages": [f"[ERROR] {message}" for message in messages]})


@dataclass(frozen=True)
class Method:
    """A method's arguments by kind, and who may call it.

    `scopes`: one of these is enough. `by_channel`: suffix of the scope that depends on the channel's kind.
    """

    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    by_channel: str = ""
    app_token: bool = False


_MESSAGE = {
    "text": "str",
    "blocks": "list",
    "attachments": "list",
    "thread_ts": "ts",
    "link_names": "bool",
    "parse": "str",
    "markdown_text": "str",
    "as_user": "bool",
}
_DRESS = {"username": "str", "icon_emoji": "str", "icon_url": "str"}
_PAGE = {
    "cursor": "str",
    "limit": "int",
    "oldest": "ts",
    "latest": "ts",
    "inclusive": "bool",
    "include_all_metadata": "bool",
}

METHODS: dict[str, Method] = {
    "auth.test": Method(),
    # https://docs.slack.dev/reference/methods/apps.connections.open: an app-level token with connections:write
    "apps.connections.open": Method(scopes=("connections:write",), app_token=True),
    "chat.postMessage": Method(
        {"channel": "str"},
        {
            **_MESSAGE,
            **_DRESS,
            "metadata": "dict",
            "mrkdwn": "bool",
            "reply_broadcast": "bool",
            "unfurl_links": "bool",
            "unfurl_media": "bool",
        },
        ("chat:write",),
    ),
    "chat.update": Method(
        {"channel": "str", "ts": "ts"},
        {**{k: v for k, v in _MESSAGE.items() if k != "thread_ts"}, "metadata": "dict", "reply_broadcast": "bool"}
        | {"file_ids": "str"},
        ("chat:write",),
    ),
    "chat.delete": Method({"channel": "str", "ts": "ts"}, {"as_user": "bool"}, ("chat:write",)),
    "chat.postEphemeral": Method({"channel": "str", "user": "str"}, {**_MESSAGE, **_DRESS}, ("chat:write",)),
    "chat.getPermalink": Method({"channel": "str", "message_ts": "ts"}),
    "reactions.add": Method({"channel": "str", "name": "str", "timestamp": "ts"}, {}, ("reactions:write",)),
    "reactions.remove": Method({"name": "str"}, {"channel": "str", "timestamp": "ts"}, ("reactions:write",)),
    # The scope is that of the kind of conversation: https://docs.slack.dev/apis/web-api/using-the-conversations-api
    "conversations.replies": Method({"channel": "str", "ts": "ts"}, _PAGE, by_channel="history"),
    "conversations.history": Method({"channel": "str"}, _PAGE, by_channel="history"),
    "conversations.info": Method(
        {"channel": "str"}, {"include_locale": "bool", "include_num_members": "bool"}, by_channel="read"
    ),
    "conversations.open": Method(
        {}, {"users": "str", "channel": "str", "return_im": "bool", "prevent_creation": "bool"}, ("im:write",)
    ),
    "users.info": Method({"user": "str"}, {"include_locale": "bool"}, ("users:read",)),
    "bots.info": Method({}, {"bot": "str", "team_id": "str"}, ("users:read",)),
    "views.open": Method({"view": "dict"}, {"trigger_id": "str", "interactivity_pointer": "str"}),
    "files.getUploadURLExternal": Method(
        {"filename": "str", "length": "int"}, {"alt_txt": "str", "snippet_type": "str"}, ("files:write",)
    ),
    "files.completeUploadExternal": Method(
        {"files": "list"},
        {"channel_id": "str", "channels": "str", "thread_ts": "ts", "initial_comment": "str", "blocks": "list"},
        ("files:write",),
    ),
    "files.info": Method({"file": "str"}, {"count": "int", "cursor": "str", "limit": "int"}, ("files:read",)),
    # https://docs.slack.dev/changelog/2026/03/05/set-status-scope-update: either scope
    "assistant.threads.setStatus": Method(
        {"channel_id": "str", "thread_ts": "ts", "status": "str"},
        {"loading_messages": "list", **_DRESS},
        ("chat:write", "assistant:write"),
    ),
}

KINDS = {"channel": "channels", "group": "groups", "im": "im", "mpim": "mpim"}
BOT_SCOPES = frozenset(
    {
        "app_mentions:read",
        "assistant:write",
        "chat:write",
        "commands",
        "files:read",
        "files:write",
        "im:write",
        "reactions:read",
        "reactions:write",
        "users:read",
    }
    | {f"{kind}:{what}" for kind in KINDS.values() for what in ("history", "read")}
)
ALL_SCOPES = BOT_SCOPES | {"connections:write"}

# The scope that an event needs: https://docs.slack.dev/reference/events/<event>
EVENT_SCOPES = {
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
    "message.mpim": "mpim:history",
    "reaction_added": "reactions:read",
    "reaction_removed": "reactions:read",
}
ALL_EVENTS = frozenset(EVENT_SCOPES)

# Those that the tests need, of https://docs.slack.dev/reference/methods/reactions.add ("invalid_name").
EMOJI = frozenset(
    (
        *("eyes", "white_check_mark", "heavy_check_mark", "x", "negative_squared_cross_mark", "octagonal_sign"),
        *("stop_sign", "+1", "-1", "thumbsup", "tada", "hourglass", "hourglass_flowing_sand", "warning", "wave"),
        *("pray", "heart", "thinking_face", "question", "no_entry_sign", "raised_hands", "recycle", "lock"),
    )
)

_TS = re.compile(r"\d{9,12}\.\d{6}|\d{9,12}|0")
_TRUE = (True, "1", "true", "True", 1)
_FALSE = (False, "0", "false", "False", 0)


def _value(kind: str, name: str, value: Any) -> Any:
    """The argument as its kind; JSON in a form field is read: https://docs.slack.dev/apis/web-api/#methods."""
    if kind == "bool":
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        raise invalid(f"must be a boolean [json-pointer:/{name}]")
    if kind == "int":
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
            raise invalid(f"must be an integer [json-pointer:/{name}]")
        return int(value)
    if kind in ("list", "dict"):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise Refused(f"invalid_{name}_format") from None
        if not isinstance(value, list if kind == "list" else dict):
            raise (
                Refused(f"invalid_{name}_format")
                if name in ("blocks", "metadata")
                else invalid(f"must be a {'valid array' if kind == 'list' else 'valid object'} [json-pointer:/{name}]")
            )
        return value
    if not isinstance(value, str):
        raise invalid(f"must be a string [json-pointer:/{name}]")
    if kind == "ts" and not _TS.fullmatch(value):
        raise invalid(f"must be a valid timestamp [json-pointer:/{name}]")
    return value


def arguments(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call as values of their kinds. Raises Refused for unknown, missing and malformed ones.

    Slack itself ignores arguments that it does not know; here they are refused, since one is always a mistake.
    """
    method = METHODS[name]
    # bolt's clients add team_id to every call; workspace apps may: https://docs.slack.dev/enterprise
    given = {key: value for key, value in given.items() if key != "team_id"}
    known = {**method.required, **method.optional}
    if unknown := sorted(set(given) - set(known)):
        raise invalid(*(f"invalid additional property: {key}" for key in unknown))
    if missing := [key for key in method.required if given.get(key) is None or (not given[key] and key == "channel")]:
        raise invalid(*(f"missing required field: {key}" for key in missing))
    return {key: _value(known[key], key, value) for key, value in given.items() if value is not None}


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """https://docs.slack.dev/messaging/message-metadata: an event_type, and an event_payload that is an object."""
    kind, payload = metadata.get("event_type"), metadata.get("event_payload")
    if not metadata:
        return
    if set(metadata) - {"event_type", "event_payload"} or not isinstance(kind, str) or not isinstance(payload, dict):
        raise Refused("invalid_metadata_format")
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,255}", kind):
        raise Refused("invalid_metadata_schema")


def check_text(args: Mapping[str, Any], limit: int) -> None:
    """Something to say, and not too much of it.

    `no_text`, `msg_too_long`: chat.postMessage takes 40,000 characters (its page), chat.update 4,000
    (https://github.com/seratch/ChatGPT-in-Slack/issues/102).
    """
    if not (args.get("text") or args.get("blocks") or args.get("attachments") or args.get("markdown_text")):
        raise Refused("no_text")
    if len(args.get("text") or "") > limit:
        raise Refused("msg_too_long")
    # https://docs.slack.dev/reference/methods/chat.postMessage: markdown_text goes alone, up to 12,000 characters
    if markdown := args.get("markdown_text"):
        if args.get("text") or args.get("blocks"):
            raise Refused("markdown_text_conflict")
        if len(markdown) > 12_000:
            raise Refused("msg_too_long")
