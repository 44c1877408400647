"""The door's end inside of the box: what comes in at a port of loopback goes to a unix socket, and back.

`python -I -S boxdoor.py PORT SOCKET`; prints "ready" once it listens. Standard library only, one file, and one thread:
threads count as processes in a box. It decides nothing: whoever goes past it finds no other way out.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import sys

_CHUNK = 1 << 16
_PAIRS = 256
"""Connections at a time; more wait in the queue of the listening socket."""


class _Way:
    """One direction. Reads only when what it read before has been written: the slower side sets the pace."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.waiting = memoryview(b"")
        self.ended = False
        self.done = False

    def move(self) -> None:
        """Read or write as far as it goes without waiting. Raises OSError when a side is gone."""
        with contextlib.suppress(BlockingIOError):
            if not self.waiting and not self.ended:
                data = self.source.recv(_CHUNK)
                self.waiting = memoryview(data)
                self.ended = not data
            while self.waiting:
                self.waiting = self.waiting[self.target.send(self.waiting) :]
        if self.ended and not self.waiting and not self.done:
            self.done = True
            # The other direction may go on: a client may say that it has asked all.
            self.target.shutdown(socket.SHUT_WR)


class _Pair:
    """A client's connection and ours to the door."""

    def __init__(self, inner: socket.socket, outer: socket.socket) -> None:
        self.sockets = (inner, outer)
        self.ways = (_Way(inner, outer), _Way(outer, inner))

    def events(self, sock: socket.socket) -> int | None:
        """What there is to wait for at that socket; None for nothing, not even its end."""
        wanted = 0
        for way in self.ways:
            if way.source is sock and not way.waiting and not way.ended:
                wanted |= select.POLLIN
            if way.target is sock and way.waiting:
                wanted |= select.POLLOUT
        # The door has said all, but may still listen. Clients that keep a connection for later do not look whether it
        # has ended: unless we hear of the door's own end, such a pair would stay for ever.
        return wanted if wanted or (sock is self.sockets[1] and self.ways[1].done) else None

    def move(self, sock: socket.socket, event: int) -> bool:
        """False once the pair is of no more use."""
        try:
            for way in self.ways:
                way.move()
        except OSError:
            return False
        gone = sock is self.sockets[1] and event & (select.POLLHUP | select.POLLERR) and self.ways[1].done
        return not gone and not all(way.done for way in self.ways)


class _Forwarder:
    def __init__(self, listener: socket.socket, path: str) -> None:
        self._listener, self._path = listener, path
        self._poll = select.poll()
        self._pairs: dict[int, tuple[_Pair, socket.socket]] = {}
        self._listen()

    def run(self) -> None:
        while True:
            for fd, event in self._poll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._pairs:  # it may have ended in this very round
                    self._attend(*self._pairs[fd], event)

    def _listen(self) -> None:
        if len(self._pairs) < 2 * _PAIRS:
            self._poll.register(self._listener, select.POLLIN)

    def _pause(self) -> None:
        """Until a pair ends."""
        with contextlib.suppress(KeyError):
            self._poll.unregister(self._listener)

    def _attend(self, pair: _Pair, sock: socket.socket, event: int) -> None:
        going = pair.move(sock, event)
        for each in pair.sockets:
            events = pair.events(each) if going else None
            if events is not None:
                self._poll.register(each, events)
            else:
                with contextlib.suppress(KeyError):
                    self._poll.unregister(each)
        if not going:
            for each in pair.sockets:
                del self._pairs[each.fileno()]
                each.close()
            self._listen()

    def _accept(self) -> None:
        try:
            inner = self._listener.accept()[0]
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._pairs:
                self._pause()
            return
        outer = None
        try:
            outer = socket.socket(socket.AF_UNIX)
            for sock in (inner, outer):
                sock.setblocking(False)
            outer.connect(self._path)
        except OSError:
            inner.close()
            if outer is not None:
                outer.close()
            return
        pair = _Pair(inner, outer)
        for sock in pair.sockets:
            self._pairs[sock.fileno()] = (pair, sock)
        if len(self._pairs) >= 2 * _PAIRS:
            self._pause()
        self._attend(pair, inner, 0)


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(_PAIRS)
    listener.setblocking(False)
    print("ready", flush=True)
    _Forwarder(listener, path).run()


if __name__ == "__main__":
    main()
