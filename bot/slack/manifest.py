"""The app's manifest as Slack takes it: the file for Socket Mode, with addresses in it for HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from bot.slack.http import PATH

FILE = Path(__file__).parents[2] / "manifests" / "slack-app.yaml"

METHODS = {
    "auth.test": frozenset[str](),
    "chat.postMessage": frozenset({"chat:write"}),
    "chat.update": frozenset({"chat:write"}),
    "chat.delete": frozenset({"chat:write"}),
    "chat.postEphemeral": frozenset({"chat:write"}),
    "assistant.threads.setStatus": frozenset({"chat:write"}),
    "reactions.add": frozenset({"reactions:write"}),
    "conversations.replies": frozenset({"channels:history", "groups:history", "im:history", "mpim:history"}),
    "conversations.history": frozenset({"channels:history", "groups:history", "im:history", "mpim:history"}),
    "conversations.info": frozenset({"channels:read", "groups:read", "im:read", "mpim:read"}),
    "conversations.open": frozenset({"im:write"}),
    "users.info": frozenset({"users:read"}),
    "views.open": frozenset[str](),
    "files.getUploadURLExternal": frozenset({"files:write"}),
    "files.completeUploadExternal": frozenset({"files:write"}),
}
"""Every method that is called, and the bot scopes that it needs (docs.slack.dev/reference/methods)."""
EVENTS = {
    "app_mention": frozenset({"app_mentions:read"}),
    "message.channels": frozenset({"channels:history"}),
    "message.groups": frozenset({"groups:history"}),
    "message.im": frozenset({"im:history"}),
    "message.mpim": frozenset({"mpim:history"}),
    "reaction_added": frozenset({"reactions:read"}),
    "reaction_removed": frozenset({"reactions:read"}),
}
"""Every event that is listened to, and its scope (docs.slack.dev/reference/events)."""
BESIDES = frozenset({"commands", "files:read"})
"""The slash command and the shortcut; the files that a message carries, which are fetched by their address."""
SCOPES = BESIDES.union(*METHODS.values(), *EVENTS.values())


def manifest(host: str = "") -> str:
    """The manifest. `host`: the public name, for HTTP; empty: Socket Mode. Raises ValueError for what is no host."""
    text = FILE.read_text()
    if not host:
        return text
    address = f"https://{bare(host)}{PATH}"
    data: dict[str, Any] = yaml.safe_load(text)
    settings = data["settings"]
    settings["socket_mode_enabled"] = False
    settings["event_subscriptions"]["request_url"] = address
    settings["interactivity"]["request_url"] = address
    data["features"]["slash_commands"][0]["url"] = address
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def bare(host: str) -> str:
    """`https://bot.example.com/` as `bot.example.com`."""
    name = re.sub(r"^https?://", "", host.strip()).rstrip("/")
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", name):
        raise ValueError(f"{host!r} is no host such as bot.example.com")
    return name
