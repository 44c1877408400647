"""The methods of the Web API that the stub Slack knows, over its World. Each: arguments in, answer out, or Refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from slackblocks import check_blocks, check_view
from slackrules import KINDS, METHODS, Refused, check_metadata, check_text
from slackworld import APP, BOT, BOT_ID, TEAM, Channel, Ephemeral, File, Message, Status, View, World

Answer = dict[str, Any]
Args = dict[str, Any]


class Methods:
    """`happened(kind, message)` is told of what the app itself did: message, changed, deleted, reaction_added, ..."""

    def __init__(self, world: World, happened: Callable[..., None], granted: Callable[[], set[str]]) -> None:
        self.world = world
        self.happened = happened
        self.granted = granted
        self.non_marketplace = False
        self.socket_url: Callable[[], str] = lambda: ""
        self._names = {name: name.replace(".", "_") for name in METHODS}

    def call(self, name: str, args: Args) -> Answer:
        """The answer without `ok`. Raises Refused."""
        with self.world.lock:
            answer: Answer = getattr(self, self._names[name])(args)
            return answer

    # --- where

    def need(self, *any_of: str) -> None:
        """https://docs.slack.dev/reference/methods (missing_scope: with `needed` and `provided`)."""
        if any_of and not self.granted() & set(any_of):
            raise Refused("missing_scope", needed=any_of[0], provided=",".join(sorted(self.granted())))

    def _channel(self, id: str, *, scope: str = "", inside: bool = True, write: bool = False) -> Channel:  # noqa: A002
        """A conversation that the bot sees. A private one that it is not in does not exist for it."""
        channel = self.world.channels.get(id)
        if channel is None or (channel.kind != "channel" and not channel.bot_in):
            raise Refused("channel_not_found")
        if scope:
            self.need(f"{KINDS[channel.kind]}:{scope}")
        if inside and not channel.bot_in:
            raise Refused("not_in_channel")
        if write and channel.archived:
            raise Refused("is_archived")
        return channel

    def _own(self, args: Args, error: str) -> Message:
        self._channel(args["channel"], write=True)
        message = self.world.find(args["channel"], args["ts"])
        if message.bot_id != BOT_ID:
            raise Refused(error)
        return message

    # --- auth, people

    def auth_test(self, args: Args) -> Answer:
        user = {"user": self.world.users[BOT].name, "user_id": BOT, "bot_id": BOT_ID, "app_id": APP}
        return {"url": f"{self.world.base}/", "team": "Acme", "team_id": TEAM, **user, "is_enterprise_install": False}

    def apps_connections_open(self, args: Args) -> Answer:
        return {"url": self.socket_url()}

    def users_info(self, args: Args) -> Answer:
        user = self.world.users.get(args["user"])
        if user is None:
            raise Refused("user_not_found")
        return {"user": self.world.shown_user(user)}

    def bots_info(self, args: Args) -> Answer:
        for user in self.world.users.values():
            if user.bot_id and user.bot_id == args.get("bot", BOT_ID):
                app = APP if user.id == BOT else "A" + user.bot_id[1:]
                bot = {"id": user.bot_id, "name": user.name, "user_id": user.id, "app_id": app}
                return {"bot": {**bot, "deleted": False, "updated": 1, "icons": {}}}
        raise Refused("bot_not_found")

    # --- messages

    def chat_postMessage(self, args: Args) -> Answer:
        self._check_message(args, 40_000)
        target = args["channel"]
        # https://docs.slack.dev/reference/methods/chat.postMessage#channels: a user id posts to the direct channel
        target = self.world.dm(target) if target in self.world.users and target != BOT else target
        channel = self._channel(target, write=True)
        message = self.post(channel.id, args)
        return {"channel": channel.id, "ts": message.ts, "message": self.world.shown(message, metadata=True)}

    def _check_message(self, args: Args, limit: int) -> None:
        check_text(args, limit)
        if args.get("blocks"):
            check_blocks(args["blocks"], self.world.refused_blocks)
        if "metadata" in args:
            check_metadata(args["metadata"])

    def post(self, channel: str, args: Args, files: list[str] | None = None) -> Message:
        """A new message of the app; it ends the status in its thread."""
        message = Message(
            channel,
            self.world.next_ts(),
            BOT,
            str(args.get("text", args.get("markdown_text", ""))),
            args.get("blocks") or [],
            args.get("thread_ts", ""),
            BOT_ID,
            metadata=args.get("metadata") or {},
            attachments=args.get("attachments") or [],
            files=files or [],
            subtype="file_share" if files else "",
            args=args,
        )
        if args.get("reply_broadcast") and message.thread_ts:
            message.subtype = "thread_broadcast"
        self.world.put(message)
        if message.thread_ts:
            self._end_status(channel, message.thread_ts)
        self.happened("message", message)
        return message

    def chat_update(self, args: Args) -> Answer:
        # https://docs.slack.dev/reference/methods/chat.update: blocks that are not given stay only without a text
        message = self._own(args, "cant_update_message")
        self._check_message(args, 4000)
        blocks = args["blocks"] if "blocks" in args else [] if args.get("text") else message.blocks
        before = self.world.shown(message)
        self.world.rewrite(message, BOT, args.get("text", message.text), blocks)
        if "metadata" in args:
            message.metadata = args["metadata"]
        self.happened("changed", message, before=before)
        shown = self.world.shown(message, metadata=True)
        return {"channel": message.channel, "ts": message.ts, "text": message.text, "message": shown}

    def chat_delete(self, args: Args) -> Answer:
        message = self._own(args, "cant_delete_message")
        before = self.world.shown(message)
        message.deleted = True
        self.happened("deleted", message, before=before)
        return {"channel": message.channel, "ts": message.ts}

    def chat_postEphemeral(self, args: Args) -> Answer:
        self._check_message(args, 40_000)
        channel = self._channel(args["channel"], write=True)
        if args["user"] not in channel.members:
            raise Refused("user_not_in_channel")
        ephemeral = (channel.id, args["user"], args.get("thread_ts", ""), args.get("text", ""))
        self.world.ephemerals.append(Ephemeral(*ephemeral, args.get("blocks") or [], self.world.clock()))
        return {"message_ts": self.world.next_ts()}

    def chat_getPermalink(self, args: Args) -> Answer:
        channel = self._channel(args["channel"], inside=False)
        message = self.world.find(channel.id, args["message_ts"])
        path = f"archives/{channel.id}/p{message.ts.replace('.', '')}"
        thread = f"?thread_ts={message.thread_ts}&cid={channel.id}" if message.is_reply else ""
        return {"channel": channel.id, "permalink": f"{self.world.base}/{path}{thread}"}

    # --- reactions

    def _reacted(self, args: Args) -> tuple[Message, list[str]]:
        if not args.get("channel") or not args.get("timestamp"):
            raise Refused("no_item_specified")
        self._channel(args["channel"], write=True)
        if args["name"].split("::")[0] not in self.world.emoji:
            raise Refused("invalid_name")
        message = self.world.find(args["channel"], args["timestamp"])
        return message, message.reactions.get(args["name"], [])

    def reactions_add(self, args: Args) -> Answer:
        message, users = self._reacted(args)
        if BOT in users:
            raise Refused("already_reacted")
        message.reactions[args["name"]] = [*users, BOT]
        self.happened("reaction_added", message, user=BOT, name=args["name"])
        return {}

    def reactions_remove(self, args: Args) -> Answer:
        message, users = self._reacted(args)
        if BOT not in users:
            raise Refused("no_reaction")
        self.take_reaction(message, BOT, args["name"])
        self.happened("reaction_removed", message, user=BOT, name=args["name"])
        return {}

    @staticmethod
    def take_reaction(message: Message, user: str, name: str) -> None:
        left = [other for other in message.reactions[name] if other != user]
        message.reactions = {**message.reactions, name: left}
        if not left:
            del message.reactions[name]

    # --- conversations

    def conversations_info(self, args: Args) -> Answer:
        return {"channel": self.world.shown_channel(self._channel(args["channel"], scope="read", inside=False))}

    def conversations_open(self, args: Args) -> Answer:
        if args.get("channel"):
            channel = self._channel(args["channel"])
            return {"channel": {"id": channel.id}, "no_op": True, "already_open": True}
        users = [user for user in args.get("users", "").split(",") if user]
        if not users:
            raise Refused("users_list_not_supplied")
        if len(users) > 1:
            raise Refused("method_not_supported_for_channel_type")  # group conversations: not in the stub
        user = self.world.users.get(users[0])
        if user is None:
            raise Refused("user_not_found")
        if user.flags.get("deleted"):
            raise Refused("user_disabled")
        if user.bot_id:
            raise Refused("cannot_dm_bot")
        known = "D" + user.id[1:] in self.world.channels
        channel = self.world.channels[self.world.dm(user.id)]
        shown = self.world.shown_channel(channel) if args.get("return_im") else {"id": channel.id}
        return {"channel": shown, "no_op": known, "already_open": known}

    def conversations_replies(self, args: Args) -> Answer:
        channel = self._channel(args["channel"], scope="history")
        root = self.world.said[channel.id].get(args["ts"])
        if root is None or (root.deleted and not self.world.replies(channel.id, root.ts)):
            raise Refused("thread_not_found")
        if root.is_reply:
            return self._page([], args, 1000, first=root)
        return self._page(self.world.replies(channel.id, root.ts), args, 1000, first=root)

    def conversations_history(self, args: Args) -> Answer:
        channel = self._channel(args["channel"], scope="history")
        roots = [m for m in self.world.said[channel.id].values() if not m.deleted and not m.is_reply]
        broadcast = [m for m in self.world.said[channel.id].values() if m.subtype == "thread_broadcast" and m.is_reply]
        return self._page(sorted([*roots, *broadcast], key=lambda m: m.ts, reverse=True), args, 100)

    def _page(self, messages: list[Message], args: Args, default: int, first: Message | None = None) -> Answer:
        """One page. `first` (a thread's root) comes at the head of the first page whatever `oldest` says.

        Apps outside the Marketplace get 15 at most:
        https://docs.slack.dev/changelog/2025/05/29/rate-limit-changes-for-non-marketplace-apps
        """
        most = 15 if self.non_marketplace else 1000 if first else 999
        limit = args.get("limit", min(default, most))
        if limit < 1:
            raise Refused("invalid_limit")
        limit = min(limit, most)
        oldest, latest, inclusive = args.get("oldest", "0"), args.get("latest", ""), args.get("inclusive", False)

        def within(ts: str) -> bool:
            if inclusive and ts in (oldest, latest):
                return True
            return float(ts) > float(oldest) and (not latest or float(ts) < float(latest))

        found = [m for m in messages if within(m.ts)]
        if first:
            found.insert(0, first)
        start = self._cursor(args.get("cursor", ""))
        page = found[start : start + limit]
        more = start + limit < len(found)
        shown = [self.world.shown(m, metadata=args.get("include_all_metadata", False)) for m in page]
        cursor = base64.b64encode(f"next:{start + limit}".encode()).decode() if more else ""
        return {"messages": shown, "has_more": more, "response_metadata": {"next_cursor": cursor}}

    @staticmethod
    def _cursor(cursor: str) -> int:
        try:
            return int(base64.b64decode(cursor, validate=True).decode().removeprefix("next:")) if cursor else 0
        except ValueError:
            raise Refused("invalid_cursor") from None

    # --- modals, status

    def views_open(self, args: Args) -> Answer:
        check_view(args["view"])
        # https://docs.slack.dev/interactivity/handling-user-interaction/#modal_responses: 3 seconds, once
        ticket = self.world.triggers.get(args.get("trigger_id", ""))
        if ticket is None:
            raise Refused("invalid_trigger_id")
        if ticket.uses:
            raise Refused("exchanged_trigger_id")
        if self.world.clock() - ticket.at > 3:
            raise Refused("expired_trigger_id")
        ticket.uses += 1
        view = View(self.world.next_id("V"), ticket.user, args["view"], args["trigger_id"], self.world.clock())
        self.world.views.append(view)
        return {"view": self.shown_view(view)}

    def shown_view(self, view: View) -> dict[str, Any]:
        """https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload."""
        base = {"id": view.id, "team_id": TEAM, "app_id": APP, "bot_id": BOT_ID, "root_view_id": view.id}
        blank = {"private_metadata": "", "callback_id": "", "external_id": "", "submit": None, "close": None}
        blocks = self.world.with_ids(Message("", view.id, "", "", view.view["blocks"]))
        more: dict[str, Any] = {
            "blocks": blocks,
            "hash": f"1.{view.id}",
            "previous_view_id": None,
            "state": {"values": {}},
        }
        return {**base, **blank, **view.view, **more}

    def assistant_threads_setStatus(self, args: Args) -> Answer:
        channel = self._channel(args["channel_id"])
        if len(args.get("loading_messages", [])) > 10:
            raise Refused("invalid_arguments")
        root = self.world.said[channel.id].get(args["thread_ts"])
        if root is None or root.deleted or root.is_reply:
            raise Refused("invalid_thread_ts")
        self.world.statuses.append(Status(channel.id, root.ts, args["status"], self.world.clock()))
        return {}

    def status(self, channel: str, thread: str) -> str:
        """What is shown now. It ends after two minutes: .../methods/assistant.threads.setStatus."""
        for status in reversed(self.world.statuses):
            if (status.channel, status.thread) == (channel, thread):
                return status.status if self.world.clock() - status.at < 120 else ""
        return ""

    def _end_status(self, channel: str, thread: str) -> None:
        if self.status(channel, thread):
            self.world.statuses.append(Status(channel, thread, "", self.world.clock()))

    # --- files: https://docs.slack.dev/messaging/working-with-files#uploading_files

    def files_getUploadURLExternal(self, args: Args) -> Answer:
        if args["length"] < 1:
            raise Refused("invalid_arguments")
        file = File(self.world.next_id("F"), args["filename"], args["filename"], "", b"", BOT, uploaded=False)
        file.length = args["length"]
        self.world.files[file.id] = file
        return {"upload_url": f"{self.world.base}/upload/v1/{file.id}", "file_id": file.id}

    def files_completeUploadExternal(self, args: Args) -> Answer:
        if not args["files"] or any(not isinstance(one, dict) or "id" not in one for one in args["files"]):
            raise Refused("invalid_arguments")
        files = [self.world.files.get(one["id"]) for one in args["files"]]
        if any(file is None or not file.uploaded or file.channels for file in files):
            raise Refused("file_not_found")
        if args.get("blocks"):
            check_blocks(args["blocks"], self.world.refused_blocks)
        targets = [c for c in (args.get("channel_id") or args.get("channels", "")).split(",") if c]
        channels = [self._channel(target, write=True) for target in targets]
        for file, one in zip(files, args["files"], strict=True):
            assert file is not None
            file.title = one.get("title", file.title)
        for channel in channels:
            said = {"text": args.get("initial_comment", ""), "thread_ts": args.get("thread_ts", "")}
            self.post(channel.id, said, [file.id for file in files if file])
        return {"files": [{"id": file.id, "title": file.title} for file in files if file]}

    def files_info(self, args: Args) -> Answer:
        file = self.world.files.get(args["file"])
        if file is None or not file.uploaded:
            raise Refused("file_not_found")
        return {
            "file": self.world.shown_file(file),
            "comments": [],
            "content": file.content[:1000].decode("utf-8", "replace"),
        }
