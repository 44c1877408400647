"""What may become a commit: the check on the difference between a tree that left the sandbox and its parents.

Only what differs from every parent is looked at, so that odd things that a repository has had for years stay possible.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathspec import PathSpec

from graph.errors import TreeRefused
from integrations.gitcommand import GitCommand
from integrations.redaction import find

DEFAULT_PROTECTED = (
    "/.github/workflows/**",
    "/.github/actions/**",
    "/CODEOWNERS",
    "/.github/CODEOWNERS",
    "/docs/CODEOWNERS",
    "/.gitmodules",
    ".gitattributes",
    ".lfsconfig",
    "/.threadwright.toml",
)
"""Patterns as in .gitignore: a leading slash means the top folder."""

_GONE = "000000"
_SYMLINK = "120000"
_SUBMODULE = "160000"
_FILES = ("100644", "100755")
_NAMED = 10
_LINK_BYTES = 4096
_NO_BLOB = re.compile(r"0+")


@dataclass(frozen=True)
class TreeLimits:
    """Of one commit. Bytes are of whole files as they are after the change."""

    files: int = 300
    file_bytes: int = 5 << 20
    total_bytes: int = 20 << 20


@dataclass(frozen=True)
class Entry:
    """One difference. `path` is bytes-safe text (surrogateescape)."""

    status: str
    old_mode: str
    mode: str
    old_blob: str
    blob: str
    path: str

    @property
    def gone(self) -> bool:
        return self.mode == _GONE


def printable(path: str) -> str:
    """A path that people can read and that cannot break a layout; undecodable bytes as `\\xNN`."""
    raw = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if not unicodedata.category(c).startswith(("C", "Z")) or c == " " else _escaped(c) for c in raw)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def parse_raw(data: bytes) -> list[Entry]:
    """Parse `diff-tree -r -z --raw --no-renames` of two trees: `:mode mode blob blob status NUL path NUL …`."""
    parts = data.split(b"\0")[:-1]
    entries = []
    for head, path in zip(parts[::2], parts[1::2], strict=True):
        old_mode, mode, old_blob, blob, status = head.decode("ascii").lstrip(":").split(" ")
        entries.append(Entry(status[0], old_mode, mode, old_blob, blob, path.decode("utf-8", "surrogateescape")))
    return entries


class TreePolicy:
    """`protected`: .gitignore patterns, compared without regard to case, of paths that need a person's yes."""

    def __init__(self, git: GitCommand, *, protected: Sequence[str], limits: TreeLimits) -> None:
        self._git = git
        self._limits = limits
        self._protected = _patterns(protected)

    def check(
        self,
        git_dir: Path,
        tree: str,
        parents: Sequence[str],
        *,
        allow: Collection[str],
        env: Mapping[str, str],
        protected: Sequence[str] = (),
    ) -> None:
        """Raise TreeRefused unless `tree` may become a commit with `parents`.

        `env` names the quarantine in which the new objects are. `allow`: protected paths, as printed by TreeRefused.
        `protected`: more patterns of such paths, of the repository's own.
        """
        changed, old_blobs = self._differences(git_dir, tree, parents, env)
        _check_modes(changed)
        _check_names([e for e in changed if not e.gone and e.path not in old_blobs])
        self._check_count(changed)
        self._check_sizes(git_dir, changed, env)
        contents = self._contents(git_dir, changed, old_blobs, env)
        _check_links(changed, contents)
        _check_secrets(changed, old_blobs, contents)
        # Last: a person should be asked only about a tree that is otherwise fit to leave.
        self._check_protected(changed, allow, _patterns(protected))

    def _differences(
        self, git_dir: Path, tree: str, parents: Sequence[str], env: Mapping[str, str]
    ) -> tuple[list[Entry], dict[str, set[str]]]:
        """What differs from every parent, and for each such path the blobs that the parents have there."""
        diffs = []
        for parent in parents:
            # No setting and no .gitmodules (`ignore = all`) may hide a changed submodule from this very check.
            arguments = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--ignore-submodules=none")
            diffs.append(parse_raw(self._git.run(git_dir, *arguments, parent, tree, env=env).out))
        common = set.intersection(*({(e.path, e.mode, e.blob) for e in diff} for diff in diffs))
        old: dict[str, set[str]] = {}
        for entry in (e for diff in diffs for e in diff):
            if not _NO_BLOB.fullmatch(entry.old_blob) and entry.old_mode != _SUBMODULE:
                old.setdefault(entry.path, set()).add(entry.old_blob)
        return [e for e in diffs[0] if (e.path, e.mode, e.blob) in common], old

    def _check_count(self, changed: list[Entry]) -> None:
        if len(changed) > self._limits.files:
            raise TreeRefused(
                f"The change touches {len(changed)} files; at most {self._limits.files} may go into one commit. "
                "Split it, or keep generated files out of the repository with .gitignore."
            )

    def _check_sizes(self, git_dir: Path, changed: list[Entry], env: Mapping[str, str]) -> None:
        present = [e for e in changed if not e.gone]
        listing = "".join(f"{e.blob}\n" for e in present).encode()
        out = self._git.run(
            git_dir, "cat-file", "--batch-check=%(objecttype) %(objectsize)", stdin=listing, env=env
        ).text
        total = 0
        for entry, line in zip(present, out.splitlines(), strict=True):
            kind, _, size = line.partition(" ")
            if kind != "blob":
                raise _refused("These entries are no files", [entry])
            if int(size) > self._limits.file_bytes:
                raise _refused(f"A file may have at most {_megabytes(self._limits.file_bytes)}; larger", [entry])
            total += int(size)
        if total > self._limits.total_bytes:
            raise TreeRefused(
                f"The changed files have {_megabytes(total)} together; at most {_megabytes(self._limits.total_bytes)} "
                "may go into one commit. Keep generated files out of the repository with .gitignore."
            )

    def _contents(
        self, git_dir: Path, changed: list[Entry], old_blobs: Mapping[str, set[str]], env: Mapping[str, str]
    ) -> dict[str, bytes]:
        """Bytes of the changed files and of what they were. An old file beyond the limit is left out: seen as empty."""
        new = {e.blob for e in changed if not e.gone}
        old = {blob for e in changed if not e.gone for blob in old_blobs.get(e.path, ())}
        listing = "".join(f"{blob}\n" for blob in sorted(old - new)).encode()
        sizes = self._git.run(git_dir, "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=listing, env=env)
        fit = [
            line.split(" ")[0] for line in sizes.text.splitlines() if int(line.split(" ")[1]) <= self._limits.file_bytes
        ]
        wanted = "".join(f"{blob}\n" for blob in sorted({*new, *fit})).encode()
        return _parse_batch(self._git.run(git_dir, "cat-file", "--batch", stdin=wanted, env=env).out)

    def _check_protected(self, changed: list[Entry], allow: Collection[str], more: PathSpec[Any]) -> None:
        # Apart from each other: one set of patterns could take back what the other protects.
        specs = (self._protected, more)
        paths = [printable(e.path) for e in changed if any(spec.match_file(e.path.lower()) for spec in specs)]
        asked = tuple(path for path in paths if path not in allow)
        if asked:
            raise TreeRefused(f"These paths are protected: {_listed(asked)}.", asked, protected=True)


def _patterns(lines: Sequence[str]) -> PathSpec[Any]:
    return PathSpec.from_lines("gitignore", [line.lower() for line in lines])


def _parse_batch(data: bytes) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        end = data.index(b"\n", position)
        name, _, size = data[position:end].decode("ascii").split(" ")
        contents[name] = data[end + 1 : end + 1 + int(size)]
        position = end + 1 + int(size) + 1
    return contents


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _listed(paths: Sequence[str]) -> str:
    shown = ", ".join(f"`{path}`" for path in paths[:_NAMED])
    return shown if len(paths) <= _NAMED else f"{shown} and {len(paths) - _NAMED} more"


def _refused(what: str, entries: Iterable[Entry]) -> TreeRefused:
    paths = tuple(printable(e.path) for e in entries)
    return TreeRefused(f"{what}: {_listed(paths)}.", paths)


def _check_modes(changed: list[Entry]) -> None:
    submodules = [e for e in changed if e.mode == _SUBMODULE]
    if submodules:
        raise _refused("A submodule may not be added or moved", submodules)
    odd = [e for e in changed if not e.gone and e.mode not in (*_FILES, _SYMLINK)]
    if odd:
        raise _refused("These entries are neither files nor symbolic links", odd)


def _check_names(new: list[Entry]) -> None:
    """Only names that are new: one that the repository has already may be edited and removed."""
    for entry in new:
        fault = _fault_of_name(entry.path)
        if fault:
            raise _refused(fault, [entry])


def _fault_of_name(path: str) -> str:
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "ignore")
    # Cc: control characters; Cf: invisible ones, such as those that turn the direction of writing.
    if any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in text):
        return "A file name may not hold control or invisible characters"
    if path.startswith("-"):
        return "A file name may not begin with a dash, since programs take it for an option"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "A path may not hold an empty part, `.` or `..`"
        if is_git_folder(part):
            return "A path may not hold `.git` in any spelling"
    return ""


def is_git_folder(part: str) -> bool:
    """Whether some file system takes `part` for `.git`: any case, NTFS streams and short names, HFS' ignored ones."""
    text = part.encode("utf-8", "surrogateescape").decode("utf-8", "ignore")
    text = "".join(c for c in text if unicodedata.category(c) != "Cf").casefold()
    text = text.split(":", 1)[0].split("\\", 1)[0].rstrip(" .")
    return text in (".git", "git~1")


def _check_links(changed: list[Entry], contents: Mapping[str, bytes]) -> None:
    links = [e for e in changed if e.mode == _SYMLINK]
    leaving = [e for e in links if leaves_tree(e.path, contents[e.blob])]
    if leaving:
        raise _refused("A symbolic link may not lead out of the repository or into `.git`", leaving)


def leaves_tree(path: str, target: bytes) -> bool:
    """Whether a symbolic link at `path` may lead out of the tree.

    `..` counts only at the target's beginning: after a name, which may be a link itself, nobody can say where it leads.
    """
    if not target or len(target) > _LINK_BYTES or b"\0" in target or target.startswith(b"/"):
        return True
    parts = [part for part in target.decode("utf-8", "surrogateescape").split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    rest = parts[ups:]
    return ups > path.count("/") or ".." in rest or any(is_git_folder(part) for part in rest)


def _check_secrets(changed: list[Entry], old_blobs: Mapping[str, set[str]], contents: Mapping[str, bytes]) -> None:
    for entry in changed:
        if entry.gone:
            continue
        before = [contents.get(blob, b"") for blob in old_blobs.get(entry.path, ())]
        kinds = find(added_text(contents[entry.blob], before))
        if kinds:
            raise _refused(f"The change would publish a secret ({', '.join(kinds)})", [entry])


def added_text(after: bytes, before: Sequence[bytes]) -> str:
    """Lines of `after` that none of `before` has as often, in their order."""
    known: Counter[bytes] = Counter()
    for text in before:
        known |= Counter(text.splitlines())
    added = []
    for line in after.splitlines():
        if known[line] > 0:
            known[line] -= 1
        else:
            added.append(line)
    return b"\n".join(added).decode("utf-8", "replace")
