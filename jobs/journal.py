"""The graph's `Journal` over a task's keys in Redis: fenced, and redacted before anything is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobs.tasks import Lease, Tasks


class LeasedJournal:
    def __init__(self, tasks: Tasks, lease: Lease, redact: Callable[[str], str]) -> None:
        self._tasks = tasks
        self._lease = lease
        self._redact = redact

    def begin(self, key: str, what: str) -> str | None:
        return self._tasks.begin(self._lease, key, self._redact(what))

    def end(self, key: str, result: str) -> None:
        self._tasks.end(self._lease, key, self._redact(result))

    def note(self, kind: str, **fields: Any) -> None:
        clean = {k: self._redact(v) if isinstance(v, str) else v for k, v in fields.items()}
        self._tasks.note(self._lease, kind, **clean)
