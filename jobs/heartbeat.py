"""The heartbeat of a turn: renews the lease, and sees a stop, a pause and new words while a node is busy."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from langgraph.runtime import RunControl

from graph.errors import LeaseLost, StoreUnavailable
from graph.ports import Halt
from jobs.tasks import Beat, Lease, Tasks

log = logging.getLogger(__name__)


class Heartbeat:
    """A thread for the time of a turn. Sets `halt` on a stop and when the lease is lost; drains the run for words."""

    def __init__(self, tasks: Tasks, lease: Lease, halt: Halt, *, every: float, lease_seconds: float) -> None:
        self._tasks = tasks
        self._lease = lease
        self._every = every
        self._lease_seconds = lease_seconds
        self._halt = halt
        self._control: RunControl | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.lost = False
        self.stop_by = ""
        self.pausing = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=10)

    def watch(self, control: RunControl) -> None:
        """The run that is to be drained when words come."""
        self._control = control

    def look(self) -> None:
        """Look now, from the turn's own thread, as after each checkpoint. Raises LeaseLost, StoreUnavailable."""
        self._obey(self._tasks.beat(self._lease))

    def _run(self) -> None:
        seen = time.monotonic()
        # The first look is at once: a stop may have come while nobody had the task.
        while True:
            try:
                beat = self._tasks.beat(self._lease)
            except LeaseLost:
                return self._lose("another worker has the task")
            except StoreUnavailable:
                # Until the lease has run out for certain, Redis may come back and find it ours still.
                if time.monotonic() - seen > self._lease_seconds:
                    return self._lose("Redis is away for longer than the lease")
            else:
                seen = time.monotonic()
                self._obey(beat)
            if self._done.wait(self._every):
                return None

    def _obey(self, beat: Beat) -> None:
        self.pausing = beat.pause
        if beat.stop and not self.stop_by:
            self.stop_by = beat.stop
            self._halt.set(beat.stop)
        elif beat.words and self._control is not None:
            self._control.request_drain("words")

    def _lose(self, why: str) -> None:
        log.warning("%s: gave the task up: %s", self._lease.task, why)
        self.lost = True
        self._halt.set()
