"""What was said in a thread before the bot was called, and the text files of a message."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Protocol

from bot.chat import Said, TryLater, Undeliverable
from bot.commands import is_aside
from bot.slack.heard import FileRef, Json, Me
from bot.slack.markup import Names, ids_in, rich_to_markdown, to_markdown
from bot.slack.payloads import SUBTYPES
from bot.slack.people import Caller, People
from bot.text import one_line

US = "Threadwright"
NEWEST = 99
PAGE = 200
"""Messages a call, as Slack recommends; some apps get 15 whatever they ask for."""
PAGES = 25
LENGTH = 12_000
"""Characters of one message."""
FILES = 10

_TEXTS = frozenset({"json", "xml", "javascript", "x-javascript", "yaml", "x-yaml", "toml", "x-sh", "x-python", "sql"})
"""Subtypes of application/… that are text."""
_ENDINGS = re.compile(
    r"\.(bash|c|cc|cfg|conf|cpp|cs|css|csv|diff|env|go|h|hpp|html|ini|java|js|json|jsx|kt|log|lua|md|patch|php|pl"
    r"|properties|py|rb|rs|rst|scala|sh|sql|swift|toml|ts|tsx|txt|xml|yaml|yml)",
    re.IGNORECASE,
)
_UNKNOWN = frozenset({"", "application/octet-stream", "binary/octet-stream"})


class Fetcher(Caller, Protocol):
    """What this needs of `bot.slack.web.Web`."""

    def fetch(self, url: str, limit: int) -> bytes:
        """With the token, hence from Slack's own hosts only. Raises Undeliverable (longer, too), TryLater."""
        ...


# Threads


@dataclass
class _Read:
    root: Json | None = None
    newest: deque[Json] = field(default_factory=lambda: deque(maxlen=NEWEST))
    seen: set[str] = field(default_factory=set)
    stopped: bool = False
    """There is more, which Slack does not give now."""


def read_thread(web: Caller, people: People, channel: str, thread: str, *, before: str, me: Me) -> tuple[Said, ...]:
    """Oldest first: the thread's first message and the newest 99 before the ts `before` (empty: all of it).

    What was left out is said in between, as said by us. Raises TryLater when not even the first page can be had.
    """
    try:
        read = _pages(web, channel, thread, before)
    except Undeliverable as exc:
        return (Said(US, f"(What was said before in this thread cannot be read: {exc})"),)
    root, newest = ([read.root] if read.root else []), list(read.newest)
    kept = [*root, *newest]
    names = {**people.names(_ids(kept)), me.user: US}
    said = [_said(message, names, me) for message in kept]
    left = len(read.seen) - len(kept)
    if left > 0:
        said.insert(len(root), Said(US, f"({left} messages between were left out)"))
    if read.stopped:
        said.append(Said(US, _stopped(read)))
    return tuple(said)


def _pages(web: Caller, channel: str, thread: str, before: str) -> _Read:
    """conversations.replies gives the oldest first, so all pages are read to come to the newest.

    Apps outside the Marketplace get one page a minute: https://docs.slack.dev/changelog/2025/05/29/rate-limit-changes-for-non-marketplace-apps.
    """
    read = _Read()
    arguments: dict[str, Any] = {"channel": channel, "ts": thread, "limit": PAGE}
    if before:
        arguments["latest"] = before
    for page in range(PAGES):
        try:
            answer = web.call("conversations.replies", **arguments)
        except (TryLater, Undeliverable):
            if not page:
                raise
            read.stopped = True
            return read
        for message in _objects(answer, "messages"):
            _take(read, message, thread)
        more = answer.get("response_metadata")
        cursor = more.get("next_cursor") if isinstance(more, Mapping) else ""
        if not cursor or cursor == arguments.get("cursor"):
            return read
        arguments["cursor"] = cursor
    read.stopped = True
    return read


def _take(read: _Read, message: Json, thread: str) -> None:
    ts = message.get("ts")
    # Later pages may begin with the root again.
    if not isinstance(ts, str) or ts in read.seen:
        return
    if str(message.get("subtype") or "") not in SUBTYPES or is_aside(_text(message)):
        return
    read.seen.add(ts)
    if ts == thread:
        read.root = message
    else:
        read.newest.append(message)


def _stopped(read: _Read) -> str:
    replies = read.root.get("reply_count") if read.root else None
    total = replies + 1 if isinstance(replies, int) else 0
    more = f" of about {total}" if total > len(read.seen) else ""
    return f"(Slack lets me read only so much at a time: these are the first {len(read.seen)} messages{more})"


def _ids(messages: Sequence[Json]) -> Iterator[str]:
    """Authors first: there is a limit to the look-ups."""
    for message in messages:
        if isinstance(user := message.get("user"), str):
            yield user
    for message in messages:
        yield from sorted(ids_in(_text(message), _blocks(message)))


def _said(message: Json, names: Names, me: Me) -> Said:
    rich = rich_to_markdown(_blocks(message), names)
    text = (to_markdown(_text(message), names) if rich is None else rich).strip()
    text = "\n".join(filter(None, (text, *_shared(message, names, alone=not text))))
    if len(text) > LENGTH:
        text = f"{text[:LENGTH]}\n({len(text) - LENGTH} more characters were left out)"
    files = [_attached(file) for file in _objects(message, "files")]
    return Said(_who(message, names, me), "\n".join(filter(None, (text, *files))))


def _shared(message: Json, names: Names, *, alone: bool) -> Iterator[str]:
    """Messages that a message shares, or that it links to. `alone`: other attachments, too; alerts have all in them.

    https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments
    """
    for block in _blocks(message) if alone else ():
        inner = block.get("text")
        yield to_markdown(_text(inner), names).strip() if isinstance(inner, Mapping) else ""
    for one in _objects(message, "attachments"):
        if alone or one.get("is_share") or one.get("is_msg_unfurl"):
            parts = (one.get("title"), one.get("text") or one.get("fallback"))
            yield "\n".join(to_markdown(part, names).strip() for part in parts if isinstance(part, str))


def _who(message: Json, names: Names, me: Me) -> str:
    user, robot = message.get("user"), message.get("bot_id")
    if user == me.user or (robot and robot == me.bot):
        return US
    profile = message.get("bot_profile")
    called = (
        names.get(user, "") if isinstance(user, str) else "",
        message.get("username"),
        profile.get("name") if isinstance(profile, Mapping) else "",
        user,
    )
    shown = (one_line(name, 80) for name in called if isinstance(name, str))
    return next((name for name in shown if name), "a bot" if robot else "somebody")


def _attached(file: Json) -> str:
    name, mimetype, size = file.get("name") or file.get("title"), file.get("mimetype"), file.get("size")
    return (
        "(attached: " + _described(str(name or "a file"), str(mimetype or ""), size if type(size) is int else 0) + ")"
    )


def _text(message: Json) -> str:
    text = message.get("text")
    return text if isinstance(text, str) else ""


def _blocks(message: Json) -> list[Json]:
    return _objects(message, "blocks")


def _objects(of: Json, name: str) -> list[Json]:
    values = of.get(name)
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


# Files


def read_files(web: Fetcher, files: Sequence[FileRef], *, limit: int = 200_000) -> tuple[Said, ...]:
    """Each file as `Said("file NAME", its text)`, at most `limit` bytes in all; of others only name, type and size.

    Raises TryLater.
    """
    said = []
    left = limit
    for number, file in enumerate(files):
        text, why = ("", "too many files") if number >= FILES else _read_file(web, file, left)
        left -= len(text.encode())
        shown = text or f"({_described(file.name, file.mimetype, file.size)}; not read: {why})"
        said.append(Said(f"file {one_line(file.name, 120)}", shown))
    return tuple(said)


def _read_file(web: Fetcher, file: FileRef, left: int) -> tuple[str, str]:
    """The text, or why there is none."""
    if not _is_text(file):
        return "", "it is no text"
    if not file.url:
        return "", "Slack does not give it to me"
    if file.size > left:
        return "", "it is too long"
    try:
        data = web.fetch(file.url, left)
    except Undeliverable as exc:
        return "", one_line(str(exc), 200)
    if len(data) > left:
        return "", "it is too long"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "", "it is no text"
    if "\0" in text:
        return "", "it is no text"
    return text, "it is empty"


def _is_text(file: FileRef) -> bool:
    kind, _, subtype = file.mimetype.partition(";")[0].strip().lower().partition("/")
    if kind == "text" or (kind == "application" and (subtype in _TEXTS or subtype.endswith(("+json", "+xml")))):
        return True
    return file.mimetype.lower() in _UNKNOWN and _ENDINGS.fullmatch(PurePath(file.name).suffix) is not None


def _described(name: str, mimetype: str, size: int) -> str:
    kind = one_line(mimetype, 60) or "unknown type"
    return f"{one_line(name, 120)}, {kind}, {size:,} bytes" if size > 0 else f"{one_line(name, 120)}, {kind}"
