"""Replies are said once a key, cards coalesce, and what a platform refuses is neither lost nor doubled."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis as redis_module
from office import ANN, DeskRoom, PaperChat

from bot.chat import Ask, Card, CardStep, Place, Reply, TryLater, Undeliverable
from graph.errors import LeaseLost
from jobs.outbox import Drainer, dump_card, dump_reply, load_card, load_reply, message_of
from jobs.tasks import Lease
from jobs.wording import Post

STEPS = (CardStep("a", "done"),)
CARD = Card("tw-x", "Add retries", "working", datetime(2026, 11, 20, 9, tzinfo=UTC), "Ann", steps=STEPS)
REPLY = Reply("question", "Which?", (ANN,), (Ask("Which?", ("red", "blue"), "red"),), "q1")


@pytest.fixture
def room(redis: redis_module.Redis) -> DeskRoom:
    return DeskRoom(redis)


@pytest.fixture
def task(room: DeskRoom) -> str:
    return room.say(ANN, "add retries").task


def texts(chat: PaperChat) -> list[str]:
    return [what.text for _, what in chat.posted if isinstance(what, Reply)]


def test_replies_and_cards_survive_the_way_through_redis() -> None:
    assert load_reply(dump_reply(REPLY)) == REPLY
    assert load_card(dump_card(CARD)) == CARD


def test_a_reply_is_posted_once_however_often_it_is_said(room: DeskRoom, task: str) -> None:
    for _ in range(3):
        room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
        room.drainer.run_once()
    assert texts(room.chat) == ["Which?"]


def test_control_another_key_is_another_post(room: DeskRoom, task: str) -> None:
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    room.outbox.say(task, Post("question-q2", REPLY), anyone=True)
    room.drainer.run_once()
    assert texts(room.chat) == ["Which?", "Which?"]


def test_the_card_comes_before_the_question(room: DeskRoom, task: str) -> None:
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    room.drainer.run_once()
    assert [type(what) for _, what in room.chat.posted] == [Card, Reply]


def test_a_card_is_one_message_and_only_the_newest_state_is_sent(room: DeskRoom, task: str) -> None:
    room.drainer.run_once()
    for n in range(5):
        room.outbox.show(task, replace(CARD, state=f"step {n}"))
    room.drainer.run_once()
    assert [what.state for _, what in room.chat.edits if isinstance(what, Card)] == ["step 4"]
    assert len([1 for _, what in room.chat.posted if isinstance(what, Card)]) == 1


def test_a_turn_that_lost_its_lease_says_nothing(room: DeskRoom, task: str) -> None:
    stale = Lease(task, "0")
    with pytest.raises(LeaseLost):
        room.outbox.say(task, Post("final-0", REPLY), lease=stale)
    with pytest.raises(LeaseLost):
        room.outbox.show(task, CARD, lease=stale)
    with pytest.raises(LeaseLost):
        room.outbox.amend(task, Post("final-0", REPLY), lease=stale)
    room.drainer.run_once()
    assert texts(room.chat) == []


def test_a_platform_that_says_later_gets_the_same_post_later(room: DeskRoom, task: str) -> None:
    now = [0.0]
    drainer = Drainer(room.tasks, room.chat, edit_seconds=0, clock=lambda: now[0])
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    room.chat.fail_with = [TryLater("429", after=30)]
    assert drainer.run_once() == 0
    assert drainer.run_once() == 0, "it did not wait"
    now[0] = 31
    drainer.run_once()
    assert texts(room.chat) == ["Which?"]


def test_a_post_that_is_made_but_not_noted_is_not_made_again(room: DeskRoom, task: str) -> None:
    """The drainer died between the platform's answer and its note: the adapter finds its key."""
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    queue = room.redis.lrange("tw:out:slack/T1", 0, -1)
    room.drainer.run_once()
    room.redis.rpush("tw:out:slack/T1", *queue)
    room.redis.delete(room.tasks.key(task, "posted"))
    room.drainer.run_once()
    assert texts(room.chat) == ["Which?"]


def test_what_a_platform_never_takes_is_shown_by_status_and_does_not_block_the_rest(room: DeskRoom, task: str) -> None:
    room.drainer.run_once()
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    room.outbox.say(task, Post("question-q2", replace(REPLY, text="Still there?")), anyone=True)
    room.chat.fail_with = [Undeliverable("the channel was archived")]
    room.drainer.run_once()
    assert texts(room.chat) == ["Still there?"]
    assert "archived" in room.say(ANN, "status").reply


def test_one_drainer_at_a_time(room: DeskRoom, task: str) -> None:
    assert room.drainer.run_once() > 0
    other = PaperChat()
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    assert Drainer(room.tasks, other).run_once() == 0
    assert other.posted == []
    room.drainer.let_go()
    assert Drainer(room.tasks, other).run_once() > 0


class SlowChat(PaperChat):
    """Its first post lasts until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.over = threading.Event(), threading.Event()

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        if not self.busy.is_set():
            self.busy.set()
            assert self.over.wait(30)
        return super().post(place, what, key, again=again)


def test_a_post_that_lasts_longer_than_the_lease_is_not_made_by_another_drainer(room: DeskRoom, task: str) -> None:
    slow, other, stop = SlowChat(), PaperChat(), threading.Event()
    running = threading.Thread(target=Drainer(room.tasks, slow, lease_seconds=0.4).run, args=(stop,))
    running.start()
    try:
        assert slow.busy.wait(10)
        second = Drainer(room.tasks, other)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert second.run_once() == 0
        assert other.posted == []
    finally:
        slow.over.set()
        stop.set()
        running.join(10)
    assert not room.redis.exists("tw:drain:slack/T1"), "it did not let go"
    assert len(slow.posted) == 1


class ThiefChat(PaperChat):
    """While it posts, the lease goes to another process."""

    def __init__(self, redis: redis_module.Redis) -> None:
        super().__init__()
        self.redis = redis

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        self.redis.set("tw:drain:slack/T1", "another", px=60_000)
        return super().post(place, what, key, again=again)


def test_a_drainer_that_lost_its_lease_posts_no_further_card(room: DeskRoom, task: str) -> None:
    room.place = replace(room.place, thread="17.2")
    assert room.say(ANN, "and the docs").started
    chat = ThiefChat(room.redis)
    Drainer(room.tasks, chat).run_once()
    assert [type(what) for _, what in chat.posted] == [Card]
    room.redis.delete("tw:drain:slack/T1")
    room.drainer.run_once()
    assert room.redis.scard("tw:cards:slack/T1") == 0
    assert len(room.chat.posted) == 1


def test_a_drainer_that_lost_its_lease_with_the_card_leaves_the_reply_to_the_other(room: DeskRoom, task: str) -> None:
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    chat = ThiefChat(room.redis)
    Drainer(room.tasks, chat).run_once()
    assert texts(chat) == []
    room.redis.delete("tw:drain:slack/T1")
    room.drainer.run_once()
    assert texts(room.chat) == ["Which?"]


def test_the_card_of_a_task_that_is_gone_is_no_longer_due(room: DeskRoom, task: str) -> None:
    room.redis.delete(room.tasks.key(task))
    room.drainer.run_once()
    assert room.redis.scard("tw:cards:slack/T1") == 0


def test_what_is_said_after_the_end_goes_with_the_task(room: DeskRoom, task: str) -> None:
    assert room.tasks.move(task, "failed", at=1.0)
    assert room.tasks.expire(task, 1_000)
    room.outbox.say(task, Post("final-0", REPLY), anyone=True)
    room.drainer.run_once()
    assert texts(room.chat) == ["Which?"]
    for part in ("", "outbox", "posted"):
        assert 0 < room.redis.ttl(room.tasks.key(task, part)) <= 1_000, part


def test_control_what_is_said_while_the_task_lives_stays(room: DeskRoom, task: str) -> None:
    room.outbox.say(task, Post("question-q1", REPLY), anyone=True)
    room.drainer.run_once()
    assert [room.redis.ttl(room.tasks.key(task, part)) for part in ("", "outbox", "posted")] == [-1, -1, -1]


def test_what_is_said_about_a_task_that_is_gone_leaves_nothing(room: DeskRoom, task: str) -> None:
    room.redis.delete(room.tasks.key(task))
    room.outbox.say(task, Post("final-0", REPLY), anyone=True)
    room.drainer.run_once()
    assert not room.redis.keys(room.tasks.key(task).replace("{", "*").replace("}", "*"))


def test_a_result_that_changes_is_edited_in_place_and_found_by_its_message(room: DeskRoom, task: str) -> None:
    room.outbox.say(task, Post("result-abc", replace(REPLY, kind="result", sha="abc")), anyone=True)
    room.drainer.run_once()
    message = room.chat.keys[f"{task}:result-abc"]
    assert message_of(room.tasks, room.place, message) == (task, "result-abc")
    assert room.outbox.amend(task, Post("result-abc", replace(REPLY, text="Merged.")))
    room.drainer.run_once()
    assert [(m, what.text) for m, what in room.chat.edits if isinstance(what, Reply)] == [(message, "Merged.")]


def test_the_last_card_is_shown_when_the_drainer_goes_however_soon_after_the_one_before(
    room: DeskRoom, task: str
) -> None:
    drainer = Drainer(room.tasks, room.chat, edit_seconds=3_600)
    drainer.run_once()
    room.outbox.show(task, replace(CARD, state="done"))
    drainer.run_once()
    assert room.chat.edits == []
    drainer.let_go()
    assert [what.state for _, what in room.chat.edits if isinstance(what, Card)] == ["done"]
