"""Places that have to wait hold up no other, and a post whose end is not known is looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis as redis_module
from office import ANN, DeskRoom, PaperChat

from bot.chat import Ask, Card, CardStep, Place, Reply, TryLater
from jobs.outbox import Drainer
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


@pytest.fixture
def other(room: DeskRoom, task: str) -> str:
    """A second task, in another thread; the cards of both are posted."""
    first = room.place
    room.place = replace(room.place, thread="17.2")
    other = room.say(ANN, "and the docs").task
    room.place = first
    room.drainer.run_once()
    assert len(room.chat.posted) == 2
    room.chat.posted.clear()
    return other


def ask(room: DeskRoom, task: str, *texts: str) -> None:
    for text in texts:
        room.outbox.say(task, Post(f"question-{text}", replace(REPLY, text=text)), anyone=True)


def test_a_place_that_has_to_wait_holds_up_no_other(room: DeskRoom, task: str, other: str) -> None:
    now = [0.0]
    drainer = Drainer(room.tasks, room.chat, edit_seconds=0, clock=lambda: now[0])
    room.drainer.let_go()
    room.chat.fail_at["17.1"] = TryLater("429", after=30)
    ask(room, task, "one", "two")
    ask(room, other, "three")
    drainer.run_once()
    assert texts(room.chat) == ["three"]
    room.chat.fail_at.clear()
    drainer.run_once()
    assert texts(room.chat) == ["three"], "it did not wait"
    now[0] = 31
    ask(room, task, "four")
    drainer.run_once()
    assert texts(room.chat) == ["three", "one", "two", "four"]


def test_what_has_to_wait_no_time_at_all_still_keeps_its_order(room: DeskRoom, task: str, other: str) -> None:
    ask(room, task, "one", "two")
    room.chat.fail_with = [TryLater("hiccup", after=0)]
    for _ in range(3):
        room.drainer.run_once()
    assert texts(room.chat) == ["one", "two"]


def test_a_workspace_that_has_to_wait_is_left_alone(room: DeskRoom, task: str, other: str) -> None:
    now = [0.0]
    drainer = Drainer(room.tasks, room.chat, edit_seconds=0, clock=lambda: now[0])
    room.drainer.let_go()
    ask(room, task, "one")
    ask(room, other, "three")
    room.chat.fail_with = [TryLater("the token was revoked", after=60, everywhere=True)]
    drainer.run_once()
    drainer.run_once()
    assert texts(room.chat) == []
    now[0] = 61
    drainer.run_once()
    assert texts(room.chat) == ["one", "three"]


class Busy(PaperChat):
    """Something is said while a card is edited."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.meanwhile = meanwhile
        self.order: list[str] = []

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        self.order.append(type(what).__name__)
        return super().post(place, what, key, again=again)

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self.order.append(f"{type(what).__name__} edited")
        self.meanwhile()
        self.meanwhile = lambda: None
        super().edit(place, message, what)


def test_what_is_said_while_cards_are_edited_goes_before_the_next_card(room: DeskRoom, task: str, other: str) -> None:
    room.drainer.let_go()
    chat = Busy(lambda: ask(room, task, "one"))
    room.outbox.show(task, CARD)
    room.outbox.show(other, CARD)
    Drainer(room.tasks, chat, edit_seconds=0).run_once()
    assert chat.order == ["Card edited", "Reply", "Card edited"]


def test_a_card_that_waits_for_its_edits_holds_up_no_question(room: DeskRoom, task: str, other: str) -> None:
    class NoEdits(PaperChat):
        def edit(self, place: Place, message: str, what: Reply | Card) -> None:
            raise TryLater("the budget is used up", after=60)

    room.drainer.let_go()
    chat = NoEdits()
    drainer = Drainer(room.tasks, chat, edit_seconds=0)
    room.outbox.show(task, CARD)
    ask(room, task, "one")
    drainer.run_once()
    ask(room, task, "two")
    drainer.run_once()
    assert texts(chat) == ["one", "two"]
    assert room.redis.scard("tw:cards:slack/T1") == 1, "the card is still to be shown"


def test_control_a_card_that_was_never_posted_holds_its_questions_back(room: DeskRoom, task: str) -> None:
    room.chat.fail_at["17.1"] = TryLater("429", after=0)
    ask(room, task, "one")
    room.drainer.run_once()
    assert room.chat.posted == []
    room.chat.fail_at.clear()
    room.drainer.run_once()
    assert [type(what) for _, what in room.chat.posted] == [Card, Reply]


def test_when_there_are_edits_for_one_card_only_the_cards_take_turns(room: DeskRoom, task: str, other: str) -> None:
    class OneEdit(PaperChat):
        left = 1

        def edit(self, place: Place, message: str, what: Reply | Card) -> None:
            if not self.left:
                raise TryLater("the budget is used up", after=0)
            self.left -= 1
            super().edit(place, message, what)

    room.drainer.let_go()
    chat = OneEdit()
    drainer = Drainer(room.tasks, chat, edit_seconds=0)
    for number in range(6):
        room.outbox.show(task, replace(CARD, state=f"step {number}"))
        room.outbox.show(other, replace(CARD, state=f"step {number}"))
        drainer.run_once()
        chat.left = 1
    messages = [message for message, _ in chat.edits]
    assert [messages.count(message) for message in sorted(set(messages))] == [3, 3]


# A post whose end is not known


def test_a_post_whose_answer_was_lost_is_looked_for(room: DeskRoom, task: str, other: str) -> None:
    ask(room, task, "one")
    room.chat.fail_with = [TryLater("timed out", after=0, unclear=True)]
    room.drainer.run_once()
    room.drainer.run_once()
    assert texts(room.chat) == ["one"]
    assert room.chat.again == [f"{task}:question-one"]


def test_control_a_post_that_was_refused_for_now_is_not_looked_for(room: DeskRoom, task: str, other: str) -> None:
    ask(room, task, "one")
    room.chat.fail_with = [TryLater("429", after=0)]
    room.drainer.run_once()
    room.drainer.run_once()
    assert texts(room.chat) == ["one"]
    assert room.chat.again == []


def test_whoever_drains_after_a_crash_in_a_post_has_it_looked_for(room: DeskRoom, task: str, other: str) -> None:
    class Crash(PaperChat):
        def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
            raise KeyboardInterrupt

    ask(room, task, "one")
    room.drainer.let_go()
    crashed = Drainer(room.tasks, Crash())
    with pytest.raises(KeyboardInterrupt):
        crashed.run_once()
    crashed.let_go()
    room.drainer.run_once()
    assert room.chat.again == [f"{task}:question-one"]
    assert texts(room.chat) == ["one"]


def test_what_was_begun_is_no_message_of_ours_yet(room: DeskRoom, task: str, other: str) -> None:
    """An edit of what may have been posted waits until it is known which message that is."""
    ask(room, task, "one")
    room.chat.fail_with = [TryLater("timed out", after=0, unclear=True)]
    room.drainer.run_once()
    room.outbox.amend(task, Post("question-one", replace(REPLY, text="one, answered")))
    room.drainer.run_once()
    assert texts(room.chat) == ["one, answered"]
    assert all(isinstance(what, Card) or what.text == "one, answered" for _, what in room.chat.edits)


def test_what_another_drainer_noted_meanwhile_is_not_forgotten(room: DeskRoom, task: str, other: str) -> None:
    posted = room.tasks.key(task, "posted")
    field = f"{room.place.key}|question-one"

    class Overtaken(PaperChat):
        def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
            room.redis.hset(posted, field, "m9")
            raise TryLater("429")

    ask(room, task, "one")
    room.drainer.let_go()
    Drainer(room.tasks, Overtaken(), edit_seconds=0).run_once()
    assert room.redis.hget(posted, field) == b"m9"
