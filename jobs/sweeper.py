"""The sweeper: finds tasks that have something to do and nobody doing it, and what has become due.

It never works on a task itself. One sweeps at a time, by lease; any process that listens may be the one. The clock is
given, so that a test can let a day pass.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable

from bot.chat import Author
from graph.errors import Misconfigured, StoreUnavailable, ThreadwrightError
from jobs import steering, wording
from jobs.outbox import Outbox
from jobs.steering import card_words
from jobs.tasks import Entry, Tasks

CLEAN_EVERY = 3_600.0
"""Seconds."""

log = logging.getLogger(__name__)


class Sweeper:
    def __init__(
        self,
        tasks: Tasks,
        outbox: Outbox,
        wake: Callable[[str], None],
        *,
        every: float,
        now: Callable[[], float] = time.time,
        janitor: Callable[[set[str]], None] | None = None,
        restart: Callable[[], object] | None = None,
    ) -> None:
        """`restart`: starts our own Redis when it has died. Raises StoreUnavailable, Misconfigured."""
        self._tasks = tasks
        self._outbox = outbox
        self._wake = wake
        self._every = every
        self._now = now
        self._janitor = janitor
        self._restart = restart
        self._token = ""
        self._cleaned = now()

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set; a store that is away is waited for."""
        while not stop.wait(self._every):
            try:
                self.sweep()
            except StoreUnavailable:
                log.warning("Redis does not answer; I sweep again in %g s", self._every)
                self._bring_back()

    def _bring_back(self) -> None:
        """Nobody but us restarts a server of our own."""
        if self._restart is None:
            return
        try:
            self._restart()
        except (StoreUnavailable, Misconfigured) as exc:
            log.warning("Redis could not be started again: %s", exc)

    def sweep(self) -> int:
        """One sweep; how many tasks were woken or moved. 0 as well while another process sweeps."""
        ttl = int(max(self._every * 3, 1) * 1000)
        token = self._tasks.script("hold", ["tw:sweeper", "tw:fence"], [self._token, ttl])
        if token is None:
            return 0
        self._token = token.decode()
        count = sum(self._revive(task) for task in self._tasks.active())
        count += sum(self._due(task, what) for task, what in self._tasks.due(self._now()))
        self._clean()
        return count

    def _revive(self, task: str) -> int:
        """`running` without anybody, or a stop that nobody has carried out."""
        record = self._tasks.record(task)
        needs = record.get("status") == "running" or "stop" in record or "keep" in record
        if not needs or self._tasks.held(task):
            return 0
        self._wake(task)
        return 1

    def _due(self, task: str, what: str) -> int:
        record = self._tasks.record(task)
        done = getattr(self, f"_{what}")(task, record) if record else True
        if done:
            self._tasks.not_due(task, what)
        return int(bool(done))

    def _model(self, task: str, record: dict[str, str]) -> bool:
        """The model may be back."""
        if record.get("status") != "backing off":
            return True
        if self._tasks.move(task, "running", at=self._now()):
            self._wake(task)
            return True
        return False

    def _remind(self, task: str, record: dict[str, str]) -> bool:
        if record.get("status") == "asking" and _clarifies(record):
            author = Author(record.get("requester", ""), record.get("requester_name", ""))
            self._outbox.say(task, wording.reminder(json.loads(record["question"]), author), anyone=True)
        return True

    def _answer(self, task: str, record: dict[str, str]) -> bool:
        """Nobody answered in time: go on with the stated assumptions."""
        if record.get("status") != "asking" or not _clarifies(record):
            return True
        question = json.loads(record["question"])
        entry = Entry(id=f"timer-{question['id']}", kind="answer", question=question["id"])
        taken = self._tasks.tell(task, entry, [f"{task}/{entry.id}"], wakes=("asking",), at=self._now())
        steering.mark_answered(self._outbox, task, question["id"], "Nobody answered in time; the assumptions hold.")
        if taken.wake:
            self._wake(task)
        return True

    def _checks(self, task: str, record: dict[str, str]) -> bool:
        """The forge's checks may have ended: the task looks."""
        if record.get("status") != "watching":
            return True
        entry = Entry(id=f"checks-{int(self._now() * 1000)}", kind="timer")
        taken = self._tasks.tell(task, entry, [f"{task}/{entry.id}"], wakes=("watching",), at=self._now())
        if taken.wake:
            self._wake(task)
        return True

    def _park(self, task: str, record: dict[str, str]) -> bool:
        if record.get("status") != "asking":
            return True
        parked = self._tasks.move(task, "parked", at=self._now())
        if parked:
            card_words(self._tasks, self._outbox, task, "parked: an answer wakes it")
        return parked

    def _clean(self) -> None:
        """Once an hour: names, workspaces and refs of tasks that nobody knows any more."""
        if self._now() - self._cleaned < CLEAN_EVERY:
            return
        self._cleaned = self._now()
        self._tasks.forget_gone()
        if self._janitor is None:
            return
        known = self._tasks.newest(-1)
        try:
            self._janitor({task for task in known if self._tasks.record(task).get("status") != "done"})
        except (OSError, ThreadwrightError) as exc:
            if isinstance(exc, StoreUnavailable):
                raise
            # Tidying up must not end the sweeping.
            log.warning("I could not tidy up: %s", exc)


def _clarifies(record: dict[str, str]) -> bool:
    """Whether the open question is one that an assumption may answer."""
    return bool(record.get("question")) and json.loads(record["question"]).get("kind") == "clarify"
