"""The conversation with the model: what waits for a result, what is sent of it, and its order. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage

WINDOW = 200_000
"""Characters that are sent unfolded until the model says that they are too many."""
SMALLEST_WINDOW = 20_000
_SMALL = 400
_TIMES = re.compile(r"\b\d+(?:\.\d+)? ?m?s\b")
"""How long a run took is no news: "exit code 1 after 0.4 s", "1 failed in 0.03s"."""
LOOP = 4
"""So many times the same call with the same result, and the model is told."""


def calls_of(message: BaseMessage) -> list[dict[str, Any]]:
    """All calls of an answer, those with unreadable arguments too: providers want a result for each."""
    if not isinstance(message, AIMessage):
        return []
    return [*map(dict, message.tool_calls), *map(dict, message.invalid_tool_calls)]


def pending(messages: Sequence[AnyMessage]) -> tuple[AIMessage, list[dict[str, Any]]] | None:
    """The last answer and those of its calls that have no result yet; None if none is waited for."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            open_ = [call for call in calls_of(message) if call["id"] not in answered]
            return (message, open_) if open_ else None
        else:
            return None
    return None


def result_of(message: AIMessage, call: dict[str, Any], text: str) -> ToolMessage:
    return ToolMessage(
        text, tool_call_id=str(call["id"]), name=str(call["name"]), id=f"{message.id}:{call['id']}:result"
    )


def size(message: BaseMessage) -> int:
    """Characters that a message costs, about."""
    text = message.content if isinstance(message.content, str) else json.dumps(message.content)
    calls = sum(len(str(call["args"])) for call in calls_of(message))
    return len(text) + calls


def fold(messages: Sequence[AnyMessage], window: int) -> list[AnyMessage]:
    """The conversation as it is sent: old tool outputs are named only.

    How far it is folded follows from the messages alone and moves in leaps of three quarters of `window`, so that
    what is sent begins the same from call to call and stays in the provider's cache.
    """
    until = _boundary(messages, window)
    return [_folded(m) if i < until else m for i, m in enumerate(messages)]


def _boundary(messages: Sequence[AnyMessage], window: int) -> int:
    start = unfolded = newest = 0
    for end, message in enumerate(messages, 1):
        unfolded += size(message)
        newest = end - 1 if isinstance(message, AIMessage) else newest
        if unfolded <= window:
            continue
        start, unfolded = end, 0
        # What was asked for last must be seen, however long it is.
        while start > newest or unfolded + size(messages[start - 1]) <= window // 4:
            start -= 1
            unfolded += size(messages[start])
    return start


def _folded(message: AnyMessage) -> AnyMessage:
    if not isinstance(message, ToolMessage) or len(str(message.content)) <= _SMALL:
        return message
    text = f"(output of {len(str(message.content))} characters, left out by now; call again if you need it)"
    return message.model_copy(update={"content": text})


def repeats(messages: Sequence[AnyMessage], name: str, arguments: dict[str, Any]) -> int:
    """How many times in a row, up to now, the model made this call alone and got the same result.

    Results that only refused the call do not count as another result.
    """
    results = {m.tool_call_id: str(m.content) for m in messages if isinstance(m, ToolMessage)}
    count, first = 0, None
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            continue
        calls = calls_of(message)
        if isinstance(message, HumanMessage) or len(calls) != 1:
            break
        call = calls[0]
        if call["name"] != name or call["args"] != arguments:
            break
        result = _TIMES.sub("", results.get(str(call["id"]), "").removesuffix(LOOP_HINT))
        if result.startswith(LOOP_REFUSAL):
            count += 1
            continue
        first = result if first is None else first
        if result != first:
            break
        count += 1
    return count


LOOP_HINT = f"\n\nThis was the same call with the same result for the {LOOP}th time in a row. Do something else."
LOOP_REFUSAL = "Not done: you have made this very call again and again, with the same result."


def illegal_order(messages: Sequence[BaseMessage]) -> str:
    """What a provider would refuse in this order of messages; empty when it is legal.

    Each call is followed at once by its one result, before anything else is said.
    """
    waiting: list[str] = []
    for place, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                return f"message {place} is the result of no waiting call"
            waiting.remove(message.tool_call_id)
        elif waiting:
            return f"message {place} comes between a call and its result"
        else:
            waiting = [str(call["id"]) for call in calls_of(message)]
    return f"the last {len(waiting)} calls have no result" if waiting else ""
