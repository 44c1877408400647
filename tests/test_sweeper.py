"""The sweeper wakes what nobody works on, and what has become due, with a clock that the test turns."""

from __future__ import annotations

import json

import pytest
import redis as redis_module
from office import ANN, DeskRoom

from bot.chat import Reply
from graph.values import Question
from jobs.sweeper import Sweeper
from jobs.tasks import Tasks
from jobs.timing import deadlines

HOUR, DAY = 3_600.0, 86_400.0


@pytest.fixture
def room(redis: redis_module.Redis) -> DeskRoom:
    room = DeskRoom(redis)
    room.clock = 1_790_000_000.0 - 1_790_000_000.0 % DAY + 9 * HOUR  # a morning
    while (room.clock // DAY + 4) % 7 != 2:  # a Tuesday
        room.clock += DAY
    return room


def sweeper(room: DeskRoom) -> Sweeper:
    return Sweeper(room.tasks, room.outbox, room.woken.append, every=5, now=lambda: room.clock)


def start(room: DeskRoom) -> str:
    task = room.say(ANN, "add retries").task
    room.woken.clear()
    return task


def ask(room: DeskRoom, task: str, kind: str = "clarify") -> None:
    lease = room.tasks.take(task)
    assert lease
    question = Question(id="q1", kind=kind, text="Which?", back="plan")  # type: ignore[arg-type]
    room.tasks.write(lease, question=question.model_dump_json())
    room.tasks.move(task, "asking", at=room.clock, lease=lease)
    for what, at in deadlines(question, room.clock, room.settings):
        room.tasks.set_due(task, what, at)
    room.tasks.release(lease)


def entries(room: DeskRoom, task: str) -> list[dict[str, str]]:
    return [json.loads(raw) for raw in room.redis.lrange(Tasks.key(task, "inbox"), 0, -1)]


def test_a_task_that_runs_without_a_worker_is_woken(room: DeskRoom) -> None:
    task = start(room)
    sweeper(room).sweep()
    assert room.woken == [task]


def test_a_task_that_somebody_works_on_is_left_alone(room: DeskRoom) -> None:
    task = start(room)
    assert room.tasks.take(task)
    sweeper(room).sweep()
    assert room.woken == []


@pytest.mark.parametrize("status", ["stopped", "failed", "done", "paused", "watching", "asking", "parked"])
def test_a_task_that_waits_or_has_ended_stays_so_through_sweeps(room: DeskRoom, status: str) -> None:
    task = start(room)
    room.redis.hset(room.tasks.key(task), "status", status)
    one = sweeper(room)
    for _ in range(5):
        room.clock += DAY
        one.sweep()
    assert room.woken == []
    assert room.tasks.record(task)["status"] == status


def test_a_question_is_reminded_of_at_half_time_and_answered_by_its_assumption_after_a_day(room: DeskRoom) -> None:
    task = start(room)
    ask(room, task)
    one = sweeper(room)
    room.clock += 12 * HOUR + 1
    one.sweep()
    one.sweep()
    room.drainer.run_once()
    reminders = [w for _, w in room.chat.posted if isinstance(w, Reply) and w.kind == "notice"]
    assert len(reminders) == 1
    assert room.woken == []
    room.clock += 12 * HOUR
    one.sweep()
    assert room.woken == [task]
    assert [(e["kind"], e["question"], e.get("by")) for e in entries(room, task)] == [("answer", "q1", None)]


def test_an_answer_in_time_silences_the_clock(room: DeskRoom) -> None:
    task = start(room)
    ask(room, task)
    room.say(ANN, "red")
    lease = room.tasks.take(task)
    assert lease
    room.tasks.move(task, "watching", at=room.clock, lease=lease)
    room.tasks.release(lease)
    room.clock += 3 * DAY
    sweeper(room).sweep()
    assert len(entries(room, task)) == 1


def test_a_question_that_nobody_may_assume_is_parked_after_a_week_and_any_answer_wakes_it(room: DeskRoom) -> None:
    task = start(room)
    ask(room, task, "budget")
    one = sweeper(room)
    room.clock += 6 * DAY
    one.sweep()
    assert room.tasks.record(task)["status"] == "asking"
    room.clock += 1 * DAY + 1
    one.sweep()
    assert room.tasks.record(task)["status"] == "parked"
    room.say(ANN, "go on")
    assert room.tasks.record(task)["status"] == "running"
    assert room.woken == [task]


def test_a_task_that_waits_for_the_model_is_woken_when_it_is_time(room: DeskRoom) -> None:
    task = start(room)
    lease = room.tasks.take(task)
    assert lease
    room.tasks.move(task, "backing off", at=room.clock, lease=lease)
    room.tasks.set_due(task, "model", room.clock + 300)
    room.tasks.release(lease)
    one = sweeper(room)
    room.clock += 299
    one.sweep()
    assert room.woken == []
    room.clock += 2
    one.sweep()
    assert room.woken == [task]
    assert room.tasks.record(task)["status"] == "running"


def test_one_sweeps_at_a_time(room: DeskRoom) -> None:
    start(room)
    first, second = sweeper(room), sweeper(room)
    assert first.sweep() == 1
    assert second.sweep() == 0
