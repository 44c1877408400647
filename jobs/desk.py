"""The desk: takes in whatever people do in chat, in one atomic step each, and answers at once.

It runs in the process that listens. It reads and writes Redis and nothing else, so that people are served while all
workers are busy or dead. What it acknowledges is stored; what it cannot store it refuses with `DeskClosed`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from bot.chat import Author, ChatRequest, DeskClosed, JournalEntry, Place, Receipt, TaskView
from bot.commands import BadOption, Verb, Words, is_aside, is_courtesy, parse
from bot.options import take_options
from graph.errors import Refused, StoreUnavailable
from graph.values import Brief, Limits, Person, Repository
from integrations.redaction import Redactor
from jobs import places, policy, requests, steering, verbs, views, which
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
        clean, found = self._redactor.redact(request.text)
        kinds = [*request.secrets, *found]
        request = replace(request, text=clean)
        try:
            receipt = self._sort(self._with_thread(request))
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

    def knows(self, place: Place, message: str = "") -> bool:
        if message:
            return self._read(lambda: bool(message_of(self._tasks, place, message)[0]))
        return self._read(lambda: bool(self._tasks.of_place(place)))

    def has_open_task(self, place: Place) -> bool:
        task = self._read(lambda: self._tasks.of_place(place))
        return bool(task) and views.is_open(self._read(lambda: self._tasks.record(task)).get("status", "done"))

    def open_places(self, platform: str, workspace: str) -> Sequence[Place]:
        return self._read(lambda: places.open_places(self._tasks, platform, workspace))

    def reactable(self, place: Place) -> Sequence[str]:
        return self._read(lambda: places.reactable(self._tasks, place))

    def repositories(self) -> Sequence[str]:
        return self._tools.routes.repositories()

    @staticmethod
    def _read(look: Callable[[], T]) -> T:
        try:
            return look()
        except StoreUnavailable as exc:
            raise DeskClosed("Redis does not answer, so I cannot look that up now. Nothing is lost.") from exc

    # What kind of thing was done

    def _with_thread(self, request: ChatRequest) -> ChatRequest:
        """Whose thread it is, where the platform could not tell: that of the message that its first task began with."""
        if request.opens_thread:
            return replace(request, own_thread=True)
        if request.own_thread is not None:
            return request
        task = self._tasks.of_place(request.place)
        return replace(request, own_thread=bool(task) and self._tasks.record(task).get("own") == "1")

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
        if request.direct and (decided := which.decide(self._tools, request, self._begin_anew, self._tell_above)):
            return decided
        task = self._tasks.of_place(request.place)
        record = self._tasks.record(task) if task else {}
        if is_courtesy(words.text) and record.get("status") not in WAKES_ANSWER:
            return Receipt(task=task, seen=bool(request.addressed or request.own_thread))
        if record and views.is_open(record["status"]) and not places.wants_new(self._tools, request.place):
            return self._to_task(request, task, record)
        if not request.addressed:
            return Receipt()
        if not words.text.strip():
            return Receipt(seen=True)
        return which.ask(self._tools, request) or self._start(request, words)

    def _begin_anew(self, request: ChatRequest) -> Receipt:
        return self._start(request, Words(*take_options(request.text, (), local=request.local)))

    def _tell_above(self, request: ChatRequest, task: str) -> Receipt:
        return self._to_task(request, task, self._tasks.record(task))

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
            "own": "1" if request.own_thread else "",
        }
        fresh = places.wants_new(tools, request.place)
        taken = self._tasks.create(task, record, request.place, events_of(request), at=now, retake=fresh)
        if not taken.fresh:
            # Somebody was quicker: the same event again, or another task of this place.
            known = self._tasks.record(taken.task)
            same = bool(request.message) and known.get("message") == request.message
            if same or not views.is_open(known.get("status", "")):
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
        if request.question:
            return self._pressed(request, task, record, entry)
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
        if taken.fresh:
            steering.mark_answered(self._tools.outbox, task, answer.question, f"{entry.name}: {title_of(answer.text)}")
        if taken.wake:
            self._tools.wake(task)
        return Receipt(task=task, seen=taken.fresh)

    def _pressed(self, request: ChatRequest, task: str, record: dict[str, str], entry: Entry) -> Receipt:
        """A button answers its own question only; pressed later, it is heard as a late answer."""
        question = json.loads(record["question"]) if record.get("question") else {}
        waits = record["status"] in WAKES_ANSWER or record.get("open")
        if waits and question.get("id") == request.question:
            return self._answer(request, task, question, entry)
        late = replace(entry, kind="answer", question=request.question)
        taken = self._tasks.tell(task, late, events_of(request), wakes=WAKES_FACT, at=self._tools.now())
        if taken.wake:
            self._tools.wake(task)
        return Receipt(
            task=task, whisper="That question has its answer already; I pass yours on." if taken.fresh else ""
        )

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
    if request.question:
        said = hashlib.sha256(request.text.encode()).hexdigest()[:16]
        keys.append(f"{place.platform}/{place.workspace}/answer/{request.question}/{request.author.id}/{said}")
    if request.kind == "message" and request.message:
        keys.append(f"{place.platform}/{place.workspace}/{place.channel}/{request.message}")
    return keys


def warning(kinds: Sequence[str]) -> str:
    what = " and ".join(dict.fromkeys(kinds))
    article = "an" if what[0].lower() in "aeiou" else "a"
    return f"That looks like {article} {what}. I did not keep it. Revoke it, then delete the message."
