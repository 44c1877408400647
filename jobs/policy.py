"""Who may do what: pure functions over what the platform says somebody is and what the task's record says.

A look-up that failed (`unknown`) means no. Reasons are sentences for the person who was refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bot.chat import Author

START = frozenset({"operator", "member"})

REFUSALS = {
    "guest": "Guests cannot start tasks here. Ask a member to mention me in this thread.",
    "outsider": "People from other organisations cannot start tasks here. Ask a member to mention me in this thread.",
    "bot": "I do not take tasks from other bots.",
    "unknown": "I could not find out who you are, so I did nothing. Please try again later.",
}


@dataclass(frozen=True)
class Yes:
    pass


@dataclass(frozen=True)
class No:
    reason: str


Ruling = Yes | No


def may_start(author: Author) -> Ruling:
    """Start, steer and answer."""
    return Yes() if author.standing in START else No(REFUSALS[author.standing])


def may_approve(author: Author, approvers: Collection[str], *, requester: str, second_person: bool) -> Ruling:
    """Approve, reject, allow protected paths. `second_person`: the requester's own approval does not count."""
    if author.standing not in START:
        return No(REFUSALS[author.standing])
    if author.standing != "operator" and author.id not in approvers:
        return No("Only approvers may approve here. An operator can add you to the setting APPROVERS.")
    if second_person and author.id == requester:
        return No("You asked for this change, so somebody else must approve it (second_person is on).")
    return Yes()


def may_stop(author: Author, approvers: Collection[str], *, requester: str) -> Ruling:
    """The requester or an approver."""
    if author.id == requester or author.standing == "operator" or author.id in approvers:
        return Yes()
    return No("Only the person who asked for this task, or an approver, may do that.")


def may_configure(author: Author, approvers: Collection[str]) -> Ruling:
    """Channel settings: an approver."""
    if author.standing in START and (author.standing == "operator" or author.id in approvers):
        return Yes()
    return No("Only an approver may change settings here.")
