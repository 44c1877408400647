"""The worker process: imports what a turn needs, then forks a child for each turn: a turn starts in milliseconds.

Four rules, each from a loss that was seen with RQ: one queue; no scheduler of RQ's; short heartbeats; and the child
dies with its parent, or an orphan would work on beside its own successor.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

from redis.exceptions import RedisError
from rq import Worker
from rq.job import Job
from rq.queue import Queue

from jobs import queue as queueing
from jobs import turn
from jobs.settings import Settings
from jobs.wiring import crew_of

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
ALIVE_SECONDS = 15


def die_with_parent(number: signal.Signals) -> None:
    """Linux: get this signal when the parent ends. Elsewhere the sweeper and the lease are the only defence."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


class TurnWorker(Worker):
    """RQ's fork worker with our four rules."""

    # Seconds between tries while Redis is away. RQ's would grow to a minute, and then tasks wait for nothing.
    max_connection_wait_time = 2.0

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        parent = os.getppid()
        die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)
        super().main_work_horse(job, queue)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        super().heartbeat(timeout, pipeline)
        self.connection.set(f"tw:worker:{self.name}", "1", ex=ALIVE_SECONDS)

    def handle_warm_shutdown_request(self) -> None:
        """Ask the turn to leave at its next checkpoint; RQ waits for it."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self._horse_pid:
            try:
                os.kill(self._horse_pid, signal.SIGUSR1)
            except ProcessLookupError:
                log.debug("the turn had ended already")

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """A second signal: the turn is killed; its task goes on elsewhere."""
        self.connection.delete(f"tw:worker:{self.name}")
        super().request_force_stop(signum, frame)

    def register_death(self) -> None:
        super().register_death()  # type: ignore[no-untyped-call]
        self.connection.delete(f"tw:worker:{self.name}")


def main(settings: Settings, parent: int = 0) -> None:
    """Work until a signal says otherwise. Raises Misconfigured when the sandbox or Redis cannot be used.

    `parent`: pid of whoever started this; without it the worker goes at once. 0: it stands for itself.
    """
    if parent:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            return
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("rq.worker").setLevel(max(logging.WARNING, getattr(logging, settings.log_level.upper())))
    crew = crew_of(settings)
    turn.preload(crew)
    gc.collect()
    gc.freeze()
    worker = TurnWorker(
        [queueing.NAME],
        connection=crew.tasks.redis,
        worker_ttl=20,
        job_monitoring_interval=5,
        maintenance_interval=5,
        default_result_ttl=0,
    )
    # A turn takes this signal once it can: one that comes between the fork and its handler has to wait, not kill.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        worker.work(with_scheduler=False, logging_level=None)
    except RedisError as exc:
        # The supervisor starts a new worker, which waits for Redis; nothing is held here.
        log.warning("Redis went away: %s", exc)
        sys.exit(75)
