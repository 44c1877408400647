"""What no rlimit bounds: the memory of all processes of a command together, and the size of the workspace.

Runs inside the box: standard library and `attend` only.
"""

from __future__ import annotations

import contextlib
import os
import stat

from integrations.attend import Ended
from integrations.boxprocs import descendants

_ANCHOR_CHARS = 700
"""Paths relative to an open folder stay below this and one name: the kernel takes 4096 bytes, 4 a character."""
_MOST_ANCHORS = 200
SLACK = 16 << 20
"""Bytes that a workspace which was already too full may grow by before the command is ended."""


def _resident_bytes(pids: list[int]) -> int:
    """Memory of the processes; pages that they share are counted for each."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            fields = file.read().split()
            if len(fields) > 2:
                pages += int(fields[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _proportional_bytes(pids: list[int]) -> int:
    """The exact sum: pages that forks share are counted once. Ten times dearer than `_resident_bytes`."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
                for line in file:
                    if line.startswith((b"Pss:", b"SwapPss:")):
                        total += int(line.split()[1]) * 1024
        except PermissionError:
            total += _resident_bytes([pid])  # it has made itself unreadable
        except OSError:
            continue
    return total


def _nameless(pids: list[int], device: int) -> tuple[int, int]:
    """Allocated bytes of open files without a name: of the workspace's device, and of memory (memfd)."""
    seen: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    about = entry.stat()
                    if about.st_nlink == 0 and stat.S_ISREG(about.st_mode):
                        seen[about.st_dev, about.st_ino] = about.st_blocks * 512
    here = sum(size for (at, _), size in seen.items() if at == device)
    return here, sum(seen.values()) - here


class _Anchor:
    """An open folder from which paths start, closed with its last user."""

    alive = 0
    fd: int

    def __init__(self, path: str, above: _Anchor | None) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(path, flags, dir_fd=above.fd if above else None)
        _Anchor.alive += 1

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)
            _Anchor.alive -= 1


class _Walk:
    """Adds up a folder. Links are not followed; paths may be of any length.

    `unlock`: folders that are closed to us are opened for as long as the walk takes.
    """

    def __init__(self, *, unlock: bool) -> None:
        self.total = 0
        self.closed = False
        """Whether a folder could not be looked into."""
        self.endless = False
        """Whether it is nested so deeply that nobody needs it for work."""
        self._unlock = unlock
        self._unlocked: list[tuple[_Anchor, str, int]] = []

    def add(self, folder: str) -> None:
        os.chmod(folder, 0o700)  # noqa: PTH101 - as its maker left it; a command may have closed it
        todo = [(_Anchor(folder, None), ".")]
        try:
            while todo and not self.endless:
                anchor, path = todo.pop()
                with contextlib.suppress(OSError):
                    names = self._folder(anchor, path)
                    if names and len(path) > _ANCHOR_CHARS:
                        anchor, path = _Anchor(path, anchor), "."
                    self.endless = _Anchor.alive > _MOST_ANCHORS
                    todo += [(anchor, f"{path}/{name}") for name in names]
        finally:
            # Innermost first: the way to a folder leads through those around it.
            for anchor, path, mode in reversed(self._unlocked):
                with contextlib.suppress(OSError):
                    os.chmod(path, mode, dir_fd=anchor.fd)

    def _folder(self, anchor: _Anchor, path: str) -> list[str]:
        """Add one folder's own entries; gives the folders in it."""
        try:
            return self._entries(anchor, path)
        except PermissionError:
            if not self._unlock:
                self.closed = True
                return []
        mode = stat.S_IMODE(os.stat(path, dir_fd=anchor.fd).st_mode)
        os.chmod(path, mode | stat.S_IRWXU, dir_fd=anchor.fd)
        self._unlocked.append((anchor, path, mode))
        return self._entries(anchor, path)

    def _entries(self, anchor: _Anchor, path: str) -> list[str]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        total, folders = 0, []
        fd = os.open(path, flags, dir_fd=anchor.fd)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        about = entry.stat(follow_symlinks=False)
                        total += about.st_blocks * 512
                        if stat.S_ISDIR(about.st_mode):
                            folders.append(entry.name)
        finally:
            os.close(fd)
        self.total += total
        return folders


class Watch:
    """`known_free`: free bytes of the file system when the workspace was last seen not to be full; None: look first.

    A closed folder (mode 000) is opened for the look only when no command runs, or when the file system has visibly
    filled: a test that counts on being refused should not meet our look.
    """

    def __init__(self, folder: str, disk_bytes: int, memory_bytes: int, known_free: int | None) -> None:
        self._folder, self._disk, self._memory = folder, disk_bytes, memory_bytes
        self._device = os.stat(folder).st_dev  # noqa: PTH116
        self._limit = disk_bytes
        self.full_before = False
        self.free = known_free
        if known_free is None:
            walk = self._walk(unlock=True)
            self.full_before = walk.endless or walk.total > disk_bytes
            if self.full_before:
                self._limit = max(disk_bytes, walk.total) + SLACK
            else:
                self.free = self._free_bytes()

    def allow(self, more: int) -> None:
        """Let a workspace that was full before grow by so many bytes."""
        if self.full_before:
            self._limit += more

    def _free_bytes(self) -> int:
        room = os.statvfs(self._folder)
        return room.f_bfree * room.f_frsize

    def _filled(self) -> bool:
        """Whether the file system has visibly filled since the workspace was last measured."""
        return self.free is None or self.free - self._free_bytes() >= self._disk // 8

    def _walk(self, *, unlock: bool) -> _Walk:
        walk = _Walk(unlock=unlock)
        walk.add(self._folder)
        return walk

    def look_at_memory(self) -> Ended | None:
        pids = descendants(os.getpid())
        return "memory" if self._too_much(pids, _nameless(pids, self._device)[1]) else None

    def _too_much(self, pids: list[int], memory: int) -> bool:
        resident = _resident_bytes(pids) + memory
        return resident > self._memory and _proportional_bytes(pids) + memory > self._memory

    def look(self) -> Ended | None:
        """While a command runs."""
        pids = descendants(os.getpid())
        nameless, memory = _nameless(pids, self._device)
        if self._too_much(pids, memory):
            return "memory"
        walk = self._walk(unlock=False)
        if walk.closed and self._filled():
            walk = self._walk(unlock=True)
        if walk.endless and not self.full_before:
            return "disk"
        return "disk" if walk.total + nameless > self._limit else None

    def last_look(self) -> Ended | None:
        """After a command that ended between two looks: cheap unless the file system has visibly filled."""
        if not self._filled():
            return None
        walk = self._walk(unlock=True)
        if walk.endless or walk.total > self._disk:
            self.free = None
            return "disk"
        self.free = self._free_bytes()
        return None
