"""The status table, tested whole against Redis: every pair of statuses, legal or not."""

from __future__ import annotations

import itertools

import pytest
import redis as redis_module

from bot.chat import Place
from jobs.statuses import ENDED, MOVES, STATUSES, WAITING, Status, sources
from jobs.tasks import Tasks


@pytest.mark.parametrize(("old", "new"), list(itertools.product(STATUSES, STATUSES)))
def test_redis_makes_exactly_the_moves_of_the_table(redis: redis_module.Redis, old: Status, new: Status) -> None:
    tasks = Tasks(redis, lease_seconds=5)
    tasks.create("tw-aaaaa", {}, Place("console", "c", "t", "c"), ["e"], at=1.0)
    redis.hset(tasks.key("tw-aaaaa"), "status", old)
    assert tasks.move("tw-aaaaa", new, at=2.0) == (new in MOVES[old])
    assert tasks.record("tw-aaaaa")["status"] == (new if new in MOVES[old] else old)


def test_every_status_is_running_waiting_or_ended() -> None:
    assert {"running", *WAITING, *ENDED} == set(STATUSES) == set(MOVES)


def test_nothing_but_a_person_or_a_timer_brings_an_ended_task_back() -> None:
    assert sources("done") == ("running",)
    assert MOVES["done"] == frozenset()
    assert MOVES["stopped"] == MOVES["failed"] == frozenset({"running"})
