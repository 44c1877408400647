"""What a task knows: plain values, immutable, without a vendor; light enough for commands that only look.

Every class here is on the serialiser's allow-list (`graph.state.STATE_TYPES`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["triage", "plan", "implement", "review"]
Verdict = Literal["green", "red", "not run"]
Severity = Literal["blocker", "major", "minor", "nit"]
OnApproval = Literal["ready", "review", "merge"]
Runner = Literal["", "pytest", "unittest", "vitest", "jest", "node", "go", "cargo"]
"""Which test runner a command starts, where that is known: it decides how results by test are had."""


class Value(BaseModel):
    """Base of all values: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Person(Value):
    id: str
    """`platform:workspace:user`, for example `console:local:ann`."""
    name: str = ""
    """Display name, for people to read; never for decisions."""


class Repository(Value):
    name: str
    """What people call it: `owner/name`, or the folder's name for a local one."""
    url: str
    """Where git fetches from and pushes to: `file:///…` or `https://…`; never with credentials."""
    base: str = ""
    """Base branch; empty until the mirror has been fetched and the default branch is known."""
    rule: str = ""
    """Which routing rule chose it, in words for the card."""


class Limits(Value):
    """When a task stops and asks. `usd` counts where the price is known, `tokens` where it is not."""

    usd: float = 2.0
    tokens: int = 2_000_000
    calls: int = 200
    minutes: float = 60.0


class Usage(Value):
    """Of one model call, or the sum of several."""

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    """Cost of the calls whose price is known, in US dollars."""
    unpriced_tokens: int = 0
    """Tokens of the calls whose price is not known."""
    estimated: bool = False
    """True when a server sent no usage and tokens were estimated from the text's length."""
    seconds: float = 0.0
    """Work, not waiting for people."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            usd=self.usd + other.usd,
            unpriced_tokens=self.unpriced_tokens + other.unpriced_tokens,
            estimated=self.estimated or other.estimated,
            seconds=self.seconds + other.seconds,
        )


class Brief(Value):
    """The task as it was given; fixed for its life, so that commits made of it are the same on a second run."""

    id: str
    """`tw-…`; also names branch, workspace, inbox and LangGraph thread."""
    text: str
    requester: Person
    created: datetime
    """UTC. Date of every commit of the task (plus the step's number in seconds)."""
    context: str = ""
    """The thread's earlier messages as plain text: context, not orders."""
    repository: Repository | None = None
    branch: str = ""
    """Base branch that the person asked for; empty: the default branch."""
    model: str = ""
    """Model that the person asked for; empty: by role from the settings."""
    approve_plan: bool = False
    plan: Literal["", "ask", "go"] = ""
    """What the message says about that; empty: the repository decides."""
    limits: Limits = Limits()
    on_approval: OnApproval = "ready"
    second_person: bool | None = None
    """None: the default of the policy (`merge`: yes; else no)."""


class Heard(Value):
    """Words that a person said to a running task and that no model has read yet."""

    id: str
    author: Person
    text: str
    note: str = ""
    """Set by intake: "late answer to q2", "correction of an earlier message"."""


class Taken(Value):
    """In an update of `heard`: these ids have moved into `messages`."""

    ids: tuple[str, ...]


class Event(Value):
    """A fact for `watch`: approved, rejected, revoked, merged, closed, timer, finish, words."""

    id: str
    kind: str
    by: Person | None = None
    sha: str = ""
    """The head commit that an approval is for."""
    text: str = ""


class Choice(Value):
    question: str
    suggestions: tuple[str, ...] = Field(default=(), max_length=4)
    assumption: str = ""
    """What the task goes on with when nobody answers."""


class Question(Value):
    """One message that waits for a person; at most three questions in it."""

    id: str
    kind: Literal["clarify", "repository", "plan", "stuck", "budget", "protected", "conflict", "why"]
    text: str
    choices: tuple[Choice, ...] = Field(default=(), max_length=3)
    back: str
    """The node that goes on after the answer."""
    call: str = ""
    """Id of the model's tool call that asked; the answer becomes its result."""


class Answered(Value):
    question: str
    """Id of the question."""
    text: str
    by: Person | None = None
    """None: nobody answered in time, and the stated assumptions hold."""
    id: str = ""
    """Of the inbox entry. `ask` returns it in `taken` with the answer: a resume value is kept nowhere else."""


class Step(Value):
    title: str = Field(max_length=72)
    """A conventional commit title."""
    detail: str = ""
    criteria: tuple[str, ...] = ()


class Plan(Value):
    title: str = Field(max_length=72)
    """Title of the pull request."""
    summary: str = ""
    steps: tuple[Step, ...] = Field(min_length=1, max_length=20)
    assumptions: tuple[str, ...] = ()


class Outcome(Value):
    """Of one command in the box, as recorded: receipts are made of these and of nothing that a model said."""

    command: str
    exit: int | None
    """None when the command did not end by itself."""
    seconds: float
    output: str
    """UTF-8, undecodable bytes replaced; head and tail when it was longer than the cap."""
    dropped: int = 0
    """Bytes between head and tail that were not kept."""
    ended: Literal["exit", "timeout", "output", "memory", "disk", "stopped"] = "exit"


class Command(Value):
    """One of the repository's own commands."""

    kind: Literal["format", "check", "test"]
    command: str
    found_in: str
    """Where it was found, for the card: "Makefile", "pyproject.toml"."""
    runner: Runner = ""
    partial: bool = False
    """It runs only the tests of what a step touched, not the whole suite."""


class Installed(Value):
    """What the set-up phase of a task came to."""

    name: str = ""
    """Under which what was installed is kept; empty: nothing was, or it failed."""
    key: str = ""
    """Digest of what decided it: manifests, lock files, commands, toolchain."""
    found_in: str = ""
    """Where the way to do it was found: "uv.lock"; empty: the repository needs none."""
    go: bool = False
    """The base commit is of a Go module."""
    commands: tuple[str, ...] = ()
    failed: str = ""
    """Why it failed, in plain words; checks are not run then."""
    skipped: str = ""
    """Why it was not tried; checks are run as the box is."""
    log: str = ""
    """The end of what the failed command printed."""
    seconds: float = 0.0
    reused: bool = False
    """An earlier task had installed the same."""


class CheckResult(Value):
    command: Command
    verdict: Verdict
    outcome: Outcome | None = None
    reason: str = ""
    """Why it is red or was not run, in plain words."""
    failing: tuple[str, ...] = ()
    """Names of failing tests, when the runner names them."""
    old_failures: tuple[str, ...] = ()
    """Those of `failing` that failed on the base too."""
    reused: bool = False
    """Of a baseline: it was run for an earlier task."""
    executed: int | None = None
    """How many tests ran; None when the runner does not say."""
    passing: tuple[str, ...] = ()
    """Names of passing tests; of a baseline only, and empty when the runner does not name them or they are too many."""
    newly_passing: tuple[str, ...] = ()
    """Failed on the base, pass with the change."""
    vanished: tuple[str, ...] = ()
    """Ran on the base, and do not with the change."""
    fewer: str = ""
    """That fewer tests ran than on the base, or others, in plain words; empty when it is red."""


class Commit(Value):
    sha: str
    title: str
    step: int
    """1-based number of the step; 0 for one that belongs to no step."""


class Finding(Value):
    severity: Severity
    path: str = ""
    line: int | None = None
    text: str


class Review(Value):
    summary: str = ""
    findings: tuple[Finding, ...] = ()


class PullRequest(Value):
    number: int
    url: str
    head: str
    """SHA of the head commit."""
    branch: str
    base: str
    title: str
    draft: bool = True
    state: Literal["open", "merged", "closed"] = "open"
    merge_commit: str = ""
    public: bool = False
    has_checks: bool = False
    """Whether the forge runs checks of its own."""
    checks: Literal["", "pending", "green", "red"] = ""
    """How those stand for `head`; empty where there are none."""
    forge: str = "The forge"
    """Whose checks they are, as it begins a sentence."""


class Approval(Value):
    sha: str
    by: Person
    at: datetime


class Final(Value):
    """How a task ended. Exactly one message is made of it."""

    kind: Literal["done", "answered", "nothing to do", "stopped", "failed", "needs you"]
    text: str
    """What a person reads: plain words, what was kept, what to do next."""
    error: str = ""
    """Error id that `logs` explains; empty when nothing went wrong."""


class Notice(Value):
    """Something to tell once, for example "I could not merge: conflict in a.py"."""

    id: str
    text: str


class Watching(Value):
    """What `watch` interrupts with: it waits for approval, comments, checks or the merge of this head."""

    number: int
    head: str
