"""The sandbox: boxes in which a task's commands, file tools and git run, over one of the drivers.

`choose` never falls back: a driver that does not work is an error with a remedy. `verify` attacks one box.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graph.errors import BadInput, Misconfigured, SandboxFailed, Stopped, TreeRefused
from graph.ports import Halt, TreePack, Workspace
from graph.values import Outcome
from integrations import boxgit, escapes
from integrations.bareprocess import BareProcess
from integrations.bubblewrap import Bubblewrap
from integrations.cells import BoxLimits, Cell, Driver, Raw, Request
from integrations.containers import Containers
from integrations.escapes import Finding
from integrations.toolchains import box_path, toolchains

__all__ = ["BoxLimits", "BoxSandbox", "Finding", "ShellBox", "choose", "toolchains", "verify"]

_NO_FILE, _IS_FOLDER = 44, 45


class ShellBox:
    """A `graph.ports.Box` over a driver's cell. Verbs may be called from several threads at once.

    Every verb raises SandboxFailed when the box is gone, and Stopped once the halt flag is set; a `run` that the flag
    breaks off gives an outcome that ended as "stopped".
    """

    def __init__(self, cell: Cell, workspace: Workspace, limits: BoxLimits, halt: Halt | None) -> None:
        self._cell, self._limits, self._halt = cell, limits, halt
        if halt is not None:
            halt.on_set(cell.stop)
        try:
            opened = self._script(boxgit.OPEN, cell.mirror, workspace.commit)
        except BaseException:
            cell.close()
            raise
        if opened.exit != 0:
            cell.close()
            raise SandboxFailed(f"the checkout could not be made: {_why(opened)}")
        self._shell = os.fsdecode(opened.head.rsplit(b"\n", 2)[-2])

    def run(
        self,
        command: str,
        *,
        timeout: float | None = None,
        stdin: bytes = b"",
    ) -> Outcome:
        if "\0" in command:
            raise BadInput("a command cannot hold a NUL character")
        limits = self._limits
        raw = self._execute(
            Request(
                argv=(self._shell, "-c", command),
                seconds=limits.command_seconds if timeout is None else timeout,
                stdin=stdin,
                head=limits.output_bytes // 2,
                tail=limits.output_bytes - limits.output_bytes // 2,
                kill=limits.output_kill,
            )
        )
        middle = f"\n[… {raw.dropped} bytes left out …]\n".encode() if raw.dropped else b""
        return Outcome(
            command=command.encode(errors="replace").decode(),
            exit=raw.exit,
            seconds=raw.seconds,
            output=(raw.head + middle + raw.tail).decode(errors="replace"),
            dropped=raw.dropped,
            ended=raw.ended,
        )

    def read(self, path: str, *, limit: int = 1_000_000) -> bytes:
        """The first `limit` bytes of a file. Raises BadInput if there is no such file."""
        raw = self._tool(boxgit.READ, (_inside(path), str(limit)), keep=limit)
        if raw.exit == _NO_FILE:
            raise BadInput(f"there is no file {_shown(path)}")
        if raw.exit != 0:
            raise BadInput(f"{_shown(path)} cannot be read: {_why(raw)}")
        return raw.head

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file; folders on the way are made. Raises BadInput if that cannot be."""
        raw = self._tool(boxgit.WRITE, (_inside(path),), keep=0, stdin=data)
        if raw.exit == _IS_FOLDER:
            raise BadInput(f"{_shown(path)} is a folder")
        if raw.exit != 0:
            raise BadInput(f"{_shown(path)} cannot be written: {_why(raw)}")

    def export(self, base: str) -> TreePack:
        """Raises TreeRefused when git cannot take the tree, or when it is larger than `BoxLimits.export_bytes`."""
        raw = self._script(boxgit.EXPORT, self._cell.mirror, base, keep=self._limits.export_bytes)
        if raw.ended == "output":
            size = self._limits.export_bytes
            raise TreeRefused(f"the change is too large to leave the sandbox: its pack has more than {size} bytes")
        if raw.ended != "exit":
            raise SandboxFailed(f"the change could not be packed: {_why(raw)}")
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
            raise SandboxFailed(f"the checkout could not be made anew: {_why(made)}")

    def changed(self, base: str) -> list[str]:
        raw = self._script(boxgit.CHANGED, self._cell.mirror, base, keep=16 << 20)
        if raw.ended != "exit" or raw.exit != 0:
            raise SandboxFailed(f"git could not say what has changed: {_why(raw)}")
        return sorted({os.fsdecode(name) for name in raw.head.split(b"\0") if name})

    def close(self) -> None:
        self._cell.close()

    def _execute(self, request: Request) -> Raw:
        if self._halt is not None:
            self._halt.check()
        return self._cell.execute(request)

    def _tool(self, script: str, arguments: tuple[str, ...], *, keep: int, stdin: bytes = b"", cwd: str = "") -> Raw:
        """A script of ours, whose standard output is wanted whole, up to `keep` bytes."""
        raw = self._execute(
            Request(
                argv=("/bin/sh", "-c", script, "sh", *arguments),
                seconds=self._limits.open_seconds,
                stdin=stdin,
                head=keep,
                tail=0,
                kill=keep + 4096,
                apart=True,
                cwd=cwd,
                env={"GIT_OPTIONAL_LOCKS": "0"},
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
        return self._tool(script, arguments, keep=keep, cwd=self._cell.root)


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

    def for_turn(self, halt: Halt) -> BoxSandbox:
        """The same sandbox, whose boxes obey that flag."""
        return dataclasses.replace(self, halt=halt)

    def open(self, workspace: Workspace) -> ShellBox:
        """Raises SandboxFailed, Stopped."""
        if self.halt is not None:
            self.halt.check()
        return ShellBox(self.driver.start(workspace), workspace, self.driver.limits, self.halt)

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
            raise Misconfigured(f"The sandbox driver is {driver}, but there is no {driver} on the PATH: install it.")
        if not image:
            raise Misconfigured(f"The sandbox driver is {driver}: name the image of the boxes (SANDBOX_IMAGE).")
        return BoxSandbox(Containers(limits, program, image, unprivileged_uid, state_dir, driver), state_dir, halt)
    if driver == "process":
        if not process_accepted:
            raise Misconfigured(
                "Without a sandbox, commands of the repository and of the model run as you, with your files and your"
                " network. The driver `process` therefore needs a second setting that accepts this."
            )
        return BoxSandbox(BareProcess(limits, search_path, state_dir), state_dir, halt)
    raise Misconfigured(f"There is no sandbox driver {driver!r}: use auto, bubblewrap, docker, podman or process.")


_toolchains = toolchains
