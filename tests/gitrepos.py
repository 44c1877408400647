"""Sample repositories and packs, made with plain git in temporary folders."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graph.ports import TreePack
from graph.state import Repository

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}
MODES = {"file": "100644", "program": "100755", "link": "120000", "submodule": "160000", "folder": "40000"}


@dataclass(frozen=True)
class Link:
    """A symbolic link in `Files`."""

    target: str


@dataclass(frozen=True)
class Submodule:
    sha: str


Content = str | bytes | Link | Submodule | None
"""None removes the file."""
Files = Mapping[str | bytes, Content]


def git(where: Path, *args: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
    """Run plain git in `where`; gives its output without the last line end."""
    return git_bytes(where, *args, stdin=stdin, env=env).decode("utf-8", "surrogateescape").rstrip("\n")


def git_bytes(where: Path, *args: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
    done = subprocess.run(
        ["git", *args], cwd=where, input=stdin, env={**ENVIRONMENT, **(env or {})}, capture_output=True, check=False
    )
    assert done.returncode == 0, f"git {args!r}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def make_repository(path: Path, files: Files | None = None, *, branch: str = "main") -> Path:
    """A bare repository at `path`, with one commit unless `files` is None."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--bare", f"--initial-branch={branch}")
    if files is not None:
        add_commit(path, files, branch=branch, message="first")
    return path


def add_commit(repository: Path, files: Files, *, branch: str = "main", message: str = "change") -> str:
    """Commit onto `branch` of a bare repository; odd names are fine. Gives the SHA."""
    heads = git(repository, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
    data = message.encode()
    stream = (
        f"commit refs/heads/{branch}\ncommitter Ann <ann@example.com> 1700000000 +0000\ndata {len(data)}\n".encode()
    )
    stream += data + b"\n" + (f"from {heads}\n".encode() if heads else b"")
    for name, content in files.items():
        stream += _change(name, content)
    git(repository, "fast-import", "--quiet", "--force", stdin=stream)
    return git(repository, "rev-parse", f"refs/heads/{branch}")


def _change(name: str | bytes, content: Content) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    path = b'"' + b"".join(b"\\%03o" % byte for byte in raw) + b'"'
    if content is None:
        return b"D " + path + b"\n"
    if isinstance(content, Submodule):
        return f"M 160000 {content.sha} ".encode() + path + b"\n"
    mode = b"120000" if isinstance(content, Link) else b"100644"
    data = _bytes(content)
    return b"M " + mode + b" inline " + path + b"\ndata %d\n" % len(data) + data + b"\n"


def _bytes(content: Content) -> bytes:
    if isinstance(content, Link):
        return content.target.encode()
    return content.encode() if isinstance(content, str) else content or b""


def repository(path: Path, name: str = "sample") -> Repository:
    return Repository(name=name, url=path.absolute().as_uri())


@dataclass
class Objects:
    """Writes any object, however wrong, into a folder of its own, and packs what hangs on a tree."""

    folder: Path
    shas: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            git(self.folder, "init", "--quiet", "--bare")

    def add(self, kind: str, data: bytes) -> str:
        sha = git(self.folder, "hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=data)
        self.shas.append(sha)
        return sha

    def blob(self, data: bytes | str) -> str:
        return self.add("blob", data.encode() if isinstance(data, str) else data)

    def tree(self, entries: Sequence[tuple[str, str | bytes, str]]) -> str:
        """`entries`: mode, name, SHA; sorted as git wants, otherwise unchecked."""

        def key(entry: tuple[str, str | bytes, str]) -> bytes:
            raw = _bytes(entry[1])
            return raw + b"/" if entry[0] == MODES["folder"] else raw

        data = b"".join(
            mode.encode() + b" " + _bytes(name) + b"\0" + bytes.fromhex(sha)
            for mode, name, sha in sorted(entries, key=key)
        )
        return self.add("tree", data)

    def pack(self, tree: str, shas: Sequence[str] | None = None) -> TreePack:
        """All objects written so far (or `shas`) as a pack."""
        listing = "".join(f"{sha}\n" for sha in dict.fromkeys(self.shas if shas is None else shas)).encode()
        return TreePack(tree, git_bytes(self.folder, "pack-objects", "--stdout", "-q", stdin=listing))


def empty_pack() -> bytes:
    head = b"PACK\x00\x00\x00\x02\x00\x00\x00\x00"
    return head + hashlib.sha1(head).digest()


def clone(repository: Path, checkout: Path, commit: str = "HEAD") -> Path:
    """A checkout, as the sandbox makes one."""
    git(repository, "clone", "--quiet", "--no-hardlinks", "--no-checkout", str(repository), str(checkout))
    git(checkout, "checkout", "--quiet", "--detach", commit)
    return checkout


def export(checkout: Path, base: str) -> TreePack:
    """The checkout as a tree and a thin pack, as the sandbox makes them."""
    index = {"GIT_INDEX_FILE": str(checkout / ".git" / "export-index")}
    git(checkout, "read-tree", base, env=index)
    git(checkout, "add", "-A", env=index)
    tree = git(checkout, "write-tree", env=index)
    revs = f"{tree}\n^{base}\n".encode()
    return TreePack(tree, git_bytes(checkout, "pack-objects", "--revs", "--thin", "--stdout", "-q", stdin=revs))


def edited(repository: Path, scratch: Path, base: str, files: Files) -> TreePack:
    """The tree of `base` with `files` changed, as a pack; made with an index only, so any name and mode will do."""
    scratch.mkdir(parents=True, exist_ok=True)
    odb = {"GIT_DIR": str(repository), "GIT_INDEX_FILE": str(scratch / f"index-{os.urandom(4).hex()}")}
    odb |= {"GIT_OBJECT_DIRECTORY": str(scratch / "objects")}
    odb |= {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repository / "objects")}
    (scratch / "objects").mkdir(exist_ok=True)
    git(scratch, "read-tree", base, env=odb)
    info = b""
    for name, content in files.items():
        raw = name.encode() if isinstance(name, str) else name
        if content is None:
            info += b"0 " + b"0" * 40 + b"\t" + raw + b"\0"
        elif isinstance(content, Submodule):
            info += f"160000 {content.sha}\t".encode() + raw + b"\0"
        else:
            sha = git(scratch, "hash-object", "-w", "--stdin", stdin=_bytes(content), env=odb)
            mode = "120000" if isinstance(content, Link) else "100644"
            info += f"{mode} {sha}\t".encode() + raw + b"\0"
    git(scratch, "update-index", "-z", "--index-info", stdin=info, env=odb)
    tree = git(scratch, "write-tree", "--missing-ok", env=odb)
    revs = f"{tree}\n^{base}\n".encode()
    return TreePack(tree, git_bytes(scratch, "pack-objects", "--revs", "--thin", "--stdout", "-q", stdin=revs, env=odb))
