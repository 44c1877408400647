"""The state that LangGraph checkpoints, and how updates of its lists are folded in.

The values are in `graph.values`. One that is not in `STATE_TYPES` comes back from Redis as a bare dict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from graph.project import Checks, Models, Project, Service, Setup, Timeouts
from graph.values import (
    Answered,
    Approval,
    Brief,
    CheckResult,
    Choice,
    Command,
    Commit,
    Event,
    Final,
    Finding,
    Heard,
    Installed,
    Limits,
    Notice,
    OnApproval,
    Outcome,
    Person,
    Plan,
    PullRequest,
    Question,
    Repository,
    Review,
    Role,
    Severity,
    Step,
    Taken,
    Usage,
    Value,
    Verdict,
    Watching,
)

SCHEMA = 1
"""Number of the state's shape. An older one in Redis is migrated or ends with a clear message."""


def add_ids(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Reducer: ids once each, in order of arrival."""
    return [*left, *(item for item in dict.fromkeys(right) if item not in set(left))]


def add_notices(left: Sequence[Notice], right: Sequence[Notice]) -> list[Notice]:
    """Reducer: notices once each, by id."""
    known = {notice.id for notice in left}
    return [*left, *(notice for notice in right if notice.id not in known)]


def keep_heard(left: Sequence[Heard], right: Sequence[Heard | Taken]) -> list[Heard]:
    """Reducer of `heard`: adds by id (a redelivery changes nothing), removes what `Taken` names."""
    taken = {i for item in right if isinstance(item, Taken) for i in item.ids}
    known = {item.id for item in left}
    new = [item for item in right if isinstance(item, Heard) and item.id not in known]
    return [item for item in (*left, *new) if item.id not in taken]


class TaskState(TypedDict, total=False):
    schema: int
    brief: Brief
    # The conversation of plan and implement with the model; the system prompt is not part of it.
    messages: Annotated[list[AnyMessage], add_messages]
    heard: Annotated[list[Heard], keep_heard]
    repository: Repository
    base_sha: str
    instructions: str
    # What the repository's default branch says about itself; a task keeps what held when it began.
    project: Project
    installed: Installed
    commands: list[Command]
    baseline: list[CheckResult]
    plan: Plan
    step: int
    repairs: int
    malformed: int
    question: Question | None
    answered: list[Answered]
    checks: list[CheckResult]
    commits: list[Commit]
    head: str
    receipts: list[CheckResult]
    # The head on which the whole suite has run, and how often that has sent the task back.
    proved: str
    proofs: int
    review: Review
    rounds: int
    pull_request: PullRequest | None
    diffstat: str
    approvals: list[Approval]
    spent: Usage
    granted: Limits
    assumptions: list[str]
    finishing: bool
    # Ids of inbox entries that a checkpoint holds: what is delivered again is dropped.
    taken: Annotated[list[str], add_ids]
    notices: Annotated[list[Notice], add_notices]
    intent: str
    """"task" or "code_question", as triage read it."""
    title: str
    """What is wanted in a few words, as triage read it; empty if it said nothing."""
    phase: str
    """"plan" or "implement": which of the two talks to the model."""
    chosen: str
    """Name of the repository that a person gave when asked."""
    # "HEAD WIP": the commit of the unfinished tree, kept when a question was asked, and the head that it is on top of.
    # A lost checkout is made from it; it is not on the branch.
    wip: str
    allowed: list[str]
    allowed_tree: str
    """A person's yes to protected paths (`allowed`) holds for this tree alone."""
    # Folders whose AGENTS.md the model has seen.
    shown: Annotated[list[str], add_ids]
    # Characters of conversation that are sent unfolded; halved when the model says that it is too long.
    window: int
    next: str
    """The node that goes on, when a node has more than one successor."""
    final: Final | None


STATE_TYPES: tuple[type[BaseModel], ...] = (
    Person, Repository, Limits, Usage, Brief, Heard, Taken, Event, Choice, Question, Answered, Step, Plan, Outcome,
    Installed, Project, Setup, Service, Checks, Timeouts, Models, Command, CheckResult, Commit, Finding, Review,
    PullRequest, Approval, Final, Notice, Watching,
)  # fmt: skip

__all__ = [
    "SCHEMA",
    "STATE_TYPES",
    "Answered",
    "Approval",
    "Brief",
    "CheckResult",
    "Choice",
    "Command",
    "Commit",
    "Event",
    "Final",
    "Finding",
    "Heard",
    "Installed",
    "Limits",
    "Notice",
    "OnApproval",
    "Outcome",
    "Person",
    "Plan",
    "PullRequest",
    "Question",
    "Repository",
    "Review",
    "Role",
    "Severity",
    "Step",
    "Taken",
    "TaskState",
    "Usage",
    "Value",
    "Verdict",
    "Watching",
    "add_ids",
    "add_notices",
    "keep_heard",
]
