"""The verbs, answered by the listening process from Redis alone: the table, and those that only look."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bot.chat import ChatRequest, Place, Receipt, TaskView
from bot.commands import Verb, help_text
from jobs import places, policy, steering, views
from jobs.requests import about
from jobs.tasks import utc

if TYPE_CHECKING:
    from jobs.desk import Tools

FILE_OVER = 3_000
"""Characters from which an answer is sent as a file."""


def answer(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    """Answer one verb. What changes something is refused, privately, to those who may not."""
    match policy.may_start(request.author):
        case policy.No(reason):
            return Receipt(whisper=reason)
    return TABLE[verb.name](tools, request, verb)


def _help(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    return Receipt(reply=help_text())


def _status(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        view = views.view_of(tools.tasks, task)
        return Receipt(reply=views.status_text(view) if view else "")

    return about(tools, request, verb, then)


def listed(tools: Tools, place: Place | None, mine: str) -> list[TaskView]:
    found = []
    for task in tools.tasks.newest():
        view = views.view_of(tools.tasks, task)
        if view is None or (mine and view.data["requester"]["id"] != mine):
            continue
        channel = "/".join((place.platform, place.workspace, place.channel, "")) if place else ""
        if any(p.startswith(channel) for p in view.data["places"]):
            found.append(view)
    return found


def _list(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    mine = request.author.id if "mine" in verb.args else ""
    return Receipt(reply=views.list_text(listed(tools, None if request.local else request.place, mine)))


def _long(title: str, name: str, text: str) -> Receipt:
    if len(text) <= FILE_OVER:
        return Receipt(reply=f"{title}\n{text}")
    return Receipt(reply=title, file=(name, text))


def _plan(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        plan = json.loads(record.get("view", "{}")).get("plan")
        if not plan:
            return Receipt(reply="There is no plan yet.")
        steps = []
        for number, step in enumerate(plan["steps"], 1):
            steps.append(f"{number}. {step['title']}")
            steps += [f"   - {criterion}" for criterion in step["criteria"]]
        return _long(f"**{plan['title']}**", f"{task}-plan.md", "\n".join(steps))

    return about(tools, request, verb, then)


def _diff(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        if not record.get("diff"):
            return Receipt(reply="Nothing has been committed yet.")
        return _long(f"Changes of `{task}`:", f"{task}.diff", f"```diff\n{record['diff'].rstrip()}\n```")

    return about(tools, request, verb, then)


def _logs(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        lines = [_log_line(line) for line in tools.tasks.journal(task, count=10_000)]
        if not lines:
            return Receipt(reply="Nothing has been done yet.")
        return _long(f"Log of `{task}`:", f"{task}.log", "```\n" + "\n".join(lines) + "\n```")

    return about(tools, request, verb, then)


def _log_line(line: dict[str, Any]) -> str:
    at, kind = utc(line.pop("at")), line.pop("kind")
    line.pop("trace", None)  # for the operator, through `events`; never in chat
    rest = " ".join(f"{key}={value}" for key, value in line.items())
    return f"{at:%H:%M:%S} {kind} {rest}".rstrip()


def _cost(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        cost = json.loads(record.get("view", "{}")).get("cost")
        return Receipt(reply=f"`{task}` has cost {cost}." if cost else f"`{task}` has cost nothing yet.")

    return about(tools, request, verb, then)


TABLE: dict[str, Callable[[Tools, ChatRequest, Verb], Receipt]] = {
    "help": _help,
    "status": _status,
    "list": _list,
    "cancel": steering.cancel,
    "finish": steering.finish,
    "pause": steering.pause,
    "resume": steering.resume,
    "retry": steering.retry,
    "plan": _plan,
    "diff": _diff,
    "logs": _logs,
    "cost": _cost,
    "approve": steering.approve_verb,
    "reject": steering.reject_verb,
    "move": places.move,
    "new": places.new,
    "mute": places.mute,
    "unmute": places.unmute,
    "repo": places.repo,
    "settings": places.settings,
}
