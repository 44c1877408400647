"""Processes of a box: finding and ending them. Runs inside the box: standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection

SWEEP_SECONDS = 5.0


def _stat(pid: str) -> tuple[int, str] | None:
    """Parent and state of a process; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms of start-up here
            # The name, in parentheses, may itself hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), fields[0].decode()


def descendants(root: int, spare: Collection[int] = ()) -> list[int]:
    """Processes under `root` that are not yet dead, without those of `spare` and what is under them."""
    children: dict[int, list[tuple[int, str]]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (found := _stat(name)) is not None:
            children.setdefault(found[0], []).append((int(name), found[1]))
    living, todo = [], [root]
    while todo:
        for pid, state in children.get(todo.pop(), ()):
            if pid in spare:
                continue
            todo.append(pid)
            if state not in "ZX":
                living.append(pid)
    return living


def send(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_all(find: Callable[[], list[int]], gone: Callable[[], bool]) -> bool:
    """Kill what `find` finds until `gone`. False if some are still there after SWEEP_SECONDS."""
    deadline = time.monotonic() + SWEEP_SECONDS
    # Stop first: what is stopped cannot fork away from the scan.
    stopped: set[int] = set()
    while time.monotonic() < deadline:
        new = [pid for pid in find() if pid not in stopped]
        if not new:
            break
        send(new, signal.SIGSTOP)
        stopped.update(new)
    while time.monotonic() < deadline:
        send(find(), signal.SIGKILL)
        if gone():
            return True
        time.sleep(0.002)
    return False


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
    if not _reap():
        return True
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGSTOP)
    return end_all(lambda: descendants(os.getpid()), lambda: not _reap())
