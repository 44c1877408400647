"""Wake-ups through RQ. A job says "look at this task" and nothing else: lost, late or doubled, it harms nothing."""

from __future__ import annotations

import redis
from redis.exceptions import RedisError
from rq import Queue

from integrations.redisserver import translated
from jobs.tasks import Tasks

NAME = "threadwright"
WOKEN_MS = 5_000
"""While a wake-up waits in the queue no second one is put there; after this long the sweeper may."""


class Wakeups:
    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._queue = Queue(NAME, connection=client, default_timeout=-1)

    def wake(self, task: str) -> None:
        """Ask a worker to look at the task. What cannot be queued now the sweeper finds later."""
        try:
            if self._redis.set(Tasks.key(task, "woken"), "1", nx=True, px=WOKEN_MS):
                self._queue.enqueue("jobs.turn.run", task, job_timeout=-1, result_ttl=0, failure_ttl=3_600)
        except RedisError:
            # The entry is stored already; a wake-up is only a matter of speed.
            return

    def waiting(self) -> int:
        """Jobs in the queue."""
        with translated():
            return int(self._queue.count)


def living_workers(client: redis.Redis) -> int:
    """Worker processes whose heartbeat is fresh."""
    with translated():
        return sum(1 for _ in client.scan_iter(match="tw:worker:*", count=1000))
