"""The verbs and reactions, answered by the listening process from Redis alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bot.chat import Ask, Author, ChatRequest, Place, Receipt, TaskView
from bot.commands import Verb, answer_text, help_text
from graph.values import Brief, Final, Repository
from integrations.redisserver import translated
from jobs import policy, views, wording
from jobs.outbox import Outbox, load_card
from jobs.statuses import ENDED
from jobs.tasks import Entry, Tasks, mint, utc

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


# ---- who


def ruling(tools: Tools, author: Author, what: str, task: str = "") -> policy.Ruling:
    """`what`: start, answer, approve, protected, stop, configure."""
    record = tools.tasks.record(task) if task else {}
    requester, approvers = record.get("requester", ""), tools.settings.approvers
    if what == "approve":
        brief = Brief.model_validate_json(record["brief"]) if record.get("brief") else None
        second = bool(brief and brief.second_person)
        return policy.may_approve(author, approvers, requester=requester, second_person=second)
    if what == "protected":
        return policy.may_approve(author, approvers, requester=requester, second_person=False)
    if what == "stop":
        return policy.may_stop(author, approvers, requester=requester)
    if what == "configure":
        return policy.may_configure(author, approvers)
    return policy.may_start(author)


# ---- which task


def chosen(tools: Tools, request: ChatRequest, verb: Verb) -> str:
    """The task a verb is about: named, else the newest of the place, else the only open one (terminal)."""
    if verb.task:
        return verb.task
    if task := tools.tasks.of_place(request.place):
        return task
    if request.local:
        active = tools.tasks.active()
        if len(active) == 1:
            return active[0]
        newest = tools.tasks.newest(1)
        if not active and newest:
            return newest[0]
    return ""


def _about(tools: Tools, request: ChatRequest, verb: Verb, then: Callable[[str, dict[str, str]], Receipt]) -> Receipt:
    task = chosen(tools, request, verb)
    record = tools.tasks.record(task) if task else {}
    if not record:
        known = ", ".join(f"`{t}`" for t in tools.tasks.active()[:5])
        which = f"I know no task `{verb.task}`." if verb.task else "I do not know which task you mean."
        return Receipt(reply=which + (f" Open tasks: {known}." if known else " There is no open task."))
    receipt = then(task, record)
    return receipt if receipt.task else replace(receipt, task=task)


# ---- looking


def _help(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    return Receipt(reply=help_text())


def _status(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        view = views.view_of(tools.tasks, task)
        return Receipt(reply=views.status_text(view) if view else "")

    return _about(tools, request, verb, then)


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

    return _about(tools, request, verb, then)


def _diff(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        if not record.get("diff"):
            return Receipt(reply="Nothing has been committed yet.")
        return _long(f"Changes of `{task}`:", f"{task}.diff", f"```diff\n{record['diff'].rstrip()}\n```")

    return _about(tools, request, verb, then)


def _logs(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        lines = [_log_line(line) for line in tools.tasks.journal(task, count=10_000)]
        if not lines:
            return Receipt(reply="Nothing has been done yet.")
        return _long(f"Log of `{task}`:", f"{task}.log", "```\n" + "\n".join(lines) + "\n```")

    return _about(tools, request, verb, then)


def _log_line(line: dict[str, Any]) -> str:
    at, kind = utc(line.pop("at")), line.pop("kind")
    line.pop("trace", None)  # for the operator, through `events`; never in chat
    rest = " ".join(f"{key}={value}" for key, value in line.items())
    return f"{at:%H:%M:%S} {kind} {rest}".rstrip()


def _cost(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        cost = json.loads(record.get("view", "{}")).get("cost")
        return Receipt(reply=f"`{task}` has cost {cost}." if cost else f"`{task}` has cost nothing yet.")

    return _about(tools, request, verb, then)


# ---- steering


def _tell(tools: Tools, request: ChatRequest, task: str, kind: str, wakes: tuple[Any, ...], **more: str) -> bool:
    entry = Entry(id=request.id, kind=kind, by=request.author.id, name=request.author.name, **more)
    place = request.place
    event = f"{place.platform}/{place.workspace}/event/{request.id}"
    taken = tools.tasks.tell(task, entry, [event], wakes=wakes, at=tools.now())
    if taken.wake:
        tools.wake(task)
    return taken.fresh


def _cancel(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        match ruling(tools, request.author, "stop", task):
            case policy.No(reason):
                return Receipt(whisper=reason)
        return stop(tools, task, record, request.author.name)

    return _about(tools, request, verb, then)


def stop(tools: Tools, task: str, record: dict[str, str], by: str) -> Receipt:
    """Stop it now: a worker that has it kills what runs; one that nobody has is stopped here, workers or not."""
    if record["status"] in ENDED:
        return Receipt(reply=f"`{task}` is {record['status']} already.")
    tools.tasks.ask_to_stop(task, by)
    if tools.tasks.move(task, "stopped", at=tools.now(), keep="1"):
        facts = json.loads(record.get("view", "{}"))
        head = facts.get("head", "") if facts.get("commits") else ""
        end = wording.stopped(task, by, head, f"threadwright/{task}")
        tell_end(tools, task, end.model_dump_json())
        tools.wake(task)
    return Receipt(reply=f"Stopping `{task}`.")


def tell_end(tools: Tools, task: str, end: str) -> None:
    """Store how a task ended, say it once, and show it on the card. Only while nobody holds the task."""
    record = tools.tasks.record(task)
    brief = Brief.model_validate_json(record["brief"])
    ends = int(record.get("ends", "0"))
    with translated():
        tools.tasks.redis.hset(tools.tasks.key(task), mapping={"final": end, "ends": str(ends + 1)})
    tools.outbox.say(task, wording.final(task, Final.model_validate_json(end), brief, ends), anyone=True)
    redraw(tools, task)


def redraw(tools: Tools, task: str) -> None:
    """The card again, with the status of now."""
    card_words(tools.tasks, tools.outbox, task)


def card_words(tasks: Tasks, outbox: Outbox, task: str, words: str = "") -> None:
    """The card again, with the state in other words than the status has."""
    record, view = tasks.record(task), views.view_of(tasks, task)
    if view is not None and record.get("card"):
        card = load_card(record["card"])
        outbox.show(task, replace(card, state=words or view.state, since=view.since, final=view.status in ENDED))


def _finish(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        match ruling(tools, request.author, "stop", task):
            case policy.No(reason):
                return Receipt(whisper=reason)
        if record["status"] not in ("running", "asking", "parked", "paused"):
            return Receipt(reply=f"`{task}` is {record['status']}: there is nothing to wrap up.")
        _tell(tools, request, task, "finish", ("asking", "parked", "paused"))
        return Receipt(seen=True, reply="I wrap up with what is there.")

    return _about(tools, request, verb, then)


def _pause(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        if record["status"] == "paused":
            return Receipt(reply=f"`{task}` is paused already.")
        if record["status"] != "running":
            return Receipt(reply=f"`{task}` is {record['status']}: there is nothing to pause.")
        tools.tasks.ask_to_pause(task, request.author.name)
        return Receipt(reply=f"I pause `{task}` at the next step. `resume` goes on.")

    return _about(tools, request, verb, then)


def _resume(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        tools.tasks.clear(task, "pause", "paused_by")
        if record["status"] not in ("paused", "backing off"):
            return Receipt(reply=f"`{task}` is {record['status']}: there is nothing to resume.")
        tools.tasks.move(task, "running", at=tools.now())
        tools.wake(task)
        redraw(tools, task)
        return Receipt(reply=f"`{task}` goes on.")

    return _about(tools, request, verb, then)


def _retry(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        if record["status"] not in ("stopped", "failed"):
            return Receipt(reply=f"`{task}` is {record['status']}: only a stopped or failed task can be tried again.")
        other = tools.tasks.of_place(request.place)
        if other and other != task and views.is_open(tools.tasks.record(other).get("status", "done")):
            return Receipt(reply=f"`{other}` is open here. Stop it first, or retry `{task}` in its own thread.")
        tools.tasks.persist(task)
        tools.tasks.clear(task, "stop", "pause", "failures", "begun", "keep", "final", "down_since")
        tools.tasks.move(task, "running", at=tools.now(), retry="1")
        tools.wake(task)
        redraw(tools, task)
        return Receipt(reply=f"I try `{task}` again from its last good step.")

    return _about(tools, request, verb, then)


# ---- approving


def _approve(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        question = json.loads(record["question"]) if record.get("question") else {}
        if record["status"] in ("asking", "parked") and question.get("kind") == "plan":
            # "Approve" is what the question suggests: the verb is its answer.
            _tell(tools, request, task, "answer", ("asking", "parked"), question=question["id"], text="approve")
            return Receipt(seen=True)
        return approve(tools, request, task, record, "")

    return _about(tools, request, verb, then)


def approve(tools: Tools, request: ChatRequest, task: str, record: dict[str, str], sha: str) -> Receipt:
    """`sha`: the commit that the person looked at; empty: the newest result."""
    match ruling(tools, request.author, "approve", task):
        case policy.No(reason):
            return Receipt(whisper=reason)
    pull = json.loads(record.get("view", "{}")).get("pull_request")
    if not pull or record["status"] not in ("watching", "running"):
        return Receipt(reply="There is nothing to approve yet.")
    if pull["state"] != "open":
        return Receipt(reply=f"#{pull['number']} is {pull['state']} already.")
    sha = sha or pull["head"]
    if sha != pull["head"]:
        return Receipt(whisper=f"`{sha[:7]}` was replaced by `{pull['head'][:7]}`. Please look at the new result.")
    _tell(tools, request, task, "approved", ("watching",), sha=sha)
    return Receipt(seen=True)


def _reject(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    return _about(tools, request, verb, lambda task, record: reject(tools, request, task, record))


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
    if record["status"] in ENDED or not sha:
        return Receipt()
    _tell(tools, request, task, "revoked", ("watching",), sha=sha)
    return Receipt(seen=True)


# ---- places


def _channel(place: Place) -> str:
    return f"tw:channel:{place.platform}/{place.workspace}/{place.channel}"


def channel_repository(tools: Tools, place: Place) -> str:
    with translated():
        raw = tools.tasks.redis.hget(_channel(place), "repo")
    return raw.decode() if raw else ""


def _repo(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    if not verb.args:
        name = channel_repository(tools, request.place)
        return Receipt(
            reply=f"The repository here is `{name}`."
            if name
            else "No repository is set here. `repo owner/name` sets one."
        )
    match ruling(tools, request.author, "configure"):
        case policy.No(reason):
            return Receipt(whisper=reason)
    repository = tools.routes.resolve(verb.args[0], allow_paths=request.local)
    with translated():
        tools.tasks.redis.hset(_channel(request.place), "repo", verb.args[0])
    return Receipt(reply=f"The repository here is `{repository.name}` from now on.")


def _settings(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    s = tools.settings
    lines = [
        f"Repository of this channel: {channel_repository(tools, request.place) or s.default_repository or 'none'}",
        f"Model: {s.model}",
        (
            f"A task stops and asks at ${s.budget_usd:g} ({s.budget_tokens:,} tokens where the price is unknown), "
            f"{s.budget_calls} model calls or {s.budget_minutes:g} minutes of work."
        ),
        f"✅ means: {s.on_approval}" + (", by a second person" if s.wants_second_person else ""),
        f"A clarifying question waits {s.ask_timeout:g} hours.",
    ]
    return Receipt(reply="\n".join(lines))


def is_muted(tools: Tools, place: Place) -> bool:
    with translated():
        return bool(tools.tasks.redis.sismember("tw:muted", place.key))


def _mute(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    with translated():
        tools.tasks.redis.sadd("tw:muted", request.place.key)
    return Receipt(reply="I no longer read this thread. `unmute` brings me back; a mention still reaches me.")


def _unmute(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    with translated():
        tools.tasks.redis.srem("tw:muted", request.place.key)
    return Receipt(reply="I read this thread again.")


def _new(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    with translated():
        tools.tasks.redis.set(f"tw:fresh:{request.place.key}", "1", ex=86_400)
    return Receipt(reply="Your next words start a fresh branch.")


def wants_new(tools: Tools, place: Place) -> bool:
    with translated():
        return bool(tools.tasks.redis.exists(f"tw:fresh:{place.key}"))


def no_longer_new(tools: Tools, place: Place) -> None:
    with translated():
        tools.tasks.redis.delete(f"tw:fresh:{place.key}")


def _move(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    def then(task: str, record: dict[str, str]) -> Receipt:
        match ruling(tools, request.author, "stop", task):
            case policy.No(reason):
                return Receipt(whisper=reason)
        repository = tools.routes.resolve(verb.args[0], allow_paths=request.local)
        brief = Brief.model_validate_json(record["brief"])
        if record["status"] not in ENDED:
            tools.tasks.mark_moved(task)
            stop(tools, task, record, request.author.name)
        return again(
            tools, request, brief, repository.model_copy(update={"rule": f"moved here by {request.author.name}"})
        )

    return _about(tools, request, verb, then)


def again(tools: Tools, request: ChatRequest, old: Brief, repository: Repository) -> Receipt:
    """The same words as a new task of the same place, in another repository."""
    now = tools.now()
    brief = old.model_copy(update={"id": mint(), "repository": repository, "branch": "", "created": utc(int(now))})
    record = {
        "brief": brief.model_dump_json(),
        "title": wording.title_of(brief.text),
        "requester": brief.requester.id,
        "requester_name": brief.requester.name,
        "repository": repository.name,
    }
    event = f"{request.place.platform}/{request.place.workspace}/event/{request.id}"
    taken = tools.tasks.create(brief.id, record, request.place, [event], at=now, retake=True)
    if taken.fresh:
        show_first_card(tools, brief, now)
        tools.wake(brief.id)
    return Receipt(
        task=taken.task, seen=True, started=taken.fresh, reply=f"I do that in `{repository.name}` as `{taken.task}`."
    )


# ---- small things


def show_first_card(tools: Tools, brief: Brief, now: float) -> None:
    card = wording.card({"brief": brief}, "running", utc(now), "queued")
    tools.outbox.show(brief.id, card)


def first_time(tools: Tools, what: str) -> bool:
    """True once a day for each `what`."""
    with translated():
        return bool(tools.tasks.redis.set(f"tw:told:{what}", "1", nx=True, ex=86_400))


def spelled_out(text: str, question: dict[str, Any]) -> str:
    """What a short answer such as `2` means, in words."""
    choices = question.get("choices") or []
    return answer_text([Ask(c["question"], tuple(c["suggestions"]), c["assumption"]) for c in choices], text)


TABLE: dict[str, Callable[[Tools, ChatRequest, Verb], Receipt]] = {
    "help": _help,
    "status": _status,
    "list": _list,
    "cancel": _cancel,
    "finish": _finish,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "plan": _plan,
    "diff": _diff,
    "logs": _logs,
    "cost": _cost,
    "approve": _approve,
    "reject": _reject,
    "move": _move,
    "new": _new,
    "mute": _mute,
    "unmute": _unmute,
    "repo": _repo,
    "settings": _settings,
}
