"""Waiting costs nothing and loses nothing: days pass, workers and workspaces come and go, and the task goes on."""

from __future__ import annotations

import datetime
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from greetings import LOUD, TESTED, TITLE, louder, pull_of, tool_results, until
from rooms import House, Room, by_role, call, done, plan, write

from integrations.scriptedmodel import Reply
from jobs.wiring import Workers

HOUR, DAY = 3_600.0, 86_400.0
PRICED = {"scripted-model": {"input": 100, "output": 100}}


def build(root: Path, **settings: Any) -> House:
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    return House(root, **settings)


@pytest.fixture
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house of its own whose clock may be turned; nobody works in it until a test says so."""
    house = build(tmp_path_factory.mktemp("patient"), workers=0)
    yield house
    house.close()


@pytest.fixture(scope="module")
def thrifty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with a worker, where tokens are dear."""
    house = build(tmp_path_factory.mktemp("thrifty"), model_prices=PRICED, budget_usd=1_000)
    yield house
    house.close()


def ask(assumption: str = "loud") -> Reply:
    asked = {"question": "Loud or soft?", "suggestions": ["loud", "soft"], "assumption": assumption}
    return call("ask_person", questions=[asked])


def workspace_of(room: Room) -> Path:
    found = [p for p in room.house.settings.threadwright_home.rglob(room.task) if p.is_dir()]
    assert found, "no workspace"
    return found[0]


def weekday_hours(house: House, hours: float) -> None:
    """Turn the clock by so many hours, not counting weekends (the installation's time zone is UTC)."""
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=house.ahead)
    end, left = now, datetime.timedelta(hours=hours)
    step = datetime.timedelta(minutes=10)
    while left > datetime.timedelta():
        end += step
        left -= step if (end - step).weekday() < 5 else datetime.timedelta()
    house.ahead += (end - now).total_seconds()


def test_a_question_answered_after_a_day_by_a_worker_started_afresh_ends_with_one_pull_request(
    patient: House,
) -> None:
    planning = patient.room(TESTED, by_role([ask(), plan(TITLE), write("greet.py", LOUD), done()]))
    lost = patient.room(TESTED, by_role([plan(TITLE), write("greet.py", LOUD), ask(), done()]))
    with Workers(patient.settings, 1):
        for room in (planning, lost):
            room.start()
            room.until("asking")
    weekday_hours(patient, 23)
    workspace = workspace_of(lost)
    shutil.rmtree(workspace)
    before = len(patient.server.requests)
    with Workers(patient.settings, 1):
        for room in (planning, lost):
            assert room.view.status == "asking"
            room.say("loud")
            room.until("watching")
            assert room.file(f"threadwright/{room.task}", "greet.py") == LOUD.rstrip("\n")
            assert room.commits() == [TITLE]
            assert pull_of(room)["number"] == 1
            assert len(room.said("result")) == 1
            assert len(room.said("question")) == 1
    assert workspace.exists()
    # What was done before the question is not done again: two more answers of the coder, and the review.
    assert sum(lost.marker in str(r.messages) for r in patient.server.requests[before:]) == 2


def test_a_question_that_nobody_answers_goes_on_with_its_assumption_and_says_so(patient: House) -> None:
    work = [plan(TITLE), write("greet.py", LOUD), done()]
    room = patient.room(TESTED, by_role([ask("loud, as before"), *work, call("answer", text="It is loud now.")]))
    with Workers(patient.settings, 1):
        room.start()
        room.until("asking")
        weekday_hours(patient, 13)
        room.when(lambda _: bool(room.said("notice")), "reminded")
        assert room.view.status == "asking"
        weekday_hours(patient, 11.5)
        room.until("watching")
        assert "loud, as before" in tool_results(room)[0]
        assert "loud, as before" in pull_of(room)["body"]
        [result] = room.said("result")
        assert "loud, as before" in result
        assert len(room.said("notice")) == 1
        # Too late for the question, but not for the task: heard, and answered on the same pull request.
        room.say("soft, please")
        room.when(lambda v: v.status == "watching" and "It is loud now." in room.said("notice"), "answered")
        assert str(patient.server.requests[-1].messages).count("soft, please") == 1
        assert pull_of(room)["number"] == 1


def test_a_task_stops_and_asks_when_its_calls_are_used_up_and_go_on_grants_as_many_again(thrifty: House) -> None:
    room = thrifty.room(TESTED, louder(), budget_calls=3)
    room.start()
    view = room.until("asking")
    assert view.data["question"]["kind"] == "budget"
    assert view.data["spent"]["calls"] == 3
    assert "3 of the 3 model calls" in room.said("question")[0]
    room.say("go on")
    view = room.until("watching")
    assert view.data["spent"]["calls"] == 5
    assert len(room.said("question")) == 1
    assert room.commits() == [TITLE]


def test_the_option_budget_is_the_cap_in_dollars_and_stop_ends_the_task_with_its_work(thrifty: House) -> None:
    room = thrifty.room(TESTED, louder())
    room.start(options=" budget=0.30")
    view = room.until("asking")
    assert view.data["question"]["kind"] == "budget"
    assert "of the $0.30 it was granted" in room.said("question")[0]
    assert view.data["spent"]["usd"] >= 0.30
    room.say("3")
    room.until("stopped")
    [last] = room.said("final")
    assert "stopped" in last.lower()
    assert room.pulls() == []


def test_finish_at_a_used_up_budget_opens_a_draft_with_what_is_there(thrifty: House) -> None:
    room = thrifty.room(
        TESTED, by_role([plan(TITLE, "docs: say how"), write("greet.py", LOUD), done()]), budget_calls=4
    )
    room.start()
    room.until("asking")
    room.say("2")
    room.until("watching")
    assert pull_of(room)["draft"]
    assert "docs: say how" in pull_of(room)["body"]
    assert room.file(f"threadwright/{room.task}", "greet.py") == LOUD.rstrip("\n")


def test_a_question_of_money_is_parked_after_a_week_and_any_answer_wakes_it(thrifty: House) -> None:
    room = thrifty.room(TESTED, louder(), budget_calls=3)
    room.start()
    room.until("asking")
    thrifty.ahead += 6.5 * DAY
    threading.Event().wait(thrifty.settings.sweep_seconds * 3)
    assert room.view.status == "asking"
    thrifty.ahead += 1 * DAY
    room.until("parked")
    [cards] = room.chat.cards.values()
    until(lambda: room.drainer.run_once() >= 0 and "parked" in cards[-1].state, "parked on the card")
    room.say("yes")
    room.until("watching")
    assert room.commits() == [TITLE]
