"""The docker and podman driver: one container a box. Its image needs sh, git, timeout, find, du, python3.

Commands run one after the other: an engine cannot end one command's processes alone, so after each everything in the
container but its main process is killed. The container ends with the client's standard input, hence with the bot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graph.errors import SandboxFailed
from graph.ports import Workspace
from integrations.attend import Attendant, Ended, Sink
from integrations.bubblewrap import DEPS, STAGE, installed_mounts, make_root
from integrations.cells import CLOSED, BoxLimits, CellLost, Raw, Request
from integrations.stubs import GITCONFIG, IGNORE, environment, installed_environment

_MAIN = 'echo ready $$ "$PATH"; exec cat > /dev/null'
# $1 is the container's main process; the others are services, which stay with all that they started.
# Rounds, for what forks while we look and what is not reaped at once. What outlives them ends with the container.
_SWEEP = """
living() {
  while read -r key value _; do
    if [ "$key" = State: ]; then [ "$value" != Z ] && [ "$value" != X ]; return; fi
  done < "$1/status"
  return 1
}
main=$1
shift
stays() {
  at=$1
  for step in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    for service in $services; do [ "$at" != "$service" ] || return 0; done
    parent=
    while read -r key value _; do [ "$key" != PPid: ] || { parent=$value; break; }; done < "/proc/$at/status"
    case $parent in ''|0|1) return 1;; esac
    at=$parent
  done
  return 1
}
services=$*
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  found=
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    case $pid in 1|$$|$main) continue;; esac
    [ -n "$services" ] && stays "$pid" && continue
    living "$entry" && kill -KILL "$pid" && found=1
  done 2>/dev/null
  [ "$found" ] || exit 0
  sleep 0.02
done
exit 1
"""
# Kilobytes of a folder. What is closed to us is opened: there is no way to see into it otherwise.
_SIZE = """
if ! size=$(du -sk "$1" 2>/dev/null); then
  find "$1" -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null
  size=$(du -sk "$1" 2>/dev/null)
fi
echo "${size%%[!0-9]*}"
"""
_CONTROL_SECONDS = 60.0
_TMP = "/tmp"  # noqa: S108 - inside the container


@dataclass(frozen=True)
class Containers:
    limits: BoxLimits
    program: str
    image: str
    uid: int
    """Started as root, boxes run as this user; else as ours."""
    state_dir: Path
    name: str
    """docker or podman."""
    warning: str = ""
    env: dict[str, str] = field(default_factory=dict)
    """For the engine's client: for example DOCKER_HOST. Commands in the box do not see it."""

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.image,)

    def limited(self, limits: BoxLimits) -> Containers:
        return dataclasses.replace(self, limits=limits)

    def remedy(self, error: str) -> str:  # noqa: ARG002 - the engine's own message says it best
        return (
            f"see that `{self.name} run --rm {self.image} true` works for the user that runs Threadwright, and that the"
            " image has sh, git, timeout, find, du and python3"
        )

    def start(self, workspace: Workspace) -> ContainerCell:
        user = self.uid if os.geteuid() == 0 else os.geteuid()
        make_root(workspace.root, user if os.geteuid() == 0 else None)
        name = f"threadwright-{secrets.token_hex(8)}"
        argv = self.run_argv(name, workspace, user)
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=self.client_env(), start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            raise SandboxFailed(f"{self.name} cannot be run: {exc}") from exc
        cell = ContainerCell(self, name, process, watched=STAGE if workspace.staging else ContainerCell.root)
        path = cell.wait_ready()
        if workspace.deps is not None:
            cell.env = installed_environment(path, DEPS, cell.root, staging=workspace.staging)
        return cell

    def client_env(self) -> dict[str, str]:
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", **self.env}

    def stubs(self) -> Path:
        """Folder with the git configuration that is bound into every container."""
        folder = self.state_dir / "container-etc"
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            (folder / "gitconfig").write_text(GITCONFIG.format(ignore="/etc/gitignore"))
            (folder / "gitignore").write_text(IGNORE)
        except OSError as exc:
            raise SandboxFailed(f"the container's files cannot be made: {exc}") from exc
        return folder

    def run_argv(self, name: str, workspace: Workspace, user: int) -> list[str]:
        limits, stubs = self.limits, self.stubs()
        mounts = [
            (workspace.root, "/workspace", ""),
            (workspace.mirror, "/mirror.git", ",readonly"),
            (stubs / "gitconfig", "/etc/gitconfig", ",readonly"),
            (stubs / "gitignore", "/etc/gitignore", ",readonly"),
            *((m.source, m.target, "" if m.writable else ",readonly") for m in installed_mounts(workspace)),
        ]
        argv = [
            self.program, "run", "--interactive", "--rm", "--init", "--name", name, "--label", "threadwright=box",
            "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only",
            "--tmpfs", f"{_TMP}:rw,exec,nosuid,nodev,mode=1777,size={limits.tmp_bytes}", "--shm-size", str(64 << 20),
            "--pids-limit", str(limits.processes), "--memory", str(limits.memory_bytes),
            "--memory-swap", str(limits.memory_bytes), "--ulimit", f"nofile={limits.nofile}:{limits.nofile}",
            "--ulimit", f"fsize={limits.file_bytes}:{limits.file_bytes}", "--ulimit", "core=0:0",
            "--user", f"{user}:{user}", "--workdir", "/workspace",
        ]  # fmt: skip
        if self.name == "podman" and os.geteuid() != 0:
            argv += ["--userns", "keep-id"]
        for source, target, mode in mounts:
            if "," in str(source):
                raise SandboxFailed(f"{self.name} cannot bind a path with a comma in it: {source}")
            argv += ["--mount", f"type=bind,source={source},target={target}{mode}"]
        for key, value in environment("", _TMP).items():
            if key != "PATH":  # the image knows where its toolchains are
                argv += ["--env", f"{key}={value}"]
        return [*argv, "--entrypoint", "/bin/sh", workspace.image or self.image, "-c", _MAIN]


class ContainerCell:
    root = "/workspace"
    mirror = "/mirror.git"
    home = _TMP
    deps = DEPS

    def __init__(
        self, driver: Containers, name: str, process: subprocess.Popen[bytes], *, watched: str = "/workspace"
    ) -> None:
        self._driver, self._name, self._process, self._watched = driver, name, process, watched
        self.env: dict[str, str] = {}
        """For every command, besides what the container was started with."""
        self._services: list[Sink] = []
        """What each living service printed: first of all its process id."""
        self._one = threading.Lock()
        self._stop_read, self._stop_write = os.pipe()
        self._stopped = self._closed = self._died = False
        self._maybe_full = True
        """Nobody has looked yet, or the last look found the workspace too full."""
        self._main = ""

    def wait_ready(self) -> str:
        """Gives the image's own PATH."""
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe above
        # A client that neither speaks nor ends is ended, which ends the read.
        timer = threading.Timer(_CONTROL_SECONDS, self._process.kill)
        timer.start()
        try:
            words = self._process.stdout.readline(4096).split(None, 2)
        finally:
            timer.cancel()
        if len(words) == 3 and words[0] == b"ready" and words[1].isdigit():
            self._main = words[1].decode()
            return words[2].strip().decode(errors="replace")
        self._process.kill()
        _, errors = self._process.communicate()
        error = errors.decode(errors="replace").strip()[-2000:]
        self.close()
        raise SandboxFailed(error or "the container did not start, and said nothing about why")

    def _exec_argv(self, request: Request) -> list[str]:
        argv = [self._driver.program, "exec", "--interactive", "--workdir", request.cwd or f"{self.root}/checkout"]
        for key, value in {**self.env, **request.env}.items():
            argv += ["--env", f"{key}={value}"]
        if request.stays:
            return [*argv, self._name, "/bin/sh", "-c", 'echo $$; exec "$@"', "sh", *request.argv]
        # Our own deadline comes first; this one is for a client that died without ending the command.
        return [*argv, self._name, "timeout", "-s", "KILL", str(request.seconds + 2), *request.argv]

    def execute(self, request: Request) -> Raw:
        with self._one:
            if self._closed:
                if self._died:
                    raise CellLost("The sandbox's container died.", began=False)
                raise SandboxFailed(CLOSED)
            if self._stopped:
                return Raw("stopped", None, 0.0, b"", b"", 0, b"")
            if self._process.poll() is not None:
                raise CellLost("The sandbox's container ended by itself.", began=False)
            return self._guard(request)

    def _guard(self, request: Request) -> Raw:
        """Run it as `Request.when_full` says if the workspace is too full."""
        full = self._maybe_full and self._too_large()
        self._maybe_full = full
        if not full:
            raw = self._attend(request)
            self._maybe_full = raw.ended == "disk"
            return raw
        if request.when_full == "refuse":
            return Raw("disk", None, 0.0, b"", b"", 0, b"", full=True)
        if request.when_full == "delete":
            bound = ("/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *request.argv)
            request = dataclasses.replace(request, argv=bound)
        raw = self._attend(request, watched=False)
        self._maybe_full = self._too_large()
        if self._maybe_full and request.when_full == "delete":
            return dataclasses.replace(raw, ended="disk" if raw.ended == "exit" else raw.ended, exit=None, full=True)
        return raw

    def serve(self, request: Request) -> Raw:
        with self._one:
            if self._closed or self._stopped:
                raise SandboxFailed(CLOSED)
        raw = self._attend(request, watched=False)
        # Its first line is for us.
        return dataclasses.replace(raw, head=raw.head.partition(b"\n")[2])

    def _living(self) -> list[str]:
        """Process ids of the services inside the container."""
        words = [sink.head().partition(b"\n") for sink in list(self._services)]
        return [first.decode() for first, end, _ in words if end and first.isdigit()]

    def _attend(self, request: Request, *, watched: bool = True) -> Raw:
        began = time.monotonic()
        try:
            client = subprocess.Popen(
                self._exec_argv(request), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
                stderr=subprocess.PIPE if request.apart else subprocess.STDOUT, env=self._driver.client_env(),
            )  # fmt: skip
        except OSError as exc:
            raise SandboxFailed(f"{self._driver.name} cannot be run: {exc}") from exc
        with client:
            assert client.stdin is not None  # noqa: S101 - opened as pipes above
            assert client.stdout is not None  # noqa: S101
            out, err = Sink(request.head, request.tail), Sink(0, 4096)
            sinks = {client.stdout.fileno(): out}
            if client.stderr is not None:
                sinks[client.stderr.fileno()] = err
            attendant = Attendant(
                sinks, seconds=request.seconds, kill_bytes=request.kill, wake=None, stop=self._stop_read,
                leader_ended=lambda: client.poll() is not None, watch=self._watch if watched else lambda: None,
            )  # fmt: skip
            attendant.feed(os.dup(client.stdin.fileno()), request.stdin)
            client.stdin.close()
            if request.stays:
                self._services.append(out)
            ended = attendant.attend()
            seconds = time.monotonic() - began
            client.kill()
        if request.stays:
            self._services.remove(out)
        else:
            self._sweep()
        exit_code = client.returncode if ended == "exit" else None
        return Raw(ended, exit_code, seconds, out.head(), out.tail(), out.dropped(), err.tail())

    def _inside(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        return _control([self._driver.program, "exec", self._name, *argv], self._driver.client_env())

    def _watch(self) -> Ended | None:
        return "disk" if self._too_large() else None

    def _too_large(self) -> bool:
        size = self._inside("/bin/sh", "-c", _SIZE, "sh", self._watched).stdout.strip()
        return size.isdigit() and int(size) * 1024 > self._driver.limits.disk_bytes

    def _sweep(self) -> None:
        if self._inside("/bin/sh", "-c", _SWEEP, "sh", self._main, *self._living()).returncode != 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)  # else it is still there, and holds what cannot be killed
            gone = self._process.returncode is not None
            self._end()
            self._died = True
            if gone:
                raise CellLost("The sandbox's container died while a command ran in it.", began=True)
            raise CellLost("A command's processes could not be ended, so the sandbox was closed.", began=True)

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            with contextlib.suppress(OSError):
                os.write(self._stop_write, b"s")

    def close(self) -> None:
        self.stop()
        with self._one:
            self._end()

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(SandboxFailed):
            _control([self._driver.program, "rm", "--force", self._name], self._driver.client_env())
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        os.close(self._stop_read)
        os.close(self._stop_write)


def _control(argv: Sequence[str], env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_CONTROL_SECONDS, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SandboxFailed(f"the container engine did not answer: {exc}") from exc
