"""A task in Redis: one task of many deliveries, one holder at a time, nothing lost between look and write."""

from __future__ import annotations

import threading
import time

import pytest
import redis as redis_module

from bot.chat import Place
from graph.errors import LeaseLost
from jobs.tasks import Entry, Lease, Tasks, mint

PLACE = Place("console", "c-1", "terminal", "c-1")


@pytest.fixture
def tasks(redis: redis_module.Redis) -> Tasks:
    return Tasks(redis, lease_seconds=0.5)


def make(tasks: Tasks, event: str = "e1", place: Place = PLACE) -> str:
    return tasks.create(mint(), {"title": "add retries"}, place, [event], at=1.0).task


def test_the_same_event_delivered_five_times_at_once_is_one_task(tasks: Tasks) -> None:
    found: list[str] = []
    gate = threading.Barrier(5)

    def deliver() -> None:
        gate.wait()
        found.append(make(tasks))

    threads = [threading.Thread(target=deliver) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert tasks.newest() == [found[0]]


def test_control_without_an_event_id_in_common_a_second_place_gets_its_own_task(tasks: Tasks) -> None:
    other = Place("console", "c-2", "terminal", "c-2")
    assert make(tasks, "e1") != make(tasks, "e2", other)


def test_a_place_has_at_most_one_open_task(tasks: Tasks) -> None:
    first = make(tasks, "e1")
    assert make(tasks, "e2") == first
    tasks.move(first, "done", at=2.0)
    assert make(tasks, "e3") != first


def test_new_makes_another_task_in_the_same_place(tasks: Tasks) -> None:
    first = make(tasks, "e1")
    second = tasks.create(mint(), {}, PLACE, ["e2"], at=1.0, retake=True)
    assert second.fresh
    assert second.task != first
    assert tasks.of_place(PLACE) == second.task


def test_only_one_holds_a_task_and_its_token_is_refused_once_the_lease_has_run_out(tasks: Tasks) -> None:
    task = make(tasks)
    first = tasks.take(task)
    assert first is not None
    assert tasks.take(task) is None
    tasks.redis.delete(tasks.key(task, "lease"))
    second = tasks.take(task)
    assert second is not None
    for write in (
        lambda: tasks.write(first, view="{}"),
        lambda: tasks.note(first, "ran"),
        lambda: tasks.begin(first, "k", "w"),
        lambda: tasks.end(first, "k", "r"),
        lambda: tasks.claim(first),
        lambda: tasks.acknowledge(first, 1),
        lambda: tasks.beat(first),
        lambda: tasks.move(task, "asking", at=2.0, lease=first),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert tasks.record(task)["status"] == "running"
    assert tasks.journal(task) == []
    tasks.write(second, view="{}")


def test_a_lease_that_nobody_renews_runs_out_and_one_that_beats_does_not(tasks: Tasks) -> None:
    task = make(tasks)
    lease = tasks.take(task)
    assert lease is not None
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        tasks.beat(lease)
    assert tasks.held(task)
    while tasks.held(task):
        assert time.monotonic() < end + 2, "the lease never ran out"


def test_words_said_while_a_turn_runs_are_found_when_it_lets_go(tasks: Tasks) -> None:
    task = make(tasks)
    lease = tasks.take(task)
    assert lease is not None
    tasks.claim(lease)
    tasks.move(task, "watching", at=2.0, lease=lease)
    tasks.tell(task, Entry("w1", "words", text="also this"), ["w1"], wakes=(), at=3.0)
    assert tasks.release(lease), "words that came after the last claim were not noticed"
    again = tasks.take(task)
    assert again is not None
    assert [e.text for e in tasks.claim(again)] == ["also this"]
    assert not tasks.release(again), "what was claimed for later must not wake for ever"


def test_a_stop_that_comes_when_the_turn_has_just_ended_is_found(tasks: Tasks) -> None:
    task = make(tasks)
    lease = tasks.take(task)
    assert lease is not None
    tasks.move(task, "asking", at=2.0, lease=lease)
    tasks.ask_to_stop(task, "Ann")
    assert tasks.release(lease)


def test_what_was_claimed_and_never_acknowledged_is_claimed_again_in_order(tasks: Tasks) -> None:
    task = make(tasks)
    for n in range(5):
        tasks.tell(task, Entry(f"w{n}", "words", text=str(n)), [f"w{n}"], wakes=(), at=2.0)
    lease = tasks.take(task)
    assert lease is not None
    assert [e.text for e in tasks.claim(lease)] == list("01234")
    tasks.acknowledge(lease, 2)
    tasks.tell(task, Entry("w5", "words", text="5"), ["w5"], wakes=(), at=2.0)
    tasks.redis.delete(tasks.key(task, "lease"))  # the worker died
    again = tasks.take(task)
    assert again is not None
    assert [e.text for e in tasks.claim(again)] == list("2345")


def test_an_answer_wakes_a_task_that_asks_and_other_words_do_not(tasks: Tasks) -> None:
    task = make(tasks)
    lease = tasks.take(task)
    assert lease is not None
    tasks.move(task, "asking", at=2.0, lease=lease)
    tasks.release(lease)
    words = tasks.tell(task, Entry("w1", "words"), ["w1"], wakes=(), at=3.0)
    assert not words.wake
    answer = tasks.tell(task, Entry("a1", "answer"), ["a1"], wakes=("asking",), at=3.0)
    assert answer.wake
    assert tasks.record(task)["status"] == "running"


def test_an_edit_replaces_words_that_nobody_has_read_and_no_others(tasks: Tasks) -> None:
    task = make(tasks)
    tasks.tell(task, Entry("w1", "words", text="ad tests", message="m1"), ["w1"], wakes=(), at=2.0)
    assert tasks.replace_words(task, "m1", "add tests")
    lease = tasks.take(task)
    assert lease is not None
    assert [e.text for e in tasks.claim(lease)] == ["add tests"]
    assert not tasks.replace_words(task, "m1", "too late")


def test_an_effect_begun_is_known_after_a_crash_with_its_result_or_without(tasks: Tasks) -> None:
    task = make(tasks)
    lease = tasks.take(task)
    assert lease is not None
    assert tasks.begin(lease, "call-1", "run: make test") is None
    assert tasks.begin(lease, "call-1", "run: make test") == ""
    tasks.end(lease, "call-1", "exit 0")
    assert tasks.begin(lease, "call-1", "run: make test") == "exit 0"


def test_a_move_without_a_lease_is_refused_while_somebody_holds_the_task(tasks: Tasks) -> None:
    task = make(tasks)
    lease = tasks.take(task)
    assert isinstance(lease, Lease)
    assert not tasks.move(task, "stopped", at=2.0)
    tasks.release(lease)
    assert tasks.move(task, "stopped", at=2.0)
    assert task not in tasks.active()
