"""What every sandbox driver gives: a cell, in which one command after the other (or beside the other) is run.

A `Cell` is the primitive; `sandbox.ShellBox` makes a `graph.ports.Box` of it. `InitCell` is the cell of the drivers
that have `boxinit` inside.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, Literal, Protocol, get_args

from graph.errors import SandboxFailed
from graph.ports import Workspace
from integrations import boxinit
from integrations.attend import Ended
from integrations.boxprocs import SWEEP_SECONDS

WhenFull = Literal["delete", "refuse", "run"]
"""What happens to a request in a workspace that is too full: it can write nothing, does not run, or runs."""
CLOSED = "The sandbox of this task was closed already."


class CellLost(SandboxFailed):
    """The cell died, by itself or by the command's doing. `began`: the command may have run."""

    def __init__(self, message: str, *, began: bool) -> None:
        super().__init__(message)
        self.began = began


@dataclass(frozen=True)
class BoxLimits:
    """Of one box. Seconds and bytes."""

    command_seconds: float = 120.0
    test_seconds: float = 600.0
    output_bytes: int = 64_000
    """Kept of a command's output: one half from the head, one from the tail."""
    output_kill: int = 8 << 20
    """A command that has printed this much is killed."""
    memory_bytes: int = 4 << 30
    """Data of one process (RLIMIT_DATA), and of all processes of a command together (looked at twice a second)."""
    processes: int = 512
    file_bytes: int = 1 << 30
    nofile: int = 4096
    tmp_bytes: int = 256 << 20
    disk_bytes: int = 4 << 30
    """Size of the workspace; looked at twice a second, so that a fast writer gets some way past it. While it is too
    large, commands can write to no file: deleting is all that works."""
    export_bytes: int = 50 << 20
    """Largest pack that may leave the box."""
    open_seconds: float = 600.0
    """For the clone when a box is opened, and for each git command of ours inside."""


@dataclass(frozen=True)
class Request:
    """One command. `stdin` is bytes; `head` and `tail` say how much of stdout is kept, `kill` when it is too much."""

    argv: tuple[str, ...]
    seconds: float
    stdin: bytes = b""
    head: int = 32_000
    tail: int = 32_000
    kill: int = 8 << 20
    apart: bool = False
    """Keep stderr out of stdout; its last 4 kB come back as `errors`."""
    cwd: str = ""
    """Empty: the checkout."""
    env: Mapping[str, str] = field(default_factory=dict)
    when_full: WhenFull = "delete"
    stays: bool = False
    """A service: nobody waits for its end, and the disk is looked at by the commands beside it."""


@dataclass(frozen=True)
class Raw:
    """How a request ended, as bytes."""

    ended: Ended
    exit: int | None
    seconds: float
    head: bytes
    tail: bytes
    dropped: int
    errors: bytes
    full: bool = False
    """The workspace was too full before, and still is."""
    killed: bool = False
    """The command killed the process that looked after it; the cell goes on. `ended` is "exit" then, and `exit` 137."""


class Cell(Protocol):
    root: str
    """The workspace's folder as commands see it; the checkout is `root + "/checkout"`."""
    mirror: str
    """The bare mirror as commands see it."""

    home: str
    """The home folder of commands."""
    deps: str
    """Where what was installed is seen."""

    def execute(self, request: Request) -> Raw:
        """Raises CellLost when the cell dies, SandboxFailed once it is closed."""
        ...

    def serve(self, request: Request) -> Raw:
        """The same for a command that stays, in a thread of its own; commands beside it do not end it."""
        ...

    def stop(self) -> None:
        """Kill what runs, and let nothing run any more. May be called from any thread."""
        ...

    def close(self) -> None: ...


class Driver(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def warning(self) -> str:
        """Shown in every result; empty for a driver that isolates."""
        ...

    @property
    def limits(self) -> BoxLimits: ...

    @property
    def identity(self) -> tuple[str, ...]:
        """What besides the machine decides which programs its boxes have."""
        ...

    def limited(self, limits: BoxLimits) -> Driver:
        """The same driver with other limits."""
        ...

    def start(self, workspace: Workspace) -> Cell:
        """Raises SandboxFailed."""
        ...

    def remedy(self, error: str) -> str:
        """What the operator can do about a cell that does not start with this error."""
        ...


def rlimits(limits: BoxLimits) -> dict[str, int]:
    # Not RLIMIT_AS: node and Java reserve far more addresses than they use.
    return {
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_DATA": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.nofile,
        "RLIMIT_CORE": 0,
    }


_spawners: dict[int, ThreadPoolExecutor] = {}


def spawner() -> ThreadPoolExecutor:
    """One thread that lives as long as the process: a box dies with the *thread* that spawned it, and others end.

    By process id, since threads do not survive a fork. One worker: what it runs it runs one after the other.
    """
    # setdefault is atomic, and an executor that loses the race has not started a thread yet.
    return _spawners.setdefault(os.getpid(), ThreadPoolExecutor(1, "box spawner"))


class InitCell:
    """A cell whose init is `boxinit`, reached over a socket pair."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, complaints: IO[bytes]) -> None:
        self._process, self._control, self._complaints = process, control, complaints
        self._lock = threading.Condition()
        self._running: set[socket.socket] = set()
        self._stopped = False
        self._closed = self._died = False
        self._free: int | None = None  # of the file system, when the workspace was last measured and not full
        self.base: dict[str, Any] = {}
        self.env: dict[str, str] = {}
        self.root = self.mirror = self.home = self.deps = ""

    @classmethod
    def launch(
        cls, popen: Callable[[socket.socket, IO[bytes]], subprocess.Popen[bytes]], seconds: float = 20
    ) -> InitCell:
        """Start the process that `popen` makes (standard input: the socket) and wait until its init says hello."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the cell
        try:
            process = popen(theirs, complaints)
        except BaseException:
            ours.close()
            complaints.close()
            raise
        finally:
            theirs.close()
        cell = cls(process, ours, complaints)
        ours.settimeout(seconds)
        try:
            hello = ours.recv(64)
        except OSError:
            hello = b""
        if hello != boxinit.HELLO:
            error = cell.complaint()
            cell.close()
            raise SandboxFailed(error or "it did not start, and said nothing about why")
        return cell

    def complaint(self) -> str:
        """What was written to standard error; never longer than 4 kB."""
        # pread: the processes inside share the file's position.
        return os.pread(self._complaints.fileno(), 4096, 0).decode(errors="replace").strip()

    def execute(self, request: Request) -> Raw:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                if self._closed:
                    if self._died:
                        raise CellLost("The sandbox died.", began=False)
                    raise SandboxFailed(CLOSED)
                if self._stopped:
                    return Raw("stopped", None, 0.0, b"", b"", 0, b"")
                if self._process.poll() is not None:
                    raise CellLost("The sandbox ended by itself.", began=False)
                self._hand_over(theirs)
                self._running.add(ours)
            try:
                return self._converse(ours, request)
            finally:
                with self._lock:
                    self._running.discard(ours)
                    self._lock.notify_all()

    def serve(self, request: Request) -> Raw:
        return self.execute(request)

    def _hand_over(self, theirs: socket.socket) -> None:
        rights = array.array("i", [theirs.fileno()])
        try:
            self._control.sendmsg([b"c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError as exc:
            detail = self.complaint()
            raise CellLost(f"The sandbox ended by itself{': ' + detail if detail else ''}.", began=False) from exc

    def _converse(self, ours: socket.socket, request: Request) -> Raw:
        # The init has its own deadline; ours is for an init that hangs. What comes back is hostile: sizes are checked.
        ours.settimeout(request.seconds + 15)
        text = json.dumps(self._order(request)).encode()
        try:
            with contextlib.suppress(BrokenPipeError):
                ours.sendall(struct.pack("!II", len(text), len(request.stdin)) + text)
                ours.sendall(request.stdin)
            (size,) = struct.unpack("!I", _read(ours, 4))
            if size > 4096:
                raise ValueError(size)
            answer = json.loads(_read(ours, size))
            return self._understand(answer, request, ours)
        except TimeoutError as exc:
            raise self._lost("The sandbox did not answer in time, and was closed.") from exc
        except (EOFError, ConnectionError) as exc:
            if self._stopped:
                return Raw("stopped", None, 0.0, b"", b"", 0, b"")
            raise self._lost("The sandbox died while a command ran in it.") from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise self._lost("The sandbox gave an answer that makes no sense, and was closed.") from exc

    def _lost(self, message: str) -> CellLost:
        self._died = True
        self._end()
        return CellLost(message, began=True)

    def _order(self, request: Request) -> dict[str, Any]:
        return {
            **self.base,
            "argv": list(request.argv),
            "cwd": request.cwd or f"{self.root}/checkout",
            "env": {**self.env, **request.env},
            "seconds": request.seconds,
            "head": request.head,
            "tail": request.tail,
            "kill_bytes": request.kill,
            "apart": request.apart,
            "when_full": request.when_full,
            "stays": request.stays,
            "free": self._free,
        }

    def _understand(self, answer: dict[str, Any], request: Request, ours: socket.socket) -> Raw:
        head, tail, errors = (int(size) for size in answer["parts"])
        if not (0 <= head <= request.head and 0 <= tail <= request.tail and 0 <= errors <= 4096):
            raise ValueError(answer["parts"])
        self._free = None if answer["free"] is None else int(answer["free"])
        if answer["ended"] == boxinit.KILLED:
            return Raw("exit", 137, 0.0, b"", b"", 0, b"", killed=True)
        if answer["ended"] not in get_args(Ended):
            raise ValueError(answer["ended"])
        exit_code = None if answer["exit"] is None else int(answer["exit"])
        return Raw(
            answer["ended"], exit_code, float(answer["seconds"]), _read(ours, head), _read(ours, tail),
            int(answer["dropped"]), _read(ours, errors), bool(answer["full"]),
        )  # fmt: skip

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for connection in self._running:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Stop what runs, then end the box."""
        self.stop()
        with self._lock:
            self._lock.wait_for(lambda: not self._running, SWEEP_SECONDS + 1)
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._control.close()  # the init ends at once, and with it everything inside
        self._process.kill()
        self._process.wait()
        self._complaints.close()


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = connection.recv(min(1 << 20, size - len(data)))
        if not more:
            raise EOFError
        data += more
    return bytes(data)
