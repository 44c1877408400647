"""What a platform pushed: stored before it is acknowledged, read in order by one process, gone once it is dealt with.

A crash between storing and dealing with it loses nothing: whoever reads next finds it. What a letter causes is done
under the keys of its event, so that dealing with it again does nothing twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

from bot.chat import DeskClosed, Letter, Place
from graph.errors import StoreUnavailable
from integrations.redisserver import translated
from jobs.sole import Sole
from jobs.tasks import SEEN_SECONDS, Tasks

READING_SECONDS = 5.0
SIGNED_SECONDS = 900
"""Longer than a signature is good for (five minutes either way)."""
CURSOR_SECONDS = 90 * 86_400

Redact = Callable[[str], tuple[str, Sequence[str]]]
"""Text to text without secrets, and their kinds."""
NOT_WORDS = frozenset({"response_url", "response_urls", "trigger_id", "url_private", "url_private_download", "token"})
"""Fields of payloads that look like secrets and are no words of a person."""


@contextmanager
def _open() -> Any:
    try:
        with translated():
            yield
    except StoreUnavailable as exc:
        raise DeskClosed("Redis does not take anything now.") from exc


class RedisMail:
    """Implements `bot.chat.Mail` for one platform and workspace."""

    def __init__(
        self,
        tasks: Tasks,
        platform: str,
        workspace: str,
        *,
        redact: Redact = lambda text: (text, ()),
        reading_seconds: float = READING_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tasks = tasks
        self._redis = tasks.redis
        self._name = f"{platform}/{workspace}"
        self._stream = f"tw:mail:{self._name}"
        self._tries = f"tw:mail-tries:{self._name}"
        self._cursors = f"tw:read-to:{self._name}"
        self._redact = redact
        self._now = now
        self.sole = Sole(tasks, f"tw:reads:{self._name}", reading_seconds)
        self.arrived = threading.Event()

    def keep(self, keys: Sequence[str], payload: dict[str, Any]) -> bool:
        if not keys:
            raise ValueError("a letter without a key would be taken in as often as it is sent")
        found: list[str] = []
        clean = self._without_secrets(payload, found)
        with _open():
            names = [self._stream, *(self._key(key) for key in keys)]
            body = json.dumps({"at": self._now(), "payload": clean, "secrets": list(dict.fromkeys(found))})
            fresh = bool(self._tasks.script("keep", names, [body, SEEN_SECONDS]))
        self.arrived.set()
        return fresh

    def waiting(self, after: str = "", count: int = 200) -> Sequence[Letter] | None:
        with _open():
            if not self.sole.hold():
                return None
            found = self._redis.xrange(self._stream, min=f"({after}" if after else "-", count=count)
            if not found:
                return []
            tries = self._redis.hmget(self._tries, [number for number, _ in found])
        letters = []
        for (number, fields), begun in zip(found, tries, strict=True):
            body = json.loads(fields[b"body"])
            kinds = tuple(body["secrets"])
            letters.append(Letter(number.decode(), body["at"], body["payload"], int(begun or 0), kinds))
        return letters

    def begin(self, letter: str) -> None:
        with _open():
            self._redis.hincrby(self._tries, letter, 1)

    def done(self, letter: str) -> None:
        with _open():
            pipe = self._redis.pipeline()
            pipe.xdel(self._stream, letter)
            pipe.hdel(self._tries, letter)
            pipe.execute()

    def came(self, key: str) -> bool:
        with _open():
            return bool(self._redis.exists(self._key(key)))

    def first(self, signature: str) -> bool:
        """True once: a signed request that comes again is a replay."""
        with _open():
            return bool(self._redis.set(f"tw:signed:{signature}", "1", nx=True, ex=SIGNED_SECONDS))

    def unseen(self, signature: str) -> None:
        """It was not stored after all."""
        with _open():
            self._redis.delete(f"tw:signed:{signature}")

    def read_to(self, place: Place) -> str:
        """The newest message of a place that was dealt with; empty if none was."""
        with _open():
            raw = self._redis.hget(self._cursors, place.key)
        return raw.decode() if raw else ""

    def has_read(self, place: Place, message: str) -> None:
        """Message ids must be such that later ones are greater as text."""
        with _open():
            self._tasks.script("greatest", [self._cursors], [place.key, message, CURSOR_SECONDS])

    def reactions(self, message: str) -> frozenset[tuple[str, str]]:
        with _open():
            found = self._redis.smembers(self._reactions(message))
        pairs = [raw.decode().partition(" ") for raw in found]
        return frozenset((who, how) for who, _, how in pairs)

    def reacted(self, message: str, who: str, how: str, *, there: bool) -> None:
        key = self._reactions(message)
        with _open():
            pipe = self._redis.pipeline()
            (pipe.sadd if there else pipe.srem)(key, f"{who} {how}")
            pipe.expire(key, CURSOR_SECONDS)
            pipe.execute()

    def _reactions(self, message: str) -> str:
        return f"tw:reactions:{self._name}/{message}"

    def _without_secrets(self, value: Any, found: list[str]) -> Any:
        if isinstance(value, str):
            clean, kinds = self._redact(value)
            found += kinds
            return clean
        if isinstance(value, list):
            return [self._without_secrets(item, found) for item in value]
        if isinstance(value, dict):
            return {k: v if k in NOT_WORDS else self._without_secrets(v, found) for k, v in value.items()}
        return value

    def _key(self, key: str) -> str:
        return f"tw:mailed:{self._name}/{key}"
