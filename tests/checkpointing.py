"""Threads to try a checkpoint saver on."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

import redis as redis_client
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from integrations.checkpoints import RedisSaver

Config = dict[str, Any]
THREAD: Config = {"configurable": {"thread_id": "t"}}
KEY = "tw:ckpt:{t}"


class Chat(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    note: Any
    n: int


def text(seed: object, size: int = 1500) -> str:
    source = random.Random(str(seed))
    return "".join(source.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ 0123456789.,\n", k=size))


def counter(saver: BaseCheckpointSaver[Any], steps: int, before: Callable[[int], None] = lambda _: None) -> Any:
    """A graph of so many steps, each of which adds one message of 1.5 KB."""

    def step(given: Chat) -> Chat:
        n = given["n"]
        before(n)
        return {"messages": [AIMessage(text(n), id=f"m{n}")], "n": n + 1}

    builder = StateGraph(Chat)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda given: "step" if given.get("n", 0) < steps else END)
    return builder.compile(checkpointer=saver)


def run(graph: Any, given: Any = None, config: Config = THREAD) -> Any:
    return graph.invoke(given, {**config, "recursion_limit": 2000}, durability="sync")


def put(
    saver: RedisSaver,
    values: dict[str, Any],
    config: Config | None = None,
    new: Sequence[str] | None = None,
    **meta: Any,
) -> Config:
    """One checkpoint with these values at version 1; `new` (default: all) are said to have changed."""
    config = config or {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    checkpoint = empty_checkpoint()
    versions = dict.fromkeys(values, 1)
    checkpoint.update(channel_values=values, channel_versions=versions)
    changed = versions if new is None else dict.fromkeys(new, 1)
    return dict(saver.put(config, checkpoint, {"source": "loop", "step": 0, **meta}, changed))


def stored(client: redis_client.Redis, config: Config = THREAD) -> dict[str, Any]:
    """The values, as a process reads them that has seen nothing yet."""
    found = RedisSaver(client).get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


def messages(*names: object, size: int = 400) -> list[AnyMessage]:
    return [HumanMessage(text(name, size), id=str(name)) for name in names]
