"""`next_input`: the table of `jobs/inputs.py`, row by row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from langgraph.types import Command

from graph.values import Answered, Brief, Choice, Event, Heard, Person, Question, Watching
from jobs.inputs import Standing, next_input, retry_input
from jobs.tasks import Entry

BRIEF = Brief(id="tw-x", text="add retries", requester=Person(id="a"), created=datetime(2026, 11, 20, tzinfo=UTC))
QUESTION = Question(id="q2", kind="clarify", text="Which?", choices=(Choice(question="Which?"),), back="plan")
WORDS = Entry("w1", "words", by="slack:T1:ann", name="Ann", text="with jitter")
ANSWER = Entry("a1", "answer", by="slack:T1:ben", name="Ben", text="red", question="q2")
LATE = Entry("a0", "answer", by="slack:T1:ben", name="Ben", text="blue", question="q1")
APPROVED = Entry("e1", "approved", by="slack:T1:ann", name="Ann", sha="abc")
FINISH = Entry("f1", "finish", by="slack:T1:ann", name="Ann")
ANN = Person(id="slack:T1:ann", name="Ann")
BEN = Person(id="slack:T1:ben", name="Ben")

NEW = Standing(new=True, state={})
RUNNING = Standing(new=False, state={"brief": BRIEF})
ASKING = Standing(new=False, state={"brief": BRIEF}, interrupt="i9", waits=QUESTION)
WATCHES = Standing(new=False, state={"brief": BRIEF}, interrupt="i9", waits=Watching(number=1, head="abc"))
OVER = Standing(new=False, state={"brief": BRIEF}, over=True)
HEARD = Heard(id="w1", author=ANN, text="with jitter")


def payload(where: Standing, *entries: Entry) -> Any:
    given = next_input(where, entries, BRIEF)
    return None if given is None else given.payload


def test_a_new_task_gets_plain_input_with_what_was_said_meanwhile() -> None:
    given = payload(NEW, WORDS)
    assert given["brief"] == BRIEF
    assert given["heard"] == [HEARD]


def test_an_answer_resumes_the_pending_interrupt_and_other_words_go_in_with_it() -> None:
    given = payload(ASKING, WORDS, ANSWER)
    assert isinstance(given, Command)
    assert given.resume == {"i9": [Answered(id="a1", question="q2", text="red", by=BEN)]}
    assert given.update == {"heard": [HEARD], "taken": ["w1"]}


def test_an_answer_is_not_taken_until_the_node_that_uses_it_says_so() -> None:
    """A resume value is lost in a crash: were its id in the update, it would never be handed over again."""
    given = payload(ASKING, ANSWER)
    assert given.update is None


def test_words_that_do_not_answer_leave_the_question_open() -> None:
    assert payload(ASKING, WORDS) is None
    assert payload(ASKING, LATE) is None
    assert payload(ASKING, APPROVED) is None


def test_a_late_answer_is_heard_as_such() -> None:
    given = payload(RUNNING, LATE)
    assert given.update["heard"] == [Heard(id="a0", author=BEN, text="blue", note="late answer to question q1")]


def test_nobody_answered_in_time() -> None:
    given = payload(ASKING, Entry("t1", "answer", question="q2"))
    assert given.resume == {"i9": [Answered(id="t1", question="q2", text="", by=None)]}


def test_finish_answers_whatever_is_open() -> None:
    given = payload(ASKING, FINISH)
    assert given.resume["i9"][0].text == "Finish with what is there"
    assert given.update == {"finishing": True}


def test_watch_gets_words_and_facts_in_order() -> None:
    given = payload(WATCHES, APPROVED, WORDS)
    assert given.resume == {
        "i9": [
            Event(id="e1", kind="approved", by=ANN, sha="abc"),
            Event(id="w1", kind="words", by=ANN, text="with jitter"),
        ]
    }


def test_a_task_that_was_broken_off_goes_on_at_its_node_with_the_words_or_without() -> None:
    given = next_input(RUNNING, [], BRIEF)
    assert given is not None
    assert given.payload is None
    assert payload(RUNNING, WORDS).update == {"heard": [HEARD], "taken": ["w1"]}


def test_what_a_checkpoint_holds_is_not_given_again() -> None:
    held = Standing(new=False, state={"brief": BRIEF, "taken": ["w1"]})
    assert payload(held, WORDS) is None or payload(held, WORDS).update == {}
    given = next_input(held, [WORDS], BRIEF)
    assert given is not None
    assert given.payload is None


@pytest.mark.parametrize("entries", [(), (WORDS,), (ANSWER, APPROVED)])
def test_a_task_that_is_over_has_nothing_to_do(entries: tuple[Entry, ...]) -> None:
    assert next_input(OVER, entries, BRIEF) is None


def test_retry_goes_on_from_what_was_kept_and_enters_a_flow_that_had_ended() -> None:
    assert retry_input(RUNNING, {}) is None
    assert retry_input(RUNNING, {"retry": "1"}) is None, "a flow that was broken off simply goes on"
    kept = retry_input(RUNNING, {"retry": "1", "saved": "abc"})
    assert kept is not None
    assert kept.payload.update["head"] == "abc"
    again = retry_input(OVER, {"retry": "1"})
    assert again is not None
    assert again.payload.goto == "triage"
