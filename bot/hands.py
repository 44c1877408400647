"""Who works while a command runs in the terminal: others, or a worker of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bot.cli import CannotGoOn
from bot.session import LOOK_EVERY

ALIVE_EVERY = 1.0
"""Seconds between two looks whether anybody still works."""
START_SECONDS = 30.0
"""How long a worker of our own may take until it works."""
JOIN_SECONDS = 20.0


class Hands:
    """Others work while they live; when nobody does, `start` starts a worker of our own, once.

    Workers of others may go at any time: the command that started them has ended, or they were killed and are only
    remembered for a while.
    """

    def __init__(
        self,
        alive: Callable[[], bool],
        start: Callable[[], None],
        *,
        log: str = "",
        within: float = START_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.others = True
        self._alive = alive
        self._start = start
        self._log = log
        self._within = within
        self._clock = clock
        self._next = self._give_up = 0.0
        self._started = False

    def wait(self) -> None:
        """Pass the time between two looks at a task. Raises what `look` raises."""
        time.sleep(LOOK_EVERY)
        if self._clock() >= self._next:
            self.look()

    def look(self) -> None:
        """See to it that somebody works. Raises CannotGoOn when our own worker does not come up within `within` s."""
        self._next = self._clock() + ALIVE_EVERY
        if self._started:
            return  # whoever supervises it restarts it
        alive = self._alive()
        if self.others:
            if not alive:
                self.others = False
                self._start()
                self._give_up = self._clock() + self._within
        elif alive:
            self._started = True
        elif self._clock() > self._give_up:
            raise CannotGoOn(
                f"No worker could start. `threadwright doctor` and {self._log} say why. What you said is kept."
            )


@contextmanager
def watched(hands: Hands, problems: tuple[type[Exception], ...], say: Callable[[str], object]) -> Iterator[None]:
    """Look every second, beside a person who types. What goes wrong is said, once in the same words."""
    stop = threading.Event()

    def watch() -> None:
        said = ""
        while not stop.wait(ALIVE_EVERY):
            try:
                hands.look()
            except problems as exc:
                if str(exc) != said:
                    said = str(exc)
                    say(said)
            else:
                said = ""

    thread = threading.Thread(target=watch, name="hands", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)
