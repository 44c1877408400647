"""What holds for a task: what its message says, then its repository's `.threadwright.toml`, then the installation.

Light: read by whoever words it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from graph.project import Project
from graph.values import OnApproval

if TYPE_CHECKING:
    from graph.state import TaskState


def project_of(state: TaskState) -> Project:
    """What the repository says about itself; a task that is older than this has nothing of it."""
    return state.get("project") or Project()


def model_of(state: TaskState, role: Literal["plan", "implement", "review"]) -> str:
    """The message's own choice, else the repository's; empty: the installation's."""
    return state["brief"].model or getattr(project_of(state).models, role) or ""


def plan_is_asked(state: TaskState) -> bool:
    brief = state["brief"]
    return brief.approve_plan or (not brief.plan and project_of(state).plan == "ask")


def on_approval_of(state: TaskState) -> OnApproval:
    return project_of(state).on_approval or state["brief"].on_approval


def second_person_of(state: TaskState) -> bool:
    """Whether the requester's own approval does not count: by default where it merges."""
    said = project_of(state).second_person
    said = state["brief"].second_person if said is None else said
    return on_approval_of(state) == "merge" if said is None else said
