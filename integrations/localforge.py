"""A forge without a server: pull requests kept beside bare repositories, merged with real git."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from graph.errors import MergeRefused, RepositoryProblem
from graph.values import Person, PullRequest, Repository
from integrations.gitcommand import SEARCH_PATH, GitCommand, GitRunError
from integrations.localpulls import Approved, Comment, Pull, Pulls

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_FORGE = {"NAME": "Threadwright forge", "EMAIL": "forge@threadwright.invalid"}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LocalForge:
    """Implements `graph.ports.Forge` over local repositories.

    `folder` holds bare repositories (`name.git`, `owner/name.git`), or is None when only paths are used. Pull requests
    live in `<repository>.pulls/` beside a bare repository, and in `.git/threadwright/` of one with a checkout. As on
    other forges a draft is not merged, and neither is a commit that nobody approved.
    """

    def __init__(
        self, folder: Path | None, *, now: Callable[[], datetime] = _utc_now, search_path: str = SEARCH_PATH
    ) -> None:
        self._folder = folder.absolute() if folder else None
        self._now = now
        self._git = GitCommand(search_path)

    # Which repositories there are

    def repositories(self) -> list[str]:
        """Names of the repositories in the folder: `name` or `owner/name`, sorted."""
        if self._folder is None or not self._folder.is_dir():
            return []
        found = []
        for path in sorted(self._folder.iterdir()):
            if _is_repository(path):
                found.append(path.name.removesuffix(".git"))
            elif path.is_dir() and _NAME.fullmatch(path.name):
                inner = sorted(p.name.removesuffix(".git") for p in path.iterdir() if _is_repository(p))
                found += [f"{path.name}/{name}" for name in inner]
        return sorted(name for name in found if _NAME.fullmatch(name))

    def find(self, name: str) -> Repository:
        return self.resolve(name, allow_paths=False)

    def resolve(self, name_or_path: str, *, allow_paths: bool) -> Repository:
        """The repository that a person named: a name in the folder or, if allowed, a path or a file:// address.

        Raises RepositoryProblem.
        """
        text = name_or_path.strip()
        named = self._by_name(text)
        if named is not None:
            return Repository(name=text.removesuffix(".git"), url=named.as_uri())
        parts = urlsplit(text) if "://" in text else None
        if parts is not None and parts.scheme != "file":
            raise RepositoryProblem(f"`{text}` is on another forge; here I only reach local repositories.")
        if not allow_paths:
            known = ", ".join(f"`{name}`" for name in self.repositories()[:10]) or "none"
            raise RepositoryProblem(f"I know no repository `{text}`. Known here: {known}.")
        path = Path(unquote(parts.path)) if parts is not None else Path(text).expanduser()
        return _at_path(path.resolve(), text)

    def _by_name(self, text: str) -> Path | None:
        if self._folder is None or not _NAME.fullmatch(text):
            return None
        plain = text.removesuffix(".git")
        return next((p for p in (self._folder / f"{plain}.git", self._folder / plain) if _is_repository(p)), None)

    # graph.ports.Forge

    def propose(
        self, repository: Repository, branch: str, head: str, base: str, title: str, body: str, *, draft: bool
    ) -> PullRequest:
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            current, target = self._head(git_dir, branch), self._head(git_dir, base)
            for name, sha in ((branch, current), (base, target)):
                if not sha:
                    raise RepositoryProblem(f"`{repository.name}` has no branch `{name}`.")
            if current != head:
                raise RepositoryProblem(
                    f"`{branch}` of `{repository.name}` is at `{current[:12]}`, not at `{head[:12]}`: push first."
                )
            known = [self._refreshed(git_dir, pulls, pull) for pull in pulls.all() if pull.branch == branch]
            # One that was merged at this very head is the answer to a call that is made a second time.
            fitting = [
                p for p in known if p.base == base and (p.state == "open" or (p.state, p.head) == ("merged", head))
            ]
            if fitting and fitting[-1].state == "merged":
                return _public(fitting[-1], pulls)
            pull = fitting[-1] if fitting else None
            if pull is None:
                if self._is_ancestor(git_dir, head, target):
                    raise RepositoryProblem(f"`{branch}` has no commits that `{base}` lacks: nothing to propose.")
                number = max(pulls.numbers(), default=0) + 1
                pull = Pull(
                    number=number, branch=branch, base=base, head=head, title=title, body=body, draft=draft,
                    opened=self._now(),
                )  # fmt: skip
            pull = pull.model_copy(update={"title": title, "body": body, "head": head})
            pulls.write(pull)
        return _public(pull, pulls)

    def pull_request(self, repository: Repository, number: int) -> PullRequest:
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            return _public(self._read(repository, git_dir, pulls, number), pulls)

    def comment(self, repository: Repository, number: int, text: str, *, marker: str) -> None:
        git_dir, pulls = self._places(repository)
        hidden = f"<!-- {marker} -->"
        with pulls.locked():
            pull = self._read(repository, git_dir, pulls, number)
            if not any(hidden in comment.text for comment in pull.comments):
                said = Comment(text=f"{text}\n\n{hidden}", at=self._now())
                pulls.write(pull.model_copy(update={"comments": [*pull.comments, said]}))

    def comments(self, repository: Repository, number: int) -> list[str]:
        """What was said on the pull request, oldest first, hidden markers included."""
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            return [comment.text for comment in self._read(repository, git_dir, pulls, number).comments]

    def approve(self, repository: Repository, number: int, sha: str, by: Person) -> None:
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            pull = self._read(repository, git_dir, pulls, number)
            _check_head(pull, sha)
            if pull.state == "closed":
                raise MergeRefused(f"Pull request #{number} is closed.")
            if not any(a.sha == sha and a.by.id == by.id and a.revoked is None for a in pull.approvals):
                approval = Approved(sha=sha, by=by, at=self._now())
                pulls.write(pull.model_copy(update={"approvals": [*pull.approvals, approval]}))

    def revoke(self, repository: Repository, number: int, sha: str, by: Person) -> None:
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            pull = self._read(repository, git_dir, pulls, number)
            at = self._now()
            approvals = [
                a.model_copy(update={"revoked": at}) if a.sha == sha and a.by.id == by.id and a.revoked is None else a
                for a in pull.approvals
            ]
            pulls.write(pull.model_copy(update={"approvals": approvals}))

    def ready(self, repository: Repository, number: int) -> PullRequest:
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            pull = self._read(repository, git_dir, pulls, number).model_copy(update={"draft": False})
            pulls.write(pull)
        return _public(pull, pulls)

    def merge(self, repository: Repository, number: int, sha: str, title: str) -> PullRequest:
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            pull = self._read(repository, git_dir, pulls, number)
            if pull.state != "merged":
                _check_mergeable(pull, sha)
                made = self._merge(git_dir, pull, title)
                pull = pull.model_copy(update={"state": "merged", "merge_commit": made})
                pulls.write(pull)
        return _public(pull, pulls)

    def close(self, repository: Repository, number: int) -> PullRequest:
        git_dir, pulls = self._places(repository)
        with pulls.locked():
            pull = self._read(repository, git_dir, pulls, number)
            if pull.state == "open":
                pull = pull.model_copy(update={"state": "closed"})
                pulls.write(pull)
        return _public(pull, pulls)

    # Inside

    def _places(self, repository: Repository) -> tuple[Path, Pulls]:
        """The repository's git folder and its pull requests."""
        parts = urlsplit(repository.url)
        path = Path(unquote(parts.path))
        if parts.scheme != "file" or not _is_repository(path):
            raise RepositoryProblem(f"`{repository.name}` is no local git repository.")
        if not (path / ".git").exists():
            return path, Pulls(path.with_name(f"{path.name}.pulls"))
        # With linked worktrees `.git` is a file, and what all of them share is elsewhere.
        shared = self._git.run(path / ".git", "rev-parse", "--path-format=absolute", "--git-common-dir").text
        return Path(shared), Pulls(Path(shared) / "threadwright")

    def _read(self, repository: Repository, git_dir: Path, pulls: Pulls, number: int) -> Pull:
        pull = pulls.read(number)
        if pull is None:
            raise RepositoryProblem(f"`{repository.name}` has no pull request #{number}.")
        return self._refreshed(git_dir, pulls, pull)

    def _refreshed(self, git_dir: Path, pulls: Pulls, pull: Pull) -> Pull:
        """As the branches say it is. Merged by other hands, or by us just before a crash, is merged."""
        if pull.state != "open":
            return pull
        head = self._head(git_dir, pull.branch) or pull.head
        target = self._head(git_dir, pull.base)
        if target and self._is_ancestor(git_dir, head, target):
            path = self._git.run(git_dir, "rev-list", "--first-parent", "--ancestry-path", f"{head}..{target}").text
            made = path.splitlines()[-1] if path else head
            fresh = pull.model_copy(update={"head": head, "state": "merged", "merge_commit": made})
        else:
            fresh = pull.model_copy(update={"head": head})
        if fresh != pull:
            pulls.write(fresh)
        return fresh

    def _head(self, git_dir: Path, branch: str) -> str:
        return self._git.run(git_dir, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", ok=(0, 1)).text

    def _is_ancestor(self, git_dir: Path, commit: str, of: str) -> bool:
        return self._git.run(git_dir, "merge-base", "--is-ancestor", commit, of, ok=(0, 1)).status == 0

    def _merge(self, git_dir: Path, pull: Pull, title: str) -> str:
        self._check_not_checked_out(git_dir, pull)
        target = self._head(git_dir, pull.base)
        if not target:
            raise MergeRefused(f"The branch `{pull.base}` is gone.")
        arguments = ("--write-tree", "--name-only", "-z", "--no-messages", target, pull.head)
        try:
            result = self._git.run(git_dir, "merge-tree", *arguments, ok=(0, 1))
        except GitRunError as exc:
            reason = exc.error.strip().rpartition("\n")[2].removeprefix("fatal: ")
            raise MergeRefused(f"git cannot merge #{pull.number} into `{pull.base}`: {reason}.") from exc
        tree, *conflicts = result.out.decode("utf-8", "backslashreplace").rstrip("\0").split("\0")
        if result.status == 1:
            files = ", ".join(f"`{name}`" for name in sorted(set(conflicts)))
            raise MergeRefused(f"#{pull.number} conflicts with `{pull.base}` in {files}.")
        made = self._commit(git_dir, tree, [target, pull.head], f"{title}\n\nPull-Request: #{pull.number}\n")
        try:
            # With the old value: a push that came in between is not thrown away.
            self._git.run(git_dir, "update-ref", f"refs/heads/{pull.base}", made, target)
        except GitRunError as exc:
            raise MergeRefused(f"`{pull.base}` moved just now. Try again.") from exc
        return made

    def _commit(self, git_dir: Path, tree: str, parents: list[str], message: str) -> str:
        env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _FORGE.items()}
        date = f"{int(self._now().timestamp())} +0000"
        env |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        links = [argument for parent in parents for argument in ("-p", parent)]
        text = message.replace("\0", "").encode("utf-8", "replace")
        return self._git.run(git_dir, "commit-tree", tree, *links, "-F", "-", stdin=text, env=env).text

    def _check_not_checked_out(self, git_dir: Path, pull: Pull) -> None:
        """To move a branch under somebody's checkout would show them our merge as their own undoing."""
        folder = ""
        for line in self._git.run(git_dir, "worktree", "list", "--porcelain").text.splitlines():
            if line.startswith("worktree "):
                folder = line.removeprefix("worktree ")
            elif line == f"branch refs/heads/{pull.base}":
                command = f"git -C {shlex.quote(folder)} merge --no-ff {pull.head}"
                raise MergeRefused(
                    f"`{pull.base}` is checked out in {folder}, and I do not move it under your hands. "
                    f"Merge it there: {command}"
                )


def _is_repository(path: Path) -> bool:
    return (path / ".git").exists() or all((path / part).exists() for part in ("HEAD", "objects", "refs"))


def _at_path(path: Path, text: str) -> Repository:
    if not path.exists():
        raise RepositoryProblem(f"`{text}` does not exist.")
    for folder in (path, *path.parents):
        if _is_repository(folder):
            # `.git` itself is a repository to git; people mean the folder that it is in.
            root = folder.parent if folder.name == ".git" else folder
            return Repository(name=root.name.removesuffix(".git"), url=root.as_uri())
    raise RepositoryProblem(f"`{text}` is not a git repository.")


def _check_head(pull: Pull, sha: str) -> None:
    if pull.head != sha:
        raise MergeRefused(f"#{pull.number} is at `{pull.head[:12]}` now, not at `{sha[:12]}`.")


def _check_mergeable(pull: Pull, sha: str) -> None:
    if pull.state == "closed":
        raise MergeRefused(f"Pull request #{pull.number} is closed.")
    _check_head(pull, sha)
    if pull.draft:
        raise MergeRefused(f"#{pull.number} is still a draft.")
    if not pull.approved(sha):
        raise MergeRefused(f"`{sha[:12]}` of #{pull.number} is not approved.")


def _public(pull: Pull, pulls: Pulls) -> PullRequest:
    has_checks, checks = pulls.checks(pull.head)
    return PullRequest(
        number=pull.number,
        url=pulls.page(pull.number).as_uri(),
        head=pull.head,
        branch=pull.branch,
        base=pull.base,
        title=pull.title,
        draft=pull.draft,
        state=pull.state,
        merge_commit=pull.merge_commit,
        has_checks=has_checks,
        checks=checks,
    )
