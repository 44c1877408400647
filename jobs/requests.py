"""What every verb has to know of a request: whether the person may, which task is meant, and what was said before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.chat import Author, ChatRequest, Place, Receipt
from bot.commands import Verb
from graph.values import Brief
from integrations.redisserver import translated
from jobs import policy
from jobs.statuses import ENDED

if TYPE_CHECKING:
    from jobs.desk import Tools


def ruling(tools: Tools, author: Author, what: str, task: str = "") -> policy.Ruling:
    """`what`: start, answer, approve, protected, stop, configure."""
    record = tools.tasks.record(task) if task else {}
    requester, approvers = record.get("requester", ""), tools.settings.approvers
    if what == "approve":
        second = _second_person(record)
        return policy.may_approve(author, approvers, requester=requester, second_person=second)
    if what == "protected":
        return policy.may_approve(author, approvers, requester=requester, second_person=False)
    if what == "stop":
        return policy.may_stop(author, approvers, requester=requester)
    if what == "configure":
        return policy.may_configure(author, approvers)
    return policy.may_start(author)


def _second_person(record: dict[str, str]) -> bool:
    """As the turn has found it, with what the repository says; before that, as the request had it."""
    known = json.loads(record.get("view", "{}")).get("second_person")
    if known is not None:
        return bool(known)
    if not record.get("brief"):
        return False
    brief = Brief.model_validate_json(record["brief"])
    return brief.on_approval == "merge" if brief.second_person is None else brief.second_person


def chosen(tools: Tools, request: ChatRequest, verb: Verb) -> str:
    """The task a verb is about: named, else the newest of the place, else the only open one of channel or terminal."""
    if verb.task:
        return verb.task
    if task := tools.tasks.of_place(request.place):
        return task
    if not request.place.thread:
        # A slash command in a channel names no thread.
        here = open_in_channel(tools, request.place)
        return here[0] if len(here) == 1 else ""
    if request.local:
        active = tools.tasks.active()
        if len(active) == 1:
            return active[0]
        newest = tools.tasks.newest(1)
        if not active and newest:
            return newest[0]
    return ""


def open_in_channel(tools: Tools, place: Place) -> list[str]:
    """Open tasks of the place's channel, newest first."""
    channel = f"{place.platform}/{place.workspace}/{place.channel}/"
    found = []
    for task in tools.tasks.active():
        record = tools.tasks.record(task)
        here = any(key.startswith(channel) for key in json.loads(record.get("places", "[]")))
        if here and record.get("status") not in ENDED:
            found.append((float(record["created"]), task))
    return [task for _, task in sorted(found, reverse=True)]


def about(tools: Tools, request: ChatRequest, verb: Verb, then: Callable[[str, dict[str, str]], Receipt]) -> Receipt:
    task = chosen(tools, request, verb)
    record = tools.tasks.record(task) if task else {}
    if not record:
        known = ", ".join(f"`{t}`" for t in tools.tasks.active()[:5])
        which = f"I know no task `{verb.task}`." if verb.task else "I do not know which task you mean."
        return Receipt(reply=which + (f" Open tasks: {known}." if known else " There is no open task."))
    receipt = then(task, record)
    return receipt if receipt.task else replace(receipt, task=task)


def first_time(tools: Tools, what: str) -> bool:
    """True once a day for each `what`."""
    with translated():
        return bool(tools.tasks.redis.set(f"tw:told:{what}", "1", nx=True, ex=86_400))
