"""The init of a box, and the helper of one command. Runs inside the box: standard library and `attend` only.

The outside keeps one end of a control socket (this program's standard input). For every command it makes a socket pair
and sends one end here; a helper process is forked that speaks with the outside over it:

    outside -> helper   !II (length of the request, length of stdin), request as JSON, stdin
    helper -> outside   !I (length of the answer), answer as JSON, then the kept bytes that the answer counts

A socket that ends is an order to stop. Helpers are subreapers: whatever a command leaves behind becomes a child of its
helper, and is killed there without touching the commands beside it.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

from integrations.attend import Attendant, Ended, Sink

HELLO = b"threadwright box 1"
SWEEP_SECONDS = 5.0
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36


def _stat(pid: str) -> tuple[int, str] | None:
    """Parent and state of a process; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms of start-up here
            # The name, in parentheses, may itself hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), fields[0].decode()


def descendants(root: int) -> list[int]:
    """Processes under `root` that are not yet dead."""
    children: dict[int, list[tuple[int, str]]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (found := _stat(name)) is not None:
            children.setdefault(found[0], []).append((int(name), found[1]))
    living, todo = [], [root]
    while todo:
        for pid, state in children.get(todo.pop(), ()):
            todo.append(pid)
            if state not in "ZX":
                living.append(pid)
    return living


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _reap() -> bool:
    """Reap what has died. False once there is no child left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def sweep(leader: int) -> bool:
    """Kill every descendant of this process. False if some are still there after SWEEP_SECONDS."""
    deadline = time.monotonic() + SWEEP_SECONDS
    if not _reap():
        return True
    # Stop first: what is stopped cannot fork away from the scan.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGSTOP)
    stopped: set[int] = set()
    while time.monotonic() < deadline:
        new = [pid for pid in descendants(os.getpid()) if pid not in stopped]
        if not new:
            break
        _signal(new, signal.SIGSTOP)
        stopped.update(new)
    while time.monotonic() < deadline:
        _signal(descendants(os.getpid()), signal.SIGKILL)
        if not _reap():
            return True
        time.sleep(0.002)
    return False


def _private_bytes(pids: list[int]) -> int:
    """Memory of the processes; shared pages are counted only where the cheap sum is taken."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            fields = file.read().split()
            if len(fields) > 2:
                pages += int(fields[1]) - int(fields[2])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _proportional_bytes(pids: list[int]) -> int:
    """The exact sum: pages that forks share are counted once. Ten times dearer than `_private_bytes`."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            for line in file:
                if line.startswith((b"Pss:", b"SwapPss:")):
                    total += int(line.split()[1]) * 1024
    return total


def _folder_bytes(folder: str) -> int:
    """Allocated bytes under `folder`, links not followed."""
    total, todo = 0, [folder]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
    return total


class Watch:
    """Looks at what no rlimit bounds: the memory of all processes together, and the size of the workspace."""

    def __init__(self, folder: str, disk_bytes: int, memory_bytes: int) -> None:
        self._folder, self._disk, self._memory = folder, disk_bytes, memory_bytes
        self._free = self._free_bytes()

    def _free_bytes(self) -> int:
        room = os.statvfs(self._folder)
        return room.f_bfree * room.f_frsize

    def look(self) -> Ended | None:
        pids = descendants(os.getpid())
        if _private_bytes(pids) > self._memory and _proportional_bytes(pids) > self._memory:
            return "memory"
        return "disk" if _folder_bytes(self._folder) > self._disk else None

    def last_look(self) -> Ended | None:
        """After a command that ended between two looks: cheap unless the file system has visibly filled."""
        if self._free - self._free_bytes() < self._disk // 8:
            return None
        return "disk" if _folder_bytes(self._folder) > self._disk else None


def _exec(request: dict[str, Any], fds: tuple[int, int, int]) -> None:
    """In the child: become the command. Does not return."""
    try:
        os.setsid()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        for name, value in request["rlimits"].items():
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (limit, limit))
        for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(request["cwd"])
        os.execvpe(request["argv"][0], request["argv"], request["env"])  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot run {request['argv'][0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _start(request: dict[str, Any]) -> tuple[int, int, int, int]:
    """Fork the command. Gives its pid and our ends of stdin, stdout, stderr (-1 where stderr goes with stdout)."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe() if request["apart"] else (-1, out_write)
    pid = os.fork()
    if not pid:
        _exec(request, (in_read, out_write, err_write))
    os.close(in_read)
    os.close(out_write)
    if err_write != out_write:
        os.close(err_write)
    return pid, in_write, out_read, err_read


def run_request(request: dict[str, Any], stdin: bytes, stop: int) -> tuple[dict[str, Any], list[bytes]]:
    """Run one command, kill what it leaves behind, and give the answer with the bytes that belong to it."""
    began = time.monotonic()
    watch = Watch(request["watched"], request["disk_bytes"], request["memory_bytes"])
    pid, in_write, out_read, err_read = _start(request)
    leader = os.pidfd_open(pid)
    status: list[int] = []

    def reap_leader() -> bool:
        if not status:
            found, code = os.waitpid(pid, os.WNOHANG)
            if found:
                status.append(os.waitstatus_to_exitcode(code))
        return bool(status)

    out, err = Sink(request["head"], request["tail"]), Sink(0, 4096)
    sinks = {out_read: out} if err_read < 0 else {out_read: out, err_read: err}
    attendant = Attendant(
        sinks, seconds=request["seconds"], kill_bytes=request["kill_bytes"],
        leader_ended=reap_leader, wake=leader, stop=stop, watch=watch.look,
    )  # fmt: skip
    attendant.feed(in_write, stdin)
    ended = attendant.attend()
    seconds = time.monotonic() - began
    clean = sweep(pid)
    if ended == "exit":
        ended = watch.last_look() or ended
    exit_code = status[0] if status and ended == "exit" else None
    if exit_code is not None and exit_code < 0:
        exit_code = 128 - exit_code
    parts = [out.head(), out.tail(), err.tail()]
    answer = {
        "ended": ended, "exit": exit_code, "seconds": seconds, "dropped": out.dropped(), "clean": clean,
        "parts": [len(part) for part in parts],
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


def _help(connection: socket.socket) -> None:
    """A helper's whole life: one request, one answer."""
    # It does not die with the init: without namespaces, only it can end its command.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
    text = json.dumps(answer).encode()
    connection.sendall(struct.pack("!I", len(text)) + text + b"".join(parts))


def _requests(control: socket.socket) -> Iterator[socket.socket]:
    """The connections that the outside sends, until it hangs up."""
    fds = array.array("i")
    while True:
        data, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
        if not data:
            return
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received = array.array("i", payload[: fds.itemsize])
                connection = socket.socket(fileno=received[0])
                connection.set_inheritable(False)
                yield connection


def _wait_for_hangup(control: socket.socket) -> None:
    control.send(HELLO)
    for connection in _requests(control):
        if not os.fork():
            control.close()
            code = 1
            try:
                _help(connection)
                code = 0
            except EOFError:
                code = 0  # the outside went away before it had said what to do
            finally:
                os._exit(code)
        connection.close()


def main(*, die_with_parent: bool = False) -> None:
    """Serve until the outside hangs up. `die_with_parent`: for a box that no namespace ends."""
    if die_with_parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    control = socket.socket(fileno=os.dup(0))
    control.set_inheritable(False)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("500")  # when memory ends, the kernel takes a command and not the bot
    # Commands are of the same user: without this they could open our sockets through /proc.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _wait_for_hangup(control)


def program(folder: str, *, die_with_parent: bool = False) -> tuple[str, ...]:
    """Arguments of a Python interpreter that make it the init. `folder`: where the package `integrations` is."""
    call = f"main(die_with_parent={die_with_parent})"
    return (
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {folder!r}); from integrations.boxinit import main; {call}",
    )
