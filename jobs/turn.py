"""One turn: advance a task until it waits for someone or is done. RQ's only job; it carries nothing but the task's id.

A turn may die anywhere. What it has done by then is in the checkpoint, in the journal and in git; the next turn takes
the lease when the old one runs out, and goes on. Everything that people see follows from the state, under keys that
follow from the state: so that a turn that is run twice says nothing twice.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
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
from graph.flow import RECURSION_LIMIT, save_work
from graph.ports import Halt, Ports
from graph.state import SCHEMA, TaskState
from graph.values import Brief, Final, Question, Usage, Watching
from jobs import showing, wording
from jobs.heartbeat import Heartbeat
from jobs.inputs import Standing, next_input, retry_input
from jobs.outbox import Outbox
from jobs.settings import Settings
from jobs.statuses import ENDED
from jobs.tasks import Entry, Lease, Tasks
from jobs.timing import deadlines

log = logging.getLogger(__name__)
T = TypeVar("T")

DEATHS = 10
"""Turns that may begin at one checkpoint and never get further, as when a node's memory kills the worker."""
THIN_EVERY = 64
"""Checkpoints of one run after which superseded ones are dropped."""
TRIES = 3
"""Turns that may raise at one checkpoint before the task has failed."""
GRACE = 10.0
"""Seconds a running node has to end when the worker is going down."""

ENDS = {"done": "done", "answered": "done", "nothing to do": "done", "stopped": "stopped"}


@dataclass(frozen=True)
class Crew:
    """What a turn works with; made once a process by `jobs.wiring`."""

    settings: Settings
    tasks: Tasks
    outbox: Outbox
    flow_for: Callable[[Lease], Any]
    """The compiled flow with a checkpoint saver that is fenced by the lease."""
    ports_for: Callable[[Lease, Brief, Halt], Any]
    """A context manager that gives `Ports`, and closes box and connections after."""
    redact: Callable[[str], str]
    expire: Callable[[str, float], None]
    """Let the task's record and checkpoints go after so many seconds."""
    now: Callable[[], float] = time.time
    warning: str = ""


class Turn:
    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._tasks = crew.tasks
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
            entries = self._tasks.claim(lease)
            if record.get("status") == "stopped" and record.get("keep"):
                self._keep(lease, record)
            if record.get("status") != "running":
                self._not_running(lease, record, entries)
                return
            self._work(lease, Brief.model_validate_json(record["brief"]), halt, beat)

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
                self._stop(lease, brief, beat.stop_by)
        except ModelUnavailable as exc:
            self._back_off(lease, brief, exc)
        except (Refused, Misconfigured, ModelMisbehaved) as exc:
            self._fail(lease, brief, str(exc), exc)
        except Exception as exc:  # noqa: BLE001 - the one broad except: whatever a node raises ends here
            self._stumble(lease, brief, exc)

    def _not_running(self, lease: Lease, record: Mapping[str, str], entries: list[Entry]) -> None:
        """A stop that came when a turn had just ended, and words that came when the task had."""
        if record.get("stop") and record.get("status") not in ENDED and record.get("brief"):
            self._stop(lease, Brief.model_validate_json(record["brief"]), record["stop"])
        else:
            self._left_over(lease, record, entries)

    # Advance

    def _advance(self, lease: Lease, brief: Brief, ports: Ports, beat: Heartbeat) -> None:
        flow = self._crew.flow_for(lease)
        self._count_begun(flow, lease)
        show = self._new_show(lease, ports)
        while True:
            where = standing(flow, lease.task)
            entries = self._tasks.claim(lease)
            record = self._tasks.record(lease.task)
            given = retry_input(where, record) or next_input(where, entries, brief)
            if given is None:
                return self._settle(flow, lease, where, show, entries)
            if self._going_down.is_set():
                return None
            self._tasks.move(lease.task, "running", at=self._crew.now(), lease=lease)
            if not self._stream(flow, given.payload, lease, ports, beat, show, entries):
                return self._pause(lease, show)

    def _stream(
        self,
        flow: Any,
        payload: Any,
        lease: Lease,
        ports: Ports,
        beat: Heartbeat,
        show: showing.Show,
        entries: list[Entry],
    ) -> bool:
        """Run until the flow waits, ends, or is drained. False: it was drained for a pause."""
        control = RunControl()
        self._control = control
        beat.watch(control)
        pausing_from: tuple[Any, ...] | None = None
        unread = {entry.id for entry in entries}
        paused, steps = False, 0
        record, answered = self._tasks.record(lease.task), -1
        retrying, away = "retry" in record, "down_since" in record
        try:
            for state in flow.stream(
                payload,
                config_of(lease.task),
                context=ports,
                durability="sync",
                stream_mode="values",
                control=control,
            ):
                if "__interrupt__" in state:
                    continue
                show.progress(cast("TaskState", state))
                steps += 1
                if steps % THIN_EVERY == 0:
                    thin(flow, lease.task)
                if retrying:
                    self._tasks.clear(lease.task, "retry", "saved")
                    retrying = False
                calls = (state.get("spent") or Usage()).calls
                if away and -1 < answered < calls:
                    # The model is back: the next time it is away counts from its own beginning.
                    self._tasks.clear(lease.task, "down_since")
                    away = False
                answered = calls
                if unread and unread <= set(state.get("taken") or ()):
                    self._tasks.acknowledge(lease, len(entries))
                    unread = set()
                if beat.pausing:
                    place = (state.get("step"), state.get("rounds"), bool(state.get("pull_request")))
                    pausing_from = pausing_from or place
                    if place != pausing_from:
                        paused = True
                        control.request_drain("pause")
                if self._going_down.is_set():
                    control.request_drain("shutdown")
        except GraphDrained:
            return not paused
        return True

    def _settle(self, flow: Any, lease: Lease, where: Standing, show: showing.Show, entries: list[Entry]) -> None:
        """The flow waits or is over: say so first, then move the status; a crash in between says nothing twice."""
        self._forget_taken(lease, where, entries)
        thin(flow, lease.task)
        state, now = where.state, self._crew.now()
        show.progress(state)
        if isinstance(where.waits, Question):
            show.question(where.waits)
            self._tasks.write(lease, question=where.waits.model_dump_json())
            for what, at in deadlines(where.waits, now, self._crew.settings):
                self._tasks.set_due(lease.task, what, at)
            show.card("asking", f"asking {state['brief'].requester.name}")
            self._tasks.move(lease.task, "asking", at=now, lease=lease)
        elif isinstance(where.waits, Watching):
            show.result(state)
            show.card("watching")
            self._tasks.move(lease.task, "watching", at=now, lease=lease)
        elif where.over:
            self._end(lease, state["brief"], state.get("final") or _no_final(), show)

    def _end(self, lease: Lease, brief: Brief, end: Final, show: showing.Show) -> None:
        if show.state.get("pull_request"):
            show.result(show.state)
        says_it_all = end.kind == "done" and show.state.get("pull_request") is not None
        ends = int(self._tasks.record(lease.task).get("ends", "0"))
        if end.text and not says_it_all:
            self._crew.outbox.say(
                lease.task, wording.final(lease.task, end, brief, ends, self._crew.warning), lease=lease
            )
        status = ENDS.get(end.kind, "failed")
        show.card(status)
        self._tasks.move(
            lease.task,
            cast("Any", status),
            at=self._crew.now(),
            lease=lease,
            final=end.model_dump_json(),
            ends=str(ends + 1),
        )
        if status == "done":
            self._clean_up(lease, brief, show.state)
        self._crew.expire(lease.task, self._crew.settings.keep_days * 86_400)

    def _clean_up(self, lease: Lease, brief: Brief, state: TaskState) -> None:
        """Nothing more comes of it: workspace and refs go. What a crash leaves here the janitor finds."""
        if repository := state.get("repository"):
            with self._crew.ports_for(lease, brief, Halt()) as ports:
                ports.workspaces.drop(lease.task, repository)

    def _pause(self, lease: Lease, show: showing.Show) -> None:
        show.card("paused")
        self._tasks.move(lease.task, "paused", at=self._crew.now(), lease=lease, pause="")

    # When it does not go on

    def _stop(self, lease: Lease, brief: Brief, by: str) -> None:
        kept = self._save(lease, brief)
        self._close_if_moved(lease, brief)
        end = wording.stopped(lease.task, by, kept, branch_of(lease.task))
        self._finish_badly(lease, brief, end)
        self._tasks.clear(lease.task, "stop")

    def _close_if_moved(self, lease: Lease, brief: Brief) -> None:
        """`move`: the draft in the wrong repository is closed."""
        if "moved" not in self._tasks.record(lease.task):
            return
        state = self._known(lease)
        pull, repository = state.get("pull_request"), state.get("repository")
        if pull and repository:
            with self._crew.ports_for(lease, brief, Halt()) as ports:
                ports.forge.close(repository, pull.number)
            self._tasks.note(lease, "closed", number=pull.number)

    def _save(self, lease: Lease, brief: Brief) -> str:
        """Keep what is in the checkout as a commit on the branch; the commit that `retry` goes on from."""
        state = self._known(lease)
        if not state.get("repository"):
            return ""
        try:
            with self._crew.ports_for(lease, brief, Halt()) as ports:
                sha = save_work(state, ports)
        except (Refused, Stopped) as exc:
            self._tasks.note(lease, "not kept", reason=str(exc))
            return ""
        if sha and sha != state.get("head"):
            self._tasks.write(lease, saved=sha)
        return sha

    def _keep(self, lease: Lease, record: Mapping[str, str]) -> None:
        """A task that was stopped while nobody had it: put its commits on the branch."""
        brief = Brief.model_validate_json(record["brief"])
        self._save(lease, brief)
        self._close_if_moved(lease, brief)
        self._tasks.clear(lease.task, "keep", "stop")
        self._crew.expire(lease.task, self._crew.settings.keep_days * 86_400)

    def _count_begun(self, flow: Any, lease: Lease) -> None:
        """Raises Misconfigured when turns begin here again and again and none gets anywhere."""
        point = checkpoint_of(flow, lease.task)
        before, _, count = self._tasks.record(lease.task).get("begun", "").rpartition(":")
        begun = int(count or 0) + 1 if before == point else 1
        if begun > DEATHS:
            self._tasks.write(lease, begun="")
            raise Misconfigured(f"the worker died {DEATHS} times at the same place; its memory may be too small.")
        self._tasks.write(lease, begun=f"{point}:{begun}")

    def _fail(self, lease: Lease, brief: Brief, reason: str, exc: BaseException) -> None:
        error = "e-" + secrets.token_hex(3)
        self._log_error(lease, error, exc)
        state = self._known(lease)
        kept = state.get("head", "") if state.get("commits") else ""
        self._finish_badly(
            lease, brief, wording.failed(lease.task, self._crew.redact(reason), error, kept, branch_of(lease.task))
        )

    def _stumble(self, lease: Lease, brief: Brief, exc: Exception) -> None:
        """An error that nobody foresaw: tried again, but not for ever at the same place."""
        point = _readable(lambda: checkpoint_of(self._crew.flow_for(lease), lease.task), "unreadable")
        before, _, count = self._tasks.record(lease.task).get("failures", "").rpartition(":")
        tries = int(count or 0) + 1 if before == point else 1
        self._tasks.write(lease, failures=f"{point}:{tries}")
        if tries >= TRIES:
            self._fail(lease, brief, "something broke three times at the same place, which should not happen.", exc)
        else:
            self._log_error(lease, f"try {tries}", exc)

    def _log_error(self, lease: Lease, error: str, exc: BaseException) -> None:
        lines = "".join(traceback.format_exception(exc))
        log.error("%s: %s", lease.task, self._crew.redact(lines))
        self._tasks.note(
            lease,
            "error",
            id=error,
            error=self._crew.redact(f"{type(exc).__name__}: {exc}"),
            trace=self._crew.redact(lines)[-4000:],
        )

    def _back_off(self, lease: Lease, brief: Brief, exc: ModelUnavailable) -> None:
        """The model is down: wait without a worker, and be woken."""
        now, s = self._crew.now(), self._crew.settings
        since = float(self._tasks.record(lease.task).get("down_since") or now)
        if now - since > s.model_retry_for:
            return self._fail(
                lease, brief, f"the model has not answered for {wording.duration(now - since)} ({exc}).", exc
            )
        wait = max(s.model_retry_every, exc.retry_after or 0)
        self._tasks.note(lease, "model away", reason=self._crew.redact(str(exc)), again_in=wait)
        self._tasks.set_due(lease.task, "model", now + wait)
        self._show(lease).card("backing off", wording.model_away(since, s.model_retry_every))
        # This turn did not die: many such tries at one place are no reason to give up.
        self._tasks.move(lease.task, "backing off", at=now, lease=lease, down_since=str(since), begun="")
        return None

    def _finish_badly(self, lease: Lease, brief: Brief, end: Final) -> None:
        show = self._show(lease)
        if not show.state:
            show.state = {"brief": brief}
        self._end(lease, brief, end, show)

    def _new_show(self, lease: Lease, ports: Ports | None = None) -> showing.Show:
        crew = self._crew

        def diff(state: TaskState) -> str:
            if ports is None:
                return ""
            return crew.redact(ports.workspaces.changes(state["repository"], state["base_sha"], state["head"]).diff)

        return showing.Show(crew.tasks, crew.outbox, lease, crew.now, crew.warning, diff)

    def _show(self, lease: Lease) -> showing.Show:
        show = self._new_show(lease)
        show.state = self._known(lease)
        return show

    def _known(self, lease: Lease) -> TaskState:
        """The state, empty where it cannot be read: such a task must be able to end, too, and to say so."""
        return _readable(lambda: standing(self._crew.flow_for(lease), lease.task).state, TaskState())

    # Entries

    def _forget_taken(self, lease: Lease, where: Standing, entries: list[Entry]) -> None:
        """Acknowledge the claimed entries that a checkpoint holds, from the oldest on."""
        known = set(where.state.get("taken") or ())
        count = next((i for i, entry in enumerate(entries) if entry.id not in known), len(entries))
        if count:
            self._tasks.acknowledge(lease, count)

    def _left_over(self, lease: Lease, record: Mapping[str, str], entries: list[Entry]) -> None:
        """Words that came when the task had ended are not swallowed."""
        if record.get("status") not in ("done", "stopped", "failed") or not entries:
            return
        for entry in entries:
            if entry.kind in ("words", "answer"):
                self._crew.outbox.say(lease.task, wording.too_late(lease.task, entry.id, entry.text), lease=lease)
        self._tasks.acknowledge(lease, len(entries))


def branch_of(task: str) -> str:
    return f"threadwright/{task}"


def config_of(task: str) -> RunnableConfig:
    return {"configurable": {"thread_id": task}, "recursion_limit": RECURSION_LIMIT}


def _readable(look: Callable[[], T], otherwise: T) -> T:
    """What `look` reads of a checkpoint; `otherwise` when that is one of another version, or broken."""
    try:
        return look()
    except (LeaseLost, StoreUnavailable):
        raise
    except Exception:
        log.exception("a checkpoint cannot be read")
        return otherwise


def thin(flow: Any, task: str) -> None:
    """Of the history only what a rewind could want is kept: the checkpoints at which a step was committed."""
    flow.checkpointer.thin(task, "commits")


def checkpoint_of(flow: Any, task: str) -> str:
    """Id of the newest checkpoint; `start` when there is none."""
    return str(flow.get_state(config_of(task)).config["configurable"].get("checkpoint_id", "start"))


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


def _no_final() -> Final:
    return Final(kind="failed", text="The flow ended without saying how, which should not happen.")


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
