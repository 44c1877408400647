"""The verbs about a place: its repository, its settings, muting it, a fresh start in it, moving a task elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bot.chat import ChatRequest, Place, Receipt
from bot.commands import Verb
from graph.values import Brief, Repository
from integrations.redisserver import translated
from jobs import policy, wording
from jobs.requests import about, ruling
from jobs.statuses import ENDED
from jobs.steering import stop
from jobs.tasks import Tasks, mint, utc

if TYPE_CHECKING:
    from jobs.desk import Tools


def _channel(place: Place) -> str:
    return f"tw:channel:{place.platform}/{place.workspace}/{place.channel}"


def channel_repository(tools: Tools, place: Place) -> str:
    with translated():
        raw = tools.tasks.redis.hget(_channel(place), "repo")
    return raw.decode() if raw else ""


def open_places(tasks: Tasks, platform: str, workspace: str) -> list[Place]:
    """Where a task of the workspace is open."""
    found: dict[str, Place] = {}
    for task in tasks.active():
        record = tasks.record(task)
        for key in json.loads(record.get("places", "[]")):
            place = Place(*key.split("/", 3))
            if (place.platform, place.workspace) == (platform, workspace) and record.get("status") not in ENDED:
                found[key] = place
    return list(found.values())


def reactable(tasks: Tasks, place: Place) -> list[str]:
    """Platform ids of the messages of the place's task on which a reaction counts: its card and its results."""
    task = tasks.of_place(place)
    with translated():
        posted = tasks.redis.hgetall(tasks.key(task, "posted")) if task else {}
    found = {field.decode(): message.decode() for field, message in posted.items()}
    known = {f"{place.key}|card", *(field for field in found if field.startswith(f"{place.key}|result-"))}
    return sorted(message for field, message in found.items() if field in known and not message.startswith("?"))


def repo(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
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


def settings(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
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


def mute(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    with translated():
        tools.tasks.redis.sadd("tw:muted", request.place.key)
    return Receipt(reply="I no longer read this thread. `unmute` brings me back; a mention still reaches me.")


def unmute(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    with translated():
        tools.tasks.redis.srem("tw:muted", request.place.key)
    return Receipt(reply="I read this thread again.")


def new(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
    with translated():
        tools.tasks.redis.set(f"tw:fresh:{request.place.key}", "1", ex=86_400)
    return Receipt(reply="Your next words start a fresh branch.")


def wants_new(tools: Tools, place: Place) -> bool:
    with translated():
        return bool(tools.tasks.redis.exists(f"tw:fresh:{place.key}"))


def no_longer_new(tools: Tools, place: Place) -> None:
    with translated():
        tools.tasks.redis.delete(f"tw:fresh:{place.key}")


def move(tools: Tools, request: ChatRequest, verb: Verb) -> Receipt:
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

    return about(tools, request, verb, then)


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


def show_first_card(tools: Tools, brief: Brief, now: float) -> None:
    card = wording.card({"brief": brief}, "running", utc(now), "queued")
    tools.outbox.show(brief.id, card)
