"""Git on the bot's side: one bare mirror a repository, and commits made of trees that left the sandbox as packs.

Nothing here ever opens a checkout. What comes out of the sandbox passes `index-pack --strict` in a quarantine and the
tree policy before its objects reach the mirror.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from git import Actor

from graph.errors import BadInput, PushRefused, RepositoryProblem, TreeRefused
from graph.ports import Changes, TreePack, Workspace
from graph.values import Brief, Repository
from integrations.folders import remove
from integrations.gitcommand import SEARCH_PATH, GitCommand, GitRunError, locked
from integrations.gitremote import Remote
from integrations.treepolicy import DEFAULT_PROTECTED, TreeLimits, TreePolicy

BOT = Actor("Threadwright", "threadwright@users.noreply.invalid")

_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REFS = "refs/threadwright"
# In bytes and without a suffix: git 2.39 reads "50m" as 50 bytes.
_PACK_BYTES = 50 << 20


class GitWorkspaces:
    """Implements `graph.ports.Workspaces`. Mirrors, workspaces and quarantines are folders of `home`.

    `protected`: .gitignore patterns of paths that leave only with a person's yes. `workspace_uid`: owner of the
    workspaces when commands run as another user than this process; `home` must then be searchable by that user.
    `protocols`: URL schemes that may be used. `branch_prefix`: the only branches that are ever pushed.
    """

    def __init__(
        self,
        home: Path,
        *,
        protected: Sequence[str] = DEFAULT_PROTECTED,
        workspace_uid: int | None = None,
        max_files: int = 300,
        max_file_bytes: int = 5 << 20,
        max_total_bytes: int = 20 << 20,
        protocols: Collection[str] = ("file",),
        author: Actor = BOT,
        branch_prefix: str = "threadwright/",
        search_path: str = SEARCH_PATH,
    ) -> None:
        # git runs in "/".
        home = home.absolute()
        self._mirrors = home / "mirrors"
        self._work = home / "work"
        self._quarantine = home / "quarantine"
        self._uid = workspace_uid
        self._seen: set[tuple[Path, str]] = set()
        self._author = author
        self._prefix = branch_prefix
        self._git = GitCommand(search_path)
        self._remote = Remote(self._git, protocols)
        limits = TreeLimits(files=max_files, file_bytes=max_file_bytes, total_bytes=max_total_bytes)
        self._policy = TreePolicy(self._git, protected=protected, limits=limits)

    def fetch(self, repository: Repository, branch: str = "") -> tuple[Repository, str]:
        heads = self._remote.heads(repository)
        base = heads.choose(repository, branch or repository.base)
        mirror = self._mirror_path(repository)
        with self._locked_mirror(mirror) as fd:
            if not mirror.exists():
                self._create_mirror(mirror)
            self._remote.fetch(mirror, repository, (fd,))
            if heads.default:
                # A clone of the mirror looks at its HEAD.
                self._git.run(mirror, "symbolic-ref", "HEAD", f"refs/heads/{heads.default}", keep_fds=(fd,))
        sha = self._resolve(mirror, f"refs/heads/{base}")
        if not sha:
            raise RepositoryProblem(
                f"The branch `{base}` of `{repository.name}` could not be fetched. "
                "Either it was deleted just now, or the repository is a shallow clone: `git fetch --unshallow` there."
            )
        return repository.model_copy(update={"base": base}), sha

    def workspace(self, task: str, repository: Repository, commit: str) -> Workspace:
        mirror = self._mirror(repository)
        if (mirror, commit) not in self._seen:
            # Once a turn is enough, and each tool call asks: a mirror loses no commit, since nothing collects there.
            self._tree_of(mirror, commit)
            self._seen.add((mirror, commit))
        root = self._work / _checked(task)
        # 0711: the sandbox's user must be able to reach its own folder, and to list nobody else's.
        self._work.mkdir(parents=True, exist_ok=True)
        self._work.chmod(0o711)
        root.mkdir(mode=0o700, exist_ok=True)
        if self._uid is not None:
            os.chown(root, self._uid, -1, follow_symlinks=False)
        return Workspace(task=task, root=root, mirror=mirror, commit=commit)

    def take(
        self,
        brief: Brief,
        repository: Repository,
        tree: TreePack,
        parents: Sequence[str],
        message: str,
        *,
        order: int,
        allow: Sequence[str] = (),
        protected: Sequence[str] = (),
    ) -> str:
        task = _checked(brief.id)
        mirror = self._mirror(repository)
        if not parents or not _SHA.fullmatch(tree.tree):
            raise BadInput("A commit needs a tree and at least one parent.")
        trees = [self._tree_of(mirror, parent) for parent in parents]
        # Of two parents, an unchanged tree still has something to say: that the second is merged.
        if trees[0] == tree.tree and len(parents) == 1:
            sha = parents[0]
        else:
            with locked(self._quarantine / f"{task}.lock") as fd:
                self._admit(mirror, task, tree, parents, allow=allow, protected=protected, fd=fd)
            sha = self._commit(mirror, brief, tree.tree, parents, message=message, order=order)
        with self._locked_mirror(mirror) as fd:
            self._git.run(mirror, "update-ref", f"{_REFS}/{task}/wip", sha, keep_fds=(fd,))
        return sha

    def text(self, repository: Repository, path: str, *, limit: int = 1 << 17) -> str | None:
        mirror = self._mirror(repository)
        # HEAD of a mirror is the default branch. Nothing that a task pushes or keeps is on it.
        spec = f"HEAD:{path}"
        found = self._git.run(mirror, "rev-parse", "--verify", "--quiet", spec, ok=(0, 1, 128)).text
        if not found:
            return None
        if self._git.run(mirror, "cat-file", "-t", found).text != "blob":
            return None
        if int(self._git.run(mirror, "cat-file", "-s", found).text) > limit:
            raise BadInput(f"{path} is larger than {limit} bytes.")
        try:
            return self._git.run(mirror, "cat-file", "blob", found).out.decode()
        except UnicodeDecodeError as exc:
            raise BadInput(f"{path} is not a UTF-8 text: {exc}.") from exc

    def kept(self, task: str, repository: Repository) -> str:
        mirror = self._mirror_path(repository)
        return self._resolve(mirror, f"{_REFS}/{_checked(task)}/wip") if mirror.exists() else ""

    def changes(self, repository: Repository, base: str, head: str) -> Changes:
        mirror = self._mirror(repository)
        trees = self._tree_of(mirror, base), self._tree_of(mirror, head)
        common = ("diff-tree", "-r", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv")
        prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
        diff = self._git.run(mirror, *common, *prefixes, "-p", "--ignore-submodules=none", *trees).out
        counts = self._git.run(mirror, *common, "--numstat", "-z", "--ignore-submodules=none", *trees).out
        lines = [entry.split(b"\t", 2) for entry in counts.split(b"\0") if entry]
        return Changes(
            diff=diff.decode("utf-8", "replace"),
            files=len(lines),
            # Binary files are counted as "-".
            added=sum(int(added) for added, _, _ in lines if added != b"-"),
            removed=sum(int(removed) for _, removed, _ in lines if removed != b"-"),
        )

    def push(self, repository: Repository, sha: str, branch: str) -> None:
        mirror = self._mirror(repository)
        self._tree_of(mirror, sha)
        valid = self._git.run(None, "check-ref-format", f"refs/heads/{branch}", ok=(0, 1)).status == 0
        if not valid or not branch.startswith(self._prefix):
            raise PushRefused(f"I push only branches that begin with `{self._prefix}`, so not `{branch}`.")
        self._remote.push(mirror, repository, sha, branch)

    def drop(self, task: str, repository: Repository) -> None:
        remove(self._work / _checked(task))
        remove(self._quarantine / task)
        (self._quarantine / f"{task}.lock").unlink(missing_ok=True)
        mirror = self._mirror_path(repository)
        if mirror.exists():
            self._delete_refs(mirror, [task])

    def janitor(self, keep: Collection[str], *, older_than: float = 3600.0) -> list[str]:
        """Remove workspaces, quarantines and refs of tasks that are not in `keep`; gives those tasks.

        A folder that changed within `older_than` seconds stays: its task may be younger than the list in `keep`.
        """
        gone: set[str] = set()
        for folder in (self._work, self._quarantine):
            for path in folder.iterdir() if folder.exists() else ():
                task = path.name.removesuffix(".lock")
                with contextlib.suppress(FileNotFoundError):  # its task has just removed it
                    if task not in keep and path.lstat().st_mtime < time.time() - older_than:
                        remove(path)
                        gone.add(task)
        for mirror in self._mirrors.glob("*.git"):
            names = self._git.run(mirror, "for-each-ref", "--format=%(refname)", f"{_REFS}/").text.split("\n")
            tasks = {name.split("/")[2] for name in names if name} - set(keep)
            orphans = sorted(task for task in tasks if not (self._work / task).exists())
            self._delete_refs(mirror, orphans)
            gone.update(orphans)
        return sorted(gone)

    def _mirror_path(self, repository: Repository) -> Path:
        slug = re.sub(r"[^a-z0-9]+", "-", repository.name.lower()).strip("-")[:40]
        return self._mirrors / f"{slug}-{hashlib.sha256(repository.url.encode()).hexdigest()[:12]}.git"

    def _mirror(self, repository: Repository) -> Path:
        mirror = self._mirror_path(repository)
        if not mirror.exists():
            raise RepositoryProblem(f"`{repository.name}` has not been fetched on this machine.")
        return mirror

    @contextmanager
    def _locked_mirror(self, mirror: Path) -> Iterator[int]:
        """One writer of refs at a time. git inherits the lock: whoever gets it knows that no git is still at work."""
        with locked(mirror.with_suffix(".lock")) as fd:
            # Left by a git that was killed; each would block its ref for ever, or fill the disk.
            for pattern in ("refs/**/*.lock", "*.lock", "objects/pack/tmp_*"):
                for path in mirror.glob(pattern):
                    path.unlink(missing_ok=True)
            yield fd

    def _create_mirror(self, mirror: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self._mirrors, prefix=".new-") as folder:
            made = Path(folder) / "mirror"
            self._git.run(None, "init", "--quiet", "--bare", "--template=", str(made))
            shutil.rmtree(made / "hooks", ignore_errors=True)
            # The sandbox clones from here, also commits that only a work-in-progress ref names.
            self._git.run(made, "config", "uploadpack.allowAnySHA1InWant", "true")
            made.chmod(0o755)
            self._mirrors.chmod(0o711)
            made.rename(mirror)

    def _admit(
        self,
        mirror: Path,
        task: str,
        tree: TreePack,
        parents: Sequence[str],
        *,
        allow: Sequence[str],
        protected: Sequence[str],
        fd: int,
    ) -> None:
        """Objects of the pack reach the mirror only when the tree may become a commit. Raises TreeRefused."""
        folder = self._quarantine / task
        remove(folder)
        (folder / "pack").mkdir(parents=True)
        (folder / "info").mkdir()
        (folder / "info" / "alternates").write_text(f"{mirror / 'objects'}\n")
        env = {"GIT_OBJECT_DIRECTORY": str(folder)}
        try:
            if tree.pack:
                self._unpack(mirror, tree.pack, env, fd)
            kind = self._git.run(mirror, "cat-file", "-t", tree.tree, env=env, ok=(0, 128)).text
            if kind != "tree":
                raise TreeRefused("What left the sandbox does not hold the tree that it names.")
            self._policy.check(mirror, tree.tree, parents, allow=allow, protected=protected, env=env)
            # The index last: without it a pack is not there for git.
            for suffix in ("pack", "rev", "idx"):
                for path in (folder / "pack").glob(f"pack-*.{suffix}"):
                    path.replace(mirror / "objects" / "pack" / path.name)
        finally:
            remove(folder)

    def _unpack(self, mirror: Path, pack: bytes, env: dict[str, str], fd: int) -> None:
        if len(pack) > _PACK_BYTES:
            raise TreeRefused(f"The change is larger than {_PACK_BYTES >> 20} MiB.")
        options = ("--stdin", "--fix-thin", "--strict", f"--max-input-size={_PACK_BYTES}")
        try:
            self._git.run(mirror, "index-pack", *options, stdin=pack, env=env, keep_fds=(fd,))
        except GitRunError as exc:
            found = re.search(r"error: object \w+: (\w+): (.*)", exc.error)
            last = exc.error.strip().rpartition("\n")[2].removeprefix("fatal: ")
            why = f"{found[2]} ({found[1]})" if found else last
            raise TreeRefused(f"git refuses what left the sandbox: {why}.") from exc

    def _commit(
        self, mirror: Path, brief: Brief, tree: str, parents: Sequence[str], *, message: str, order: int
    ) -> str:
        date = f"{int(brief.created.timestamp()) + order} +0000"
        env = {f"GIT_{role}_DATE": date for role in ("AUTHOR", "COMMITTER")}
        for role in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{role}_NAME": str(self._author.name), f"GIT_{role}_EMAIL": str(self._author.email)}
        links = [argument for parent in parents for argument in ("-p", parent)]
        text = message.replace("\0", "").rstrip("\n").encode("utf-8", "replace") + b"\n"
        return self._git.run(mirror, "commit-tree", tree, *links, "-F", "-", stdin=text, env=env).text

    def _resolve(self, mirror: Path, name: str) -> str:
        return self._git.run(mirror, "rev-parse", "--verify", "--quiet", name, ok=(0, 1)).text

    def _tree_of(self, mirror: Path, commit: str) -> str:
        """Raises BadInput unless `commit` is the full id of a commit that the mirror has."""
        tree = ""
        if _SHA.fullmatch(commit):
            tree = self._git.run(
                mirror, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}^{{tree}}", ok=(0, 1, 128)
            ).text
        if not tree:
            raise BadInput(f"There is no commit `{commit[:40]}` here.")
        return tree

    def _delete_refs(self, mirror: Path, tasks: Sequence[str]) -> None:
        patterns = [f"{_REFS}/{task}/" for task in tasks]
        if not patterns:
            return
        with self._locked_mirror(mirror) as fd:
            names = self._git.run(mirror, "for-each-ref", "--format=%(refname)", *patterns).text.split("\n")
            orders = "".join(f"delete {name}\n" for name in names if name).encode()
            self._git.run(mirror, "update-ref", "--stdin", stdin=orders, keep_fds=(fd,))


def _checked(task: str) -> str:
    """The task's id is part of paths and refs."""
    if not _TASK.fullmatch(task):
        raise BadInput("A task's id is made of letters, digits, dashes and underscores.")
    return task
