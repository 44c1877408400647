"""What chat is to us: places, requests, replies and cards, and the two ports between a chat platform and the desk.

An adapter turns a platform's payload into a `ChatRequest` (pure), hands it to the `Desk`, and shows what the desk
answers; the outbox hands it `Reply` and `Card` to post. Adapters decide how things look, never what is said.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Standing = Literal["operator", "member", "guest", "outsider", "bot", "unknown"]
"""What the platform says somebody is. `unknown`: the look-up failed, which means no."""


@dataclass(frozen=True)
class Place:
    """Where people talk. `thread` is empty until there is one."""

    platform: str
    workspace: str
    channel: str
    thread: str = ""

    @property
    def key(self) -> str:
        return "/".join((self.platform, self.workspace, self.channel, self.thread))


@dataclass(frozen=True)
class Author:
    id: str
    """`platform:workspace:user`."""
    name: str
    standing: Standing = "member"
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """One earlier message of a thread: context, not orders."""

    author: str
    text: str


@dataclass(frozen=True)
class ChatRequest:
    """Something that a person did in chat, free of markup. The bot's own mention is stripped from `text`."""

    id: str
    """The platform's event id; the same for redeliveries."""
    message: str
    """The platform's message id. Together with the channel it identifies a post that arrives as two events."""
    place: Place
    author: Author
    kind: Literal["message", "edit", "delete", "reaction", "unreaction", "command"] = "message"
    text: str = ""
    addressed: bool = True
    """Mentions the bot, is a direct message, or a slash command."""
    replies_to_question: bool = False
    question: str = ""
    """Id of the question that a pressed button answers; `text` is then the answer."""
    own_thread: bool | None = True
    """The bot opened this thread. None: the platform cannot tell; the desk knows how the thread's first task began."""
    opens_thread: bool = False
    """This message is the first of its thread: whatever comes of it, the bot has opened the thread."""
    mentions_others: bool = False
    reaction: str = ""
    """For reactions: `approve`, `reject`, `stop`, or the platform's name of another one."""
    target: str = ""
    """For reactions and edits: the id of the message that it is about."""
    context: tuple[Said, ...] = ()
    local: bool = False
    """From the machine's own terminal: may name paths."""
    secrets: tuple[str, ...] = ()
    """Kinds of secrets that were taken out of it before it came here."""
    direct: bool = False
    """A direct message to the bot: every message that opens a thread is a task of its own."""


@dataclass(frozen=True)
class Receipt:
    """What the desk says to a request, at once. It is given only after all that must not be lost is stored."""

    task: str = ""
    seen: bool = False
    """React with 👀."""
    reply: str = ""
    """Markdown for the thread."""
    whisper: str = ""
    """Markdown for the author alone."""
    file: tuple[str, str] | None = None
    """Name and text of a file, for answers that are too long for a message."""
    started: bool = False
    """A new task was made of it."""
    asks: tuple[Ask, ...] = ()
    """Answers to choose from, as buttons below `reply`; they come back with `question`."""
    question: str = ""


@dataclass(frozen=True)
class CardStep:
    title: str
    state: Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Card:
    """The one message of a task that is edited in place."""

    task: str
    title: str
    state: str
    """In words: "working", "asking Ann", "waiting for approval", "stopped by Ben"."""
    since: datetime
    """UTC: when the step or state began."""
    requester: str
    repository: str = ""
    base: str = ""
    rule: str = ""
    steps: tuple[CardStep, ...] = ()
    spent: str = ""
    """Money or tokens spent of the cap, in words."""
    notes: tuple[str, ...] = ()
    url: str = ""
    final: bool = False
    """No buttons any more."""


@dataclass(frozen=True)
class Ask:
    """One question of a reply with its suggested answers."""

    text: str
    suggestions: tuple[str, ...] = ()
    assumption: str = ""


@dataclass(frozen=True)
class Reply:
    """One message: a question, a result, a notice or an end."""

    kind: Literal["question", "result", "notice", "final"]
    text: str
    """Markdown. All of what is said; adapters may show `asks` as buttons besides."""
    mentions: tuple[Author, ...] = ()
    asks: tuple[Ask, ...] = ()
    question: str = ""
    """Id of the question, for buttons."""
    sha: str = ""
    """The commit that a result is about, for approval."""
    answered: str = ""
    """Who answered what, once a question has its answer: no buttons any more."""


class Undeliverable(Exception):
    """The platform will never take this message (channel gone, permission missing). `str` says it in plain words."""


class TryLater(Exception):
    """The platform did not take it now. `after`: seconds to wait; `unclear`: it may have been posted all the same.

    `everywhere`: it is so in the whole workspace, not just there.
    """

    def __init__(self, message: str, after: float = 1.0, *, unclear: bool = False, everywhere: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.unclear = unclear
        self.everywhere = everywhere


class Chat(Protocol):
    """Outward: what the listening process can do to a platform. Raises Undeliverable or TryLater."""

    platform: str
    workspace: str

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        """Post once per `key`; gives the message id. `again`: an earlier try may have got through, so look first."""
        ...

    def edit(self, place: Place, message: str, what: Reply | Card) -> None: ...

    def react(self, place: Place, message: str, reaction: str) -> None: ...

    def upload(self, place: Place, name: str, text: str, key: str) -> str: ...

    def read_thread(self, place: Place) -> Sequence[Said]: ...


@dataclass(frozen=True)
class TaskView:
    """One task as the verbs show it. Read from Redis alone: works while model, forge and workers are down."""

    id: str
    title: str
    status: str
    """Word of the status table."""
    state: str
    """In words for people."""
    since: datetime
    requester: str
    repository: str
    step: str
    """ "2 of 3: add retries"; empty before there is a plan."""
    spent: str
    waits_for: str
    """A person, the model, a worker; empty when it is working."""
    queue_place: int
    """0 when it is not queued."""
    pull_request: str = ""
    question: str = ""
    """Text of the open question."""
    data: dict[str, Any] = field(default_factory=dict)
    """All of it, for `--json`."""


@dataclass(frozen=True)
class JournalEntry:
    at: datetime
    kind: str
    data: dict[str, Any]


class Desk(Protocol):
    """Inward: what chat may ask of us. Raises graph-free errors only: `DeskClosed` when nothing can be stored."""

    def submit(self, request: ChatRequest) -> Receipt:
        """Take in anything a person did: a task, words, an answer, a verb, a reaction, a button."""
        ...

    def may(self, author: Author, what: str, task: str = "") -> bool: ...

    def task(self, task: str) -> TaskView | None: ...

    def tasks(self, place: Place | None = None, *, mine: str = "") -> Sequence[TaskView]: ...

    def events(self, task: str, after: int = 0) -> Iterator[tuple[int, JournalEntry]]:
        """The task's journal from entry `after` on; ends when there is no more now."""
        ...

    def knows(self, place: Place, message: str = "") -> bool:
        """Whether the place has had a task; with `message`, whether that is a message of ours."""
        ...

    def has_open_task(self, place: Place) -> bool: ...

    def open_places(self, platform: str, workspace: str) -> Sequence[Place]:
        """Places of the workspace where a task is open."""
        ...

    def reactable(self, place: Place) -> Sequence[str]:
        """Ids of our messages in the place on which a reaction counts: the card and the results of its task."""
        ...

    def repositories(self) -> Sequence[str]:
        """Names that a person may choose from, for a menu."""
        ...


@dataclass(frozen=True)
class Letter:
    """What a platform pushed, as it came. `tries`: how often it was begun before."""

    id: str
    at: float
    """Seconds since 1970."""
    payload: dict[str, Any]
    """Without the secrets that were in it."""
    tries: int = 0
    secrets: tuple[str, ...] = ()
    """Kinds of secrets that were taken out."""


class Mail(Protocol):
    """What a platform pushed, stored before it is acknowledged and before anybody has looked at it.

    Every method raises DeskClosed when nothing can be stored or looked up now: then do not acknowledge.
    """

    arrived: threading.Event
    """Set when this process has stored a letter."""

    def keep(self, keys: Sequence[str], payload: dict[str, Any]) -> bool:
        """Store it, once for all of `keys`; False: one of them was known."""
        ...

    def waiting(self, after: str = "", count: int = 200) -> Sequence[Letter] | None:
        """The oldest letters behind the letter `after`; None while another process reads this workspace's mail."""
        ...

    def begin(self, letter: str) -> None:
        """Count a try, before anything is done of it that others see."""
        ...

    def done(self, letter: str) -> None: ...

    def came(self, key: str) -> bool:
        """Whether something was kept under this key."""
        ...

    def first(self, signature: str) -> bool:
        """True once: a signed request that comes again is a replay."""
        ...

    def unseen(self, signature: str) -> None:
        """The signed request was not stored after all: its sender may send it again."""
        ...

    def read_to(self, place: Place) -> str:
        """The newest message of a place that was dealt with; empty if none was."""
        ...

    def has_read(self, place: Place, message: str) -> None: ...

    def reactions(self, message: str) -> frozenset[tuple[str, str]]:
        """Who had reacted how to a message, as far as it was dealt with. `message`: channel and id."""
        ...

    def reacted(self, message: str, who: str, how: str, *, there: bool) -> None: ...


class DeskClosed(Exception):
    """The store does not take anything now: the request was refused and must be sent again."""
