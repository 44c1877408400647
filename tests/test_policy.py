"""Who may do what."""

from __future__ import annotations

import pytest

from bot.chat import Author, Standing
from jobs.policy import No, Yes, may_approve, may_configure, may_start, may_stop

APPROVERS = ("slack:T1:ann",)


def person(name: str, standing: Standing = "member") -> Author:
    return Author(f"slack:T1:{name}", name.title(), standing)


@pytest.mark.parametrize(
    ("standing", "may"),
    [("operator", True), ("member", True), ("guest", False), ("outsider", False), ("bot", False), ("unknown", False)],
)
def test_full_members_start_tasks_and_nobody_else(standing: Standing, may: bool) -> None:
    assert isinstance(may_start(person("x", standing)), Yes if may else No)


def test_a_guest_is_told_what_to_do() -> None:
    assert may_start(person("x", "guest")) == No(
        "Guests cannot start tasks here. Ask a member to mention me in this thread."
    )


@pytest.mark.parametrize(
    ("who", "standing", "second", "may"),
    [
        ("ann", "member", False, True),
        ("ann", "guest", False, False),  # listed, but a guest now
        ("ann", "unknown", False, False),
        ("ben", "member", False, False),
        ("ben", "operator", False, True),
        ("cat", "member", False, False),  # asked for it, and is not listed
        ("cat", "operator", True, False),  # asked for it, and a second person is required
        ("cat", "operator", False, True),
        ("ann", "member", True, True),
    ],
)
def test_listed_people_approve(who: str, standing: Standing, second: bool, may: bool) -> None:
    ruling = may_approve(person(who, standing), APPROVERS, requester="slack:T1:cat", second_person=second)
    assert isinstance(ruling, Yes if may else No)


def test_requester_and_approvers_stop_a_task() -> None:
    assert isinstance(may_stop(person("cat"), APPROVERS, requester="slack:T1:cat"), Yes)
    assert isinstance(may_stop(person("ann"), APPROVERS, requester="slack:T1:cat"), Yes)
    assert isinstance(may_stop(person("ben"), APPROVERS, requester="slack:T1:cat"), No)


def test_approvers_change_settings() -> None:
    assert isinstance(may_configure(person("ann"), APPROVERS), Yes)
    assert isinstance(may_configure(person("ben"), APPROVERS), No)
    assert isinstance(may_configure(person("ann", "guest"), APPROVERS), No)
