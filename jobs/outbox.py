"""What is to be said, and the one who says it.

Turns and the desk only append: a reply enters once per key, a card replaces the card that has not been sent yet. The
process that listens to a platform drains: one drainer a platform and workspace, by lease; replies first, then cards.
Before a first post it is stored that it was begun: whoever drains after a crash in between has the adapter look for
the key before it posts again. A place that has to wait keeps its order and holds up no other.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from redis.exceptions import WatchError

from bot.chat import Ask, Author, Card, CardStep, Chat, Place, Reply, TryLater, Undeliverable
from graph.errors import LeaseLost, StoreUnavailable
from integrations.redisserver import translated
from jobs.sole import Sole
from jobs.tasks import Lease, Tasks
from jobs.wording import Post

log = logging.getLogger(__name__)

DRAIN_LEASE_SECONDS = 5.0
NO_SUCH_KEY = -2
"""Redis' answer to PTTL; -1: the key has no end."""
BEGUN = "?"
"""Stands before the time (seconds since 1970) where a message id will be: posting was begun, its end is not known."""
EDIT_SECONDS = 1.0
"""A card is edited at most this often; what happens in between is folded into the next edit."""


def dump_reply(reply: Reply) -> str:
    return json.dumps(asdict(reply), sort_keys=True)


def load_reply(raw: str | bytes) -> Reply:
    data = json.loads(raw)
    data["mentions"] = tuple(Author(**{**a, "roles": tuple(a["roles"])}) for a in data["mentions"])
    data["asks"] = tuple(Ask(a["text"], tuple(a["suggestions"]), a["assumption"]) for a in data["asks"])
    return Reply(**data)


def dump_card(card: Card) -> str:
    return json.dumps({**asdict(card), "since": card.since.isoformat()}, sort_keys=True)


def load_card(raw: str | bytes) -> Card:
    data = json.loads(raw)
    data["since"] = datetime.fromisoformat(data["since"])
    data["steps"] = tuple(CardStep(**step) for step in data["steps"])
    data["notes"] = tuple(data["notes"])
    return Card(**data)


def place_of(key: str) -> Place:
    platform, workspace, channel, thread = key.split("/", 3)
    return Place(platform, workspace, channel, thread)


class Outbox:
    """The writing end. `lease=None` writes only while no turn holds the task; `anyone=True` writes in any case."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def say(self, task: str, post: Post, *, lease: Lease | None = None, anyone: bool = False) -> bool:
        """True the first time for this key. Raises LeaseLost."""
        token = lease.token if lease else ("*" if anyone else "")
        keys = [self._tasks.key(task, "lease"), self._tasks.key(task, "outbox"), self._tasks.key(task)]
        answer = self._tasks.script("post", keys, [token, post.key, dump_reply(post.reply), task])
        if answer is None:
            raise LeaseLost(task)
        if answer:
            age_with_record(self._tasks, task, "outbox")
        return bool(answer)

    def amend(self, task: str, post: Post, *, lease: Lease | None = None) -> bool:
        """Replace what was said under the key: it is edited in place, or said anew where it has not been said yet."""
        keys = [self._tasks.key(task, "lease"), self._tasks.key(task, "outbox"), self._tasks.key(task)]
        token = lease.token if lease else "*"
        answer = self._tasks.script("amend", keys, [token, post.key, dump_reply(post.reply), task])
        if answer is None:
            raise LeaseLost(task)
        if answer:
            age_with_record(self._tasks, task, "outbox")
        return bool(answer)

    def said(self, task: str, key: str) -> Reply | None:
        with translated():
            raw = self._tasks.redis.hget(self._tasks.key(task, "outbox"), key)
        return load_reply(raw) if raw else None

    def keys(self, task: str) -> list[str]:
        with translated():
            return sorted(k.decode() for k in self._tasks.redis.hkeys(self._tasks.key(task, "outbox")))

    def show(self, task: str, card: Card, *, lease: Lease | None = None) -> None:
        """The newest card, for every place of the task."""
        keys = [self._tasks.key(task, "lease"), self._tasks.key(task)]
        token = lease.token if lease else "*"
        if self._tasks.script("card", keys, [token, dump_card(card), task]) is None:
            raise LeaseLost(task)


def age_with_record(tasks: Tasks, task: str, part: str) -> None:
    """A key written after its task's expiry was set has no end of its own: it gets the record's."""
    with translated():
        left = tasks.redis.pttl(tasks.key(task))
        if left > 0:
            tasks.redis.pexpire(tasks.key(task, part), left)
        elif left == NO_SUCH_KEY:
            tasks.redis.delete(tasks.key(task, part))


class _Lost(Exception):
    """Another process drains now."""


class Drainer:
    """The posting end, for one platform and workspace."""

    def __init__(
        self,
        tasks: Tasks,
        chat: Chat,
        *,
        edit_seconds: float = EDIT_SECONDS,
        lease_seconds: float = DRAIN_LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._redis = tasks.redis
        self._chat = chat
        self._stream = f"{chat.platform}/{chat.workspace}"
        self._edit_seconds = edit_seconds
        self._clock = clock
        self._edited: dict[str, float] = {}
        self._not_before = 0.0
        """For all of the workspace."""
        self._places: dict[str, float] = {}
        """By place: when something may be posted there again. What is in order there waits."""
        self._card_edits: dict[str, float] = {}
        """By card: when it may be edited again. Nothing else waits for that."""
        self._sole = Sole(tasks, f"tw:drain:{self._stream}", lease_seconds)

    def run(self, stop: threading.Event, *, idle: float = 0.2) -> None:
        """Drain until `stop` is set; a store that is away is waited for."""
        try:
            with self._sole.renewed():
                while not stop.is_set():
                    try:
                        busy = self.run_once()
                    except StoreUnavailable:
                        busy = 0
                    if not busy:
                        stop.wait(idle)
        finally:
            self.let_go()

    def run_once(self) -> int:
        """Post what is due now; how many posts and edits were made. 0 as well while another process drains."""
        if self._clock() < self._not_before or not self._sole.hold():
            return 0
        done = 0
        try:
            done += self._replies()
            for member in self._due():
                done += self._card_alone(member)
                done += self._replies()
        except _Lost:
            pass
        except TryLater as exc:
            self._not_before = self._clock() + exc.after
        return done

    def let_go(self) -> None:
        """Show the last cards, however soon after the edit before, and let others drain."""
        if self._sole.held and self._clock() >= self._not_before:
            self._edited.clear()
            try:
                for member in self._due():
                    self._card_alone(member)
            except (_Lost, TryLater) as exc:
                log.info("a card is left to the next drainer: %s", exc)
        self._sole.let_go()

    def _keep(self) -> None:
        """Before everything that others would see twice. Raises _Lost."""
        if not self._sole.hold():
            raise _Lost

    def _replies(self) -> int:
        """All that may be said now. Raises TryLater for what concerns the whole workspace."""
        done, queue = 0, f"tw:out:{self._stream}"
        while True:
            with translated():
                waiting = self._redis.lrange(queue, 0, -1)
            before, held = done, set[str]()
            for raw in waiting:
                item = json.loads(raw)
                place = item["place"]
                if place in held or self._waits(self._places, place):
                    held.add(place)
                    continue
                try:
                    self._deliver(item)
                except TryLater as exc:
                    held.add(place)
                    self._later(self._places, place, exc)
                    continue
                # Whoever holds the lease now may have delivered it too, and an equal item may be in the queue anew.
                self._keep()
                with translated():
                    self._redis.lrem(queue, 1, raw)
                done += 1
            if done == before:
                return done

    def _deliver(self, item: dict[str, Any]) -> None:
        task, key, place = item["task"], item["key"], item["place"]
        with translated():
            raw = self._redis.hget(self._tasks.key(task, "outbox"), key)
        if raw is None:
            return
        # The card comes first in a thread, whoever is quicker. Once it is there, its edits hold nothing up.
        if self._message(task, f"{place}|card") is None:
            self._card(task, place)
        self._say(task, place, key, load_reply(raw))

    def _due(self) -> list[str]:
        """Cards that may be sent now, longest untouched first."""
        with translated():
            members = sorted(raw.decode() for raw in self._redis.smembers(f"tw:cards:{self._stream}"))
        now = self._clock()
        edited = {member: self._edited.get(member, -1e9) for member in members}
        return sorted((m for m in members if now - edited[m] >= self._edit_seconds), key=edited.__getitem__)

    def _card_alone(self, member: str) -> int:
        """Raises TryLater for what concerns the whole workspace."""
        task, _, place = member.partition("|")
        new = self._message(task, f"{place}|card") is None
        waiting, name = (self._places, place) if new else (self._card_edits, member)
        if self._waits(waiting, name):
            return 0
        try:
            return self._card(task, place)
        except TryLater as exc:
            self._later(waiting, name, exc)
            return 0

    def _card(self, task: str, place: str) -> int:
        """Send the newest card of a task to one place, if it is not what is shown there already."""
        member = f"{task}|{place}"
        with translated():
            due = self._redis.sismember(f"tw:cards:{self._stream}", member)
            raw = self._redis.hget(self._tasks.key(task), "card")
        if not due:
            return 0
        if raw is None:
            with translated():
                self._redis.srem(f"tw:cards:{self._stream}", member)
            return 0
        self._say(task, place, "card", load_card(raw))
        self._edited[member] = self._clock()
        self._tasks.script("sent", [f"tw:cards:{self._stream}", self._tasks.key(task)], [member, raw])
        return 1

    def _say(self, task: str, place: str, key: str, what: Reply | Card) -> None:
        """Post it, or edit it where it was posted. Raises TryLater; what is undeliverable is noted."""
        field, where = f"{place}|{key}", place_of(place)
        known = self._message(task, field)
        self._keep()
        try:
            if known:
                self._chat.edit(where, known, what)
            else:
                self._post(task, field, where, what)
        except Undeliverable as exc:
            self._undeliverable(task, place, str(exc))

    def _post(self, task: str, field: str, place: Place, what: Reply | Card) -> None:
        mark, again = self._begin(task, field)
        try:
            message = self._chat.post(place, what, f"{task}:{field.partition('|')[2]}", again=again)
        except TryLater as exc:
            if not exc.unclear:
                self._forget(task, field, mark)
            raise
        except Undeliverable:
            self._forget(task, field, mark)
            raise
        self._remember(task, field, message)

    def _message(self, task: str, field: str) -> str | None:
        """Id of the message that was posted; None: none, or it is not known."""
        with translated():
            raw = self._redis.hget(self._tasks.key(task, "posted"), field)
        return None if raw is None or raw.startswith(BEGUN.encode()) else raw.decode()

    def _begin(self, task: str, field: str) -> tuple[str, bool]:
        """Store that posting is begun: the mark, and whether it was there."""
        posted, mark = self._tasks.key(task, "posted"), f"{BEGUN}{time.time():.3f}"
        with translated():
            if self._redis.hsetnx(posted, field, mark):
                age_with_record(self._tasks, task, "posted")
                return mark, False
            known = self._redis.hget(posted, field)
        return (known.decode() if known else mark), True

    def _forget(self, task: str, field: str, mark: str) -> None:
        """It was not posted: take the mark away, unless another drainer has written there meanwhile."""
        posted = self._tasks.key(task, "posted")
        with translated(), self._redis.pipeline() as pipe:
            try:
                pipe.watch(posted)
                if pipe.hget(posted, field) == mark.encode():
                    pipe.multi()
                    pipe.hdel(posted, field)
                    pipe.execute()
            except WatchError:
                log.info("another drainer is at %s", field)

    def _waits(self, until: dict[str, float], name: str) -> bool:
        if self._clock() < until.get(name, 0.0):
            return True
        until.pop(name, None)
        return False

    def _later(self, until: dict[str, float], name: str, exc: TryLater) -> None:
        if exc.everywhere:
            raise exc
        until[name] = self._clock() + exc.after
        log.info("%s waits %.0f s: %s", name, exc.after, exc)

    def _remember(self, task: str, field: str, message: str) -> None:
        with translated():
            pipe = self._redis.pipeline()
            pipe.hset(self._tasks.key(task, "posted"), field, message)
            where, _, key = field.rpartition("|")
            pipe.hset("tw:messages:" + self._stream, f"{place_of(where).channel}/{message}", f"{task}|{key}")
            pipe.execute()
        age_with_record(self._tasks, task, "posted")

    def _undeliverable(self, task: str, place: str, why: str) -> None:
        """Kept, told in the log and shown by `status`: nothing is dropped silently."""
        with translated():
            if self._redis.exists(self._tasks.key(task)):
                self._redis.hset(self._tasks.key(task), "undeliverable", f"{place}: {why}")


def message_of(tasks: Tasks, place: Place, message: str) -> tuple[str, str]:
    """Which task and post a platform's message is: ("tw-…", "card" or a reply's key); empty strings if not ours."""
    with translated():
        raw = tasks.redis.hget(f"tw:messages:{place.platform}/{place.workspace}", f"{place.channel}/{message}")
    if raw is None:
        return "", ""
    task, _, key = raw.decode().partition("|")
    return task, key
