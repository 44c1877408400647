"""The desk: takes in whatever people do in chat, in one atomic step each, and answers at once.

It runs in the process that listens. It reads and writes Redis and nothing else, so that people are served while all
workers are busy or dead. What it acknowledges is stored; what it cannot store it refuses with `DeskClosed`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from bot.chat import Author, ChatRequest, DeskClosed, JournalEntry, Place, Receipt, TaskView
from bot.commands import BadOption, Verb, Words, is_aside, is_courtesy, parse
from graph.errors import Refused, StoreUnavailable
from graph.values import Brief, Limits, Person, Repository
from integrations.redaction import Redactor
from jobs import places, policy, requests, steering, verbs, views
from jobs.outbox import Outbox, message_of
from jobs.settings import Settings
from jobs.statuses import Status
from jobs.tasks import Entry, Tasks, mint, utc
from jobs.wording import title_of

T = TypeVar("T")

WAKES_ANSWER: tuple[Status, ...] = ("asking", "parked")
WAKES_FACT: tuple[Status, ...] = ("watching",)


class Routes(Protocol):
    """Which repositories there are. The local forge is one."""

    def resolve(self, name: str, *, allow_paths: bool) -> Repository:
        """Raises RepositoryProblem in plain words."""
        ...

    def repositories(self) -> list[str]: ...


@dataclass(frozen=True)
class Tools:
    """What the verbs work with."""

    tasks: Tasks
    outbox: Outbox
    wake: Callable[[str], None]
    settings: Settings
    routes: Routes
    now: Callable[[], float]


class TaskDesk:
    """Implements `bot.chat.Desk`."""

    def __init__(
        self,
        tasks: Tasks,
        outbox: Outbox,
        wake: Callable[[str], None],
        settings: Settings,
        routes: Routes,
        *,
        redactor: Redactor,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tools = Tools(tasks, outbox, wake, settings, routes, now)
        self._tasks = tasks
        self._settings = settings
        self._redactor = redactor

    def submit(self, request: ChatRequest) -> Receipt:
        clean, kinds = self._redactor.redact(request.text)
        request = replace(request, text=clean)
        try:
            receipt = self._sort(request)
        except StoreUnavailable as exc:
            raise DeskClosed(
                "I cannot store anything right now, so I did not take that in. Please send it again in a minute."
            ) from exc
        except (Refused, BadOption) as exc:
            receipt = Receipt(reply=str(exc))
        if kinds:
            receipt = replace(receipt, whisper="\n".join(filter(None, [warning(kinds), receipt.whisper])))
        return receipt

    def may(self, author: Author, what: str, task: str = "") -> bool:
        return isinstance(requests.ruling(self._tools, author, what, task), policy.Yes)

    def task(self, task: str) -> TaskView | None:
        return self._read(lambda: views.view_of(self._tasks, task))

    def tasks(self, place: Place | None = None, *, mine: str = "") -> Sequence[TaskView]:
        return self._read(lambda: verbs.listed(self._tools, place, mine))

    def events(self, task: str, after: int = 0) -> Iterator[tuple[int, JournalEntry]]:
        for number, line in enumerate(self._read(lambda: self._tasks.journal(task, after)), after):
            yield number, JournalEntry(utc(line.pop("at")), line.pop("kind"), line)

    @staticmethod
    def _read(look: Callable[[], T]) -> T:
        try:
            return look()
        except StoreUnavailable as exc:
            raise DeskClosed("Redis does not answer, so I cannot look that up now. Nothing is lost.") from exc

    # What kind of thing was done

    def _sort(self, request: ChatRequest) -> Receipt:
        if request.kind in ("reaction", "unreaction"):
            return self._reaction(request)
        if request.kind == "edit":
            return self._edit(request)
        if request.kind == "delete":
            self._tasks.replace_words(self._tasks.of_place(request.place), request.target, None)
            return Receipt()
        if is_aside(request.text) or (request.mentions_others and not request.addressed):
            return Receipt()
        said = parse(request.text, local=request.local)
        if isinstance(said, Verb):
            if not (request.addressed or request.own_thread):
                return Receipt()
            return verbs.answer(self._tools, request, said)
        return self._words(request, said)

    def _words(self, request: ChatRequest, words: Words) -> Receipt:
        task = self._tasks.of_place(request.place)
        record = self._tasks.record(task) if task else {}
        if is_courtesy(words.text) and record.get("status") not in WAKES_ANSWER:
            return Receipt(task=task, seen=request.addressed or request.own_thread)
        if record and views.is_open(record["status"]) and not places.wants_new(self._tools, request.place):
            return self._to_task(request, task, record)
        if not request.addressed:
            return Receipt()
        if not words.text.strip():
            return Receipt(seen=True)
        return self._start(request, words)

    # A new task

    def _start(self, request: ChatRequest, words: Words) -> Receipt:
        match policy.may_start(request.author):
            case policy.No(reason):
                return self._refuse_once(request, reason)
        tools, now = self._tools, self._tools.now()
        repository = self._route(request, words)
        task = mint()
        brief = self._brief(task, request, words, repository, now)
        record = {
            "brief": brief.model_dump_json(),
            "title": title_of(words.text),
            "requester": request.author.id,
            "requester_name": request.author.name,
            "repository": repository.name if repository else "",
            "message": request.message,
        }
        fresh = places.wants_new(tools, request.place)
        taken = self._tasks.create(task, record, request.place, events_of(request), at=now, retake=fresh)
        if not taken.fresh:
            # Somebody was quicker: the same event again, or another task of this place.
            known = self._tasks.record(taken.task)
            if known.get("message") == request.message or not views.is_open(known.get("status", "")):
                return Receipt(task=taken.task, seen=True)
            return self._to_task(request, taken.task, known)
        places.no_longer_new(tools, request.place)
        places.show_first_card(tools, brief, now)
        tools.wake(task)
        return Receipt(task=task, seen=True, started=True)

    def _brief(self, task: str, request: ChatRequest, words: Words, repository: Repository | None, now: float) -> Brief:
        s, chosen = self._settings, words.chosen
        limits = Limits(usd=s.budget_usd, tokens=s.budget_tokens, calls=s.budget_calls, minutes=s.budget_minutes)
        if chosen.budget:
            limits = limits.model_copy(update={"usd": chosen.budget})
        if chosen.time:
            limits = limits.model_copy(update={"minutes": chosen.time})
        context = "\n".join(f"{said.author}: {self._redactor.redact(said.text)[0]}" for said in request.context)
        return Brief(
            id=task,
            text=words.text,
            requester=Person(id=request.author.id, name=request.author.name),
            created=datetime.fromtimestamp(int(now), UTC),
            context=context,
            repository=repository,
            branch=chosen.branch,
            model=chosen.model,
            approve_plan=chosen.plan == "ask",
            plan=chosen.plan or "",
            limits=limits,
            on_approval=s.on_approval,
            second_person=s.second_person,
        )

    def _route(self, request: ChatRequest, words: Words) -> Repository | None:
        """The rules in their order; None leaves it to a question."""
        routes, allow = self._tools.routes, request.local
        before = self._tasks.record(self._tasks.of_place(request.place)) if request.place.thread else {}
        earlier = Brief.model_validate_json(before["brief"]).repository if before.get("brief") else None
        candidates = [
            (words.chosen.repo, "named in the message", allow),
            (places.channel_repository(self._tools, request.place), "the default of this channel", True),
            (self._settings.default_repository, "the setting DEFAULT_REPOSITORY", True),
        ]
        if not candidates[0][0] and earlier:
            return earlier.model_copy(update={"rule": "the thread's earlier task"})
        for name, rule, paths in candidates:
            if name:
                return routes.resolve(name, allow_paths=paths).model_copy(update={"rule": rule})
        known = routes.repositories()
        if len(known) == 1:
            return routes.resolve(known[0], allow_paths=False).model_copy(update={"rule": "the only repository here"})
        return None

    def _refuse_once(self, request: ChatRequest, reason: str) -> Receipt:
        """Told once a day, privately; bots are told nothing at all."""
        if request.author.standing == "bot":
            return Receipt()
        return Receipt(whisper=reason if requests.first_time(self._tools, f"{request.author.id}|{reason}") else "")

    # Words for a task that is under way

    def _to_task(self, request: ChatRequest, task: str, record: dict[str, str]) -> Receipt:
        if not (request.addressed or request.replies_to_question or request.own_thread):
            return Receipt()
        if places.is_muted(self._tools, request.place) and not request.addressed:
            return Receipt()
        match policy.may_start(request.author):
            case policy.No(reason):
                return self._refuse_once(request, reason)
        entry = Entry(
            id=request.id,
            kind="words",
            by=request.author.id,
            name=request.author.name,
            text=request.text,
            message=request.message,
        )
        # `open`: it has been asked, and the turn is about to say so in the status.
        if record.get("question") and (record["status"] in WAKES_ANSWER or record.get("open")):
            return self._answer(request, task, json.loads(record["question"]), entry)
        taken = self._tasks.tell(task, entry, events_of(request), wakes=WAKES_FACT, at=self._tools.now())
        if taken.wake:
            self._tools.wake(task)
        return Receipt(task=task, seen=taken.fresh)

    def _answer(self, request: ChatRequest, task: str, question: dict[str, object], entry: Entry) -> Receipt:
        if question.get("kind") == "protected":
            match requests.ruling(self._tools, request.author, "protected", task):
                case policy.No(reason):
                    return Receipt(whisper=reason)
        answer = replace(
            entry, kind="answer", question=str(question["id"]), text=steering.spelled_out(request.text, question)
        )
        taken = self._tasks.tell(task, answer, events_of(request), wakes=WAKES_ANSWER, at=self._tools.now())
        if taken.wake:
            self._tools.wake(task)
        return Receipt(task=task, seen=taken.fresh)

    def _edit(self, request: ChatRequest) -> Receipt:
        """Words not read yet are replaced; words that were read get a correction."""
        if is_aside(request.text) or is_courtesy(request.text) or (request.mentions_others and not request.addressed):
            return Receipt()
        task = self._tasks.of_place(request.place)
        record = self._tasks.record(task) if task else {}
        if not record or not views.is_open(record["status"]):
            return Receipt()
        if self._tasks.replace_words(task, request.target, request.text):
            return Receipt(task=task, seen=True)
        text = f"(correction of an earlier message) {request.text}"
        return self._to_task(replace(request, text=text, kind="message"), task, record)

    def _reaction(self, request: ChatRequest) -> Receipt:
        task, key = message_of(self._tasks, request.place, request.target)
        if not task:
            return Receipt()
        return steering.reaction(self._tools, request, task, key)


def events_of(request: ChatRequest) -> list[str]:
    """Keys of an event: the platform's event id, and the message itself, which may come as two events."""
    place = request.place
    keys = [f"{place.platform}/{place.workspace}/event/{request.id}"]
    if request.kind == "message" and request.message:
        keys.append(f"{place.platform}/{place.workspace}/{place.channel}/{request.message}")
    return keys


def warning(kinds: Sequence[str]) -> str:
    what = " and ".join(dict.fromkeys(kinds))
    article = "an" if what[0].lower() in "aeiou" else "a"
    return f"That looks like {article} {what}. I did not keep it. Revoke it, then delete the message."
