"""The init of a box, and the helper of one command.

Runs inside the box: the standard library, and of this package the modules in `FILES`.

The outside keeps one end of a control socket (this program's standard input). For every command it makes a socket pair
and sends one end here; a helper process is forked that speaks with the outside over it:

    outside -> helper   !II (length of the request, length of stdin), request as JSON, stdin
    helper -> outside   !I (length of the answer), answer as JSON, then the kept bytes that the answer counts

A socket that ends is an order to stop. A command may kill its helper: then the init ends the command, and answers in
the helper's place. Helpers are subreapers: whatever a command leaves behind becomes a child of its
helper, and is killed there without touching the commands beside it.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import time
from typing import Any

from integrations.attend import Attendant, Ended, Sink
from integrations.boxprocs import descendants, end_all, send, sweep
from integrations.boxwatch import Watch

FILES = ("__init__.py", "attend.py", "boxprocs.py", "boxwatch.py", "boxinit.py")
"""Of the package `integrations`, what this program needs inside."""
HELLO = b"threadwright box 1"
KILLED = "killed"
"""How an answer of the init says that the helper did not live to give its own."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 4, 15, 36
# What a command may send to every process it sees without ending us; faults stay as they are.
_IGNORED = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGCHLD, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
    signal.SIGILL, signal.SIGTRAP, signal.SIGSYS,
}  # fmt: skip
_libc = ctypes.CDLL(None)


def _exec(request: dict[str, Any], rlimits: dict[str, int], fds: tuple[int, int, int]) -> None:
    """In the child: become the command. Does not return."""
    try:
        os.setsid()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        for name, value in rlimits.items():
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (limit, limit))
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)
        os.chdir(request["cwd"])
        os.execvpe(request["argv"][0], request["argv"], request["env"])  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot run {request['argv'][0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _start(request: dict[str, Any], rlimits: dict[str, int]) -> tuple[int, int, int, int]:
    """Fork the command. Gives its pid and our ends of stdin, stdout, stderr (-1 where stderr goes with stdout)."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe() if request["apart"] else (-1, out_write)
    pid = os.fork()
    if not pid:
        _exec(request, rlimits, (in_read, out_write, err_write))
    os.close(in_read)
    os.close(out_write)
    if err_write != out_write:
        os.close(err_write)
    return pid, in_write, out_read, err_read


def _watch(request: dict[str, Any]) -> Watch:
    return Watch(request["watched"], request["disk_bytes"], request["memory_bytes"], request["free"])


def _refusal(began: float) -> dict[str, Any]:
    seconds = time.monotonic() - began
    return {
        "ended": "disk", "exit": None, "seconds": seconds, "dropped": 0, "clean": True, "full": True, "free": None,
        "parts": [0, 0, 0],
    }  # fmt: skip


def run_request(request: dict[str, Any], stdin: bytes, stop: int) -> tuple[dict[str, Any], list[bytes]]:
    """Run one command, kill what it leaves behind, and give the answer with the bytes that belong to it.

    In a workspace that is too full to begin with, "when_full" decides: "refuse" runs nothing, "delete" runs a command
    that can write to no file (the size limit of files is 0) and ends as "disk" unless there is room afterwards, "run"
    is for scripts of ours, which may need room to make room.
    """
    began = time.monotonic()
    watch, rlimits = _watch(request), dict(request["rlimits"])
    if watch.full_before and not request["stays"]:
        if request["when_full"] == "refuse":
            return _refusal(began), []
        if request["when_full"] == "delete":
            rlimits["RLIMIT_FSIZE"] = 0
        else:
            watch.allow(request["disk_bytes"])
    pid, in_write, out_read, err_read = _start(request, rlimits)
    leader = os.pidfd_open(pid)
    status: list[int] = []

    def reap_leader() -> bool:
        if not status:
            found, code = os.waitpid(pid, os.WNOHANG)
            if found:
                status.append(os.waitstatus_to_exitcode(code))
        return bool(status)

    def look() -> Ended | None:
        send([os.getppid()], signal.SIGCONT)  # the command may have stopped the init
        return watch.look_at_memory() if request["stays"] else watch.look()

    out, err = Sink(request["head"], request["tail"]), Sink(0, 4096)
    sinks = {out_read: out} if err_read < 0 else {out_read: out, err_read: err}
    attendant = Attendant(
        sinks, seconds=request["seconds"], kill_bytes=request["kill_bytes"],
        leader_ended=reap_leader, wake=leader, stop=stop, watch=look,
    )  # fmt: skip
    attendant.feed(in_write, stdin)
    ended = attendant.attend()
    seconds = time.monotonic() - began
    clean = sweep(pid)
    send([os.getppid()], signal.SIGCONT)
    if ended == "disk":
        watch.free = None  # whatever the file system says
    last = watch.last_look()
    if ended == "exit" and not (watch.full_before and request["when_full"] == "run"):
        ended = last or ended
    exit_code = status[0] if status and ended == "exit" else None
    if exit_code is not None and exit_code < 0:
        exit_code = 128 - exit_code
    parts = [out.head(), out.tail(), err.tail()]
    answer = {
        "ended": ended, "exit": exit_code, "seconds": seconds, "dropped": out.dropped(), "clean": clean,
        "full": watch.full_before and last == "disk", "free": watch.free, "parts": [len(part) for part in parts],
    }  # fmt: skip
    return answer, parts


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = connection.recv(min(1 << 20, size - len(data)))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


def _pack(answer: dict[str, Any], parts: list[bytes]) -> bytes:
    text = json.dumps(answer).encode()
    return struct.pack("!I", len(text)) + text + b"".join(parts)


def _help(connection: socket.socket) -> None:
    """A helper's whole life: one request, one answer."""
    # It does not die with the init: without namespaces, only it can end its command.
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    sizes = struct.unpack("!II", _read_exactly(connection, 8))
    request = json.loads(_read_exactly(connection, sizes[0]))
    stdin = _read_exactly(connection, sizes[1])
    answer, parts = run_request(request, stdin, connection.fileno())
    if not answer["clean"]:
        # Processes that outrun the sweep end with the box.
        os.kill(os.getppid(), signal.SIGKILL)
        return
    connection.sendall(_pack(answer, parts))


class _Helpers:
    """The helpers that live, each with its connection: the outside hears of a dead one when its command is gone too."""

    def __init__(self) -> None:
        self._alive: dict[int, socket.socket] = {}
        self._ended: list[tuple[socket.socket, int]] = []

    def add(self, control: socket.socket, connection: socket.socket) -> None:
        pid = os.fork()
        if pid:
            self._alive[pid] = connection
            return
        control.close()
        for other in self._alive.values():
            other.close()
        code = 1
        try:
            _help(connection)
            code = 0
        except EOFError:
            code = 0  # the outside went away before it had said what to do
        finally:
            os._exit(code)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if not pid:
                    return
                if os.WIFSTOPPED(status):
                    if pid in self._alive:
                        os.kill(pid, signal.SIGKILL)
                elif pid in self._alive:
                    self._ended.append((self._alive.pop(pid), status))

    def _strangers(self) -> list[int]:
        """What the commands of dead helpers left to us."""
        return descendants(os.getpid(), self._alive)

    def _strangers_gone(self) -> bool:
        self._reap()
        return not self._strangers()

    def look_after(self) -> bool:
        """See who has ended. False if a dead helper's command could not be."""
        self._reap()
        while self._ended:
            connection, status = self._ended.pop()
            with connection:
                if not status:
                    continue
                if not end_all(self._strangers, self._strangers_gone):
                    return False
                answer = {"ended": KILLED, "exit": None, "seconds": 0, "dropped": 0, "full": False, "free": None}
                with contextlib.suppress(OSError):
                    connection.sendall(_pack({**answer, "parts": [0, 0, 0]}, []))
        return True


def _receive(control: socket.socket) -> socket.socket | None:
    """The connection that the outside sends; None when it has hung up."""
    fds = array.array("i")
    _, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            connection = socket.socket(fileno=array.array("i", payload[: fds.itemsize])[0])
            connection.set_inheritable(False)
            return connection
    return None


def _serve(control: socket.socket) -> None:
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # with a handler, stopped children are told of too
    helpers = _Helpers()
    control.send(HELLO)
    while True:
        ready, _, _ = select.select([control.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            if not helpers.look_after():
                return
        if control.fileno() in ready:
            connection = _receive(control)
            if connection is None:
                return
            helpers.add(control, connection)


def main(*, die_with_parent: bool = False) -> None:
    """Serve until the outside hangs up. `die_with_parent`: for a box that no namespace ends."""
    if die_with_parent:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    control = socket.socket(fileno=os.dup(0))
    control.set_inheritable(False)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("500")  # when memory ends, the kernel takes a command and not the bot
    # Commands are of the same user: without this they could open our sockets through /proc.
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # A test suite that cleans up with `pkill python` means its own.
    _libc.prctl(_PR_SET_NAME, b"threadwright", 0, 0, 0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # Orphans of a helper that was killed come to us.
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _serve(control)


def program(folder: str, *, die_with_parent: bool = False) -> tuple[str, ...]:
    """Arguments of a Python interpreter that make it the init. `folder`: where the package `integrations` is."""
    call = f"main(die_with_parent={die_with_parent})"
    return (
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {folder!r}); from integrations.boxinit import main; {call}",
    )
