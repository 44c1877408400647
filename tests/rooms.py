"""A house with everything real in it but the model, and rooms in it to talk to the bot as a person would.

`room.say("add retries")`, then `room.until("watching")`, then look at what was said and at the bare repository.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitrepos import Files, git, make_repository
from pydantic import SecretStr

from bot.chat import Author, Card, ChatRequest, Desk, Place, Receipt, Reply, Said, TaskView
from integrations import redisserver
from integrations.scriptedmodel import (
    Answer,
    ConversationScript,
    Refuse,
    Request,
    Script,
    ScriptedModelServer,
    call,
    marked_role,
    say,
)
from integrations.scriptedmodel import Reply as ModelReply
from jobs.desk import TaskDesk
from jobs.settings import Settings
from jobs.wiring import Office, Workers, forge_of, open_office, redactor_of

OPERATOR = Author("console:local:ann", "Ann", "operator")
PATIENCE = 45.0

QUICK: dict[str, Any] = {"lease_seconds": 1.5, "beat_seconds": 0.05, "sweep_seconds": 0.5}
"""All timings divided by ten."""


class RoomChat:
    """Writes down what it is told; posts once a key, as an adapter does."""

    platform = "room"

    def __init__(self, workspace: str) -> None:
        self.workspace = workspace
        self.replies: dict[str, Reply] = {}
        self.cards: dict[str, list[Card]] = {}
        self.order: list[str] = []

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        if key not in self.order:
            self.order.append(key)
        self._keep(key, what)
        return key

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self._keep(message, what)

    def _keep(self, key: str, what: Reply | Card) -> None:
        if isinstance(what, Card):
            self.cards.setdefault(key, []).append(what)
        else:
            self.replies[key] = what

    def react(self, place: Place, message: str, reaction: str) -> None:
        raise AssertionError("nothing reacts but the desk's receipt")

    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        raise AssertionError("nothing uploads but the desk's receipt")

    def read_thread(self, place: Place) -> list[Said]:
        return []


class House:
    """One data folder, one Redis, one scripted model, one worker or more."""

    def __init__(self, root: Path, *, workers: int = 1, **settings: Any) -> None:
        self.root = root
        self.server = ScriptedModelServer(self._script)
        self.scripts: dict[str, Script] = {}
        self.settings = Settings.model_validate(
            {
                "threadwright_home": root / "data",
                "redis_url": SecretStr(""),
                "forge_dir": root / "forge",
                "openai_base_url": self.server.url,
                "openai_api_key": SecretStr("scripted"),
                "model": "scripted-model",
                "model_timeout": 20,
                # No test needs the internet. A house that tells of set-up has an index of its own.
                "setup_network": False,
                **QUICK,
                **settings,
            }
        )
        self._numbers = itertools.count(1)
        self._stack = contextlib.ExitStack()
        self.ahead = 0.0
        """Seconds that the clock of desk and sweeper is ahead: a test lets a day pass."""
        self.office: Office = self._stack.enter_context(
            open_office(self.settings, now=lambda: time.time() + self.ahead)
        )
        self.workers = Workers(self.settings, workers)
        if workers:
            self._stack.enter_context(self.workers)
        self._stop = threading.Event()
        self._sweeper = threading.Thread(target=self.office.sweeper().run, args=(self._stop,), daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        self._stop.set()
        self._sweeper.join(5)
        self._stack.close()
        self.server.close()
        redisserver.stop(self.settings.threadwright_home)

    def _script(self, request: Request) -> ModelReply:
        text = str(request.body["messages"])
        for marker, script in self.scripts.items():
            if marker in text:
                return script(request)
        return Refuse(400, f"no script for {text[:200]}")

    def desk(self, **changed: Any) -> Desk:
        """A desk of the same house with other settings."""
        settings = self.settings.model_copy(update=changed)
        office = self.office
        return TaskDesk(
            office.tasks,
            office.outbox,
            office.wakeups.wake,
            settings,
            forge_of(settings),
            redactor=redactor_of(settings),
            now=office.now,
        )

    def room(self, files: Files | None = None, script: Script | None = None, *, name: str = "", **changed: Any) -> Room:
        """A new place with a repository of its own. `changed`: settings of its desk."""
        number = next(self._numbers)
        marker = f"case-{number}."
        if script is not None:
            self.scripts[marker] = script
        repository = name or f"acme/sample{number}"
        if files is not None:
            make_repository(self.root / "forge" / f"{repository}.git", files)
        return Room(self, f"r{number}", marker, repository, self.desk(**changed))


@dataclass
class Room:
    """One thread in the house. The newest task of it is `task`."""

    house: House
    workspace: str
    marker: str
    repository: str
    desk: Desk
    task: str = ""
    chat: RoomChat = field(init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.chat = RoomChat(self.workspace)
        self.place = Place("room", self.workspace, "general", "1")
        self.drainer = self.house.office.drainer(self.chat)

    @property
    def bare(self) -> Path:
        return self.house.root / "forge" / f"{self.repository}.git"

    def say(self, text: str, author: Author = OPERATOR, **more: Any) -> Receipt:
        number = next(self._numbers)
        request = ChatRequest(f"{self.workspace}-e{number}", f"m{number}", self.place, author, text=text, **more)
        return self.desk.submit(request)

    def start(self, text: str = "add a greeting", options: str = "") -> str:
        receipt = self.say(f"[repo={self.repository}{options}] {text} ({self.marker})")
        assert receipt.started, receipt
        self.task = receipt.task
        return self.task

    def react(self, reaction: str, key: str, author: Author = OPERATOR, kind: Any = "reaction") -> Receipt:
        return self.say("", author, kind=kind, reaction=reaction, target=f"{self.task}:{key}")

    @property
    def view(self) -> TaskView:
        view = self.desk.task(self.task)
        assert view is not None
        return view

    def until(self, *statuses: str, patience: float = PATIENCE) -> TaskView:
        """Wait for one of the statuses; all that is due by then has been posted."""
        return self.when(lambda view: view.status in statuses, " or ".join(statuses), patience=patience)

    def when(self, true: Callable[[TaskView], bool], what: str, *, patience: float = PATIENCE) -> TaskView:
        end = time.monotonic() + patience
        while not true(view := self.view):
            self.drainer.run_once()
            if time.monotonic() > end:
                raise AssertionError(f"not {what} within {patience:g} s: {view.status}\n" + "\n".join(self.log()[-25:]))
            time.sleep(0.02)
        self.settle()
        return self.view

    def settle(self) -> None:
        """Everything that is due is posted, the last card too."""
        while self.drainer.run_once():
            pass
        self.drainer.let_go()

    def log(self) -> list[str]:
        return [f"{e.kind} {e.data}" for _, e in self.desk.events(self.task)]

    def said(self, kind: str) -> list[str]:
        replies = [self.chat.replies[key] for key in self.chat.order if key in self.chat.replies]
        return [reply.text for reply in replies if reply.kind == kind]

    def git(self, *args: str) -> str:
        return git(self.bare, *args)

    def file(self, ref: str, path: str) -> str:
        return self.git("show", f"{ref}:{path}")

    def commits(self, ref: str = "") -> list[str]:
        """Titles on the task's branch that the base lacks, oldest first."""
        ref = ref or f"threadwright/{self.task}"
        return self.git("log", "--reverse", "--format=%s", f"main..{ref}").splitlines()

    def pulls(self) -> list[Path]:
        return sorted(Path(f"{self.bare}.pulls").glob("*.json"))


# ---- scripts


def by_role(coder: Sequence[ModelReply], review: Sequence[ModelReply] = (), **more: Any) -> Script:
    """Triage says it is a task, review finds nothing, unless told otherwise."""
    roles: Mapping[str, Sequence[ModelReply]] = {
        "triage": [call("Triage", kind="task", title="A task", reply="")],
        "coder": list(coder),
        "review": list(review) or [call("Review", summary="Fine.", findings=[])],
    }
    return ConversationScript({**roles, **more}, role_of=marked_role)


def plan(*titles: str, title: str = "Add a greeting", **more: Any) -> Answer:
    return call("propose_plan", title=title, summary="It greets.", steps=[{"title": t} for t in titles], **more)


def write(path: str, content: str) -> Answer:
    return call("write_file", path=path, content=content)


def done(summary: str = "") -> Answer:
    return call("step_done", summary=summary)


__all__ = ["OPERATOR", "Answer", "House", "Room", "by_role", "call", "done", "plan", "say", "write"]
