"""Reading a task's checkpoints: where it stands, and what of its history is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig

from graph.errors import LeaseLost, Misconfigured, StoreUnavailable, ThreadwrightError
from graph.flow import RECURSION_LIMIT
from graph.state import SCHEMA, TaskState
from graph.values import Question, Watching
from jobs.inputs import Standing

log = logging.getLogger(__name__)
T = TypeVar("T")


def config_of(task: str) -> RunnableConfig:
    return {"configurable": {"thread_id": task}, "recursion_limit": RECURSION_LIMIT}


def standing(flow: Any, task: str) -> Standing:
    """Read the newest checkpoint. Raises Misconfigured for one of another schema."""
    snapshot = flow.get_state(config_of(task))
    state = cast("TaskState", snapshot.values or {})
    if not state:
        return Standing(new=True, state=state)
    if state.get("schema") != SCHEMA:
        raise Misconfigured(
            f"This task was begun by another version of me (state {state.get('schema')}, I write {SCHEMA}). "
            "Say the task again to start it anew."
        )
    pending = snapshot.interrupts
    waits = pending[0].value if pending else None
    return Standing(
        new=False,
        state=state,
        interrupt=pending[0].id if pending else "",
        waits=waits if isinstance(waits, Question | Watching) else None,
        # Not `next`: that is empty, too, when a turn died after a node's writes were kept and before the step was.
        over=not snapshot.tasks,
    )


def known(flow: Any, task: str) -> TaskState:
    """The state, empty where it cannot be read: such a task must be able to end, too, and to say so."""
    return readable(lambda: standing(flow, task).state, TaskState())


def checkpoint_of(flow: Any, task: str) -> str:
    """Id of the newest checkpoint; `start` when there is none."""
    return str(flow.get_state(config_of(task)).config["configurable"].get("checkpoint_id", "start"))


def readable(look: Callable[[], T], otherwise: T) -> T:
    """What `look` reads of a checkpoint; `otherwise` when that is one of another version, or broken."""
    try:
        return look()
    except (LeaseLost, StoreUnavailable):
        raise
    except (ThreadwrightError, ValueError, TypeError, LookupError, AttributeError):
        # What the library makes of bytes that it cannot read; logged, and the task ends with an error of its own.
        log.exception("a checkpoint cannot be read")
        return otherwise


def thin(flow: Any, task: str) -> None:
    """Of the history only what a rewind could want is kept: the checkpoints at which a step was committed."""
    flow.checkpointer.thin(task, "commits")
