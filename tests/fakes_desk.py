"""An honest little desk in memory: one open task a place, events once, answers only to the open question."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from bot.chat import Author, Card, Chat, ChatRequest, DeskClosed, JournalEntry, Place, Receipt, Reply, TaskView
from bot.cli import asks_of
from bot.commands import BadOption, Verb, answer_text, help_text, parse
from bot.console import ConsoleChat
from bot.session import Session, me, new_place

START = datetime(2026, 11, 20, 14, 2, tzinfo=UTC)
ENDED = ("done", "stopped", "failed")


@dataclass
class Job:
    id: str
    text: str
    place: Place
    requester: Author
    data: dict[str, Any]
    heard: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    reactions: list[str] = field(default_factory=list)


class FakeDesk:
    """Implements `bot.chat.Desk`. A test plays the worker: `ask`, `publish`, `end`."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.requests: list[ChatRequest] = []
        self.closed = False
        self._seen: dict[str, Receipt] = {}

    # Desk

    def submit(self, request: ChatRequest) -> Receipt:
        if self.closed:
            raise DeskClosed("I cannot store anything right now. Please send it again in a minute.")
        if request.id not in self._seen:
            self.requests.append(request)
            try:
                self._seen[request.id] = self._take(request)
            except BadOption as problem:
                self._seen[request.id] = Receipt(reply=str(problem))
        return self._seen[request.id]

    def may(self, author: Author, what: str, task: str = "") -> bool:
        return author.standing in ("operator", "member")

    def task(self, task: str) -> TaskView | None:
        job = self.jobs.get(task)
        return self._view(job) if job else None

    def tasks(self, place: Place | None = None, *, mine: str = "") -> Sequence[TaskView]:
        jobs = [j for j in self.jobs.values() if place in (None, j.place) and mine in ("", j.requester.id)]
        return [self._view(job) for job in reversed(jobs)]

    def events(self, task: str, after: int = 0) -> Iterator[tuple[int, JournalEntry]]:
        for number, text in enumerate(self.jobs[task].heard[after:], after):
            yield number, JournalEntry(START, "heard", {"text": text})

    # The worker's part

    def ask(self, task: str, question: str, *choices: tuple[str, tuple[str, ...], str], name: str = "q1") -> None:
        listed = [{"question": q, "suggestions": list(s), "assumption": a} for q, s, a in choices]
        self.jobs[task].data.update(status="asking", question={"id": name, "text": question, "choices": listed})

    def publish(self, task: str, head: str = "abc1234", **more: Any) -> None:
        pull = {"number": 1, "url": "file:///r/pull/1", "head": head, "draft": True, "state": "open", **more}
        self.jobs[task].data.update(status="watching", pull_request=pull, question=None)

    def end(self, task: str, kind: str, status: str = "done") -> None:
        self.jobs[task].data.update(status=status, final={"kind": kind, "text": kind, "error": ""}, question=None)

    # Inside

    def _take(self, request: ChatRequest) -> Receipt:
        open_jobs = [j for j in self.jobs.values() if j.place == request.place and j.data["status"] not in ENDED]
        job = open_jobs[-1] if open_jobs else None
        if request.kind == "reaction":
            if job:
                job.reactions.append(request.reaction)
            return Receipt(task=job.id if job else "", seen=job is not None)
        said = parse(request.text, local=request.local)
        if isinstance(said, Verb):
            return self._obey(said, self.jobs.get(said.task) or job)
        if job is None:
            return self._start(request, said.text)
        job.heard.append(request.text)
        if job.data["status"] == "asking":
            job.answers.append(answer_text(asks_of(job.data), request.text))
            job.data.update(status="running", question=None)
        return Receipt(task=job.id, seen=True)

    def _start(self, request: ChatRequest, text: str) -> Receipt:
        task = f"tw-t{len(self.jobs):03}"
        data = {"id": task, "status": "running", "final": None, "question": None, "pull_request": None}
        data["places"] = [request.place.key]
        self.jobs[task] = Job(task, text, request.place, request.author, data)
        return Receipt(task=task, seen=True, started=True)

    def _obey(self, verb: Verb, job: Job | None) -> Receipt:
        if verb.name == "help":
            return Receipt(reply=help_text())
        if job is None:
            return Receipt(reply="There is no open task.")
        if verb.name == "cancel":
            self.end(job.id, "stopped", "stopped")
        job.reactions.append(verb.name)
        return Receipt(task=job.id, reply=f"{verb.name}: {job.id} is {job.data['status']}")

    def _view(self, job: Job) -> TaskView:
        data = job.data
        return TaskView(
            id=job.id,
            title=job.text,
            status=data["status"],
            state=data["status"],
            since=START,
            requester=job.requester.name,
            repository="",
            step="",
            spent="",
            waits_for="",
            queue_place=0,
            question=(data["question"] or {}).get("text", ""),
            data=data,
        )


class Outbox:
    """What is due for one chat; `run_once` posts it, once a key."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.due: list[tuple[Place, Reply | Card, str]] = []

    def run_once(self) -> int:
        due, self.due = self.due, []
        for place, what, key in due:
            self.chat.post(place, what, key)
        return len(due)


class Talk:
    """A session with a desk in memory, its screen, and an outbox."""

    def __init__(self, **given: str) -> None:
        self.desk = FakeDesk()
        self.screen = io.StringIO()
        place = new_place()
        chat = ConsoleChat(Console(file=self.screen, width=100, color_system=None), place.workspace)
        self.session = Session(self.desk, chat, place, me(), options=given)
        self.outbox = Outbox(chat)

    @property
    def task(self) -> str:
        return self.session.task

    @property
    def shown(self) -> str:
        return self.screen.getvalue()

    def result(self) -> None:
        self.desk.publish(self.task)
        self.outbox.due.append((self.session.place, Reply(kind="result", text="PR #1", sha="abc1234"), "result"))
