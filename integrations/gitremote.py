"""What git does over a transport: listing, fetching, pushing; and git's complaints in plain words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from graph.errors import ForgeUnavailable, PushRefused, Refused, RepositoryProblem, Unavailable
from graph.values import Repository
from integrations.gitcommand import GitCommand, GitResult, GitRunError

_NAMED = 5
_WORDS = 600
_REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


@dataclass(frozen=True)
class Heads:
    """Branches of a repository. `default` is empty when its HEAD names no branch that exists."""

    shas: Mapping[str, str] = field(default_factory=dict)
    default: str = ""
    detached: bool = False

    def choose(self, repository: Repository, wanted: str) -> str:
        """The base branch. Raises RepositoryProblem when it does not exist or cannot be known."""
        if not self.shas:
            raise RepositoryProblem(f"`{repository.name}` has no commits yet: push a first commit, then ask me again.")
        if wanted:
            if wanted not in self.shas:
                raise RepositoryProblem(f"`{repository.name}` has no branch `{wanted}`. {self._closest(wanted)}")
            return wanted
        if self.default:
            return self.default
        if len(self.shas) == 1:
            return next(iter(self.shas))
        why = "is detached (it names a commit, not a branch)" if self.detached else "names a branch without commits"
        raise RepositoryProblem(
            f"I cannot tell the default branch of `{repository.name}`: its HEAD {why}. "
            f"Name one with `branch=`. {self._closest('main')}"
        )

    def _closest(self, wanted: str) -> str:
        names = sorted(self.shas)
        close = difflib.get_close_matches(wanted, names, n=_NAMED, cutoff=0.5)
        listed = ", ".join(f"`{name}`" for name in close or names[:_NAMED])
        return f"{'The closest' if close else 'There'} are: {listed}."


class Remote:
    """Reaches repositories through the schemes in `protocols`, each call through exactly one of them."""

    def __init__(self, git: GitCommand, protocols: Collection[str]) -> None:
        self._git = git
        self._protocols = frozenset(protocols)

    def heads(self, repository: Repository) -> Heads:
        """Raises RepositoryProblem, ForgeUnavailable."""
        out = self._run(None, repository, "ls-remote", "--symref", "--", repository.url, "HEAD", "refs/heads/*").text
        shas: dict[str, str] = {}
        default = head = ""
        for line in out.splitlines():
            value, _, name = line.partition("\t")
            if name.startswith("refs/heads/"):
                shas[name.removeprefix("refs/heads/")] = value
            elif name == "HEAD" and value.startswith("ref: refs/heads/"):
                default = value.removeprefix("ref: refs/heads/")
            elif name == "HEAD":
                head = value
        return Heads(shas, default if default in shas else "", detached=bool(head) and not default)

    def fetch(self, mirror: Path, repository: Repository, keep_fds: Sequence[int]) -> None:
        """Make the mirror's branches and tags those of the repository. Raises RepositoryProblem, ForgeUnavailable."""
        options = ("--prune", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
        self._run(mirror, repository, "fetch", *options, "--", repository.url, *_REFSPECS, keep_fds=keep_fds)

    def push(self, mirror: Path, repository: Repository, sha: str, branch: str) -> None:
        """Raises PushRefused, RepositoryProblem, ForgeUnavailable."""
        options = ("--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")
        refspec = f"{sha}:refs/heads/{branch}"
        result = self._run(mirror, repository, "push", *options, "--", repository.url, refspec, ok=(0, 1))
        if result.status != 0:
            raise self._push_refused(repository, branch, result)

    def _run(
        self,
        git_dir: Path | None,
        repository: Repository,
        *args: str,
        ok: Collection[int] = (0,),
        keep_fds: Sequence[int] = (),
    ) -> GitResult:
        """The one way out: the place where a call's transport, and one day its credentials, are chosen."""
        parts = urlsplit(repository.url)
        if parts.scheme not in self._protocols:
            allowed = ", ".join(sorted(self._protocols))
            raise RepositoryProblem(f"`{repository.name}` cannot be reached: I may use {allowed} addresses only.")
        if parts.password is not None:
            raise RepositoryProblem(f"The address of `{repository.name}` holds a password. Take it out.")
        try:
            return self._git.run(git_dir, *args, scheme=parts.scheme, ok=ok, timeout=1800.0, keep_fds=keep_fds)
        except GitRunError as exc:
            raise _in_words(repository, exc.error) from exc

    def _push_refused(self, repository: Repository, branch: str, result: GitResult) -> Refused | Unavailable:
        rejected = re.search(r"^!\t\S+\t\[(remote )?rejected\] \((.*)\)$", result.text, re.MULTILINE)
        if rejected is None:
            return _in_words(repository, result.error)
        remote, reason = rejected.groups()
        if not remote or reason in ("non-fast-forward", "fetch first"):
            return PushRefused(
                f"The branch `{branch}` of `{repository.name}` has commits that mine do not build on. "
                "I did not overwrite them."
            )
        said = " ".join(_remote_lines(result.error))
        return PushRefused(
            f"`{repository.name}` refused the branch `{branch}`: {f'{said} ' if said else ''}({reason})."
        )


def _remote_lines(error: str) -> list[str]:
    lines = [line.removeprefix("remote:").strip() for line in error.splitlines() if line.startswith("remote:")]
    text = "\n".join(line for line in lines if line)[:_WORDS]
    return ["".join(c for c in line if c.isprintable()) for line in text.splitlines()]


def _in_words(repository: Repository, error: str) -> Refused | Unavailable:
    name = f"`{repository.name}`"
    if "dubious ownership" in error:
        return RepositoryProblem(
            f"{name} belongs to another user of this machine, so git does not open it. "
            "Run me as its owner, or change its owner with chown."
        )
    is_local = urlsplit(repository.url).scheme == "file"
    path = Path(unquote(urlsplit(repository.url).path))
    if is_local and not path.exists():
        return RepositoryProblem(f"{name} does not exist: there is nothing at {path}.")
    if "not appear to be a git repository" in error or "not a git repository" in error:
        return RepositoryProblem(f"{name} is not a git repository.")
    if "shallow" in error:
        return RepositoryProblem(f"{name} is a shallow clone. Complete it there with `git fetch --unshallow`.")
    fsck = re.search(r"error: object (\w+): (\w+): (.*)", error)
    if fsck:
        return RepositoryProblem(f"git refuses the history of {name}: object {fsck[1]}: {fsck[3]} ({fsck[2]}).")
    last = next((line for line in reversed(error.strip().splitlines()) if line.startswith(("fatal:", "error:"))), "")
    detail = last.partition(":")[2].strip() or "git gave no reason"
    if is_local:
        return RepositoryProblem(f"git cannot use {name}: {detail}.")
    return ForgeUnavailable(f"{name} cannot be reached now: {detail}.")
