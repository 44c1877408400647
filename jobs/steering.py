"""The verbs and reactions that steer a task: stop, finish, pause, resume, retry, approve and reject."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bot.chat import Ask, ChatRequest, Receipt
from bot.commands import Verb, answer_text
from graph.values import Brief
from jobs import policy, views, wording
from jobs.outbox import Outbox, load_card
from jobs.requests import about, first_time, ruling
from jobs.statuses import ENDED
from jobs.tasks import Entry, Tasks

if TYPE_CHECKING:
    from jobs.desk import Tools


def _tell(tools: Tools, request: ChatRequest, task: str, kind: str, wakes: tuple[Any, ...], **more: str) -> bool:
    entry = Entry(id=request.id, kind=kind, by=request.author.id, name=request.author.name, **more)
    place = request.place
    event = f"{place.platform}/{place.workspace}/event/{request.id}"
    taken = tools.tasks.tell(task, entry, [event], wakes=wakes, at=tools.now())
    if taken.wake:
        tools.wake(task)
    return taken.fresh


def cancel(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        match ruling(tools, request.author, "stop", task):
            case policy.No(reason):
                return Receipt(whisper=reason)
        return stop(tools, task, record, request.author.name)

    return about(tools, request, verb, then)


def stop(tools: Tools, task: str, record: dict[str, str], by: str) -> Receipt:
    """Stop it now: a worker that has it kills what runs; one that nobody has is stopped here, workers or not."""
    if record["status"] in ENDED:
        return Receipt(reply=f"`{task}` is {record['status']} already.")
    tools.tasks.ask_to_stop(task, by)
    end, ends = wording.stopping(task, by), int(record.get("ends", "0"))
    final, count = end.model_dump_json(), str(ends + 1)
    if tools.tasks.move(task, "stopped", at=tools.now(), keep="1", final=final, ends=count):
        brief = Brief.model_validate_json(record["brief"])
        tools.outbox.say(task, wording.final(task, end, brief, ends), anyone=True)
        redraw(tools, task)
        tools.wake(task)
    return Receipt(reply=f"Stopping `{task}`.")


def redraw(tools: Tools, task: str) -> None:
    """The card again, with the status of now."""
    card_words(tools.tasks, tools.outbox, task)


def card_words(tasks: Tasks, outbox: Outbox, task: str, words: str = "") -> None:
    """The card again, with the state in other words than the status has."""
    record, view = tasks.record(task), views.view_of(tasks, task)
    if view is not None and record.get("card"):
        card = load_card(record["card"])
        outbox.show(task, replace(card, state=words or view.state, since=view.since, final=view.status in ENDED))


def finish(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        match ruling(tools, request.author, "stop", task):
            case policy.No(reason):
                return Receipt(whisper=reason)
        if record["status"] not in ("running", "asking", "parked", "paused"):
            return Receipt(reply=f"`{task}` is {record['status']}: there is nothing to wrap up.")
        _tell(tools, request, task, "finish", ("asking", "parked", "paused"))
        return Receipt(seen=True, reply="I wrap up with what is there.")

    return about(tools, request, verb, then)


def pause(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        if record["status"] == "paused":
            return Receipt(reply=f"`{task}` is paused already.")
        if record["status"] != "running":
            return Receipt(reply=f"`{task}` is {record['status']}: there is nothing to pause.")
        tools.tasks.ask_to_pause(task, request.author.name)
        return Receipt(reply=f"I pause `{task}` at the next step. `resume` goes on.")

    return about(tools, request, verb, then)


def resume(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        if not tools.tasks.reopen(task, ("paused", "backing off"), at=tools.now()):
            tools.tasks.clear(task, "pause", "paused_by")
            return Receipt(reply=f"`{task}` is {record['status']}: there is nothing to resume.")
        tools.wake(task)
        redraw(tools, task)
        return Receipt(reply=f"`{task}` goes on.")

    return about(tools, request, verb, then)


def retry(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        if record["status"] not in ("stopped", "failed"):
            return Receipt(reply=f"`{task}` is {record['status']}: only a stopped or failed task can be tried again.")
        other = tools.tasks.of_place(request.place)
        if other and other != task and views.is_open(tools.tasks.record(other).get("status", "done")):
            return Receipt(reply=f"`{other}` is open here. Stop it first, or retry `{task}` in its own thread.")
        if not tools.tasks.reopen(task, ("stopped", "failed"), at=tools.now(), retry=True):
            return Receipt(reply=f"`{task}` is not stopped any more.")
        tools.wake(task)
        redraw(tools, task)
        return Receipt(reply=f"I try `{task}` again from its last good step.")

    return about(tools, request, verb, then)


# ---- approving


def approve_verb(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        question = json.loads(record["question"]) if record.get("question") else {}
        if record["status"] in ("asking", "parked") and question.get("kind") == "plan":
            # "Approve" is what the question suggests: the verb is its answer.
            _tell(tools, request, task, "answer", ("asking", "parked"), question=question["id"], text="approve")
            return Receipt(seen=True)
        return approve(tools, request, task, record, "")

    return about(tools, request, verb, then)


def approve(tools: Tools, request: ChatRequest, task: str, record: dict[str, str], sha: str) -> Receipt:
    """`sha`: the commit that the person looked at; empty: the newest result."""
    match ruling(tools, request.author, "approve", task):
        case policy.No(reason):
            return Receipt(whisper=reason)
    view = json.loads(record.get("view", "{}"))
    pull = view.get("pull_request")
    if not pull or record["status"] not in ("watching", "running"):
        return Receipt(reply="There is nothing to approve yet.")
    if pull["state"] != "open":
        return Receipt(reply=f"#{pull['number']} is {pull['state']} already.")
    sha = sha or pull["head"]
    if sha != pull["head"]:
        return Receipt(whisper=f"`{sha[:7]}` was replaced by `{pull['head'][:7]}`. Please look at the new result.")
    if waits := view.get("waits_for_checks"):
        return Receipt(whisper=waits)
    _tell(tools, request, task, "approved", ("watching",), sha=sha)
    return Receipt(seen=True)


def reject_verb(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    return about(tools, request, verb, lambda task, record: reject(tools, request, task, record))


def reject(tools: Tools, request: ChatRequest, task: str, record: dict[str, str]) -> Receipt:
    match ruling(tools, request.author, "stop", task):
        case policy.No(reason):
            return Receipt(whisper=reason)
    if record["status"] != "watching":
        return Receipt(reply="There is nothing to reject yet.")
    _tell(tools, request, task, "rejected", ("watching",))
    return Receipt(seen=True)


def reaction(tools: Tools, request: ChatRequest, task: str, key: str) -> Receipt:
    """✅ and ❌ count on a result, 🛑 on a card; ✅ elsewhere is answered once, privately."""
    record = tools.tasks.record(task)
    if not record:
        return Receipt()
    if request.reaction == "approve" and key.startswith("result-"):
        said = tools.outbox.said(task, key)
        sha = said.sha if said else ""
        if request.kind == "reaction":
            return replace(approve(tools, request, task, record, sha), task=task)
        return replace(_revoke(tools, request, task, record, sha), task=task)
    if request.kind == "unreaction":
        return Receipt()
    if request.reaction == "approve":
        if not isinstance(ruling(tools, request.author, "approve", task), policy.Yes):
            return Receipt()
        result = any(k.startswith("result-") for k in tools.outbox.keys(task))
        where = "React on the result message instead." if result else "The result is not there yet."
        text = f"✅ approves only on the result of `{task}`. {where}"
        return Receipt(task=task, whisper=text if first_time(tools, f"{request.author.id}|{task}|elsewhere") else "")
    if request.reaction == "reject" and key.startswith("result-"):
        return replace(reject(tools, request, task, record), task=task)
    if request.reaction == "stop" and key == "card":
        match ruling(tools, request.author, "stop", task):
            case policy.No(reason):
                return Receipt(whisper=reason if first_time(tools, f"{request.author.id}|{task}|stop") else "")
        return replace(stop(tools, task, record, request.author.name), task=task)
    return Receipt()


def _revoke(tools: Tools, request: ChatRequest, task: str, record: dict[str, str], sha: str) -> Receipt:
    if (
        record["status"] in ENDED
        or not sha
        or not isinstance(ruling(tools, request.author, "approve", task), policy.Yes)
    ):
        return Receipt()
    _tell(tools, request, task, "revoked", ("watching",), sha=sha)
    return Receipt(seen=True)


def mark_answered(outbox: Outbox, task: str, question: str, by: str) -> None:
    """The question's message loses its buttons and says who answered; the first answer stands."""
    key = f"question-{question}"
    said = outbox.said(task, key)
    if said is not None and not said.answered:
        outbox.amend(task, wording.Post(key, replace(said, answered=by)))


def spelled_out(text: str, question: dict[str, Any]) -> str:
    """What a short answer such as `2` means, in words."""
    choices = question.get("choices") or []
    return answer_text([Ask(c["question"], tuple(c["suggestions"]), c["assumption"]) for c in choices], text)
