"""The workspace that the stub Slack holds in memory: people, channels, messages, files, and how the API shows them."""

from __future__ import annotations

import html
import random
import re
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from slackrules import EMOJI, KINDS, Refused

TEAM, OTHER_TEAM = "T00000TEAM", "T0000OTHER"
BOT, BOT_ID, APP = "U00000BOT1", "B00000BOT1", "A00000APP1"
ANN, BEN, GUEST, SOLO = "U00000ANN1", "U00000BEN1", "U000GUEST1", "U0000SOLO1"
STRANGER, GONE, ROBOT, ROBOT_ID = "U0STRANGE1", "U0000GONE1", "U000ROBOT1", "B000ROBOT1"
GENERAL, PRIVATE, GROUP, ELSEWHERE = "C0GENERAL1", "C0PRIVATE1", "G0000GROUP", "C0ELSEWHER"
SECRET, OLD, SHARED = "C00SECRET1", "C00000OLD1", "C00SHARED1"


@dataclass
class User:
    id: str
    name: str
    team: str = TEAM
    bot_id: str = ""
    flags: dict[str, bool] = field(default_factory=dict)


@dataclass
class Channel:
    id: str
    name: str
    kind: str  # channel (public), group (private), mpim, im
    members: set[str]
    archived: bool = False
    shared: bool = False
    user: str = ""  # of a direct channel: whose

    @property
    def bot_in(self) -> bool:
        return BOT in self.members


@dataclass(frozen=True)
class Version:
    at: float
    text: str
    blocks: list[dict[str, Any]]


@dataclass
class Message:
    channel: str
    ts: str
    user: str
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    thread_ts: str = ""
    bot_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    reactions: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    attachments: list[Any] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    edited: dict[str, str] | None = None
    deleted: bool = False
    subtype: str = ""
    args: dict[str, Any] = field(default_factory=dict)  # as it was posted: unfurl_links and the like

    @property
    def is_reply(self) -> bool:
        return self.thread_ts not in ("", self.ts)


@dataclass
class File:
    id: str
    name: str
    title: str
    mimetype: str
    content: bytes
    user: str
    channels: list[str] = field(default_factory=list)
    shared: dict[str, str] = field(default_factory=dict)
    uploaded: bool = True
    length: int = 0


@dataclass(frozen=True)
class Ephemeral:
    channel: str
    user: str
    thread_ts: str
    text: str
    blocks: list[dict[str, Any]]
    at: float


@dataclass(frozen=True)
class Status:
    channel: str
    thread: str
    status: str
    at: float


@dataclass(frozen=True)
class View:
    id: str
    user: str
    view: dict[str, Any]
    trigger_id: str
    at: float


@dataclass(frozen=True)
class Response:
    url: str
    body: dict[str, Any]
    at: float


@dataclass
class Ticket:
    """A trigger id or a response_url, with what it was made for."""

    at: float
    user: str
    channel: str = ""
    message: str = ""
    thread: str = ""
    uses: int = 0


_PIECE = re.compile(
    r"<@(?P<user>[UW]\w+)(?:\|[^>]*)?>|<#(?P<channel>C\w+)(?:\|[^>]*)?>"
    r"|<(?P<url>https?://[^>|]+)(?:\|(?P<label>[^>]*))?>|<!(?P<range>here|channel|everyone)>"
)


def rich_text(text: str) -> list[dict[str, Any]]:
    """The block that Slack's own composer makes of that text: mentions, links and code fences, the rest as it is."""
    elements: list[dict[str, Any]] = []
    for index, part in enumerate(text.split("```")):
        if index % 2:
            code = [{"type": "text", "text": html.unescape(part.strip("\n")) or " "}]
            elements.append({"type": "rich_text_preformatted", "elements": code, "border": 0})
        elif part:
            elements.append({"type": "rich_text_section", "elements": list(_inline(part))})
    return [{"type": "rich_text", "elements": elements}] if elements else []


def _inline(text: str) -> Iterator[dict[str, Any]]:
    at = 0
    for match in _PIECE.finditer(text):
        if before := text[at : match.start()]:
            yield {"type": "text", "text": html.unescape(before)}
        at = match.end()
        if match["user"]:
            yield {"type": "user", "user_id": match["user"]}
        elif match["channel"]:
            yield {"type": "channel", "channel_id": match["channel"]}
        elif match["range"]:
            yield {"type": "broadcast", "range": match["range"]}
        else:
            label = {"text": html.unescape(match["label"])} if match["label"] else {}
            yield {"type": "link", "url": html.unescape(match["url"]), **label}
    if rest := text[at:]:
        yield {"type": "text", "text": html.unescape(rest)}


class World:
    """State, with the lock that everything holds while it changes or reads it."""

    def __init__(self, clock: Callable[[], float], seed: int) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}
        self.said: dict[str, dict[str, Message]] = {}
        self.threads: dict[tuple[str, str], list[Message]] = {}
        self.files: dict[str, File] = {}
        self.ephemerals: list[Ephemeral] = []
        self.statuses: list[Status] = []
        self.views: list[View] = []
        self.responses: list[Response] = []
        self.triggers: dict[str, Ticket] = {}
        self.response_urls: dict[str, Ticket] = {}
        self.emoji: set[str] = set(EMOJI)
        self.refused_blocks: Collection[str] = set()
        self.tombstones = False
        self.base = ""
        self._last = 0
        self._count = 0
        self._furnish()

    def _furnish(self) -> None:
        self.add_user(BOT, "threadwright", bot_id=BOT_ID)
        self.add_user(ANN, "ann")
        self.add_user(BEN, "ben")
        self.add_user(GUEST, "guest", is_restricted=True)
        self.add_user(SOLO, "solo", is_restricted=True, is_ultra_restricted=True)
        self.add_user(STRANGER, "stranger", team=OTHER_TEAM, is_stranger=True)
        self.add_user(GONE, "gone", deleted=True)
        self.add_user(ROBOT, "robot", bot_id=ROBOT_ID)
        self.add_channel(GENERAL, "general")
        self.add_channel(PRIVATE, "private", private=True)
        self.add_channel(GROUP, "mpdm-ann--ben--threadwright-1")
        self.channels[GROUP].kind = "mpim"
        self.add_channel(ELSEWHERE, "elsewhere", bot_in=False)
        self.add_channel(SECRET, "secret", private=True, bot_in=False)
        self.add_channel(OLD, "old", archived=True)
        self.add_channel(SHARED, "shared", shared=True)

    def add_user(self, id: str, name: str, *, team: str = TEAM, bot_id: str = "", **flags: bool) -> None:  # noqa: A002
        with self.lock:
            self.users[id] = User(id, name, team, bot_id, flags)

    def add_channel(
        self,
        id: str,  # noqa: A002
        name: str,
        *,
        private: bool = False,
        bot_in: bool = True,
        archived: bool = False,
        shared: bool = False,
        members: Iterable[str] = (ANN, BEN, GUEST, SOLO, STRANGER, ROBOT),
    ) -> None:
        with self.lock:
            people = {*members, BOT} if bot_in else set(members)
            self.channels[id] = Channel(id, name, "group" if private else "channel", people, archived, shared)
            self.said[id] = {}

    def dm(self, user: str) -> str:
        """The direct channel of the bot and that person, made when there is none."""
        channel = "D" + user[1:]
        with self.lock:
            if channel not in self.channels:
                self.channels[channel] = Channel(channel, "", "im", {user, BOT}, user=user)
                self.said[channel] = {}
        return channel

    def next_ts(self) -> str:
        """Unique and rising, whatever the clock does."""
        with self.lock:
            self._last = max(int(self.clock() * 1_000_000), self._last + 1)
            return f"{self._last // 1_000_000}.{self._last % 1_000_000:06d}"

    def next_id(self, prefix: str, length: int = 11) -> str:
        with self.lock:
            self._count += 1
            return prefix + f"{self._count:0{length - len(prefix)}d}"

    def find(self, channel: str, ts: str) -> Message:
        """A message that is still there. Raises Refused (message_not_found)."""
        message = self.said[channel].get(ts)
        if message is None or message.deleted:
            raise Refused("message_not_found")
        return message

    def put(self, message: Message) -> Message:
        """A new message. One in the thread of a message that is gone lands in the channel's root, as in Slack."""
        with self.lock:
            root = self.said[message.channel].get(message.thread_ts)
            if root is not None and root.is_reply:
                root = self.said[message.channel].get(root.thread_ts)
            if message.thread_ts and (root is None or (root.deleted and not self._tombstone(root))):
                message.thread_ts = ""
            elif root is not None:
                message.thread_ts = root.thread_ts = root.ts
                self.threads.setdefault((message.channel, root.ts), []).append(message)
            message.versions.append(Version(self.clock(), message.text, message.blocks))
            self.said[message.channel][message.ts] = message
            for file in message.files:
                self.files[file].shared[message.channel] = message.ts
                self.files[file].channels.append(message.channel)
            return message

    def _tombstone(self, root: Message) -> bool:
        """With `tombstones` a deleted message that has replies leaves a stone, and its thread goes on."""
        return self.tombstones and bool(self.replies(root.channel, root.ts))

    def replies(self, channel: str, ts: str) -> list[Message]:
        return [message for message in self.threads.get((channel, ts), ()) if not message.deleted]

    def rewrite(self, message: Message, user: str, text: str, blocks: list[dict[str, Any]]) -> None:
        with self.lock:
            message.text, message.blocks = text, blocks
            message.edited = {"user": user, "ts": self.next_ts()}
            message.versions.append(Version(self.clock(), text, blocks))

    # --- as the API shows them

    def shown(self, message: Message, *, metadata: bool = False) -> dict[str, Any]:
        """https://docs.slack.dev/reference/events/message, and what conversations.history gives."""
        if message.deleted:  # only asked for stones: https://docs.slack.dev/reference/events/message (tombstone)
            base = {"type": "message", "subtype": "tombstone", "user": "USLACKBOT", "hidden": True}
            return {**base, "text": "This message was deleted.", "ts": message.ts, "thread_ts": message.ts}
        user = self.users.get(message.user)
        out: dict[str, Any] = {"type": "message", "user": message.user, "text": message.text, "ts": message.ts}
        out |= {"team": user.team if user else TEAM, "blocks": self.with_ids(message)}
        if message.subtype:
            out["subtype"] = message.subtype
        if message.bot_id:
            out |= self._bot(message)
        if message.thread_ts:
            out["thread_ts"] = message.thread_ts
            out |= self._in_thread(message)
        if message.files:
            out |= {"files": [self.shown_file(self.files[one]) for one in message.files], "upload": False}
        if message.attachments:
            out["attachments"] = message.attachments
        if message.reactions:
            out["reactions"] = [{"name": n, "users": u, "count": len(u)} for n, u in message.reactions.items()]
        if message.edited:
            out["edited"] = message.edited
        if metadata and message.metadata:
            out["metadata"] = message.metadata
        return out

    def _bot(self, message: Message) -> dict[str, Any]:
        app = APP if message.bot_id == BOT_ID else "A" + message.bot_id[1:]
        profile = {"id": message.bot_id, "app_id": app, "name": self.users[message.user].name, "team_id": TEAM}
        return {"bot_id": message.bot_id, "app_id": app, "bot_profile": {**profile, "deleted": False, "updated": 1}}

    def _in_thread(self, message: Message) -> dict[str, Any]:
        if message.is_reply:
            return {"parent_user_id": self.said[message.channel][message.thread_ts].user}
        replies = self.replies(message.channel, message.ts)
        users = list(dict.fromkeys(reply.user for reply in replies))
        latest = {"latest_reply": replies[-1].ts} if replies else {}
        return {"reply_count": len(replies), "reply_users": users, "reply_users_count": len(users), **latest}

    @staticmethod
    def with_ids(message: Message) -> list[dict[str, Any]]:
        """Its blocks, each with a block_id: Slack makes up those that are missing."""
        return [
            {**block, "block_id": block.get("block_id") or f"b{zlib.crc32(f'{message.ts}/{index}'.encode()):08x}"}
            for index, block in enumerate(message.blocks)
        ]

    def shown_file(self, file: File) -> dict[str, Any]:
        """https://docs.slack.dev/reference/objects/file-object."""
        private = f"{self.base}/files-pri/{TEAM}-{file.id}/{file.name}"
        shares: dict[str, Any] = {}
        for channel, ts in file.shared.items():
            kind = "public" if self.channels[channel].kind == "channel" else "private"
            shared = {"ts": ts} | ({"thread_ts": at} if (at := self.said[channel][ts].thread_ts) else {})
            shares.setdefault(kind, {})[channel] = [shared]
        return {
            "id": file.id,
            "created": int(self.clock()),
            "name": file.name,
            "title": file.title,
            "mimetype": file.mimetype,
            "filetype": file.name.rpartition(".")[2] or "text",
            "user": file.user,
            "mode": "hosted",
            "size": len(file.content),
            "url_private": private,
            "url_private_download": private.replace(f"/{file.name}", f"/download/{file.name}"),
            "permalink": f"{self.base}/files/{file.user}/{file.id}/{file.name}",
            "channels": [c for c in file.channels if self.channels[c].kind == "channel"],
            "shares": shares,
        }

    def shown_user(self, user: User) -> dict[str, Any]:
        """https://docs.slack.dev/reference/objects/user-object."""
        if user.flags.get("deleted"):
            flags: dict[str, bool] = {"deleted": True}
        else:
            flags = {"deleted": False, "is_admin": False, "is_owner": False, "is_restricted": False}
            flags |= {"is_ultra_restricted": False}
        profile = {"real_name": user.name.title(), "display_name": user.name, "team": user.team}
        bot = {"bot_id": user.bot_id, "api_app_id": APP if user.id == BOT else "A" + user.bot_id[1:]}
        return {
            "id": user.id,
            "team_id": user.team,
            "name": user.name,
            "real_name": user.name.title(),
            "profile": {**profile, **(bot if user.bot_id else {})},
            "is_bot": bool(user.bot_id),
            "is_app_user": False,
            "updated": 1,
            **flags,
            **user.flags,
        }

    def shown_channel(self, channel: Channel) -> dict[str, Any]:
        """https://docs.slack.dev/reference/objects/conversation-object."""
        base = {"id": channel.id, "created": 1, "is_archived": channel.archived, "is_org_shared": False}
        base |= {f"is_{kind}": channel.kind == kind for kind in KINDS}
        if channel.kind == "im":
            return {**base, "user": channel.user, "is_user_deleted": False}
        shared = {"is_ext_shared": channel.shared, "is_shared": channel.shared, "is_general": channel.id == GENERAL}
        private = {"is_private": channel.kind != "channel", "is_member": channel.bot_in, "context_team_id": TEAM}
        return {**base, **shared, **private, "name": channel.name, "name_normalized": channel.name}
