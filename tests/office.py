"""A desk over real Redis with a room to talk to it in, for tests that need no worker."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import redis as redis_module

from bot.chat import Author, Card, ChatRequest, Place, Receipt, Reply, Said
from graph.errors import RepositoryProblem
from graph.values import Repository
from integrations.redaction import Redactor
from jobs.desk import TaskDesk
from jobs.outbox import Drainer, Outbox
from jobs.settings import Settings
from jobs.tasks import Tasks

ANN = Author("slack:T1:ann", "Ann")
BEN = Author("slack:T1:ben", "Ben")
CAT = Author("slack:T1:cat", "Cat")
GUEST = Author("slack:T1:gus", "Gus", "guest")


class FewRepositories:
    """Two repositories by name, and nothing else."""

    def __init__(self, *names: str) -> None:
        self._names = list(names)

    def repositories(self) -> list[str]:
        return self._names

    def resolve(self, name: str, *, allow_paths: bool) -> Repository:
        if name not in self._names and not (allow_paths and name.startswith("/")):
            raise RepositoryProblem(f"I know no repository `{name}`.")
        return Repository(name=name, url=f"file:///srv/{name}.git")


class PaperChat:
    """A chat that writes down what it is told, and may be told to fail."""

    platform = "slack"
    workspace = "T1"

    def __init__(self) -> None:
        self.posted: list[tuple[str, Reply | Card]] = []
        self.edits: list[tuple[str, Reply | Card]] = []
        self.keys: dict[str, str] = {}
        self.fail_with: list[Exception] = []
        self.fail_at: dict[str, Exception] = {}
        """By thread: until it is taken out."""
        self.again: list[str] = []
        """Keys that were to be looked for first."""

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        self._fail(place)
        if again:
            self.again.append(key)
        if key not in self.keys:
            self.keys[key] = f"m{len(self.keys) + 1}"
            self.posted.append((self.keys[key], what))
        return self.keys[key]

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self._fail(place)
        self.edits.append((message, what))

    def _fail(self, place: Place) -> None:
        if self.fail_with:
            raise self.fail_with.pop(0)
        if place.thread in self.fail_at:
            raise self.fail_at[place.thread]

    def react(self, place: Place, message: str, reaction: str) -> None:
        raise AssertionError("the desk's receipt asks for reactions, the outbox never does")

    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        raise AssertionError("the desk's receipt carries files, the outbox never does")

    def read_thread(self, place: Place) -> list[Said]:
        return []


@dataclass
class DeskRoom:
    """`room.say(ANN, "add retries")` and what the desk answers at once."""

    redis: redis_module.Redis
    place: Place = field(default_factory=lambda: Place("slack", "T1", "C1", "17.1"))
    settings: Settings = field(default_factory=lambda: Settings(approvers=("slack:T1:ann",)))
    repositories: tuple[str, ...] = ("acme/api",)
    clock: float = 1_790_000_000.0

    def __post_init__(self) -> None:
        self.tasks = Tasks(self.redis, lease_seconds=5)
        self.outbox = Outbox(self.tasks)
        self.woken: list[str] = []
        self.chat = PaperChat()
        self.drainer = Drainer(self.tasks, self.chat, edit_seconds=0)
        self._numbers = itertools.count(1)
        self.desk = TaskDesk(
            self.tasks,
            self.outbox,
            self.woken.append,
            self.settings,
            FewRepositories(*self.repositories),
            redactor=Redactor(()),
            now=lambda: self.clock,
        )

    def request(self, author: Author, text: str, **more: object) -> ChatRequest:
        number = next(self._numbers)
        request = ChatRequest(f"E{number}", f"17.{number}", self.place, author, text=text)
        return replace(request, **more)  # type: ignore[arg-type]

    def say(self, author: Author, text: str, **more: object) -> Receipt:
        return self.desk.submit(self.request(author, text, **more))
