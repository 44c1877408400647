"""The contract of `bot.chat.Chat` over Slack, at the strict stub, and over the terminal, at an emulated screen."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import pytest
from chatcontract import OPENING, ChatContract, ChatWorld, ThreadsContract
from rich.console import Console
from slackserver import ANN, BEN, BOT, BOT_ID, GENERAL, TEAM, Message, SlackServer

from bot.chat import Author, Card, Chat, Place, Reply, Said
from bot.console import ConsoleChat
from bot.slack.payloads import Me
from bot.slack.posting import SlackChat
from bot.slack.web import Web

# Slack

_MENTION = re.compile(r"<@(?P<user>[UW]\w+)[^>]*>|<!(?P<all>(?:channel|here|everyone|subteam)\b)[^>]*>")
_BARE = re.compile(r"(?<!\w)@(?:channel|here|everyone)\b")
_LABELLED = re.compile(r"<[^<>|]+\|([^<>]*)>")
JOINER = "\u2060"
"""What we put into words so that they do not become mentions."""


def _read(mrkdwn: str) -> str:
    return html.unescape(_LABELLED.sub(r"\1", mrkdwn)).replace(JOINER, "")


def _inline(elements: Sequence[Mapping[str, Any]]) -> str:
    return "".join(map(_words, elements))


def _words(element: Mapping[str, Any]) -> str:
    """A link's address is there to be seen, too."""
    label, address = element.get("text", ""), element.get("url", "")
    return (f"{label} ({address})" if label and address else label or address) or f"@{element['user_id']}"


def _rich(element: Mapping[str, Any]) -> Iterator[str]:
    if element["type"] != "rich_text_list":
        yield _inline(element["elements"])
        return
    for number, item in enumerate(element["elements"], element.get("offset", 0) + 1):
        yield (f"{number}. " if element["style"] == "ordered" else "• ") + _inline(item["elements"])


def _texts(block: Mapping[str, Any]) -> Iterator[str]:
    """What a person reads of one block, line by line."""
    match block["type"]:
        case "rich_text":
            for element in block["elements"]:
                yield from _rich(element)
        case "plan":
            yield block["title"]
            yield from (f"{task['status']}: {task['title']}" for task in block["tasks"])
        case "header" | "section":
            yield _plain(block["text"])
        case "context":
            yield from map(_plain, block["elements"])
        case "actions":
            pass
        case other:
            raise AssertionError(f"nobody knows what {other} looks like")


def _plain(text: Mapping[str, Any]) -> str:
    return _read(text["text"]) if text["type"] == "mrkdwn" else str(text["text"])


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def _alerted(mrkdwn: str) -> Iterator[str]:
    for found in _MENTION.finditer(mrkdwn):
        yield f"slack:{TEAM}:{found['user']}" if found["user"] else f"@{found['all']}"
    yield from _BARE.findall(mrkdwn)


class SlackWorld:
    card_buttons = True

    def __init__(self, stub: SlackServer) -> None:
        self.stub = stub
        self.ann, self.ben = Author(f"slack:{TEAM}:{ANN}", "ann"), Author(f"slack:{TEAM}:{BEN}", "ben")
        self.place = Place("slack", TEAM, GENERAL, stub.say(ANN, GENERAL, OPENING))
        self.elsewhere = Place("slack", TEAM, GENERAL, stub.say(BEN, GENERAL, "Something else"))
        self.chat: Chat = self.another()

    def another(self) -> Chat:
        return SlackChat(Web(self.stub.bot_token, base_url=self.stub.url, timeout=5), Me(BOT, BOT_ID, TEAM))

    def messages(self, place: Place) -> list[str]:
        return [m.ts for m in self.stub.messages(place.channel, place.thread) if m.bot_id == BOT_ID]

    def _message(self, message: str) -> Message:
        return self.stub.message(GENERAL, message)

    def shown(self, message: str) -> str:
        seen = self._message(message)
        lines = [line for block in seen.blocks for line in _texts(block)] if seen.blocks else [_read(seen.text)]
        for id_ in seen.files:
            file = self.stub.files[id_]
            lines += [file.title, file.content.decode()]
        return "\n".join(lines)

    def buttons(self, message: str) -> list[str]:
        actions = [block for block in self._message(message).blocks if block["type"] == "actions"]
        return [one["text"]["text"] for one in _objects(actions) if isinstance(one.get("text"), Mapping)]

    def pings(self, message: str) -> set[str]:
        seen = self._message(message)
        found = set(_alerted(seen.text))
        for one in _objects(seen.blocks):
            match one.get("type"):
                case "mrkdwn":
                    found |= set(_alerted(one["text"]))
                case "user":
                    found.add(f"slack:{TEAM}:{one['user_id']}")
                case "broadcast" | "usergroup":
                    found.add(f"@{one.get('range', 'subteam')}")
        return found

    def reactions(self, message: str) -> list[str]:
        return [name for name, users in self._message(message).reactions.items() for user in users if user == BOT]

    def say(self, author: Author, text: str) -> str:
        user = author.id.rpartition(":")[2]
        return self.stub.say(user, GENERAL, html.escape(text, quote=False), thread=self.place.thread)

    def plant(self, place: Place, text: str) -> str:
        return str(self.stub.methods.post(place.channel, {"text": text, "thread_ts": place.thread}).ts)


class TestSlackKeepsTheContract(ThreadsContract):
    @pytest.fixture
    def world(self) -> Iterator[ChatWorld]:
        with SlackServer() as stub:
            stub.echo = False
            yield SlackWorld(stub)


# The terminal


@dataclass
class Print:
    """What one call has printed."""

    place: Place
    message: str
    reaction: bool = False
    rows: list[str] = field(default_factory=list)


@dataclass
class Row:
    text: str = ""
    by: Print | None = None


class Screen:
    """A terminal's screen, which knows of each row by which call it was printed: line feeds, CR, cursor up, erase."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.rows = [Row()]
        self._row = self._column = self._read = 0

    def draw(self, by: Print) -> None:
        """What was written since the last time."""
        raw = self.out.getvalue()[self._read :]
        self._read += len(raw)
        for part in re.findall(r"\x1b\[\d*[AK]|\r|\n|(?:(?!\x1b\[\d*[AK])[^\r\n])+", raw):
            if part == "\n":
                self._row, self._column = self._row + 1, 0
                self.rows += [Row() for _ in range(self._row + 1 - len(self.rows))]
            elif part == "\r":
                self._column = 0
            elif part.endswith("A") and part.startswith("\x1b["):
                self._row = max(0, self._row - int(part[2:-1] or 1))
            elif part.endswith("K") and part.startswith("\x1b["):
                self.rows[self._row] = Row()
            else:
                row = self.rows[self._row]
                text = row.text[: self._column].ljust(self._column) + part + row.text[self._column + len(part) :]
                self.rows[self._row] = Row(text, by)
                self._column += len(part)


class Watched:
    """The terminal's adapter, with a look at the screen after each call."""

    platform = "console"

    def __init__(self, chat: ConsoleChat, screen: Screen) -> None:
        self.workspace = chat.workspace
        self.chat, self.screen = chat, screen
        self.prints: list[Print] = []

    def look(self, place: Place, message: str, *, reaction: bool = False) -> None:
        made = Print(place, message, reaction)
        self.prints.append(made)
        self.screen.draw(made)

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        message = self.chat.post(place, what, key, again=again)
        self.look(place, message)
        return message

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self.chat.edit(place, message, what)
        self.look(place, message)

    def react(self, place: Place, message: str, reaction: str) -> None:
        self.chat.react(place, message, reaction)
        self.look(place, message, reaction=True)

    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        message = self.chat.upload(place, name, text, key)
        self.look(place, message)
        return message

    def read_thread(self, place: Place) -> Sequence[Said]:
        return self.chat.read_thread(place)


class ConsoleWorld:
    card_buttons = False

    def __init__(self) -> None:
        self.screen = Screen()
        console = Console(
            file=self.screen.out,
            force_terminal=True,
            width=400,
            height=60,
            color_system=None,
            legacy_windows=False,
            _environ={},
        )
        self.terminal = ConsoleChat(console, "c-1", zone=UTC)
        self.watched = Watched(self.terminal, self.screen)
        self.chat: Chat = self.watched
        self.ann, self.ben = Author("console:local:ann", "ann", "operator"), Author("console:local:ben", "ben")
        self.place = Place("console", "c-1", "terminal", "c-1")
        self.elsewhere = Place("console", "c-1", "terminal", "c-2")
        self.say(self.ann, OPENING)

    def another(self) -> Chat:
        return self.watched

    def _seen(self, message: str, *, reaction: bool = False) -> list[list[str]]:
        """What is still on the screen of each call about it that printed anything."""
        calls = [one for one in self.watched.prints if (one.message, one.reaction) == (message, reaction)]
        rows = [[row.text for row in self.screen.rows if row.by is one] for one in calls]
        return [lines for lines in rows if lines]

    def messages(self, place: Place) -> list[str]:
        said = dict.fromkeys(one.message for one in self.watched.prints if one.place == place and not one.reaction)
        return [message for message in said if self._seen(message)]

    def shown(self, message: str) -> str:
        return "\n".join(line for lines in self._seen(message) for line in lines)

    def buttons(self, message: str) -> list[str]:
        """The terminal has lines to answer to. Those above what was printed later of the same message have passed."""
        newest = self._seen(message)[-1]
        invites = any(re.match("Answer with (a number|`)", line) for line in newest)
        return [line.strip() for line in newest if re.match(r" +\d+\. ", line)] if invites else []

    def pings(self, message: str) -> set[str]:
        found: set[str] = set()
        for lines in self._seen(message):
            if heading := re.fullmatch("(?:Question|Result) for (@.*)", lines[0]):
                people = {author.id for author in (self.ann, self.ben) if f"@{author.name}" in heading[1]}
                found |= people or {heading[1]}
            found |= {"the bell"} if "\x07" in "".join(lines) else set()
        return found

    def reactions(self, message: str) -> list[str]:
        return [line for lines in self._seen(message, reaction=True) for line in lines]

    def say(self, author: Author, text: str) -> str:
        self.terminal.heard(author.name, text)
        return f"said-{text}"

    def plant(self, place: Place, text: str) -> str:
        message = f"planted-{len(self.watched.prints)}"
        self.screen.out.write(f"{text}\n")
        self.watched.look(place, message)
        return message


class TestTheTerminalKeepsTheContract(ChatContract):
    harmless = frozenset({"without final"})  # its cards never have buttons

    @pytest.fixture
    def world(self) -> ChatWorld:
        return ConsoleWorld()
