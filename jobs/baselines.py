"""How checks ended on base commits, for later tasks. Facts about a commit, not a turn's state: so they need no lease,
and two workers that write the same write the same."""

from __future__ import annotations

import zlib

import redis
from pydantic import ValidationError

from graph.values import CheckResult
from integrations.redisserver import translated


class KeptBaselines:
    """Implements `graph.ports.Baselines`. `seconds`: how long one is kept after its last use."""

    def __init__(self, client: redis.Redis, seconds: int) -> None:
        self._redis, self._seconds = client, seconds

    def find(self, key: str) -> CheckResult | None:
        with translated():
            found = self._redis.getex(f"tw:baseline:{key}", ex=self._seconds)
        if not isinstance(found, bytes):
            return None
        try:
            return CheckResult.model_validate_json(zlib.decompress(found))
        except (ValidationError, zlib.error):
            # Of another release: it is made anew.
            return None

    def keep(self, key: str, result: CheckResult) -> None:
        with translated():
            packed = zlib.compress(result.model_dump_json().encode())
            self._redis.set(f"tw:baseline:{key}", packed, ex=self._seconds)
