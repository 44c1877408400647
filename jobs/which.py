"""In direct messages each message that opens a thread is a task of its own. While one is open there, a person is asked.

The message is kept until they say; a button and a word mean the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from bot.chat import Ask, Author, ChatRequest, Place, Receipt, Said
from integrations.redisserver import translated
from jobs.requests import open_in_channel

if TYPE_CHECKING:
    from jobs.desk import Tools

KEPT_SECONDS = 7 * 86_400
ABOVE, NEW = "The task above", "A new one"
WORDS = {
    "1": ABOVE,
    "above": ABOVE,
    "the task above": ABOVE,
    "for the task above": ABOVE,
    "2": NEW,
    "new": NEW,
    "a new one": NEW,
}


def _key(place: Place) -> str:
    return f"tw:which:{place.key}"


def ask(tools: Tools, request: ChatRequest) -> Receipt | None:
    """None: there is nothing to ask."""
    if not (request.direct and request.opens_thread):
        return None
    task = next(iter(open_in_channel(tools, request.place)), "")
    if not task:
        return None
    kept = json.dumps({"request": asdict(request), "task": task})
    with translated():
        tools.tasks.redis.set(_key(request.place), kept, ex=KEPT_SECONDS)
    title = tools.tasks.record(task).get("title", "")
    return Receipt(
        seen=True,
        reply=f"Is that for the task above (`{task}`: {title}), or a new one?",
        asks=(Ask("", (ABOVE, NEW)),),
        question=f"which-{request.message}",
    )


def decide(
    tools: Tools,
    request: ChatRequest,
    start: Callable[[ChatRequest], Receipt],
    tell: Callable[[ChatRequest, str], Receipt],
) -> Receipt | None:
    """What becomes of a kept message by this button or these words. None: none is kept, or they mean something else."""
    said = WORDS.get(request.text.strip().rstrip(".").casefold(), "")
    with translated():
        raw = tools.tasks.redis.get(_key(request.place)) if said else None
    if raw is None:
        return Receipt(whisper="That is decided already.") if request.question.startswith("which-") else None
    kept = json.loads(raw)
    original = _request(kept["request"])
    if original.author.id != request.author.id:
        return Receipt(whisper=f"That is for {original.author.name} to say.")
    if said == NEW:
        receipt = start(original)
    else:
        above = Place(*json.loads(tools.tasks.record(kept["task"])["places"])[0].split("/", 3))
        receipt = tell(replace(original, place=above), kept["task"])
        receipt = replace(receipt, reply=f"`{kept['task']}` has it.")
    with translated():
        # Only now: a crash before it asks again, and what was begun is known by its message.
        tools.tasks.redis.delete(_key(request.place))
    return receipt


def _request(data: dict[str, Any]) -> ChatRequest:
    return ChatRequest(
        **{
            **data,
            "place": Place(**data["place"]),
            "author": Author(**{**data["author"], "roles": tuple(data["author"]["roles"])}),
            "context": tuple(Said(**said) for said in data["context"]),
            "secrets": tuple(data["secrets"]),
        }
    )
