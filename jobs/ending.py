"""How a turn ends a task, and what it does when it cannot go on: stop, failure, a model that is away."""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, cast

from graph.errors import LeaseLost, Misconfigured, ModelUnavailable, StoreUnavailable, ThreadwrightError
from graph.flow import save_work
from graph.ports import Halt, Ports
from graph.state import TaskState
from graph.values import Brief, Final
from jobs import wording
from jobs.crew import Crew
from jobs.showing import Show
from jobs.standing import checkpoint_of, known, readable
from jobs.tasks import Entry, Lease

log = logging.getLogger(__name__)

DEATHS = 10
"""Turns that may begin at one checkpoint and never get further, as when a node's memory kills the worker."""
TRIES = 3
"""Turns that may raise at one checkpoint before the task has failed."""

ENDS = {"done": "done", "answered": "done", "nothing to do": "done", "stopped": "stopped"}


class Ending:
    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._tasks = crew.tasks

    def show(self, lease: Lease, ports: Ports | None = None) -> Show:
        crew = self._crew

        def diff(state: TaskState) -> str:
            if ports is None:
                return ""
            return crew.redact(ports.workspaces.changes(state["repository"], state["base_sha"], state["head"]).diff)

        return Show(crew.tasks, crew.outbox, lease, crew.now, crew.warning, diff)

    def end(self, lease: Lease, brief: Brief, end: Final, show: Show) -> None:
        """Say it, then move the status; a crash in between says nothing twice."""
        if show.state.get("pull_request"):
            show.result(show.state)
        says_it_all = end.kind == "done" and show.state.get("pull_request") is not None
        ends = int(self._tasks.record(lease.task).get("ends", "0"))
        if end.text and not says_it_all:
            self._crew.outbox.say(
                lease.task, wording.final(lease.task, end, brief, ends, self._crew.warning), lease=lease
            )
        status = cast("Any", ENDS.get(end.kind, "failed"))
        show.card(status)
        final = {"final": end.model_dump_json(), "ends": str(ends + 1)}
        self._tasks.move(lease.task, status, at=self._crew.now(), lease=lease, **final)
        if status == "done":
            self._clean_up(lease, brief, show.state)
        self._let_expire(lease)

    def stop(self, lease: Lease, brief: Brief, by: str) -> None:
        """A person stopped it: what is in the checkout goes to the branch, and one message says so."""
        kept = self._save(lease, brief)
        self._close_if_moved(lease, brief)
        self._end_badly(lease, brief, wording.stopped(lease.task, by, kept))
        self._tasks.clear(lease.task, "stop")

    def keep(self, lease: Lease, record: Mapping[str, str]) -> None:
        """A task that was stopped while nobody had it: put its work on the branch, and say the truth about it."""
        brief = Brief.model_validate_json(record["brief"])
        kept = self._save(lease, brief)
        self._close_if_moved(lease, brief)
        end = wording.stopped(lease.task, record.get("stop", ""), kept)
        post = wording.final(lease.task, end, brief, int(record.get("ends", "1")) - 1, self._crew.warning)
        if not self._crew.outbox.say(lease.task, post, lease=lease):
            self._crew.outbox.amend(lease.task, post, lease=lease)
        self._tasks.write(lease, final=end.model_dump_json())
        self._tasks.kept(lease.task)
        self._let_expire(lease)

    def fail(self, lease: Lease, brief: Brief, reason: str, exc: BaseException) -> None:
        error = "e-" + secrets.token_hex(3)
        self._log(lease, error, exc)
        kept = self._save(lease, brief)
        self._end_badly(lease, brief, wording.failed(lease.task, self._crew.redact(reason), error, kept))

    def stumble(self, lease: Lease, brief: Brief, exc: Exception) -> None:
        """An error that nobody foresaw: tried again, but not for ever at the same place."""
        point = readable(lambda: checkpoint_of(self._crew.flow_for(lease), lease.task), "unreadable")
        before, _, count = self._tasks.record(lease.task).get("failures", "").rpartition(":")
        tries = int(count or 0) + 1 if before == point else 1
        self._tasks.write(lease, failures=f"{point}:{tries}")
        if tries >= TRIES:
            self.fail(lease, brief, "something broke three times at the same place, which should not happen.", exc)
        else:
            self._log(lease, f"try {tries}", exc)

    def count_begun(self, flow: Any, lease: Lease) -> None:
        """Raises Misconfigured when turns begin here again and again and none gets anywhere."""
        point = checkpoint_of(flow, lease.task)
        before, _, count = self._tasks.record(lease.task).get("begun", "").rpartition(":")
        begun = int(count or 0) + 1 if before == point else 1
        if begun > DEATHS:
            self._tasks.write(lease, begun="")
            raise Misconfigured(f"the worker died {DEATHS} times at the same place; its memory may be too small.")
        self._tasks.write(lease, begun=f"{point}:{begun}")

    def back_off(self, lease: Lease, brief: Brief, exc: ModelUnavailable) -> None:
        """The model is down: wait without a worker, and be woken."""
        now, s = self._crew.now(), self._crew.settings
        since = float(self._tasks.record(lease.task).get("down_since") or now)
        left = since + s.model_retry_for - now
        if left <= 0:
            reason = f"the model has not answered for {wording.duration(now - since)} ({exc})."
            self.fail(lease, brief, reason, exc)
            return
        wait = min(max(s.model_retry_every, exc.retry_after or 0), left)
        self._tasks.note(lease, "model away", reason=self._crew.redact(str(exc)), again_in=wait)
        self._tasks.set_due(lease.task, "model", now + wait)
        show = self.show(lease)
        show.state = self._known(lease)
        show.card("backing off", wording.model_away(since, wait))
        # This turn did not die: many such tries at one place are no reason to give up.
        self._tasks.move(lease.task, "backing off", at=now, lease=lease, down_since=str(since), begun="")

    def left_over(self, lease: Lease, entries: Iterable[Entry], state: TaskState) -> None:
        """Words that came when the task had ended, or was ending, are not swallowed."""
        taken = set(state.get("taken") or ())
        late = [(e.id, e.text) for e in entries if e.kind in ("words", "answer") and e.id not in taken and e.by]
        late += [(heard.id, heard.text) for heard in state.get("heard") or ()]
        for entry, text in dict(late).items():
            self._crew.outbox.say(lease.task, wording.too_late(lease.task, entry, text), lease=lease)

    # Parts

    def _end_badly(self, lease: Lease, brief: Brief, end: Final) -> None:
        show = self.show(lease)
        show.state = self._known(lease) or {"brief": brief}
        self.end(lease, brief, end, show)

    def _known(self, lease: Lease) -> TaskState:
        return known(self._crew.flow_for(lease), lease.task)

    def _save(self, lease: Lease, brief: Brief) -> str:
        """Keep what is in the checkout as a commit on the branch; the commit that `retry` goes on from.

        Nothing that goes wrong here may keep the task from ending: it is noted, and nothing is promised.
        """
        state = self._known(lease)
        if not state.get("repository"):
            return ""
        try:
            with self._crew.ports_for(lease, brief, Halt()) as ports:
                sha = save_work(state, ports)
        except (LeaseLost, StoreUnavailable):
            raise
        except (ThreadwrightError, OSError) as exc:
            self._tasks.note(lease, "not kept", reason=self._crew.redact(str(exc)))
            return ""
        if sha and sha != state.get("head"):
            self._tasks.write(lease, saved=sha)
        return sha

    def _close_if_moved(self, lease: Lease, brief: Brief) -> None:
        """`move`: the draft in the wrong repository is closed."""
        if "moved" not in self._tasks.record(lease.task):
            return
        state = self._known(lease)
        pull, repository = state.get("pull_request"), state.get("repository")
        if not (pull and repository):
            return
        try:
            with self._crew.ports_for(lease, brief, Halt()) as ports:
                ports.forge.close(repository, pull.number)
        except (LeaseLost, StoreUnavailable):
            raise
        except (ThreadwrightError, OSError) as exc:
            self._tasks.note(lease, "not closed", number=pull.number, reason=self._crew.redact(str(exc)))
        else:
            self._tasks.note(lease, "closed", number=pull.number)

    def _clean_up(self, lease: Lease, brief: Brief, state: TaskState) -> None:
        """Nothing more comes of it: workspace and refs go. What is left here the janitor finds."""
        repository = state.get("repository")
        if not repository:
            return
        try:
            with self._crew.ports_for(lease, brief, Halt()) as ports:
                ports.workspaces.drop(lease.task, repository)
        except (LeaseLost, StoreUnavailable):
            raise
        except (ThreadwrightError, OSError) as exc:
            self._tasks.note(lease, "not cleaned up", reason=self._crew.redact(str(exc)))

    def _let_expire(self, lease: Lease) -> None:
        """Record and checkpoints go some days after the end; unless it was begun again meanwhile."""
        seconds = int(self._crew.settings.keep_days * 86_400)
        if self._tasks.expire(lease.task, seconds):
            self._crew.flow_for(lease).checkpointer.expire(lease.task, seconds)

    def _log(self, lease: Lease, error: str, exc: BaseException) -> None:
        lines = self._crew.redact("".join(traceback.format_exception(exc)))
        log.error("%s: %s", lease.task, lines)
        said = self._crew.redact(f"{type(exc).__name__}: {exc}")
        self._tasks.note(lease, "error", id=error, error=said, trace=lines[-4000:])
