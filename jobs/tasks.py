"""A task in Redis: its record, inbox, lease, fenced status, journal and deadlines.

Keys of one task carry its id as hash tag; the few shared ones (places, the sweeper's sets) do not. A task is found by
its id or by a place; a place has at most one open task. Every write of a turn carries the lease's token, and the
script that writes is the one that looks at the lease: between look and write there is nothing.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from redis.commands.core import Script

from bot.chat import Place
from graph.errors import LeaseLost, StoreUnavailable
from integrations.redisserver import translated
from jobs import scripts
from jobs.statuses import ENDED, Status, sources

SEEN_SECONDS = 7 * 86_400
"""How long an event id is remembered: longer than any platform redelivers."""

PARTS = ("inbox", "claimed", "journal", "effects", "posted", "outbox")
"""The keys of a task besides its record and its lease."""

ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"


def mint() -> str:
    """A task id that people can read aloud: no characters that look alike."""
    return "tw-" + "".join(secrets.choice(ALPHABET) for _ in range(5))


@dataclass(frozen=True)
class Entry:
    """One thing said to a task: words, answer, approved, revoked, rejected, finish, timer."""

    id: str
    kind: str
    by: str = ""
    name: str = ""
    text: str = ""
    sha: str = ""
    question: str = ""
    message: str = ""
    """Platform message id, so that an edit can replace words that nobody has read yet."""

    def dump(self) -> str:
        return json.dumps({k: v for k, v in self.__dict__.items() if v})

    @staticmethod
    def load(raw: bytes | str) -> Entry:
        return Entry(**json.loads(raw))


@dataclass(frozen=True)
class Taken:
    """What intake made of an event."""

    task: str
    fresh: bool
    """False: the event was known already."""
    wake: bool


@dataclass(frozen=True)
class Lease:
    task: str
    token: str


@dataclass(frozen=True)
class Beat:
    """What the heartbeat sees."""

    stop: str
    """Who wants it stopped; empty when nobody does."""
    words: int
    pause: bool


class Tasks:
    """All tasks of one Redis. Raises StoreUnavailable when Redis does not answer or does not take writes."""

    def __init__(self, client: redis.Redis, *, lease_seconds: float) -> None:
        # redis-py types each answer as the union of all its decodings; ours are bytes (`decode_responses=False`).
        self.redis: Any = client
        self.lease_ms = int(lease_seconds * 1000)
        self._scripts: dict[str, Script] = {name: client.register_script(text) for name, text in scripts.ALL.items()}

    def script(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run one of `jobs.scripts`. None from a fenced one: the lease is lost."""
        with translated():
            return self._scripts[name](keys=list(keys), args=list(args))

    # Intake

    def create(
        self, task: str, record: dict[str, str], place: Place, events: Iterable[str], *, at: float, retake: bool = False
    ) -> Taken:
        """A new task, unless one of `events` is known or the place has an open task (then that one is named).

        `retake`: `new` was said: the open task of the place is left alone and the new one becomes the place's.
        """
        keys = [self.key(task), f"tw:place:{place.key}", "tw:active", "tw:tasks", *(f"tw:seen:{e}" for e in events)]
        fields = [item for pair in record.items() for item in pair]
        found, fresh = self.script(
            "create", keys, [task, at, SEEN_SECONDS, int(retake), place.key, " ".join(sorted(ENDED)), *fields]
        )
        return Taken(found.decode(), bool(fresh), bool(fresh))

    def tell(self, task: str, entry: Entry, events: Iterable[str], *, wakes: Iterable[Status], at: float) -> Taken:
        """Put an entry into the inbox, once. A task in one of the statuses `wakes` goes back to running."""
        keys = [self.key(task), self.key(task, "inbox"), self.key(task, "lease"), "tw:due"]
        keys += [*(f"tw:seen:{e}" for e in events), "tw:active"]
        fresh, wake = self.script("tell", keys, [entry.dump(), SEEN_SECONDS, at, task, *wakes])
        return Taken(task, bool(fresh), bool(wake))

    def reopen(self, task: str, sources: Iterable[Status], *, at: float, retry: bool = False) -> bool:
        """A person goes on with a task that ended or waits, whoever is at it now. False: it is in no such status."""
        keys = [self.key(task), "tw:active", *(self.key(task, part) for part in PARTS)]
        return bool(self.script("reopen", keys, [at, task, "|".join(sources), "1" if retry else ""]))

    def replace_words(self, task: str, message: str, text: str | None) -> bool:
        """Replace (None: remove) words that no turn has claimed yet. False: they have been read."""
        keys = [self.key(task, part) for part in ("lease", "inbox", "claimed")]
        return bool(self.script("edit", keys, [message, "" if text is None else text, int(text is None)]))

    # The turn

    def take(self, task: str) -> Lease | None:
        """The lease, if nobody has it."""
        token = self.script("take", [self.key(task, "lease"), "tw:fence", self.key(task, "woken")], [self.lease_ms])
        return Lease(task, token.decode()) if token else None

    def beat(self, lease: Lease) -> Beat:
        """Renew the lease and look around. Raises LeaseLost."""
        task = lease.task
        answer = self.script(
            "beat",
            [self.key(task, "lease"), self.key(task), self.key(task, "inbox")],
            [lease.token, self.lease_ms],
        )
        if answer is None:
            raise LeaseLost(task)
        stop, pause, words = answer
        return Beat(stop=stop.decode(), words=int(words), pause=pause == b"1")

    def claim(self, lease: Lease) -> list[Entry]:
        """All of the inbox, and what an earlier turn claimed and never acknowledged, oldest first."""
        task = lease.task
        answer = self.script(
            "claim", [self.key(task, "lease"), self.key(task, "inbox"), self.key(task, "claimed")], [lease.token]
        )
        if answer is None:
            raise LeaseLost(task)
        return [Entry.load(raw) for raw in answer]

    def acknowledge(self, lease: Lease, count: int) -> None:
        """The oldest `count` claimed entries are in a checkpoint."""
        task = lease.task
        if (
            self.script("acknowledge", [self.key(task, "lease"), self.key(task, "claimed")], [lease.token, count])
            is None
        ):
            raise LeaseLost(task)

    def write(self, lease: Lease, **fields: str) -> None:
        """Fields of the record, fenced."""
        flat = [item for pair in fields.items() for item in pair]
        if self.script("write", [self.key(lease.task, "lease"), self.key(lease.task)], [lease.token, *flat]) is None:
            raise LeaseLost(lease.task)

    def release(self, lease: Lease) -> bool:
        """Let go; True when there is something to do again (entries came, or the status is still running)."""
        task = lease.task
        return bool(
            self.script("release", [self.key(task, "lease"), self.key(task), self.key(task, "inbox")], [lease.token])
        )

    def move(self, task: str, new: Status, *, at: float, lease: Lease | None = None, **fields: str) -> bool:
        """A legal move of the status. With a lease: fenced, raises LeaseLost; without: only while nobody has it.

        False when the status was another one than those from which `new` is legal.
        """
        flat = [item for pair in fields.items() for item in pair]
        keys = [self.key(task, "lease"), self.key(task), "tw:active", "tw:due"]
        args = [lease.token if lease else "", new, at, task, "|".join(sources(new)), "|".join(ENDED), *flat]
        answer = self.script("move", keys, args)
        if answer is None:
            raise LeaseLost(task)
        return bool(answer)

    # Journal: the log, and the effects that must not happen twice

    def note(self, lease: Lease, kind: str, **fields: Any) -> None:
        line = json.dumps({"at": time.time(), "kind": kind, **fields})
        task = lease.task
        if self.script("note", [self.key(task, "lease"), self.key(task, "journal")], [lease.token, line]) is None:
            raise LeaseLost(task)

    def begin(self, lease: Lease, key: str, what: str) -> str | None:
        task = lease.task
        answer = self.script("begin", [self.key(task, "lease"), self.key(task, "effects")], [lease.token, key, what])
        if answer == b"lost":
            raise LeaseLost(task)
        return None if answer is None else str(json.loads(answer).get("result", ""))

    def end(self, lease: Lease, key: str, result: str) -> None:
        task = lease.task
        done = json.dumps({"result": result})
        if self.script("end", [self.key(task, "lease"), self.key(task, "effects")], [lease.token, key, done]) is None:
            raise LeaseLost(task)

    def journal(self, task: str, after: int = 0, count: int = 1000) -> list[dict[str, Any]]:
        with translated():
            lines = self.redis.lrange(self.key(task, "journal"), after, after + count - 1)
        return [json.loads(line) for line in lines]

    # Looking

    def record(self, task: str) -> dict[str, str]:
        """All fields of the record; empty when there is no such task."""
        with translated():
            raw: dict[bytes, bytes] = self.redis.hgetall(self.key(task))
        return {k.decode(): v.decode() for k, v in raw.items()}

    def of_place(self, place: Place) -> str:
        """The newest task of a place, open or not; empty if none."""
        with translated():
            raw = self.redis.lindex(f"tw:place:{place.key}", -1)
        return raw.decode() if raw else ""

    def newest(self, count: int = 50) -> list[str]:
        """Ids, newest first; all of them when `count` is -1."""
        with translated():
            return [raw.decode() for raw in self.redis.zrevrange("tw:tasks", 0, count - 1 if count > 0 else -1)]

    def active(self) -> list[str]:
        with translated():
            return sorted(raw.decode() for raw in self.redis.smembers("tw:active"))

    def held(self, task: str) -> bool:
        with translated():
            return bool(self.redis.exists(self.key(task, "lease")))

    # Flags and deadlines

    def flag(self, task: str, **fields: str) -> bool:
        """Fields that anybody may set on a task that is there. False: it is gone."""
        flat = [item for pair in fields.items() for item in pair]
        return bool(self.script("flag", [self.key(task)], flat))

    def ask_to_stop(self, task: str, by: str) -> None:
        self.flag(task, stop=by or "somebody")

    def ask_to_pause(self, task: str, by: str) -> None:
        self.flag(task, pause="1", paused_by=by)

    def kept(self, task: str) -> None:
        """The work of a stopped task is on its branch: nothing is to be done for it any more."""
        with translated():
            pipe = self.redis.pipeline()
            pipe.hdel(self.key(task), "keep", "stop")
            pipe.srem("tw:active", task)
            pipe.execute()

    def clear(self, task: str, *fields: str) -> None:
        with translated():
            self.redis.hdel(self.key(task), *fields)

    def mark_moved(self, task: str) -> None:
        """It goes on in another repository: whoever stops it closes its draft."""
        self.flag(task, moved="1")

    def set_due(self, task: str, what: str, at: float) -> None:
        with translated():
            self.redis.zadd("tw:due", {f"{task}|{what}": at})

    def set_deadlines(self, task: str, deadlines: Iterable[tuple[str, float]]) -> None:
        """The deadlines of the open question, in place of those of an earlier one."""
        with translated():
            pipe = self.redis.pipeline()
            pipe.zrem("tw:due", *(f"{task}|{what}" for what in ("answer", "remind", "park")))
            for what, at in deadlines:
                pipe.zadd("tw:due", {f"{task}|{what}": at})
            pipe.execute()

    def due(self, now: float) -> list[tuple[str, str]]:
        with translated():
            raw = self.redis.zrangebyscore("tw:due", "-inf", now, start=0, num=100)
        found = [item.decode().partition("|") for item in raw]
        return [(task, what) for task, _, what in found]

    def not_due(self, task: str, what: str) -> None:
        with translated():
            self.redis.zrem("tw:due", f"{task}|{what}")

    def expire(self, task: str, seconds: int) -> bool:
        """The task is over: its keys go after `seconds`. False: it is not over (any more), and they stay."""
        keys = [self.key(task), *(self.key(task, part) for part in PARTS)]
        return bool(self.script("expire", keys, [seconds, "|".join(ENDED)]))

    def forget_gone(self) -> None:
        """Drop what still names tasks whose record has expired."""
        with translated():
            names = [raw.decode() for raw in self.redis.zrange("tw:tasks", 0, -1)]
            gone = [name for name in names if not self.redis.exists(self.key(name))]
            if gone:
                self.redis.zrem("tw:tasks", *gone)
                self.redis.srem("tw:active", *gone)
            for stream in self.redis.scan_iter(match="tw:messages:*"):
                for message, about in self.redis.hscan_iter(stream):
                    if not self.redis.exists(self.key(about.decode().partition("|")[0])):
                        self.redis.hdel(stream, message)

    @staticmethod
    def key(task: str, part: str = "") -> str:
        return f"tw:task:{{{task}}}:{part}" if part else f"tw:task:{{{task}}}"


def utc(stamp: str | float) -> datetime:
    return datetime.fromtimestamp(float(stamp), UTC)


__all__ = ["Beat", "Entry", "Lease", "StoreUnavailable", "Taken", "Tasks", "mint", "utc"]
