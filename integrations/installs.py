"""What set-up phases installed: folders beside all checkouts, each kept under a name and shown read-only to boxes.

```
installs/<name>/<number>/deps      what was installed
installs/<name>/<number>/work      the phase's own checkout, gone once it is kept
installs/<name>/<number>.json      there when it is kept: its size; its date is that of the last use
installs/<name>/<number>.lock      held by every process that uses it, or is about to fill it
```
Nothing outside a box ever reads what is in `deps` and `work`: they are only made, shown and removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from graph.errors import SandboxFailed
from graph.ports import Workspace
from graph.values import Outcome, Repository
from integrations import boxdeps, boxdoor
from integrations.bubblewrap import DOOR, STAGE
from integrations.door import Door
from integrations.doorrules import DoorRules, without_go
from integrations.folders import remove
from integrations.indexes import Indexes
from integrations.sandbox import PYTHON, BoxSandbox, ShellBox
from integrations.stubs import door_environment

log = logging.getLogger(__name__)

_NAME = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,60}/[0-9a-f]{24}|task/[A-Za-z0-9][A-Za-z0-9_-]{0,99}/[0-9]{1,9})")
_PORT = 3128
"""Of the way out inside a box, which has a loopback of its own."""
_COPIED = 256 << 20
"""Bytes of ignored files, besides `node_modules`, that go with what was installed."""
_CONTROL_SECONDS = 300.0


@dataclass(frozen=True)
class Policy:
    """`disk_bytes`: of one set-up; `cache_bytes`: of all that are kept for later tasks together."""

    network: bool = True
    rules: DoorRules = field(default_factory=lambda: DoorRules(()))
    indexes: Indexes | None = None
    disk_bytes: int = 4 << 30
    cache_bytes: int = 20 << 30


class InstallFolders:
    """Implements `graph.ports.Installs` for one turn; `janitor` is for whoever sweeps."""

    def __init__(self, home: Path, sandbox: BoxSandbox, policy: Policy, uid: int | None) -> None:
        self._home = home.absolute() / "installs"
        self._sandbox, self._policy, self._uid = sandbox, policy, uid
        self._held: dict[Path, int] = {}

    def digest(self, repository: Repository, facts: str) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", repository.name.lower()).strip("-")[:40] or "repository"
        place = [self._sandbox.name, *self._sandbox.driver.identity, facts]
        url = hashlib.sha256(repository.url.encode()).hexdigest()[:8]
        return f"{slug}-{url}/{hashlib.sha256(chr(0).join(place).encode(errors='replace')).hexdigest()[:24]}"

    def has(self, name: str) -> bool:
        return self._newest(name) is not None

    def place(self, name: str) -> Path:
        while (folder := self._newest(name)) is not None:
            if folder in self._held or self._hold(folder):
                os.utime(folder.with_suffix(".json"))
                return folder / "deps"
        raise SandboxFailed("What the set-up had installed is not there any more")

    def unavailable(self, *, network: bool) -> str:
        if self._sandbox.warning:
            return "there is no set-up without a sandbox (SANDBOX=process): what is installed on this machine counts."
        if network and not self._policy.network:
            return "it needs the network, and SETUP_NETWORK is off here."
        return ""

    @contextlib.contextmanager
    def phase(self, workspace: Workspace, *, note: Callable[..., None], go: bool) -> Iterator[SetupPhase]:
        folder = self._home / ".new" / secrets.token_hex(8)
        self._make(folder)
        lock = _locked(folder.with_suffix(".lock"), fcntl.LOCK_EX)
        try:
            policy = self._policy if go else dataclasses.replace(self._policy, rules=without_go(self._policy.rules))
            with SetupPhase(self._sandbox, policy, folder, self._keep).opened(workspace, note, self._uid) as phase:
                yield phase
        finally:
            remove(folder)
            folder.with_suffix(".lock").unlink(missing_ok=True)
            if lock is not None:
                os.close(lock)

    def _keep(self, deps: Path, name: str, size: int) -> None:
        """Give what a phase installed its name: that folder alone, and nothing that stood beside it."""
        where = self._folder(name)
        where.mkdir(parents=True, exist_ok=True)
        place = where / secrets.token_hex(4)
        place.mkdir()
        deps.rename(place / "deps")
        place.chmod(0o711)
        about = place.with_suffix(".json")
        draft = about.with_suffix(".draft")
        draft.write_text(json.dumps({"bytes": size, "at": time.time()}))
        draft.rename(about)

    def close(self) -> None:
        for lock in self._held.values():
            os.close(lock)
        self._held.clear()

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise SandboxFailed(f"{name!r} names nothing that could be installed")
        return self._home / name

    def _newest(self, name: str) -> Path | None:
        kept = [path.with_suffix("") for path in self._folder(name).glob("*.json")]
        return max((path for path in kept if _is_folder(path / "deps")), key=_used, default=None)

    def _hold(self, folder: Path) -> bool:
        lock = _locked(folder.with_suffix(".lock"), fcntl.LOCK_SH)
        if lock is None:
            return False
        if not _is_folder(folder / "deps"):
            os.close(lock)
            return False
        self._held[folder] = lock
        return True

    def _make(self, folder: Path) -> None:
        try:
            for path in (self._home, folder.parent):
                # Searchable by the sandbox's user, listable by nobody else.
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o711)
            for path in (folder, folder / "deps", folder / "work"):
                path.mkdir(mode=0o700)
                if self._uid is not None:
                    os.chown(path, self._uid, -1)
        except OSError as exc:
            raise SandboxFailed(f"the folder for the set-up cannot be made: {exc}") from exc


class SetupPhase:
    """Implements `graph.ports.Phase`: a box with a door, for as long as the context lasts."""

    box: ShellBox

    def __init__(
        self, sandbox: BoxSandbox, policy: Policy, folder: Path, keep: Callable[[Path, str, int], None]
    ) -> None:
        self._sandbox, self._policy, self._folder, self._keep = sandbox.sized(policy.disk_bytes), policy, folder, keep
        self._door: Door | None = None
        self._closing = contextlib.ExitStack()

    @contextlib.contextmanager
    def opened(self, asked: Workspace, note: Callable[..., None], owner: int | None) -> Iterator[SetupPhase]:
        workspace = dataclasses.replace(
            asked, root=self._folder / "work", deps=self._folder / "deps", staging=True, door=None
        )
        self._made = _identity(self._folder / "deps")
        with self._closing as stack:
            if self._policy.network:
                # Not below the data folder, whose path may be too long for a socket.
                folder = Path(tempfile.mkdtemp(prefix="tw-door-"))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                self._door = stack.enter_context(Door(folder, self._policy.rules, note, owner=owner))
                workspace = dataclasses.replace(workspace, door=folder)
            self.box = self._sandbox.open(workspace)
            stack.callback(self.box.close)
            self._prepare()
            yield self
        self._check_door()

    def _prepare(self) -> None:
        """Folders for caches, what the operator configured of indexes, and the inside of the door."""
        self._must('mkdir -p "$TMPDIR" "$HOME"', "the set-up's folders could not be made")
        indexes = self._policy.indexes
        for name, text in indexes.files.items() if indexes is not None else ():
            place = shlex.quote(name)
            self._must(f'umask 077 && cat > "$HOME"/{place}', f"{name} could not be written", text.encode())
        self.box.env |= dict(indexes.env) if indexes is not None else {}
        if self._door is not None:
            local = any(host.name == "localhost" for host in self._policy.rules.hosts)
            self.box.env |= door_environment(_PORT, DOOR, local_index=local)
            source = Path(boxdoor.__file__).read_bytes()
            self.box.serve("door", f"exec {PYTHON} -I -S - {_PORT} {DOOR}/socket", stdin=source)
            look = f"import socket; socket.create_connection(('127.0.0.1', {_PORT}), 1).close()"
            wait = f'for i in $(seq 100); do {PYTHON} -I -c "{look}" 2> /dev/null && exit 0; sleep 0.05; done; exit 1'
            self._must(wait, "the way to the package registries could not be opened")

    def _must(self, command: str, complaint: str, stdin: bytes = b"") -> Outcome:
        outcome = self.box.run(command, stdin=stdin, timeout=_CONTROL_SECONDS)
        if outcome.exit != 0:
            raise SandboxFailed(f"{complaint}: {outcome.output.strip()[-500:] or outcome.ended}")
        return outcome

    def refused(self) -> list[str]:
        return list(self._door.refused) if self._door is not None else []

    def _check_door(self) -> None:
        """What went wrong in a thread of the door: the lease may be lost."""
        if self._door is not None and self._door.error is not None:
            raise self._door.error

    def keep(self, name: str) -> None:
        self._check_door()
        collect = f"{PYTHON} -I - . {STAGE}/deps/tree {_COPIED}"
        left = self._must(
            f'rm -rf "$THREADWRIGHT_DEPS/.cache" && cd {STAGE}/work/checkout && {collect}',
            "what was installed could not be put aside",
            boxdeps.COLLECT.encode(),
        )
        if left.output.strip():
            log.warning("too large to go into every checkout: %s", left.output.strip())
        # By its path: what was installed comes first on the box's PATH, and might measure itself.
        size = self._must('/usr/bin/du -sk "$THREADWRIGHT_DEPS"', "what was installed could not be measured").output
        self._closing.close()
        deps = self._folder / "deps"
        # The box could rename it and put a link to anywhere in its place, which every later box would be shown.
        if _identity(deps) != self._made:
            raise SandboxFailed("The set-up replaced the folder that it was to install into.")
        self._keep(deps, name, _kilobytes(size) * 1024)


def _is_folder(path: Path) -> bool:
    """No link, wherever it leads."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int, int]:
    """Which folder it is, links not followed. Raises SandboxFailed when there is none."""
    try:
        about = path.lstat()
    except OSError as exc:
        raise SandboxFailed("The folder that the set-up was to install into is gone.") from exc
    return stat.S_IFMT(about.st_mode), about.st_dev, about.st_ino


def _kilobytes(measured: str) -> int:
    found = re.match(r"(\d{1,15})\s", measured, re.ASCII)
    if found is None:
        raise SandboxFailed("What was installed could not be measured.")
    return int(found[1])


def janitor(home: Path, alive: Collection[str], cache_bytes: int, *, older_than: float = 3600.0) -> list[str]:
    """Remove what set-ups left half done, what was installed for tasks that are not in `alive`, and, from the one that
    was not used for longest on, what the rest takes above `cache_bytes`. What is in use stays. Gives what went."""
    home = home.absolute() / "installs"
    for folder in home.glob(".new/*"):
        if not folder.suffix and folder.stat().st_mtime < time.time() - older_than:
            _remove_unused(folder)
    kept = sorted((path.with_suffix("") for path in home.glob("*/*/*.json")), key=_used)
    own = [folder for folder in home.glob("task/*/*/*.json") if folder.parts[-3] not in alive]
    over = [folder.with_suffix("") for folder in own if _used(folder.with_suffix("")) < time.time() - older_than]
    gone = [folder for folder in over if _remove_unused(folder)]
    total = sum(map(_bytes, kept))
    for folder in kept:
        size = _bytes(folder)
        if total > cache_bytes and _remove_unused(folder):
            total -= size
            gone.append(folder)
    return [str(folder.relative_to(home)) for folder in gone]


def _used(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return folder.with_suffix(".json").stat().st_mtime
    return 0.0


def _bytes(folder: Path) -> int:
    try:
        return int(json.loads(folder.with_suffix(".json").read_text())["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _remove_unused(folder: Path) -> bool:
    """Whether it went: nobody had it."""
    lock = _locked(folder.with_suffix(".lock"), fcntl.LOCK_EX)
    if lock is None:
        return False
    try:
        # First the mark that says that it is there.
        folder.with_suffix(".json").unlink(missing_ok=True)
        remove(folder)
        folder.with_suffix(".lock").unlink(missing_ok=True)
    finally:
        os.close(lock)
    return True


def _locked(path: Path, how: int) -> int | None:
    """The lock's descriptor, which a forked or started program does not keep; None when another has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
