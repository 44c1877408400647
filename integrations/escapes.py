"""The self-test: attacks on a real box, judged from outside by what was planted there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph.errors import SandboxFailed
from graph.ports import Workspace
from integrations import probe
from integrations.bubblewrap import interpreter
from integrations.cells import Cell, Driver, Raw, Request

_REMEDIES = {
    "make a user namespace": "use bubblewrap 0.8 or newer on a machine with a system call filter",
    "call io_uring, keyctl, bpf, perf or userfaultfd": (
        "use a machine with a system call filter (x86_64 or aarch64), or an engine with its default seccomp profile"
    ),
}
_REMEDY = "do not start; use another sandbox driver, and report this"
START = "start a box"
TREE = "leave a process behind"


@dataclass(frozen=True)
class Finding:
    """One attack. `ok`: the box held."""

    name: str
    ok: bool
    detail: str
    remedy: str


@dataclass
class _Trap:
    """What is planted outside."""

    given: dict[str, Any]
    secret: str
    victim: subprocess.Popen[bytes]
    listeners: dict[str, socket.socket]
    environments: set[str]

    def reached(self, name: str) -> bool:
        try:
            self.listeners[name].accept()[0].close()
        except BlockingIOError:
            return False
        return True


def _listener(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(8)
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def _trap(folder: Path, short: Path) -> Iterator[_Trap]:
    mark = secrets.token_hex(8)
    secret = f"secret-{secrets.token_hex(16)}"
    outside = folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)  # so that nothing but the box keeps the attacker out
    (folder / "secret").write_text(secret)
    (folder / "secret").chmod(0o644)
    with contextlib.ExitStack() as stack:
        listeners = {
            "tcp": stack.enter_context(_listener(socket.AF_INET, ("127.0.0.1", 0))),
            "abstract": stack.enter_context(_listener(socket.AF_UNIX, f"\0threadwright-{mark}")),
            "path": stack.enter_context(_listener(socket.AF_UNIX, str(short / "socket"))),
        }
        (short / "socket").chmod(0o777)
        victim = subprocess.Popen(
            ["/bin/sh", "-c", "read -r line", f"victim-{mark}"], stdin=subprocess.PIPE, env={"SECRET": secret},
        )  # fmt: skip
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        if victim.stdin is not None:
            stack.callback(victim.stdin.close)
        given = {
            "secret": str(folder / "secret"), "outside": str(outside), "tcp": listeners["tcp"].getsockname()[1],
            "abstract": f"threadwright-{mark}", "path": str(short / "socket"), "victim": victim.pid, "mark": mark,
        }  # fmt: skip
        environments = {
            hashlib.sha256(Path(f"/proc/{pid}/environ").read_bytes()).hexdigest() for pid in (os.getpid(), victim.pid)
        }
        yield _Trap(given, secret, victim, listeners, environments)


def _judge(trap: _Trap, results: dict[str, Any]) -> list[Finding]:
    """What the attacker says and what the trap shows: either is enough."""
    shows: dict[str, Callable[[Any], Any]] = {
        "read a file of the operator": lambda said: said == trap.secret,
        "read the environment of the bot": lambda said: bool(trap.environments & set(said or ())),
        "write outside the checkout": bool,
        "reach a TCP port of the host": lambda said: said or trap.reached("tcp"),
        "reach an abstract unix socket of the host": lambda said: said or trap.reached("abstract"),
        "reach a unix socket of the host by its path": lambda said: said or trap.reached("path"),
        "trace or kill the bot": lambda said: said or trap.victim.poll() is not None,
    }
    findings = []
    for name in probe.ATTACKS:
        said = results.get(name)
        escaped = name not in results or bool(shows.get(name, bool)(said))
        told = f" ({', '.join(map(str, said))})" if isinstance(said, list) and "environment" not in name else ""
        detail = f"a command in the box could {name}{told}" if escaped else "refused"
        findings.append(Finding(name, not escaped, detail, _REMEDIES.get(name, _REMEDY) if escaped else ""))
    return findings


def attack(driver: Driver, state_dir: Path) -> list[Finding]:
    """Raises SandboxFailed when no box starts or the attacker cannot be run in it."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="self-test-", dir=state_dir))
        folder.chmod(0o755)
        short = Path(tempfile.mkdtemp(prefix="tw-"))  # a socket's path ends at 108 bytes
        short.chmod(0o755)
    except OSError as exc:
        raise SandboxFailed(f"the self-test has no place to work in: {exc}") from exc
    try:
        mirror, root = folder / "mirror.git", folder / "workspace"
        mirror.mkdir(mode=0o755)
        cell = driver.start(Workspace("self-test", root, mirror, ""))
        try:
            with _trap(folder, short) as trap:
                return [Finding(START, True, "started", ""), *_judge(trap, _probe(cell, trap)), _leave_behind(cell)]
        finally:
            cell.close()
    except OSError as exc:
        raise SandboxFailed(f"the self-test could not be prepared: {exc}") from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(short, ignore_errors=True)


def _probe(cell: Cell, trap: _Trap) -> dict[str, Any]:
    source = Path(probe.__file__).read_bytes()
    python = "python3" if cell.mirror == "/mirror.git" and not _same_python(cell) else str(interpreter())
    given = json.dumps({**trap.given, "mirror": cell.mirror})
    raw = _run(cell, (python, "-I", "-S", "-", given), source)
    try:
        results = json.loads(raw.head)
    except ValueError as exc:
        raise SandboxFailed(f"the self-test cannot run in the box: {raw.errors.decode(errors='replace')}") from exc
    if not isinstance(results, dict):
        raise SandboxFailed("the self-test's attacker answered with nonsense")
    return results


def _same_python(cell: Cell) -> bool:
    return _run(cell, ("/bin/sh", "-c", '[ -x "$1" ]', "sh", str(interpreter()))).exit == 0


def _leave_behind(cell: Cell) -> Finding:
    """A daemon in a session of its own must be gone when its command is."""
    mark = f"9{secrets.randbelow(10**8):08d}"
    _run(cell, ("/bin/sh", "-c", f"setsid sleep {mark} > /dev/null 2>&1 < /dev/null & sleep 0.05"))
    look = f"for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; echo; done 2>/dev/null | grep -c '^sleep {mark}'"
    raw = _run(cell, ("/bin/sh", "-c", look))
    ok = raw.head.strip() == b"0"
    return Finding(TREE, ok, "refused" if ok else "a command could leave a process behind", "" if ok else _REMEDY)


def _run(cell: Cell, argv: tuple[str, ...], stdin: bytes = b"") -> Raw:
    return cell.execute(Request(argv, seconds=20, stdin=stdin, head=1 << 16, tail=0, apart=True, cwd=cell.root))
