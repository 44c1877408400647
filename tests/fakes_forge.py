"""A forge in memory with just enough of git to merge: commits are whole trees of small text files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from graph.errors import MergeRefused, RepositoryProblem
from graph.state import Person, PullRequest, Repository

SAMPLE = Repository(name="sample", url="file:///sample")


@dataclass(frozen=True)
class MemoryCommit:
    parents: tuple[str, ...]
    files: dict[str, str]


@dataclass
class MemoryPull:
    public: PullRequest
    body: str
    comments: list[str] = field(default_factory=list)
    approvals: set[tuple[str, str]] = field(default_factory=set)


class MemoryForge:
    """Implements `graph.ports.Forge` for one repository. Give it heads with `commit`, or set `branches` directly."""

    def __init__(self, base: str = "main", repository: Repository = SAMPLE) -> None:
        self.repository = repository
        self.commits: dict[str, MemoryCommit] = {}
        self.branches: dict[str, str] = {}
        self.pulls: dict[int, MemoryPull] = {}
        self.base = base
        self.commit(base, "README.md", "# Sample\n")

    def find(self, name: str) -> Repository:
        if name != self.repository.name:
            raise RepositoryProblem(f"I know no repository `{name}`. Known here: `{self.repository.name}`.")
        return self.repository

    def repositories(self) -> list[str]:
        return [self.repository.name]

    def commit(self, branch: str, path: str, text: str) -> str:
        parent = self.branches.get(branch) or self.branches.get(self.base)
        files = dict(self.commits[parent].files) if parent else {}
        self.branches[branch] = self._add((parent,) if parent else (), {**files, path: text})
        return self.branches[branch]

    def propose(
        self, repository: Repository, branch: str, head: str, base: str, title: str, body: str, *, draft: bool
    ) -> PullRequest:
        if self.branches.get(branch) != head or base not in self.branches:
            raise RepositoryProblem(f"`{branch}` is not at `{head[:12]}`.")
        for number, pull in self.pulls.items():
            seen = self.pull_request(repository, number)
            if (seen.branch, seen.base) != (branch, base):
                continue
            if seen.state == "merged" and seen.head == head:
                return seen
            if seen.state == "open":
                pull.public, pull.body = seen.model_copy(update={"title": title}), body
                return pull.public
        if head in self._ancestors(self.branches[base]):
            raise RepositoryProblem("Nothing to propose.")
        number = len(self.pulls) + 1
        public = PullRequest(
            number=number, url=f"memory:{number}", head=head, branch=branch, base=base, title=title, draft=draft
        )
        self.pulls[number] = MemoryPull(public, body)
        return public

    def pull_request(self, repository: Repository, number: int) -> PullRequest:
        if number not in self.pulls:
            raise RepositoryProblem(f"There is no pull request #{number}.")
        pull = self.pulls[number]
        if pull.public.state == "open":
            head = self.branches.get(pull.public.branch, pull.public.head)
            news: dict[str, str] = {"head": head}
            path = self._first_parents(self.branches[pull.public.base])
            if any(head in self._ancestors(sha) for sha in path[:1]):
                news |= {"state": "merged", "merge_commit": [s for s in path if head in self._ancestors(s)][-1]}
            pull.public = pull.public.model_copy(update=news)
        return pull.public

    def comment(self, repository: Repository, number: int, text: str, *, marker: str) -> None:
        self.pull_request(repository, number)
        comments = self.pulls[number].comments
        if not any(f"<!-- {marker} -->" in comment for comment in comments):
            comments.append(f"{text}\n\n<!-- {marker} -->")

    def approve(self, repository: Repository, number: int, sha: str, by: Person) -> None:
        pull = self.pull_request(repository, number)
        if pull.head != sha or pull.state == "closed":
            raise MergeRefused(f"#{number} is at `{pull.head[:12]}` and {pull.state}.")
        self.pulls[number].approvals.add((sha, by.id))

    def revoke(self, repository: Repository, number: int, sha: str, by: Person) -> None:
        self.pull_request(repository, number)
        self.pulls[number].approvals.discard((sha, by.id))

    def ready(self, repository: Repository, number: int) -> PullRequest:
        return self._update(repository, number, draft=False)

    def close(self, repository: Repository, number: int) -> PullRequest:
        pull = self.pull_request(repository, number)
        return self._update(repository, number, state="closed") if pull.state == "open" else pull

    def merge(self, repository: Repository, number: int, sha: str, title: str) -> PullRequest:
        pull = self.pull_request(repository, number)
        if pull.state == "merged":
            return pull
        if pull.state == "closed":
            raise MergeRefused(f"#{number} is closed.")
        if pull.head != sha:
            raise MergeRefused(f"#{number} is at `{pull.head[:12]}` now.")
        if pull.draft:
            raise MergeRefused(f"#{number} is still a draft.")
        if not any(approved == sha for approved, _ in self.pulls[number].approvals):
            raise MergeRefused(f"`{sha[:12]}` is not approved.")
        return self._update(repository, number, state="merged", merge_commit=self.join(pull.branch, pull.base))

    def join(self, branch: str, base: str) -> str:
        """Merge `branch` into `base`, past every rule."""
        ours, theirs = self.branches[base], self.branches[branch]
        common = [sha for sha in self._ancestors(ours) if sha in self._ancestors(theirs)]
        old = self.commits[max(common, key=lambda sha: len(self._ancestors(sha)))].files
        mine, yours = self.commits[ours].files, self.commits[theirs].files
        changed = [path for path in {**mine, **yours} if yours.get(path) != old.get(path)]
        clashes = [p for p in changed if mine.get(p) != old.get(p) and mine.get(p) != yours.get(p)]
        if clashes:
            raise MergeRefused(f"conflicts in {', '.join(sorted(clashes))}.")
        files = {**mine, **{path: yours[path] for path in changed if path in yours}}
        self.branches[base] = self._add((ours, theirs), {p: t for p, t in files.items() if p in yours or p not in old})
        return self.branches[base]

    def contains(self, branch: str, sha: str) -> bool:
        return sha in self._ancestors(self.branches[branch])

    def _update(self, repository: Repository, number: int, **news: object) -> PullRequest:
        pull = self.pulls[number]
        pull.public = self.pull_request(repository, number).model_copy(update=news)
        return pull.public

    def _add(self, parents: tuple[str, ...], files: dict[str, str]) -> str:
        sha = hashlib.sha1(repr((parents, sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[sha] = MemoryCommit(parents, files)
        return sha

    def _ancestors(self, sha: str) -> set[str]:
        seen: set[str] = set()
        todo = [sha]
        while todo:
            current = todo.pop()
            if current not in seen and current in self.commits:
                seen.add(current)
                todo += self.commits[current].parents
        return seen | {sha}

    def _first_parents(self, sha: str) -> list[str]:
        path = [sha]
        while self.commits[path[-1]].parents:
            path.append(self.commits[path[-1]].parents[0])
        return path
