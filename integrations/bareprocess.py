"""No sandbox: commands run as the bot's user. Only by two explicit settings, and every result says so."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from graph.errors import SandboxFailed
from graph.ports import Workspace
from integrations import boxinit
from integrations.bubblewrap import interpreter, make_root
from integrations.cells import BoxLimits, InitCell, rlimits, spawner
from integrations.stubs import GITCONFIG, IGNORE, environment, installed_environment


@dataclass(frozen=True)
class BareProcess:
    limits: BoxLimits
    search_path: str
    state_dir: Path
    name: str = "process"
    warning: str = (
        "Commands ran WITHOUT a sandbox: with the files, the network and the rights of the user that runs Threadwright."
    )

    @property
    def identity(self) -> tuple[str, ...]:
        return ()

    def limited(self, limits: BoxLimits) -> BareProcess:
        return dataclasses.replace(self, limits=limits)

    def remedy(self, error: str) -> str:  # noqa: ARG002 - of the driver's contract
        return "see the message above, or use the driver bubblewrap"

    def start(self, workspace: Workspace) -> InitCell:
        make_root(workspace.root, None)
        home = self._home()
        package = str(Path(boxinit.__file__).resolve().parent.parent)
        argv = (str(interpreter()), *boxinit.program(package, die_with_parent=True))
        nothing: dict[str, str] = {}

        def popen(theirs: socket.socket, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                argv,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                cwd="/",
                env=nothing,
                start_new_session=True,
            )

        cell = spawner().submit(InitCell.launch, popen).result()
        cell.root, cell.mirror = str(workspace.root.resolve()), str(workspace.mirror.resolve())
        cell.home, cell.deps = str(home), str(workspace.deps or "")
        installed: dict[str, str] = {}
        if workspace.deps is not None:
            installed = installed_environment(self.search_path, cell.deps, cell.root, staging=workspace.staging)
        cell.env = {
            **environment(self.search_path, str(home)),
            **installed,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        }
        # The kernel counts all processes of the user, not those of the box.
        others = sum(name.name.isdigit() for name in Path("/proc").iterdir())
        cell.base = {
            "rlimits": {**rlimits(self.limits), "RLIMIT_NPROC": others + self.limits.processes},
            "watched": cell.root, "disk_bytes": self.limits.disk_bytes, "memory_bytes": self.limits.memory_bytes,
        }  # fmt: skip
        return cell

    def _home(self) -> Path:
        home = self.state_dir / f"process-home-{os.getuid()}"
        try:
            home.mkdir(parents=True, exist_ok=True)
            (home / "gitignore").write_text(IGNORE)
            (home / "gitconfig").write_text(GITCONFIG.format(ignore=home / "gitignore"))
        except OSError as exc:
            raise SandboxFailed(f"the commands' home folder cannot be made: {exc}") from exc
        return home
