"""The loop that attends to one command: feeds it, reads it with a cap, and says why it ended. Standard library only:
it runs inside boxes too."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Literal

Ended = Literal["exit", "timeout", "output", "memory", "disk", "stopped"]
GRACE = 0.5
"""Seconds that the reader goes on after the command has ended, for a daemon may hold the pipe open."""
TICK = 0.5
"""Seconds between two looks at memory and disk."""
_CHUNK = 1 << 16


class Sink:
    """Keeps the first `head` and the last `tail` bytes of what it is given."""

    def __init__(self, head: int, tail: int) -> None:
        self._head_size, self._tail_size = head, tail
        self._head, self._tail = bytearray(), bytearray()
        self.total = 0

    def take(self, data: bytes) -> None:
        self.total += len(data)
        room = self._head_size - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data and self._tail_size:
            self._tail += data
            if len(self._tail) > 2 * self._tail_size + _CHUNK:
                del self._tail[: -self._tail_size]

    def head(self) -> bytes:
        return bytes(self._head)

    def tail(self) -> bytes:
        return bytes(self._tail[-self._tail_size :]) if self._tail_size else b""

    def dropped(self) -> int:
        return self.total - len(self._head) - len(self.tail())


class Attendant:
    """Feeds and reads one command until it ends, or until one of its limits does."""

    def __init__(
        self,
        sinks: dict[int, Sink],
        *,
        seconds: float,
        kill_bytes: int,
        leader_ended: Callable[[], bool],
        wake: int | None,
        stop: int,
        watch: Callable[[], Ended | None],
    ) -> None:
        self._sinks = sinks
        self._kill_bytes = kill_bytes
        self._leader_ended, self._wake, self._stop, self._watch = leader_ended, wake, stop, watch
        self._deadline = time.monotonic() + seconds
        self._next_look = time.monotonic() + TICK
        self._grace: float | None = None
        self._selector = selectors.DefaultSelector()
        self._stdin: tuple[int, memoryview] | None = None
        for fd in sinks:
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)
        for extra in (stop, wake):
            if extra is not None:
                self._selector.register(extra, selectors.EVENT_READ)

    def feed(self, fd: int, data: bytes) -> None:
        """Write `data` to `fd` while attending, then close it."""
        if not data:
            os.close(fd)
            return
        os.set_blocking(fd, False)
        self._stdin = (fd, memoryview(data))
        self._selector.register(fd, selectors.EVENT_WRITE)

    def attend(self) -> Ended:
        """Gives how the command ended: exit, timeout, output, memory, disk or stopped."""
        try:
            while True:
                ended = self._round()
                if ended:
                    return ended
        finally:
            self._close_stdin()
            self._selector.close()

    def _round(self) -> Ended | None:
        for key, _ in self._selector.select(self._patience()):
            if key.fd == self._stop:
                return "stopped"
            if key.fd == self._wake:
                self._selector.unregister(key.fd)
            elif self._stdin and key.fd == self._stdin[0]:
                self._write()
            else:
                self._read(key.fd)
        now = time.monotonic()
        if sum(sink.total for sink in self._sinks.values()) > self._kill_bytes:
            return "output"
        if self._grace is None and self._leader_ended():
            self._grace = now + GRACE
        if self._grace is not None and (now >= self._grace or not self._reading()):
            return "exit"
        if self._grace is None and now >= self._deadline:
            return "timeout"
        if now >= self._next_look:
            found = self._watch()
            self._next_look = time.monotonic() + max(TICK, 5 * (time.monotonic() - now))
            return found
        return None

    def _patience(self) -> float:
        if self._grace is not None:
            return max(0.0, self._grace - time.monotonic())
        patience = max(0.0, min(self._deadline, self._next_look) - time.monotonic())
        return patience if self._wake is not None else min(patience, 0.02)

    def _reading(self) -> bool:
        registered = self._selector.get_map()
        return any(fd in registered for fd in self._sinks)

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._sinks[fd].take(data)
        else:
            self._selector.unregister(fd)

    def _write(self) -> None:
        if self._stdin is None:
            return
        fd, left = self._stdin
        try:
            self._stdin = (fd, left[os.write(fd, left) :])
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._stdin = (fd, left[:0])
        if not self._stdin[1]:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            self._selector.unregister(self._stdin[0])
            os.close(self._stdin[0])
            self._stdin = None
