"""Boxes for tests: a bare mirror, a sandbox over a real driver, and ways to look at the host's processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from graph.ports import Workspace
from integrations.sandbox import BoxLimits, BoxSandbox, choose

UID = 61337
PATH = "/usr/local/bin:/usr/bin:/bin"
GIT_ENV = {
    "PATH": PATH, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b", "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always",
}  # fmt: skip


def git(folder: Path, *arguments: str | bytes, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, input=stdin, env=GIT_ENV, check=True)
    return os.fsdecode(done.stdout).strip()


def make_mirror(
    folder: Path, files: dict[str, bytes], prepare: Callable[[Path], Any] | None = None
) -> tuple[Path, str]:
    """A bare mirror with one commit; gives its path and that commit."""
    source, mirror = folder / "source", folder / "mirror.git"
    source.mkdir(parents=True)
    git(source, "init", "-q", "-b", "main")
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    if prepare:
        prepare(source)
    git(source, "add", "-A", "-f")
    git(source, "commit", "-q", "-m", "start")
    git(folder, "clone", "-q", "--bare", str(source), str(mirror))
    return mirror, git(mirror, "rev-parse", "HEAD")


def make_sandbox(folder: Path, driver: str = "bubblewrap", **options: Any) -> BoxSandbox:
    given: dict[str, Any] = {
        "limits": BoxLimits(), "state_dir": folder / "state", "search_path": PATH, "unprivileged_uid": UID,
        "process_accepted": False, **options,
    }  # fmt: skip
    return choose(driver, **given)


def make_workspace(folder: Path, mirror: Path, commit: str) -> Workspace:
    return Workspace("tw-test", folder / "workspace", mirror, commit)


def tree_of(mirror: Path, base: str, pack: bytes, tree: str) -> dict[str, tuple[str, bytes]]:
    """What a pack holds, seen by a repository that has the mirror's objects: mode and content by name."""
    taken = mirror.with_name(f"taken-{tree[:8]}.git")
    if not taken.exists():
        git(mirror.parent, "clone", "-q", "--bare", str(mirror), str(taken))
    git(taken, "index-pack", "--stdin", "--fix-thin", "--strict", stdin=pack)
    listed = git(taken, "ls-tree", "-r", "-z", tree)
    found = {}
    for line in filter(None, listed.split("\0")):
        about, _, name = line.partition("\t")
        mode, kind, blob = about.split()
        content = b"" if kind == "commit" else git_bytes(taken, "cat-file", "blob", blob)
        found[name] = (mode, content)
    return found


def git_bytes(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, env=GIT_ENV, check=True).stdout


def processes(mark: str) -> list[int]:
    """Processes of the whole machine, dead ones not counted, that have `mark` in their command line."""

    def seen() -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark.encode() in (entry / "cmdline").read_bytes():
                        yield int(entry.name)
                except OSError:
                    continue

    return list(seen())


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")
