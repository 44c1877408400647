"""Attacks on a box, tried from inside it. Run by `escapes`; standard library only; prints one JSON object.

Given as JSON in the first argument: `secret` (a file outside), `outside` (a folder outside), `mirror` (as the box sees
it), `tcp` (a port of the host's loopback), `abstract` and `path` (unix sockets of the host), `victim` (pid) and `mark`
(an argument of the victim).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

_CALLS = {
    "x86_64": {"io_uring_setup": 425, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323},
    "aarch64": {"io_uring_setup": 425, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282},
}
_libc = ctypes.CDLL(None, use_errno=True)


def read_secret(given: dict[str, Any]) -> str:
    with open(given["secret"]) as file:  # noqa: PTH123
        return file.read()


def read_environments(_: dict[str, Any]) -> list[str]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                    found.append(hashlib.sha256(file.read()).hexdigest())
            except OSError:
                continue
    return found


def write_outside(given: dict[str, Any]) -> list[str]:
    written = []
    for folder in (given["outside"], given["mirror"], "/", "/usr", "/usr/bin", "/etc", "/dev", "/run"):
        path = os.path.join(folder, "threadwright-" + given["mark"])  # noqa: PTH118
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError:
            continue
        os.unlink(path)  # noqa: PTH108
        written.append(folder)
    return written


def _connect(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        connection.connect(address)
    return True


def reach_tcp(given: dict[str, Any]) -> bool:
    return _connect(socket.AF_INET, ("127.0.0.1", given["tcp"]))


def reach_abstract(given: dict[str, Any]) -> bool:
    return _connect(socket.AF_UNIX, "\0" + given["abstract"])


def reach_path(given: dict[str, Any]) -> bool:
    return _connect(socket.AF_UNIX, given["path"])


def make_namespace(_: dict[str, Any]) -> bool:
    pid = os.fork()
    if not pid:
        os._exit(0 if _libc.unshare(0x10000000) == 0 else 1)
    return os.waitpid(pid, 0)[1] == 0


def attack_victim(given: dict[str, Any]) -> list[str]:
    # Inside, the number may belong to another process: only the marked one is the victim.
    pid, done = given["victim"], []
    with open(f"/proc/{pid}/cmdline") as file:  # noqa: PTH123
        if given["mark"] not in file.read():
            return []
    if _libc.ptrace(16, pid, None, None) == 0:
        done.append("ptrace")
        os.waitpid(pid, 0x40000000)
        _libc.ptrace(17, pid, None, None)
    os.kill(pid, signal.SIGKILL)
    return [*done, "kill"]


def forbidden_calls(_: dict[str, Any]) -> list[str]:
    open_calls = []
    buffer = ctypes.create_string_buffer(4096)
    # Arguments that are wrong enough to do no harm, but are looked at only once the call is let in.
    arguments = {"keyctl": (0, -3, 1), "userfaultfd": (1,), "perf_event_open": (buffer, 0, -1, -1, 0)}
    for name, number in _CALLS.get(platform.machine(), {}).items():
        ctypes.set_errno(0)
        result = _libc.syscall(number, *arguments.get(name, (1, buffer, 0)))
        if result >= 0 or ctypes.get_errno() not in (1, 38, 13):
            open_calls.append(name)
        if result > 2 and name != "keyctl":
            os.close(result)
    return open_calls


ATTACKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "read a file of the operator": read_secret,
    "read the environment of the bot": read_environments,
    "write outside the checkout": write_outside,
    "reach a TCP port of the host": reach_tcp,
    "reach an abstract unix socket of the host": reach_abstract,
    "reach a unix socket of the host by its path": reach_path,
    "make a user namespace": make_namespace,
    "trace or kill the bot": attack_victim,
    "call io_uring, keyctl, bpf, perf or userfaultfd": forbidden_calls,
}


def main() -> None:
    given = json.loads(sys.argv[1])
    results: dict[str, Any] = {}
    for name, attack in ATTACKS.items():
        try:
            results[name] = attack(given)
        except OSError:
            results[name] = None
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
