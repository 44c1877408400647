"""Worker processes for as long as one of ours runs: started, restarted when they die, stopped at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from types import TracebackType

from jobs.settings import Settings, environment

STOP_SECONDS = 15.0
"""How long a worker has to leave its turn at a checkpoint."""
LOOK_SECONDS = 0.2
HASTY_SECONDS = 3.0
"""A worker that dies younger than this is not restarted at once."""


class Workers:
    """A context manager. Its one thread starts every worker, since a worker dies with the thread that started it."""

    def __init__(self, settings: Settings, count: int, *, log: int | None = None) -> None:
        self._settings = settings
        self._env = {**os.environ, **environment(settings)}
        self._count = count
        self._log = log
        self._stop = threading.Event()
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

        self._settings.check_model()
        check_sandbox(self._settings)
        self._thread.start()

    def stop(self) -> None:
        """Ask all to stop, wait, and kill those that do not."""
        self._stop.set()
        self._thread.join(timeout=STOP_SECONDS + 5)

    @property
    def pids(self) -> list[int]:
        return [p.pid for p in self._processes if p.poll() is None]

    def _supervise(self) -> None:
        born: dict[int, float] = {}
        while not self._stop.is_set():
            now = time.monotonic()
            self._processes = [p for p in self._processes if p.poll() is None]
            hasty = any(now - at < HASTY_SECONDS for pid, at in born.items() if pid not in self.pids)
            born = {pid: at for pid, at in born.items() if pid in self.pids or now - at < HASTY_SECONDS}
            if not hasty:
                for _ in range(self._count - len(self._processes)):
                    process = self._spawn()
                    born[process.pid] = now
                    self._processes.append(process)
            self._stop.wait(LOOK_SECONDS)
        self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C in the terminal is for the one who started the workers, who then stops them in order.
        return subprocess.Popen(
            [sys.executable, "-m", "bot", "worker"],
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
