"""One turn: advance a task until it waits for someone or is done. RQ's only job; it carries nothing but the task's id.

A turn may die anywhere. What it has done by then is in the checkpoint, in the journal and in git; the next turn takes
the lease when the old one runs out, and goes on. Everything that people see follows from the state, under keys that
follow from the state: so that a turn that is run twice says nothing twice.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langgraph.runtime import RunControl

from graph.errors import (
    LeaseLost,
    Misconfigured,
    ModelMisbehaved,
    ModelUnavailable,
    Refused,
    Stopped,
    StoreUnavailable,
)
from graph.ports import Halt, Ports
from graph.values import Brief, Final, Question, Watching
from graph.verdicts import waits_for_checks
from jobs.course import Course
from jobs.crew import Crew
from jobs.ending import Ending
from jobs.heartbeat import Heartbeat
from jobs.inputs import Standing, next_input, retry_input
from jobs.showing import Show
from jobs.standing import known, standing, thin
from jobs.statuses import ENDED
from jobs.tasks import Entry, Lease
from jobs.timing import deadlines

log = logging.getLogger(__name__)

GRACE = 3.0
"""Seconds a running node has to end when the worker is going down."""


NO_FINAL = Final(kind="failed", text="I ended without saying how, which should not happen.")


class Turn:
    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._tasks = crew.tasks
        self._ending = Ending(crew)
        self._going_down = threading.Event()
        self._control: RunControl | None = None
        self._halt: Halt | None = None

    def run(self, task: str) -> None:
        """Take the lease and work; look again after letting go. Returns at once when another holds it."""
        while not self._going_down.is_set():
            lease = self._tasks.take(task)
            if lease is None:
                return
            try:
                self._hold(lease)
                if not self._tasks.release(lease):
                    return
            except (LeaseLost, StoreUnavailable) as exc:
                # The lease runs out by itself, and the sweeper finds the task.
                log.warning("%s: left where it is: %s", task, type(exc).__name__)
                return

    def go_down(self) -> None:
        """The worker is going down: leave at the next checkpoint, or break off soon. The task goes on elsewhere."""
        self._going_down.set()
        if self._control is not None:
            self._control.request_drain("shutdown")
        if self._halt is not None:
            timer = threading.Timer(GRACE, self._halt.set)
            timer.daemon = True
            timer.start()

    def _hold(self, lease: Lease) -> None:
        halt, s = Halt(), self._crew.settings
        self._halt = halt
        with Heartbeat(self._tasks, lease, halt, every=s.beat_seconds, lease_seconds=s.lease_seconds) as beat:
            record = self._tasks.record(lease.task)
            status = record.get("status")
            if not record.get("brief"):
                return
            brief = Brief.model_validate_json(record["brief"])
            if record.get("stop") and status not in ENDED:
                # Before anything else: no node may run, and nothing be merged, after a stop.
                self._ending.stop(lease, brief, record["stop"])
            elif status == "running" or (status in ("asking", "watching") and self._tasks.beat(lease).words):
                # What came between a turn's last look and its move to waiting has woken nobody.
                self._work(lease, brief, halt, beat)
            else:
                self._not_running(lease, record)

    def _not_running(self, lease: Lease, record: Mapping[str, str]) -> None:
        """Words that came when the task had ended or waits, and work that is to be put on the branch."""
        entries = self._tasks.claim(lease)
        if record.get("status") == "stopped" and "keep" in record:
            self._ending.keep(lease, record)
        if entries and record.get("status") in ENDED:
            self._ending.left_over(lease, entries, known(self._crew.flow_for(lease), lease.task))
            self._tasks.acknowledge(lease, len(entries))

    def _work(self, lease: Lease, brief: Brief, halt: Halt, beat: Heartbeat) -> None:
        try:
            with self._crew.ports_for(lease, brief, halt) as ports:
                self._advance(lease, brief, ports, beat)
        except (LeaseLost, StoreUnavailable):
            raise
        except Stopped:
            if beat.lost:
                raise LeaseLost(lease.task) from None
            if beat.stop_by:
                self._ending.stop(lease, brief, beat.stop_by)
        except ModelUnavailable as exc:
            self._ending.back_off(lease, brief, exc)
        except (Refused, Misconfigured, ModelMisbehaved) as exc:
            self._ending.fail(lease, brief, str(exc), exc)
        except Exception as exc:  # noqa: BLE001 - the one broad except: whatever a node raises ends here
            self._ending.stumble(lease, brief, exc)

    def _advance(self, lease: Lease, brief: Brief, ports: Ports, beat: Heartbeat) -> None:
        flow = self._crew.flow_for(lease)
        self._ending.count_begun(flow, lease)
        show = self._ending.show(lease, ports)
        while True:
            where = standing(flow, lease.task)
            entries = self._tasks.claim(lease)
            record = self._tasks.record(lease.task)
            if "retry" in record:
                # It was to expire when it had ended; a retry that waits writes no checkpoint that would undo that.
                flow.checkpointer.persist(lease.task)
            given = retry_input(where, record) or next_input(where, entries, brief)
            if given is None:
                self._settle(flow, lease, where, show, entries)
                return
            if self._going_down.is_set():
                return
            self._tasks.move(lease.task, "running", at=self._crew.now(), lease=lease)
            course = Course(self._tasks, lease, beat, show, entries, record)
            self._control = course.control
            if not course.run(flow, given.payload, ports):
                show.card("paused")
                self._tasks.move(lease.task, "paused", at=self._crew.now(), lease=lease, pause="")
                return

    def _settle(self, flow: Any, lease: Lease, where: Standing, show: Show, entries: list[Entry]) -> None:
        """The flow waits or is over: say so first, then move the status; a crash in between says nothing twice."""
        self._forget_taken(lease, where, entries)
        thin(flow, lease.task)
        state, now = where.state, self._crew.now()
        show.progress(state)
        if isinstance(where.waits, Question):
            # `open` before it is said: somebody may answer before the status says that a question is open.
            self._tasks.write(lease, question=where.waits.model_dump_json(), open="1")
            show.question(where.waits)
            self._tasks.set_deadlines(lease.task, deadlines(where.waits, now, self._crew.settings))
            show.card("asking", f"asking {state['brief'].requester.name}")
            self._tasks.move(lease.task, "asking", at=now, lease=lease)
        elif isinstance(where.waits, Watching):
            show.result(state)
            if waits_for_checks(state.get("pull_request"), state.get("receipts") or []):
                self._tasks.set_due(lease.task, "checks", now + self._crew.settings.checks_every)
            show.card("watching")
            self._tasks.move(lease.task, "watching", at=now, lease=lease)
        elif where.over:
            self._ending.left_over(lease, entries, state)
            self._ending.end(lease, state["brief"], state.get("final") or NO_FINAL, show)
            self._tasks.acknowledge(lease, len(entries))
        self._tasks.clear(lease.task, "retry", "begun")

    def _forget_taken(self, lease: Lease, where: Standing, entries: list[Entry]) -> None:
        """Acknowledge the claimed entries that a checkpoint holds, from the oldest on."""
        taken = set(where.state.get("taken") or ())
        count = next((i for i, entry in enumerate(entries) if entry.id not in taken), len(entries))
        if count:
            self._tasks.acknowledge(lease, count)
            del entries[:count]


# ---- the RQ job

_crew: Crew | None = None


def preload(crew: Crew) -> None:
    """Called by the worker's parent before it forks: what `run` works with."""
    global _crew  # noqa: PLW0603 - RQ calls a function by name: this is how the forked child finds what is ready
    _crew = crew


def run(task: str) -> None:
    """The job: one turn of a task."""
    if _crew is None:
        raise Misconfigured("A turn runs in a worker of ours (`threadwright up`), not in a plain RQ worker.")
    turn = Turn(_crew)
    with _on_signal(signal.SIGUSR1, turn.go_down):
        turn.run(task)


@contextmanager
def _on_signal(number: signal.Signals, then: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: then())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        signal.signal(number, before)
