"""`next_input`: what a turn hands to the flow, from where the task stands and what was claimed. Pure.

| the task is | claimed | input |
| --- | --- | --- |
| new | anything | plain input |
| waiting at a question | an answer to it, or `finish` | `Command(resume={interrupt id: [...]})` |
| waiting in `watch` | words or facts | `Command(resume={interrupt id: [...]})` |
| waiting | other words | nothing: they stay claimed, and go in with the answer |
| running (crashed, broken off) | words or nothing | `Command(update=…)` when there is something, else `None` |
| running | facts for `watch` | nothing: they stay claimed, and go in when it watches |
| over | anything | nothing to do |

A resume value is kept nowhere until the node that takes it has ended: such entries count as taken only when the
state's `taken` names them, and until then they are handed over again. An interrupt's id never leaves this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.types import Command

from graph.state import SCHEMA, TaskState
from graph.values import Answered, Brief, Commit, Event, Heard, Person, Question, Watching
from jobs.tasks import Entry


@dataclass(frozen=True)
class Standing:
    """Where the task stands, as its newest checkpoint says."""

    new: bool
    state: TaskState
    interrupt: str = ""
    """Id of the pending interrupt; empty when there is none."""
    waits: Question | Watching | None = None
    over: bool = False


@dataclass(frozen=True)
class Input:
    payload: Any
    entries: tuple[str, ...] = field(default=())
    """Ids of the entries in it."""


def next_input(where: Standing, claimed: Sequence[Entry], brief: Brief) -> Input | None:
    """None: nothing to do."""
    known = set(where.state.get("taken") or ())
    fresh = [entry for entry in claimed if entry.id not in known]
    if where.over:
        return None
    if where.new:
        update = _update(fresh)
        return Input({"schema": SCHEMA, "brief": brief, **update}, tuple(update.get("taken", ())))
    if isinstance(where.waits, Question):
        return _to_question(where, where.waits, fresh)
    if isinstance(where.waits, Watching):
        return _to_watch(where, fresh)
    update = _update(fresh)
    return Input(Command(update=update) if update else None, tuple(update.get("taken", ())))


def retry_input(where: Standing, record: Mapping[str, str]) -> Input | None:
    """`retry`: what was kept when the task was stopped is the head to go on from; a flow that had ended goes on in it.

    None when this is no retry, or when nothing special is needed.
    """
    if "retry" not in record or where.new:
        return None
    update: dict[str, Any] = {"final": None, "malformed": 0, "repairs": 0}
    saved = record.get("saved", "")
    if saved and saved != where.state.get("head"):
        kept = Commit(sha=saved, title="wip: kept when stopped", step=0)
        update |= {"head": saved, "commits": [*(where.state.get("commits") or []), kept]}
    if not where.over:
        return Input(Command(update=update)) if "head" in update and where.waits is None else None
    if where.state.get("plan"):
        node = "implement"
    elif where.state.get("base_sha"):
        node = "plan"
    else:
        node = "triage"
    return Input(Command(update=update, goto=node))


def _to_question(where: Standing, question: Question, fresh: Sequence[Entry]) -> Input | None:
    answers = [e for e in fresh if e.kind == "answer" and e.question == question.id]
    finish = [e for e in fresh if e.kind == "finish"]
    if not answers and not finish:
        return None
    others = [e for e in fresh if e not in answers]
    resume: list[Answered] = [
        Answered(id=e.id, question=question.id, text=e.text, by=_person(e) if e.by else None) for e in answers
    ]
    if not resume:
        text = "Finish with what is there"
        resume = [Answered(id=finish[0].id, question=question.id, text=text, by=_person(finish[0]))]
        others = [e for e in others if e is not finish[0]]
    update = _update(others)
    if finish:
        update["finishing"] = True
    return Input(Command(resume={where.interrupt: resume}, update=update or None), _ids(fresh))


def _to_watch(where: Standing, fresh: Sequence[Entry]) -> Input | None:
    if not fresh:
        return None
    kinds = {"answer": "words"}
    events = [
        Event(id=e.id, kind=kinds.get(e.kind, e.kind), by=_person(e) if e.by else None, sha=e.sha, text=e.text)
        for e in fresh
    ]
    return Input(Command(resume={where.interrupt: events}), _ids(fresh))


def _update(entries: Sequence[Entry]) -> dict[str, Any]:
    """What a running task takes in: words. Facts for `watch` (an approval, say) stay claimed until it watches."""
    update: dict[str, Any] = {}
    heard = [_heard(e) for e in entries if e.kind in ("words", "answer")]
    if heard:
        update["heard"] = heard
    if any(e.kind == "finish" for e in entries):
        update["finishing"] = True
    taken = [e.id for e in entries if e.kind in ("words", "answer", "finish")]
    if taken:
        update["taken"] = taken
    return update


def _heard(entry: Entry) -> Heard:
    note = f"late answer to question {entry.question}" if entry.kind == "answer" else ""
    return Heard(id=entry.id, author=_person(entry), text=entry.text, note=note)


def _person(entry: Entry) -> Person:
    return Person(id=entry.by or "nobody", name=entry.name or entry.by)


def _ids(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(e.id for e in entries)
