"""One process at a time: a lease in Redis on something that only one may do, such as reading a workspace's mail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from graph.errors import StoreUnavailable
from jobs.tasks import Tasks


class Sole:
    """Holds the lease `key`. A process that dies loses it after `seconds`; one that lets go, at once."""

    def __init__(self, tasks: Tasks, key: str, seconds: float) -> None:
        self._tasks = tasks
        self._key = key
        self._seconds = seconds
        self._token = ""
        self._lock = threading.Lock()

    @property
    def held(self) -> bool:
        """As of the last look."""
        return bool(self._token)

    def hold(self) -> bool:
        """Take it or renew it. False: another process has it. Raises StoreUnavailable."""
        with self._lock:
            args = [self._token, int(self._seconds * 1000)]
            token = self._tasks.script("hold", [self._key, "tw:fence"], args)
            self._token = token.decode() if token else ""
            return bool(token)

    def let_go(self) -> None:
        with self._lock:
            if self._token:
                self._tasks.script("drop", [self._key], [self._token])
                self._token = ""

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease beside the work, so that slow work does not outlast it."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(self._seconds / 3):
                try:
                    if self._token:
                        self.hold()
                except StoreUnavailable:
                    continue  # whoever works looks again before the next thing that others see

        thread = threading.Thread(target=renew, name=f"renew {self._key}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
