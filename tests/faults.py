"""Faults on purpose: a Redis connection that kills whoever uses it, and a model that looks before it repeats a thing.

Whoever sees the effect sends the signal. All that a turn does for good is framed by its writes to Redis, and workers of
these tests reach Redis through a `Wiretap`: it knows each write by name and task, and the process at the other end.
`before` kills it with the write unsent, `after` with the write done and its answer unheard.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rooms import House, Room, RoomChat

from bot.chat import Card, Place, Reply
from integrations import checkpoint_scripts, redisserver
from integrations.scriptedmodel import Answer, Request, Script, call, marked_role
from integrations.scriptedmodel import Reply as ModelReply
from jobs import scripts

TASK = re.compile(rb"\{(tw-[a-z0-9]{5})\}")
NAMES = {hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(): name for name, text in scripts.ALL.items()}
NAMES |= {checkpoint_scripts.PUT.sha: "put", checkpoint_scripts.PUT_WRITES.sha: "put_writes"}

When = Literal["before", "after", "during"]
Whom = Literal["turn", "worker"]


@dataclass(frozen=True)
class Kill:
    """SIGKILL at the `number`th write `label` of a task, to the process of the turn or to the worker above it.

    `during`: `later` seconds after the write was done, while whatever it announced goes on.
    """

    label: str
    when: When
    number: int = 1
    whom: Whom = "turn"
    later: float = 0.3

    def __str__(self) -> str:
        whom = "" if self.whom == "turn" else f" ({self.whom})"
        return f"{self.when} {self.label} {self.number}{whom}"


@dataclass
class Seen:
    """What one task wrote, and who died of it."""

    labels: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    killed: dict[Kill, float] = field(default_factory=dict)


class Wiretap:
    """A unix socket before a Redis. A context manager; `url` is for the workers alone."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._folder = tempfile.mkdtemp(prefix="tap-")
        self.path = Path(self._folder) / "s"
        self.url = f"unix://{self.path}"
        self.plans: dict[str, list[Kill]] = {}
        self.seen: dict[str, Seen] = {}
        self._lock = threading.Lock()
        with redisserver.connect(f"unix://{server}") as client:
            # Once they are known to the server, a write is one command.
            for text in (*scripts.ALL.values(), checkpoint_scripts.PUT.text, checkpoint_scripts.PUT_WRITES.text):
                client.script_load(text)
        self._ears = socket.socket(socket.AF_UNIX)
        self._ears.bind(str(self.path))
        self._ears.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ears.shutdown(socket.SHUT_RDWR)
        self._ears.close()
        self._thread.join(5)
        self.path.unlink()
        self.path.parent.rmdir()

    def turn_of(self, task: str) -> int:
        """Process id of the turn that wrote for the task last."""
        return self.seen[task].pids[-1]

    def kill(self, task: str, whom: Whom = "turn") -> None:
        """For those who see an effect elsewhere."""
        _kill(self.turn_of(task), whom)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._ears.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self._server))
            buffer = b""
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    said = server.recv(1 << 20)
                    if not said:
                        return
                    client.sendall(said)
                if client in ready:
                    said = client.recv(1 << 20)
                    if not said:
                        return
                    buffer += said
                    commands, buffer, whole = _commands(buffer)
                    if whole and not self._pass(commands, whole, server, pid):
                        return

    def _pass(self, commands: Sequence[list[bytes]], raw: bytes, server: socket.socket, pid: int) -> bool:
        """Send on what was asked. False: the one who asked is dead."""
        due = [kill for command in commands for kill in self._note(command, pid)]
        first = next((kill for kill in due if kill.when != "during"), None)
        if first is not None and first.when == "before":
            _kill(pid, first.whom)
            return False
        server.sendall(raw)
        if first is not None:
            server.recv(1 << 20)
            _kill(pid, first.whom)
            return False
        for kill in due:
            threading.Timer(kill.later, _kill, (pid, kill.whom)).start()
        return True

    def _note(self, command: list[bytes], pid: int) -> list[Kill]:
        label, task = label_of(command)
        if not label or not task:
            return []
        with self._lock:
            seen = self.seen.setdefault(task, Seen())
            seen.labels.append(label)
            seen.pids.append(pid)
            seen.times.append(time.monotonic())
            number = seen.labels.count(label)
            due = [k for k in self.plans.get(task, ()) if (k.label, k.number) == (label, number)]
            seen.killed.update({kill: time.monotonic() for kill in due})
        return due


class Sights:
    """Kills on what can be seen on disk: the first time that a condition holds, its task's turn dies."""

    def __init__(self, tap: Wiretap) -> None:
        self._tap = tap
        self._waiting: dict[str, tuple[str, Callable[[], bool], Callable[[], object]]] = {}
        self.fired: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def kill_when(
        self, name: str, task: str, true: Callable[[], bool], then: Callable[[], object] = lambda: None
    ) -> None:
        """`then` is done once the turn is dead."""
        self._waiting = {**self._waiting, name: (task, true, then)}

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _look(self) -> None:
        while not self._stop.wait(0.002):
            for name, (task, true, then) in self._waiting.items():
                if name not in self.fired and true():
                    self.fired.add(name)
                    self._tap.kill(task)
                    then()


def _kill(pid: int, whom: Whom) -> None:
    with suppress(ProcessLookupError, FileNotFoundError):
        if whom == "worker":
            status = Path(f"/proc/{pid}/status").read_text()
            pid = int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))
        os.kill(pid, signal.SIGKILL)


def label_of(command: Sequence[bytes]) -> tuple[str, str]:
    """The name of a write and the task it is for: ("note commit", "tw-…"). Empty strings for all else."""
    if not command or command[0].upper() != b"EVALSHA":
        return "", ""
    name = NAMES.get(command[1].decode(), "")
    task = TASK.search(b" ".join(command[3:5]))
    if name == "note":
        name = f"note {json.loads(command[-1])['kind']}"
    if name == "move":
        name = f"move {command[3 + int(command[2]) + 1].decode()}"
    if name == "post":
        name = f"post {command[3 + int(command[2]) + 1].decode().partition('-')[0]}"
    return name, task[1].decode() if task else ""


def _commands(buffer: bytes) -> tuple[list[list[bytes]], bytes, bytes]:
    """The whole commands at the start of `buffer`, the rest, and the bytes of the whole ones."""
    found, at = [], 0
    while (end := _command_end(buffer, at)) is not None:
        words, at = end
        found.append(words)
    return found, buffer[at:], buffer[:at]


def _command_end(buffer: bytes, at: int) -> tuple[list[bytes], int] | None:
    line = buffer.find(b"\r\n", at)
    if line < 0:
        return None
    count, at, words = int(buffer[at + 1 : line]), line + 2, []
    for _ in range(count):
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(buffer[at + 1 : line])
        at = line + 2
        if len(buffer) < at + size + 2:
            return None
        words.append(buffer[at : at + size])
        at += size + 2
    return words, at


# ---- a model that is careful


@dataclass(frozen=True)
class Deed:
    """One call that must happen once: `look` shows whether it did, `done` is seen in what `look` shows then."""

    answer: Answer
    look: Answer | None = None
    done: str = ""


def careful(deeds: Sequence[Deed], **others: Answer) -> Script:
    """Does one deed after the other. Told "Interrupted", it looks, and repeats only what has not been done.

    What it says follows from the conversation alone, so a request that comes again gets the same answer.
    """

    def script(request: Request) -> ModelReply:
        role = marked_role(request)
        if role != "coder":
            return others[role]
        return _next(deeds, _results(request.messages))

    return script


def _results(messages: Sequence[dict[str, Any]]) -> list[str]:
    """What each call of the conversation gave, in order; each answer has one call here."""
    return [str(message["content"]) for message in messages if message["role"] == "tool"]


def _next(deeds: Sequence[Deed], results: Sequence[str]) -> Answer:
    at, looking = 0, False
    for result in results:
        deed = deeds[at]
        if looking:
            looking = False
            at += deed.done in result
        elif deed.look is not None and "outcome is unknown" in result:
            looking = True
        else:
            at += 1
    if at >= len(deeds):
        raise AssertionError(f"the model was asked once more after {len(deeds)} deeds")
    look = deeds[at].look
    return look if looking and look is not None else deeds[at].answer


# ---- counting


class CountingChat(RoomChat):
    """Notes each call of `post`, also one that repeats a key."""

    def __init__(self, workspace: str) -> None:
        super().__init__(workspace)
        self.posts: list[str] = []

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        self.posts.append(kind_of(key))
        return super().post(place, what, key, again=again)


def kind_of(key: str) -> str:
    return key.partition(":")[2].partition("-")[0]


def counted(room: Room) -> CountingChat:
    """Give the room a chat that counts."""
    room.chat = chat = CountingChat(room.workspace)
    room.drainer = room.house.office.drainer(chat)
    return chat


def counts(items: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    """How often each of `wanted` is there; any other item counts under its own name."""
    return {item: items.count(item) for item in dict.fromkeys([*wanted, *items])}


def once(items: Sequence[str], wanted: Sequence[str]) -> str:
    """Empty when `items` are `wanted`, each once; else what is missing, doubled or foreign."""
    wrong = [f"{name!r}: {n} times" for name, n in counts(items, wanted).items() if n != (1 if name in wanted else 0)]
    return ", ".join(wrong)


def until(true: Callable[[], bool], what: str, seconds: float = 45.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not {what} within {seconds:g} s"
        time.sleep(0.005)


__all__ = [
    "CountingChat",
    "Deed",
    "House",
    "Kill",
    "Sights",
    "Wiretap",
    "call",
    "careful",
    "counted",
    "counts",
    "kind_of",
    "label_of",
    "once",
    "until",
]
