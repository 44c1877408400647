"""Worker processes for as long as one of ours runs: started, restarted when they die, stopped at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from types import TracebackType

from jobs.settings import Settings, child_environment

STOP_SECONDS = 15.0
"""How long a worker has to leave its turn at a checkpoint."""
LOOK_SECONDS = 0.2
HASTY_DEATHS = 5
"""So many in a row, and there is no use in starting more: `broken` is set."""


class Workers:
    """A context manager. Its one thread starts every worker, since a worker dies with the thread that started it."""

    hasty_seconds = 3.0
    """A worker that dies younger than this is not restarted at once."""

    def __init__(self, settings: Settings, count: int, *, log: int | None = None) -> None:
        self._settings = settings
        self._env = child_environment(settings)
        self._count = count
        self._log = log
        self._stop = threading.Event()
        self._deaths = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._supervise, name="workers", daemon=True)

    def __enter__(self) -> Workers:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Raises Misconfigured, with the remedy, when a worker could do nothing: no model, no sandbox."""
        from jobs.wiring import check_sandbox  # noqa: PLC0415 - wiring hands this class on

        if self._count:
            self._settings.check_model()
            check_sandbox(self._settings)
        self._thread.start()

    def stop(self) -> None:
        """Ask all to stop, wait, and kill those that do not."""
        self._stop.set()
        self._thread.join(timeout=STOP_SECONDS + 5)

    @property
    def broken(self) -> bool:
        """Workers die as soon as they start. Why is in their log; none is started any more."""
        return self._deaths >= HASTY_DEATHS

    @property
    def pids(self) -> list[int]:
        return [p.pid for p in self._processes if p.poll() is None]

    def _supervise(self) -> None:
        born: dict[int, float] = {}
        not_before = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            for process in [p for p in self._processes if p.poll() is not None]:
                self._processes.remove(process)
                hasty = now - born.pop(process.pid) < self.hasty_seconds
                self._deaths = self._deaths + 1 if hasty else 0
                not_before = now + self.hasty_seconds if hasty else now
            if any(now - at > self.hasty_seconds for at in born.values()):
                self._deaths = 0
            while now >= not_before and not self.broken and len(self._processes) < self._count:
                process = self._spawn()
                born[process.pid] = now
                self._processes.append(process)
            self._stop.wait(LOOK_SECONDS)
        self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C in the terminal is for the one who started the workers, who then stops them in order.
        return subprocess.Popen(
            [sys.executable, "-m", "bot", "worker", "--parent", str(os.getpid())],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
        )

    def _end(self) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
