"""The whole agent on one page: which node follows which."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeAlias

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END as FINISH
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.asking import ask
from graph.checking import check, prove
from graph.implementing import implement, tools
from graph.planning import plan
from graph.ports import Ports
from graph.publishing import publish, watch
from graph.reviewing import review
from graph.setting_up import setup
from graph.starting import baseline, prepare, triage
from graph.state import TaskState
from graph.working import END, branch_of, save_work

RECURSION_LIMIT = 10_000
"""Supersteps of one run. A tool call is two; the budget ends a task long before."""

_ROUTES: dict[str, tuple[str, ...]] = {
    "triage": ("prepare", END),
    "prepare": ("setup", "baseline", "ask", END),
    "setup": ("baseline",),
    "baseline": ("plan",),
    "plan": ("tools", "plan", "ask", "publish", END),
    "ask": ("prepare", "plan", "implement", "tools", "check", "review", "publish", "watch", "ask", END),
    "implement": ("tools", "check", "implement", "plan", "review", "ask", END),
    "tools": ("tools", "plan", "implement", "check", "ask", "publish", "watch", END),
    "check": ("implement", "review", "publish", "ask", END),
    "review": ("implement", "prove", "plan", "ask", END),
    "prove": ("implement", "publish"),
    "publish": ("watch", "plan", "ask", END),
    "watch": ("watch", "plan", "ask", "publish", END),
}


Flow: TypeAlias = CompiledStateGraph[TaskState, Ports, TaskState, TaskState]


def build_flow(checkpointer: BaseCheckpointSaver[str] | None) -> Flow:
    """The agent. Run it with `context=Ports(…)` and `durability="sync"`; a new task is `{"schema": …, "brief": …}`.

    ```
    triage ── prepare ── plan ─────── implement ─── check ── review ── publish ── watch ── end
                │        │  │           │  │  │       │        │                    │
                │        │  └─ tools ───┘  │  │       │        │                    │
                │        │     (one call   │  └─ red ─┤        │                    │
                │        │      at a time) │    next  │        │                    │
                │        │                 │    step ─┘        │                    │
                │        │                 └────── findings ───┘                    │
                │        └───────────────────────── also do X ─────────────────────┘
                └──── ask: every question to a person; goes back where it came from
    ```
    `implement` takes words in between; `check` decides, not the model, and makes one commit a step; `ask` and `watch`
    wait as interrupts, and nothing runs meanwhile. Nodes post nothing: what people see is read from the state.
    """
    flow = StateGraph(TaskState, context_schema=Ports)
    for node in (triage, prepare, setup, baseline, plan, ask, implement, tools, check, review, prove, publish, watch):
        flow.add_node(node.__name__, node)
        goals: dict[Hashable, str] = {goal: FINISH if goal == END else goal for goal in _ROUTES[node.__name__]}
        flow.add_conditional_edges(node.__name__, _next, goals)
    flow.add_edge(START, "triage")
    return flow.compile(checkpointer=checkpointer, name="threadwright")


def _next(state: TaskState) -> str:
    return state["next"]


__all__ = ["RECURSION_LIMIT", "Flow", "branch_of", "build_flow", "save_work"]
