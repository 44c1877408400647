"""Helpers for tests of Redis servers: real ones, and one that answers what a test wants."""

from __future__ import annotations

import os
import signal
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from integrations import redisserver
from integrations.redisserver import Server, connect


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def pid_of(server: Server) -> int:
    with connect(server.url) as client:
        return int(client.info("server")["process_id"])


def kill(server: Server) -> None:
    pid = pid_of(server)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not redisserver._answers(server.url))


def fake_server(folder: Path, says: str, name: str = "redis-server") -> str:
    """A PATH with a program that prints a version, and otherwise leaves a mark and fails."""
    folder.mkdir(parents=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{says}" && exit 0\ntouch {folder}/started\nexit 1\n')
    program.chmod(0o755)
    return str(folder)


def servers_of(home: Path) -> list[str]:
    """Process ids whose working folder is that server's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == home.resolve() / "redis":
                    found.append(entry.name)
            except OSError:
                continue
    return found


@contextmanager
def resp_server(answer: Callable[[list[str]], str | None]) -> Iterator[str]:
    """A server that speaks the protocol with answers of ours; what gets None for an answer gets silence.

    The client's greetings are answered as an old server would.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2].decode())
                words[0] = words[0].upper()
                greeting = {"HELLO": "-ERR unknown command 'HELLO'", "CLIENT": "-ERR unknown command 'CLIENT'"}
                reply = greeting.get(words[0]) or answer(words)
                if reply is not None:
                    self.wfile.write(reply.encode() + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
