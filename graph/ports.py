"""What the agent needs of the world, on one page. Adapters are in `integrations`; fakes in `tests/fakes.py`.

Every verb is synchronous and raises only errors of `graph.errors`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel

from graph.errors import Stopped
from graph.state import Brief, CheckResult, Limits, Outcome, Person, PullRequest, Repository, Role, Usage

Decision = TypeVar("Decision", bound=BaseModel)


class Halt:
    """The stop flag of a turn. Set by the heartbeat thread; nodes, boxes and the model look at it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self.by = ""

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call `callback`, from the thread that sets the flag, when the flag is set; at once if it is already."""
        with self._lock:
            self._callbacks.append(callback)
            is_set = self._event.is_set()
        if is_set:
            callback()

    def set(self, by: str = "") -> None:
        with self._lock:
            if self._event.is_set():
                return
            self.by = by
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Stopped` if the flag is set."""
        if self._event.is_set():
            raise Stopped(by=self.by)


class Model(Protocol):
    def answer(
        self, role: Role, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]], *, model: str = ""
    ) -> tuple[AIMessage, Usage]:
        """One call. `tools` are OpenAI function schemas; `model` overrides the role's. Validates nothing of the answer.

        Raises ModelUnavailable once retries are used up, Stopped when aborted.
        """
        ...

    def decide(
        self, role: Role, messages: Sequence[BaseMessage], into: type[Decision], *, model: str = ""
    ) -> tuple[Decision, Usage]:
        """A structured answer. A malformed one goes back with the error, at most three times: then ModelMisbehaved.

        Raises that at once when the provider refuses to answer. What it raises carries the `usage` so far.
        """
        ...


@dataclass(frozen=True)
class TreePack:
    """A tree as it left the sandbox: `pack` holds the objects that the base commit lacks (thin)."""

    tree: str
    pack: bytes


class Box(Protocol):
    """One set of namespaces for a turn. Paths are relative to the checkout (POSIX, bytes-safe via surrogateescape)."""

    @property
    def scratch(self) -> str:
        """A folder beside the checkout, as commands see it. What they leave there never becomes part of a commit."""
        ...

    def run(
        self,
        command: str,
        *,
        timeout: float | None = None,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a shell command line in the checkout. `timeout` in seconds; None: the default of a command.

        `env`: variables for this command besides those of the box.
        """
        ...

    def serve(self, name: str, command: str) -> None:
        """Start a command that stays: it ends with the box. One that runs under this name already is left alone."""
        ...

    def served(self, name: str) -> Outcome | None:
        """How that command ended; None while it runs. Raises BadInput for a name that was never started."""
        ...

    def left(self, name: str, *, limit: int = 16 << 20) -> bytes | None:
        """The file of that name in `scratch`; None if there is none, or if it is larger than `limit` bytes."""
        ...

    def read(self, path: str, *, limit: int = 1_000_000) -> bytes:
        """Raises BadInput if there is no such file."""
        ...

    def write(self, path: str, data: bytes) -> None: ...

    def export(self, base: str) -> TreePack:
        """The checkout as a tree, with the objects that commit `base` lacks."""
        ...

    def reset(self, commit: str) -> None:
        """Make the checkout exactly `commit` (which the mirror has): no other changes, no untracked files."""
        ...

    def changed(self, base: str) -> list[str]:
        """Paths that differ from commit `base`, untracked ones included, ignored ones not."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Workspace:
    """Where a task's checkout lives. Nothing outside the sandbox opens `root`."""

    task: str
    root: Path
    """Folder that the sandbox may write; the checkout is in `root / "checkout"`, cloned inside the sandbox."""
    mirror: Path
    """The bare mirror, bound read-only."""
    commit: str
    """The checkout is made at this commit when there is none yet."""
    deps: Path | None = None
    """What a set-up phase installed, shown read-only at the same place in every box."""
    staging: bool = False
    """This is a set-up phase: `deps` is writable, and `root` and `deps` are both in the folder above them."""
    door: Path | None = None
    """Folder with the socket and the certificate of the one way to the network; None: there is none."""
    image: str = ""
    """Image of the box, for drivers whose boxes are containers; empty: that of the installation."""


class Sandbox(Protocol):
    def open(self, workspace: Workspace) -> Box:
        """Open a box and see to it that the checkout is there; another than before if `deps` is another.

        Raises SandboxFailed.
        """
        ...


class Phase(Protocol):
    """A set-up phase: a box with a fresh checkout, a folder to install to, and a way to package registries."""

    @property
    def box(self) -> Box: ...

    def refused(self) -> list[str]:
        """Hosts that were wanted and not let through, each with the reason."""
        ...

    def keep(self, name: str) -> None:
        """Close the box and keep what was installed under `name`; without this nothing is kept.

        Raises SandboxFailed, Refused (it is too large).
        """
        ...


class Installs(Protocol):
    """What set-up phases installed, beside all checkouts: shown read-only to later boxes."""

    def digest(self, repository: Repository, facts: str) -> str:
        """Name for what `facts` decide (manifests, lock files, commands, toolchain) in this repository, here."""
        ...

    def has(self, name: str) -> bool: ...

    def place(self, name: str) -> Path:
        """The folder, which nobody removes while this process lives. Raises SandboxFailed when it is not there."""
        ...

    def unavailable(self, *, network: bool) -> str:
        """Why no set-up phase can be had here, in plain words; "" if one can. `network`: it cannot do without."""
        ...

    def phase(self, workspace: Workspace, *, note: Callable[..., None], go: bool) -> AbstractContextManager[Phase]:
        """`workspace`: mirror, commit and image are taken from it. `note`: called for each request to the network.

        `go`: Go's module proxy may be asked. It fetches from any host that it is told, so that whoever may ask it can
        tell that host things; a repository that is no Go module has no use for it.
        """
        ...


class Baselines(Protocol):
    """How checks ended on base commits, kept for later tasks."""

    def find(self, key: str) -> CheckResult | None: ...

    def keep(self, key: str, result: CheckResult) -> None: ...


@dataclass(frozen=True)
class Changes:
    """What differs between two commits."""

    diff: str
    """Unified diff, no colours, renames off, binary files named only."""
    files: int
    added: int
    removed: int


class Workspaces(Protocol):
    """Git on the bot's side: one bare mirror a repository. It never opens a checkout."""

    def fetch(self, repository: Repository, branch: str = "") -> tuple[Repository, str]:
        """Fetch the mirror. Gives the repository with its base branch filled in, and that branch's SHA.

        Raises RepositoryProblem (missing, empty, no such branch), ForgeUnavailable.
        """
        ...

    def workspace(self, task: str, repository: Repository, commit: str) -> Workspace: ...

    def text(self, repository: Repository, path: str, *, limit: int = 1 << 17) -> str | None:
        """A text file of the repository's default branch, whatever the task's own branch says; None if there is none.

        Raises BadInput when it is no text, or larger than `limit` bytes.
        """
        ...

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
        """Check the tree and make it a commit; gives its SHA. The same call gives the same SHA.

        `order` is added to the task's date in seconds. `allow`: protected paths that a person allowed; `protected`:
        patterns of such paths besides the installation's. The commit is kept as `refs/threadwright/<task>/wip`. An
        unchanged tree gives the first parent. Raises TreeRefused.
        """
        ...

    def kept(self, task: str, repository: Repository) -> str:
        """SHA of the task's work-in-progress ref; empty if there is none."""
        ...

    def changes(self, repository: Repository, base: str, head: str) -> Changes: ...

    def push(self, repository: Repository, sha: str, branch: str) -> None:
        """Push as a fast-forward, never forced; pushing what is there already is a no-op. Raises PushRefused."""
        ...

    def drop(self, task: str, repository: Repository) -> None:
        """Remove the workspace and the task's refs in the mirror."""
        ...


class Forge(Protocol):
    def find(self, name: str) -> Repository:
        """The repository that a person named. Raises RepositoryProblem, with the known names in its words."""
        ...

    def repositories(self) -> list[str]:
        """Names of the repositories that tasks may use, sorted."""
        ...

    def propose(
        self, repository: Repository, branch: str, head: str, base: str, title: str, body: str, *, draft: bool
    ) -> PullRequest:
        """Find the open pull request of `branch` or open one; title and body are brought up to date."""
        ...

    def pull_request(self, repository: Repository, number: int) -> PullRequest: ...

    def comment(self, repository: Repository, number: int, text: str, *, marker: str) -> None:
        """Comment once: a comment that carries `marker` (hidden) already is not made again."""
        ...

    def approve(self, repository: Repository, number: int, sha: str, by: Person) -> None:
        """Record an approval of that commit. Raises MergeRefused if the head is another."""
        ...

    def revoke(self, repository: Repository, number: int, sha: str, by: Person) -> None: ...

    def ready(self, repository: Repository, number: int) -> PullRequest:
        """A draft becomes ready for review; one that is ready stays so."""
        ...

    def merge(self, repository: Repository, number: int, sha: str, title: str) -> PullRequest:
        """Merge exactly that head. One that is merged already is returned as it is. Raises MergeRefused."""
        ...

    def close(self, repository: Repository, number: int) -> PullRequest: ...


class Journal(Protocol):
    """The task's record of what was done. Every write is fenced by the lease: it raises LeaseLost."""

    def begin(self, key: str, what: str) -> str | None:
        """Note that the effect `key` begins. None the first time; else what `end` kept, or "" if it never ended."""
        ...

    def end(self, key: str, result: str) -> None: ...

    def note(self, kind: str, **fields: Any) -> None:
        """One line of the log: a command with its exit code, a model call with its tokens."""
        ...


@dataclass(frozen=True)
class Rules:
    """What the installation, the repository and the person set for this task."""

    limits: Limits
    repairs: int = 3
    rounds: int = 3
    malformed: int = 3
    command_seconds: float = 120.0
    test_seconds: float = 600.0
    setup_seconds: float = 900.0
    protected: tuple[str, ...] = ()
    sandbox_warning: str = ""
    """Set when commands run without a sandbox: shown in every result."""


@dataclass(frozen=True)
class Ports:
    """What nodes receive as LangGraph's `Runtime` context."""

    model: Model
    workspaces: Workspaces
    sandbox: Sandbox
    forge: Forge
    journal: Journal
    installs: Installs
    baselines: Baselines
    rules: Rules
    halt: Halt
    now: Callable[[], datetime]
