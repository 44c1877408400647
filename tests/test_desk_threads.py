"""Whose thread it is, buttons of questions, and direct messages: what the desk decides where a platform cannot."""

from __future__ import annotations

import json

import pytest
import redis as redis_module
from office import ANN, BEN, DeskRoom
from test_desk import asking, heard

from bot.chat import Place, Receipt
from jobs.wording import Post, Reply


@pytest.fixture
def room(redis: redis_module.Redis) -> DeskRoom:
    return DeskRoom(redis)


def direct(room: DeskRoom, text: str, thread: str, *, opens: bool = True, **more: object) -> Receipt:
    place = Place("slack", "T1", "D1", thread)
    return room.say(ANN, text, place=place, message=thread, direct=True, opens_thread=opens, own_thread=None, **more)


def test_unmentioned_words_reach_the_task_in_a_thread_that_the_bot_opened(room: DeskRoom) -> None:
    task = room.say(ANN, "add retries", own_thread=None, opens_thread=True).task
    assert room.say(BEN, "and a timeout", own_thread=None, addressed=False).seen
    assert [entry["text"] for entry in heard(room, task)] == ["and a timeout"]


def test_in_a_thread_that_existed_before_only_mentions_reach_it(room: DeskRoom) -> None:
    task = room.say(ANN, "add retries", own_thread=None).task
    assert room.say(BEN, "what a day", own_thread=None, addressed=False) == Receipt()
    assert room.say(BEN, "and a timeout", own_thread=None).seen
    assert [entry["text"] for entry in heard(room, task)] == ["and a timeout"]


def asked(room: DeskRoom) -> str:
    task = room.say(ANN, "add retries").task
    room.outbox.say(task, Post("question-q1", Reply(kind="question", text="Which?", question="q1")), anyone=True)
    asking(room, task)
    return task


def test_a_button_answers_its_question_and_the_question_says_who_did(room: DeskRoom) -> None:
    task = asked(room)
    assert room.say(BEN, "blue", question="q1").seen
    [entry] = heard(room, task)
    assert (entry["kind"], entry["question"], entry["text"]) == ("answer", "q1", "blue")
    said = room.outbox.said(task, "question-q1")
    assert said
    assert said.answered == "Ben: blue"


def test_a_second_press_is_not_a_second_answer(room: DeskRoom) -> None:
    task = asked(room)
    room.say(ANN, "blue", question="q1")
    assert not room.say(ANN, "blue", question="q1").seen
    assert len(heard(room, task)) == 1


def test_a_late_button_does_not_answer_the_next_question(room: DeskRoom) -> None:
    task = asked(room)
    receipt = room.say(BEN, "blue", question="q0")
    assert "has its answer already" in receipt.whisper
    [entry] = heard(room, task)
    assert entry["question"] == "q0"
    assert room.tasks.record(task)["status"] == "asking"
    said = room.outbox.said(task, "question-q1")
    assert said
    assert not said.answered


def test_the_first_answer_is_the_one_that_the_question_shows(room: DeskRoom) -> None:
    task = asked(room)
    room.say(ANN, "red")
    room.say(BEN, "blue", question="q1")
    said = room.outbox.said(task, "question-q1")
    assert said
    assert said.answered == "Ann: red"


def test_a_slash_command_in_a_channel_means_the_one_task_that_is_open_there(room: DeskRoom) -> None:
    task = room.say(ANN, "add retries").task
    here = Place("slack", "T1", "C1", "")
    assert task in room.say(ANN, "status", kind="command", place=here).reply
    elsewhere = Place("slack", "T1", "C2", "")
    assert "do not know which task" in room.say(ANN, "status", kind="command", place=elsewhere).reply
    other = room.say(ANN, "another", place=Place("slack", "T1", "C1", "18.1")).task
    answer = room.say(ANN, "status", kind="command", place=here).reply
    assert "do not know which task" in answer
    assert other in answer


def test_in_direct_messages_a_second_task_is_asked_about_and_a_button_starts_it(room: DeskRoom) -> None:
    first = direct(room, "add retries", "20.1")
    assert first.started
    second = direct(room, "add a timeout", "20.2")
    assert not second.started
    assert first.task in second.reply
    assert second.asks[0].suggestions == ("The task above", "A new one")
    pressed = direct(room, "A new one", "20.2", opens=False, question=second.question)
    assert pressed.started
    assert json.loads(room.tasks.record(pressed.task)["brief"])["text"] == "add a timeout"


def test_in_direct_messages_words_for_the_task_above_reach_it(room: DeskRoom) -> None:
    first = direct(room, "add retries", "20.1")
    direct(room, "add a timeout", "20.2")
    assert first.task in direct(room, "above", "20.2", opens=False).reply
    assert [entry["text"] for entry in heard(room, first.task)] == ["add a timeout"]


def test_it_is_decided_once_and_by_the_one_who_wrote(room: DeskRoom) -> None:
    direct(room, "add retries", "20.1")
    second = direct(room, "add a timeout", "20.2")
    place = Place("slack", "T1", "D1", "20.2")
    ben = room.say(BEN, "A new one", place=place, direct=True, own_thread=None, question=second.question)
    assert ben.whisper == "That is for Ann to say."
    assert direct(room, "A new one", "20.2", opens=False, question=second.question).started
    again = direct(room, "The task above", "20.2", opens=False, question=second.question)
    assert again.whisper == "That is decided already."


def test_after_the_end_of_the_task_above_nobody_is_asked(room: DeskRoom) -> None:
    first = direct(room, "add retries", "20.1")
    room.tasks.move(first.task, "done", at=room.clock)
    assert direct(room, "add a timeout", "20.2").started
