"""The sandbox: boxes in which a task's commands, file tools and git run, over one of the drivers.

`choose` never falls back: a driver that does not work is an error with a remedy. `verify` attacks one box.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graph.errors import BadInput, Misconfigured, SandboxFailed, Stopped, TreeRefused
from graph.ports import Halt, TreePack, Workspace
from graph.values import Outcome
from integrations import boxdeps, boxgit, escapes
from integrations.bareprocess import BareProcess
from integrations.bubblewrap import Bubblewrap, interpreter
from integrations.cells import CLOSED, BoxLimits, Cell, CellLost, Driver, Raw, Request, WhenFull
from integrations.containers import Containers
from integrations.escapes import Finding
from integrations.toolchains import box_path, toolchains

__all__ = ["BoxLimits", "BoxSandbox", "Finding", "ShellBox", "choose", "toolchains", "verify"]

_NO_FILE, _IS_FOLDER, _NOT_ORDINARY = 44, 45, 46
_FILE_SECONDS = 30.0
PYTHON = f'"$(command -v python3 || echo {interpreter()})"'
"""In a box's shell: a Python. Bubblewrap shows ours; the images of containers have one."""
_SERVICE_SECONDS = 7 * 86_400.0
"""Far longer than a turn: a service ends with its box."""
_AGAIN = "Try again; if it keeps happening, whoever runs Threadwright should run `threadwright doctor`."
_KILLED = "[the command killed the sandbox's own processes, and all of its own with them]\n"
_ANEW = "[the sandbox was started anew: the checkout is as it was left, what was in /tmp is gone]\n"
_FULL = (
    "[the workspace is full: delete something first. It holds more than the {size} MB that it may hold; until it does"
    " not, commands run but can write to no file]\n"
)


class ShellBox:
    """A `graph.ports.Box` over a driver's cell. Verbs may be called from several threads at once.

    Every verb raises SandboxFailed when the box is closed or does not start again, and Stopped once the halt flag is
    set; a `run` that the flag breaks off gives an outcome that ended as "stopped". A cell that dies is opened anew on
    the same workspace: a `run` that killed it gives exit code 137, the other verbs try once more.
    """

    def __init__(self, start: Callable[[], Cell], workspace: Workspace, limits: BoxLimits, halt: Halt | None) -> None:
        self._start, self._limits, self._halt = start, limits, halt
        self._staging = workspace.staging
        self._reopening = threading.Lock()
        self._closed = False
        self._cell = start()
        if halt is not None:
            halt.on_set(self._stop_cell)
        try:
            opened = self._script(boxgit.OPEN, self._cell.mirror, workspace.commit)
        except BaseException:
            self.close()
            raise
        if opened.exit != 0:
            self.close()
            raise SandboxFailed(f"The checkout could not be made: {_why(opened)}. {_AGAIN}")
        self._shell = os.fsdecode(opened.head.rsplit(b"\n", 2)[-2])
        self._services: dict[str, _Service] = {}
        self.scratch = f"{self._cell.root}/scratch"
        self.env: dict[str, str] = {}
        """For every command and service, besides what the driver gives."""
        if workspace.deps is not None and not workspace.staging:
            self._bring_in(str(workspace.deps))

    def _bring_in(self, mark: str) -> None:
        """Ignored files that the set-up made in its checkout, `node_modules` above all, once for each checkout."""
        deps = self._cell.deps
        argv = (self._shell, "-c", f'exec {PYTHON} -I - "$@"', "sh", "checkout", f"{deps}/tree", mark)
        request = Request(
            argv, seconds=self._limits.open_seconds, stdin=boxdeps.APPLY.encode(), head=4096, cwd=self._cell.root
        )  # fmt: skip
        raw = self._execute(request)
        if raw.exit != 0:
            why = raw.head.decode(errors="replace").strip()[-500:] or raw.ended
            raise SandboxFailed(f"What was installed could not be brought into the checkout: {why}. {_AGAIN}")

    def run(
        self,
        command: str,
        *,
        timeout: float | None = None,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        limits, began = self._limits, time.monotonic()
        request = Request(
            argv=self._line(command),
            seconds=limits.command_seconds if timeout is None else timeout,
            stdin=stdin,
            head=limits.output_bytes // 2,
            tail=limits.output_bytes - limits.output_bytes // 2,
            kill=limits.output_kill,
            env={**self.env, **(env or {})},
        )
        note = ""
        try:
            raw = self._execute(request, again=False)
        except CellLost:
            raw, note = Raw("exit", 137, 0.0, b"", b"", 0, b"", killed=True), _ANEW
        if raw.killed:
            note = _KILLED + note
        if raw.full:
            note += _FULL.format(size=limits.disk_bytes >> 20)
        if raw.killed:
            raw = dataclasses.replace(raw, seconds=time.monotonic() - began)
        return _outcome(command, raw, note)

    def serve(self, name: str, command: str, *, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> None:
        known = self._services.get(name)
        if known is not None and known.outcome is None:
            return
        request = Request(
            argv=self._line(command), seconds=_SERVICE_SECONDS, stdin=stdin, head=4_000, tail=12_000, kill=sys.maxsize,
            env={**self.env, **(env or {})}, stays=True,
        )  # fmt: skip
        self._services[name] = _Service(command, request, self._cell)

    def served(self, name: str) -> Outcome | None:
        if name not in self._services:
            raise BadInput(f"no service {name!r} was started")
        return self._services[name].outcome

    def left(self, name: str, *, limit: int = 16 << 20) -> bytes | None:
        raw = self._tool(boxgit.READ, (_inside(name), str(limit + 1)), keep=limit + 1, seconds=_FILE_SECONDS,
                         cwd=self.scratch)  # fmt: skip
        return raw.head if raw.exit == 0 and len(raw.head) <= limit else None

    def _line(self, command: str) -> tuple[str, ...]:
        if "\0" in command:
            raise BadInput("a command cannot hold a NUL character")
        return (self._shell, "-c", command)

    def read(self, path: str, *, limit: int = 1_000_000) -> bytes:
        """The first `limit` bytes of a file. Raises BadInput if there is no such file."""
        raw = self._tool(boxgit.READ, (_inside(path), str(limit)), keep=limit, seconds=_FILE_SECONDS)
        if raw.exit == _NO_FILE:
            raise BadInput(f"there is no file {_shown(path)}")
        if raw.exit != 0:
            raise BadInput(f"{_shown(path)} cannot be read: {_why(raw)}")
        return raw.head

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file; folders on the way are made. Raises BadInput if that cannot be."""
        raw = self._tool(boxgit.WRITE, (_inside(path),), keep=0, seconds=_FILE_SECONDS, stdin=data, when_full="refuse")
        if raw.exit == _IS_FOLDER:
            raise BadInput(f"{_shown(path)} is a folder")
        if raw.exit == _NOT_ORDINARY:
            raise BadInput(f"{_shown(path)} is not an ordinary file: it cannot be written")
        if raw.full:
            raise BadInput(f"{_shown(path)} cannot be written: the workspace is full, delete something first")
        if raw.exit != 0:
            raise BadInput(f"{_shown(path)} cannot be written: {_why(raw)}")

    def export(self, base: str) -> TreePack:
        """Raises TreeRefused when git cannot take the tree, or when it is larger than `BoxLimits.export_bytes`."""
        raw = self._script(boxgit.EXPORT, self._cell.mirror, base, keep=self._limits.export_bytes)
        if raw.ended == "output":
            size = self._limits.export_bytes
            raise TreeRefused(f"the change is too large to leave the sandbox: its pack has more than {size} bytes")
        if raw.ended != "exit":
            raise SandboxFailed(f"The change could not be packed: {_why(raw)}. {_AGAIN}")
        if raw.exit != 0:
            raise TreeRefused(f"git could not take the change: {_why(raw)}")
        tree, _, pack = raw.head.partition(b"\n")
        return TreePack(tree=tree.decode(errors="replace"), pack=pack)

    def reset(self, commit: str) -> None:
        """Ignored files (installed packages, build results) stay, as `changed` does not count them either."""
        done = self._script(boxgit.RESET, self._cell.mirror, commit)
        if done.exit == 0 and not self.changed(commit):
            return
        # Somebody broke the checkout's git folder: it is disposable.
        made = self._script(f"{boxgit.FORGET}\n{boxgit.OPEN}", self._cell.mirror, commit)
        if made.exit != 0:
            raise SandboxFailed(f"The checkout could not be made anew: {_why(made)}. {_AGAIN}")

    def changed(self, base: str) -> list[str]:
        raw = self._script(boxgit.CHANGED, self._cell.mirror, base, keep=16 << 20)
        if raw.ended != "exit" or raw.exit != 0:
            raise SandboxFailed(f"Git could not say what has changed in the checkout: {_why(raw)}. {_AGAIN}")
        return sorted({os.fsdecode(name) for name in raw.head.split(b"\0") if name})

    def close(self) -> None:
        with self._reopening:
            self._closed = True
            cell = self._cell
        cell.close()

    def _stop_cell(self) -> None:
        self._cell.stop()

    def _execute(self, request: Request, *, again: bool = True) -> Raw:
        """`again`: run the request once more, in a new cell, when the cell died. Else raises CellLost, the cell new.

        A cell that was dead before the request began is always made anew.
        """
        if self._halt is not None:
            self._halt.check()
        cell = self._cell
        try:
            return cell.execute(request)
        except CellLost as lost:
            self._reopen(cell)
            if lost.began and not again:
                raise
        return self._cell.execute(request)

    def _reopen(self, lost: Cell) -> None:
        with self._reopening:
            if self._closed:
                raise SandboxFailed(CLOSED)
            if self._cell is lost:  # else a command beside this one has done it
                lost.close()
                if self._staging:
                    # What is to be mounted lies in folders that the box could write to: it may have put links there.
                    self._closed = True
                    raise SandboxFailed("The box of the set-up died.")
                self._cell = self._start()
        if self._halt is not None and self._halt.is_set():
            self._cell.stop()  # it was set before the new cell was known
            self._halt.check()

    def _tool(
        self,
        script: str,
        arguments: tuple[str, ...],
        *,
        keep: int,
        seconds: float,
        stdin: bytes = b"",
        cwd: str = "",
        when_full: WhenFull = "run",
    ) -> Raw:
        """A script of ours, whose standard output is wanted whole, up to `keep` bytes."""
        raw = self._execute(
            Request(
                argv=("/bin/sh", "-c", script, "sh", *arguments),
                seconds=seconds,
                stdin=stdin,
                head=keep,
                tail=0,
                kill=keep + 4096,
                apart=True,
                cwd=cwd,
                env={"GIT_OPTIONAL_LOCKS": "0"},
                when_full=when_full,
            )
        )
        if raw.ended == "stopped":
            if self._halt is not None:
                self._halt.check()
            raise Stopped
        if raw.dropped and raw.ended == "exit":
            return dataclasses.replace(raw, ended="output", exit=None)
        return raw

    def _script(self, script: str, *arguments: str, keep: int = 4096) -> Raw:
        return self._tool(script, arguments, keep=keep, seconds=self._limits.open_seconds, cwd=self._cell.root)


class _Service:
    """A command that stays, and the thread that waits for its end."""

    def __init__(self, command: str, request: Request, cell: Cell) -> None:
        self.outcome: Outcome | None = None
        self._command, self._request, self._cell = command, request, cell
        threading.Thread(target=self._run, name="service", daemon=True).start()

    def _run(self) -> None:
        try:
            raw = self._cell.serve(self._request)
        except SandboxFailed as exc:
            raw = Raw("stopped", None, 0.0, str(exc).encode(), b"", 0, b"")
        self.outcome = _outcome(self._command, raw)


def _outcome(command: str, raw: Raw, note: str = "") -> Outcome:
    middle = f"\n[… {raw.dropped} bytes left out …]\n".encode() if raw.dropped else b""
    return Outcome(
        command=command.encode(errors="replace").decode(),
        exit=raw.exit,
        seconds=raw.seconds,
        output=note + (raw.head + middle + raw.tail).decode(errors="replace"),
        dropped=raw.dropped,
        ended=raw.ended,
    )


def _inside(path: str) -> str:
    parts = path.split("/")
    if not path or "\0" in path or path.startswith("/") or ".." in parts:
        raise BadInput(f"{_shown(path)} is not a path inside the repository")
    return f"./{path}"


def _shown(path: str) -> str:
    return repr(os.fsencode(path).decode(errors="replace"))


def _why(raw: Raw) -> str:
    reason = raw.errors.decode(errors="replace").strip()
    if raw.ended != "exit":
        ends = {
            "timeout": "it took too long", "output": "it printed too much", "memory": "memory ran out",
            "disk": "the workspace is larger than it may be", "stopped": "it was stopped",
        }  # fmt: skip
        return ends[raw.ended]
    return reason or f"exit code {raw.exit}"


@dataclass(frozen=True)
class BoxSandbox:
    """A `graph.ports.Sandbox`."""

    driver: Driver
    state_dir: Path
    halt: Halt | None = None

    @property
    def name(self) -> str:
        return self.driver.name

    @property
    def warning(self) -> str:
        """A sentence for every result; empty when commands are isolated."""
        return self.driver.warning

    def sized(self, disk_bytes: int) -> BoxSandbox:
        """The same sandbox, whose workspaces may be of that size."""
        limits = dataclasses.replace(self.driver.limits, disk_bytes=disk_bytes)
        return dataclasses.replace(self, driver=self.driver.limited(limits))

    def for_turn(self, halt: Halt) -> BoxSandbox:
        """The same sandbox, whose boxes obey that flag."""
        return dataclasses.replace(self, halt=halt)

    def open(self, workspace: Workspace) -> ShellBox:
        """Raises SandboxFailed, Stopped."""
        if self.halt is not None:
            self.halt.check()

        def start() -> Cell:
            try:
                return self.driver.start(workspace)
            except SandboxFailed as exc:
                raise SandboxFailed(
                    f"The sandbox ({self.name}) did not start: {str(exc).rstrip('.')}. {_AGAIN}"
                ) from exc

        return ShellBox(start, workspace, self.driver.limits, self.halt)

    def self_test(self) -> list[Finding]:
        """Attack a box of this driver: one finding an attack. Raises SandboxFailed when no box starts."""
        return escapes.attack(self.driver, self.state_dir)


def verify(sandbox: BoxSandbox) -> None:
    """Raises Misconfigured, with the remedy, when no box starts or when an attack gets out of one.

    The bare process driver was accepted by two settings with all that it does not stop: there only the start is tried.
    """
    try:
        findings = sandbox.self_test()
    except SandboxFailed as exc:
        raise Misconfigured(
            f"The sandbox ({sandbox.name}) does not start: {exc}. What to do: {sandbox.driver.remedy(str(exc))}."
        ) from exc
    holes = [finding for finding in findings if not finding.ok]
    if holes and not sandbox.warning:
        named = "; ".join(f"{hole.name}: {hole.detail}. What to do: {hole.remedy}" for hole in holes)
        raise Misconfigured(f"The sandbox ({sandbox.name}) does not hold. {named}.")


def choose(
    driver: str,
    *,
    limits: BoxLimits,
    state_dir: Path,
    search_path: str,
    unprivileged_uid: int,
    process_accepted: bool,
    toolchains: Sequence[Path] | None = None,
    image: str = "",
    halt: Halt | None = None,
) -> BoxSandbox:
    """The sandbox of that driver (auto, bubblewrap, docker, podman, process). Raises Misconfigured.

    `auto` is bubblewrap and nothing else. `toolchains`: folders (or programs) shown read-only, None for those of
    `search_path`. `process_accepted` is the second setting without which there is no bare process.
    """
    if driver in ("auto", "bubblewrap"):
        shown = _toolchains(search_path) if toolchains is None else list(toolchains)
        shown = [place for place in shown if place not in (state_dir, *state_dir.parents)]
        path = box_path(search_path, shown)
        return BoxSandbox(Bubblewrap(limits, shown, path, unprivileged_uid), state_dir, halt)
    if driver in ("docker", "podman"):
        program = shutil.which(driver, path=search_path)
        if program is None:
            raise Misconfigured(f"SANDBOX is {driver}, but there is no {driver} on the PATH: install it.")
        if not image:
            raise Misconfigured(f"SANDBOX is {driver}: set SANDBOX_IMAGE to the image of the boxes.")
        return BoxSandbox(Containers(limits, program, image, unprivileged_uid, state_dir, driver), state_dir, halt)
    if driver == "process":
        if not process_accepted:
            raise Misconfigured(
                "Without a sandbox, commands of the repository and of the model run as you, with your files and your"
                " network. SANDBOX=process therefore needs a second setting that accepts this:"
                " I_UNDERSTAND_THERE_IS_NO_SANDBOX=true."
            )
        return BoxSandbox(BareProcess(limits, search_path, state_dir), state_dir, halt)
    raise Misconfigured(
        f"There is no sandbox driver {driver!r}: set SANDBOX to auto, bubblewrap, docker, podman or process."
    )


_toolchains = toolchains
