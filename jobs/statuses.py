"""The status of a task and its legal moves: one small table, kept in Redis beside the lease and fenced by it.

The sweeper revives `running` only: a status that a person or a timer must end can never be swept back to work.
"""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal["running", "asking", "watching", "paused", "backing off", "parked", "stopped", "failed", "done"]

STATUSES: tuple[Status, ...] = get_args(Status)

MOVES: dict[Status, frozenset[Status]] = {
    "running": frozenset({"asking", "watching", "paused", "backing off", "stopped", "failed", "done"}),
    # Answered, timed out, stopped; or nobody answered for days and no assumption may stand in.
    "asking": frozenset({"running", "parked", "stopped"}),
    "watching": frozenset({"running", "stopped"}),
    "paused": frozenset({"running", "stopped"}),
    "backing off": frozenset({"running", "stopped"}),
    "parked": frozenset({"running", "stopped"}),
    "stopped": frozenset({"running"}),
    "failed": frozenset({"running"}),
    "done": frozenset(),
}

WAITING: frozenset[Status] = frozenset({"asking", "watching", "paused", "backing off", "parked"})
"""Alive, without a process: a person or a timer goes on with it."""

ENDED: frozenset[Status] = frozenset({"stopped", "failed", "done"})
"""No longer the open task of its place."""


def sources(new: Status) -> tuple[Status, ...]:
    """The statuses from which `new` is legal."""
    return tuple(old for old in STATUSES if new in MOVES[old])
