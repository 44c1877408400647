"""One run of the flow within a turn: shows each state, acknowledges what it has taken in, leaves for a pause."""

from __future__ import annotations

from typing import Any, cast

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from graph.ports import Ports
from graph.state import TaskState
from graph.values import Usage
from jobs.heartbeat import Heartbeat
from jobs.showing import Show
from jobs.standing import config_of, thin
from jobs.tasks import Entry, Lease, Tasks

THIN_EVERY = 64
"""Checkpoints of one run after which superseded ones are dropped."""


class Course:
    """`entries`: what is handed to this run, oldest first. `control` drains it from outside."""

    def __init__(
        self, tasks: Tasks, lease: Lease, beat: Heartbeat, show: Show, entries: list[Entry], record: dict[str, str]
    ) -> None:
        self.control = RunControl()
        self._tasks = tasks
        self._lease = lease
        self._beat = beat
        self._show = show
        self._entries = entries
        self._unread = {entry.id for entry in entries}
        self._flags = [name for name in ("retry", "open") if name in record]
        self._away = "down_since" in record
        self._calls = -1
        self._steps = 0
        self._pausing_from: tuple[Any, ...] | None = None
        self._paused = False

    def run(self, flow: Any, payload: Any, ports: Ports) -> bool:
        """Until the flow waits, ends, or is drained. False: it was drained for a pause."""
        self._beat.watch(self.control)
        try:
            for state in flow.stream(
                payload,
                config_of(self._lease.task),
                context=ports,
                durability="sync",
                stream_mode="values",
                control=self.control,
            ):
                if "__interrupt__" not in state:
                    self._after_checkpoint(flow, cast("TaskState", state))
        except GraphDrained:
            return not self._paused
        return True

    def _after_checkpoint(self, flow: Any, state: TaskState) -> None:
        task = self._lease.task
        self._show.progress(state)
        self._steps += 1
        if self._steps % THIN_EVERY == 0:
            thin(flow, task)
        if self._flags:
            # The question is answered, the retry has begun: from here on this is a run like any other.
            self._tasks.clear(task, *self._flags, *(["saved"] if "retry" in self._flags else []))
            self._flags = []
        self._beat.look()
        self._note_that_the_model_is_back(state)
        if self._unread and self._unread <= set(state.get("taken") or ()):
            self._tasks.acknowledge(self._lease, len(self._entries))
            self._unread = set()
        self._look_for_a_pause(state)

    def _note_that_the_model_is_back(self, state: TaskState) -> None:
        """The next time it is away counts from its own beginning."""
        calls = (state.get("spent") or Usage()).calls
        if self._away and -1 < self._calls < calls:
            self._tasks.clear(self._lease.task, "down_since")
            self._away = False
        self._calls = calls

    def _look_for_a_pause(self, state: TaskState) -> None:
        if not self._beat.pausing:
            return
        place = (state.get("step"), state.get("rounds"), bool(state.get("pull_request")))
        self._pausing_from = self._pausing_from or place
        if place != self._pausing_from:
            self._paused = True
            self.control.request_drain("pause")
