"""Reading the mail: letter by letter, in the order of each thread, into requests for the desk; then what it answers.

A letter is gone when all that it causes is done. One that is broken off is begun again: the desk knows its event by
then, and what is posted is looked for first.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from bot.chat import DeskClosed, Letter, Mail, TryLater, Undeliverable

log = logging.getLogger(__name__)

LANES_AT_ONCE = 8
IDLE_SECONDS = 0.5
"""How often letters are looked for that another process has stored."""
AGAIN_SECONDS = 1.0
MOST_TRIES = 5
"""After so many errors that nobody foresaw, a letter holds its thread up no longer."""


class Handler(Protocol):
    def lane(self, letter: Letter) -> str:
        """Letters of one lane are handled one after another."""
        ...

    def order(self, letter: Letter) -> str:
        """What letters of a lane that wait at the same time are sorted by."""
        ...

    def handle(self, letter: Letter) -> float:
        """Do it; 0 when done, else seconds to wait. Raises TryLater, Undeliverable, DeskClosed."""
        ...


@dataclass
class _Lane:
    waiting: list[tuple[str, str, Letter]] = field(default_factory=list)
    busy: bool = False
    not_before: float = 0.0


class Reader:
    """Reads the mail of one workspace, while no other process does."""

    def __init__(self, mail: Mail, handler: Handler, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._mail = mail
        self._handler = handler
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._last = ""
        self._lock = threading.Lock()
        self._freed = mail.arrived

    def run(self, stop: threading.Event) -> None:
        with ThreadPoolExecutor(LANES_AT_ONCE, thread_name_prefix="reads") as pool:
            while not stop.is_set():
                self._freed.clear()
                try:
                    self._fetch()
                except DeskClosed:
                    stop.wait(AGAIN_SECONDS)
                    continue
                self._start(pool)
                self._freed.wait(self._pause())

    def _fetch(self) -> None:
        """New letters into their lanes. What another process reads is none of ours any more."""
        letters = self._mail.waiting(self._last)
        with self._lock:
            if letters is None:
                # Busy lanes end by themselves: what they do is done once, whoever does it.
                self._lanes = {name: _Lane(busy=True) for name, lane in self._lanes.items() if lane.busy}
                self._last = ""
                return
            for letter in letters:
                lane = self._lanes.setdefault(self._handler.lane(letter), _Lane())
                heapq.heappush(lane.waiting, (self._handler.order(letter), letter.id, letter))
                self._last = letter.id

    def _start(self, pool: ThreadPoolExecutor) -> None:
        now = self._clock()
        with self._lock:
            for name, lane in list(self._lanes.items()):
                if not lane.waiting and not lane.busy:
                    del self._lanes[name]
                elif lane.waiting and not lane.busy and lane.not_before <= now:
                    lane.busy = True
                    pool.submit(self._work, lane, heapq.heappop(lane.waiting)).add_done_callback(_told)

    def _work(self, lane: _Lane, item: tuple[str, str, Letter]) -> None:
        letter, again, foreseen = item[2], AGAIN_SECONDS, False
        try:
            self._mail.begin(letter.id)
            again = self._handler.handle(letter)
            if not again:
                self._mail.done(letter.id)
            foreseen = True
        except TryLater as exc:
            again, foreseen = exc.after, True
        except DeskClosed:
            foreseen = True
            log.warning("a letter waits: the store is away")
        except Undeliverable as exc:
            foreseen = True
            log.error("an answer could not be delivered: %s", exc)  # noqa: TRY400 - a sentence for the operator
            again = self._let_go(letter)
        finally:
            if not foreseen and letter.tries >= MOST_TRIES:
                log.error("a letter is left out after %d tries, so that its thread goes on", letter.tries + 1)
                again = self._let_go(letter)
            with self._lock:
                if again:
                    tried = Letter(letter.id, letter.at, letter.payload, letter.tries + 1, letter.secrets)
                    heapq.heappush(lane.waiting, (item[0], item[1], tried))
                    lane.not_before = self._clock() + again
                lane.busy = False
            self._freed.set()

    def _let_go(self, letter: Letter) -> float:
        try:
            self._mail.done(letter.id)
        except DeskClosed:
            return AGAIN_SECONDS
        return 0.0

    def _pause(self) -> float:
        now = self._clock()
        with self._lock:
            due = [lane.not_before - now for lane in self._lanes.values() if lane.waiting and not lane.busy]
        return max(0.01, min([IDLE_SECONDS, *due]))


def _told(work: Future[None]) -> None:
    """An error that nobody foresaw: a pool keeps it to itself."""
    if (exc := work.exception()) is not None:
        log.error("a letter could not be dealt with", exc_info=exc)
