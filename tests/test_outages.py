"""What goes away and comes back: Redis, the model, a folder; and people who speak up at a bad moment."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from faults import counted, once, until
from gitrepos import Files
from modelserver import Cut, Hang, Raw
from rooms import OPERATOR, House, Room, by_role, call, done, plan, say, write
from servers import kill, pid_of, wait_for

from bot.chat import ChatRequest, DeskClosed
from graph.flow import build_flow
from graph.state import STATE_TYPES
from integrations import redisserver
from integrations.checkpoints import RedisSaver, serializer
from integrations.scriptedmodel import Answer, Refuse, Request, Script
from integrations.scriptedmodel import Reply as ModelReply

FILES: Files = {
    "greet.py": "def greet():\n    return 'hello'\n",
    "tests/__init__.py": "",
    "tests/test_greet.py": (
        "import unittest\nfrom greet import greet\n\n\n"
        "class T(unittest.TestCase):\n    def test_greets(self):\n        self.assertIn('hello', greet())\n"
    ),
    "pyproject.toml": "[project]\nname = 'greet'\nversion = '1'\n",
}
LOUD = "def greet():\n    return 'hello there'\n"
WORK = (plan("feat: greet louder"), write("greet.py", LOUD), done())
WAITS = call("run", command="touch .begun; sleep 1")
QUESTION = {"question": "Loud or soft?", "suggestions": ["loud", "soft"], "assumption": "loud"}
CARD_AND_RESULT = ["card", "result"]
AWAY = 6.0
"""Seconds that Redis is away: a minute, divided by ten as all timings here."""


def open_up(root: Path) -> Path:
    # As root, commands run as another user, who has to get through to the workspace.
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    return root


@pytest.fixture(scope="module")
def shaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that has little patience with its model."""
    house = House(
        open_up(tmp_path_factory.mktemp("shaky")),
        sweep_seconds=0.2,
        model_timeout=0.7,
        model_patience=0.4,
        model_retry_every=0.6,
        model_retry_for=3,
    )
    yield house
    house.close()


def sweeps(house: House, count: int) -> None:
    """Wait until so many sweeps were made: each renews the sweeper's lease."""
    left = [int(house.office.redis.pttl("tw:sweeper"))]

    def renewed() -> int:
        left.append(int(house.office.redis.pttl("tw:sweeper")))
        return sum(new > old for old, new in itertools.pairwise(left))

    wait_for(lambda: renewed() > count)


def coders(house: House, room: Room) -> list[Request]:
    """Requests of the implementing model for one room's task, oldest first."""
    marked = [r for r in house.server.requests if room.marker in str(r.body["messages"])]
    return [r for r in marked if r.tools and len(r.tools) > 1]


def busy(room: Room) -> None:
    """Wait until the task's command runs."""
    checkout = room.house.settings.threadwright_home / "work" / room.task / "checkout"
    until((checkout / ".begun").exists, "at work")


# ---- a task that has ended


def test_a_stopped_task_stays_stopped_through_sweeps(house: House) -> None:
    room = house.room(FILES, by_role([plan("feat: greet louder"), WAITS]))
    chat = counted(room)
    room.start()
    busy(room)
    room.say("stop")
    room.until("stopped")
    asked = len(house.server.requests)
    sweeps(house, 4)
    room.settle()
    assert room.view.status == "stopped"
    assert len(house.server.requests) == asked
    assert once(chat.posts, ["card", "final"]) == ""


def test_a_node_that_always_raises_has_failed_after_three_turns_and_logs_explain_it(house: House) -> None:
    room = house.room(FILES, by_role(WORK))
    chat = counted(room)
    lock = planted_lock(room)
    room.start()
    room.until("failed")
    [text] = room.said("final")
    errors = [line for line in room.log() if line.startswith("error ")]
    assert len(errors) == 3
    sweeps(house, 3)
    assert len([line for line in room.log() if line.startswith("error ")]) == 3
    shown = room.say(f"logs {room.task}")
    logs = shown.file[1] if shown.file else shown.reply
    error = text.partition("Error id ")[2].partition(":")[0]
    assert error.startswith("e-")
    assert error in logs
    assert "IsADirectoryError" in logs
    assert "IsADirectoryError" not in text
    assert once(chat.posts, ["card", "final"]) == ""
    lock.rmdir()
    room.say(f"retry {room.task}")
    room.until("watching")
    assert len(room.pulls()) == 1


def planted_lock(room: Room) -> Path:
    """A folder where the mirror's lock file will be: nobody foresees that."""
    digest = hashlib.sha256(room.bare.as_uri().encode()).hexdigest()[:12]
    slug = room.repository.replace("/", "-")
    lock = room.house.settings.threadwright_home / "mirrors" / f"{slug}-{digest}.lock"
    lock.mkdir(parents=True)
    return lock


def test_a_checkpoint_that_cannot_be_read_ends_the_task_and_does_not_haunt_it(house: House) -> None:
    room = house.room(FILES, by_role([call("ask_person", questions=[QUESTION])]))
    room.start()
    room.until("asking")
    saver = RedisSaver(house.office.redis, serde=serializer(STATE_TYPES))
    flow: Any = build_flow(None).copy({"checkpointer": saver})
    flow.update_state({"configurable": {"thread_id": room.task}}, {"schema": 99}, as_node="ask")
    room.say("loud")
    room.until("failed")
    [text] = room.said("final")
    assert "another version of me" in text
    sweeps(house, 2)
    assert len([line for line in room.log() if line.startswith("error ")]) == 1


# ---- people who speak up at a bad moment


def test_words_during_a_tool_call_reach_the_model_once_after_its_result(house: House) -> None:
    room = house.room(FILES, by_role([plan("feat: greet louder"), WAITS, *WORK[1:]]))
    chat = counted(room)
    room.start()
    busy(room)
    room.say("make it friendly")
    room.until("watching")
    assert told(coders(house, room)[-1], "make it friendly") == 1
    assert house.server.refused == []
    assert once(chat.posts, CARD_AND_RESULT) == ""


def told(request: Request, words: str) -> int:
    return sum(words in str(message["content"]) for message in request.messages)


def test_the_check_sees_words_that_are_told_twice() -> None:
    request = Request(b"", {}, {"messages": [{"role": "user", "content": "hush"}] * 2})
    assert told(request, "hush") == 2


def held_push(room: Room) -> tuple[Path, Path]:
    """The repository holds the first push until the second path exists."""
    seen, go = (Path(f"{room.bare}.{what}") for what in ("seen", "go"))
    hook = room.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    wait = f"i=0; while [ ! -e '{go}' ] && [ $i -lt 500 ]; do sleep 0.01; i=$((i+1)); done"
    hook.write_text(f"#!/bin/sh\n[ -e '{seen}' ] && exit 0\n: > '{seen}'\n{wait}\n")
    hook.chmod(0o755)
    return seen, go


def test_words_and_approval_during_a_push_have_their_effect_once(house: House) -> None:
    script = by_role([*WORK, plan("docs: say it", title="Say it"), write("README.md", "greet()\n"), done()])
    room = house.room(FILES, script)
    chat = counted(room)
    seen, go = held_push(room)
    room.start()
    until(seen.exists, "pushing")
    assert room.say("approve").reply == "There is nothing to approve yet."
    room.say("also document it")
    go.touch()
    room.when(lambda v: v.status == "watching" and len(v.data["commits"]) == 2, "documented")
    assert told(coders(house, room)[-1], "also document it") == 1
    assert room.commits() == ["feat: greet louder", "docs: say it"]
    assert len(room.pulls()) == 1
    assert house.server.refused == []
    assert chat.posts.count("final") == 0


def test_a_stop_during_a_push_stops_and_says_so_once(house: House) -> None:
    room = house.room(FILES, by_role(WORK))
    chat = counted(room)
    seen, go = held_push(room)
    room.start()
    until(seen.exists, "pushing")
    room.say("stop")
    go.touch()
    room.until("stopped")
    sweeps(house, 2)
    room.settle()
    assert room.view.status == "stopped"
    assert chat.posts.count("final") == 1
    assert room.commits() == ["feat: greet louder"]


def test_an_approval_while_a_tool_call_runs_is_kept_and_counts_for_its_commit(house: House) -> None:
    question = plan("docs: nothing", title="Nothing")
    script = by_role([*WORK, question, call("run", command="touch .begun; sleep 1; rm .begun"), done("no change")])
    room = house.room(FILES, script)
    room.start()
    room.until("watching")
    room.say("look at it once more")
    busy(room)
    assert room.say("approve").seen
    room.when(lambda v: v.status == "watching" and bool(v.data["approvals"]), "approved")
    assert len(room.view.data["approvals"]) == 1
    assert not room.view.data["pull_request"]["draft"]
    assert len([line for line in room.log() if line.startswith("approved ")]) == 1
    assert house.server.refused == []


def test_words_approval_and_stop_while_a_question_waits(house: House) -> None:
    room = house.room(FILES, by_role([call("ask_person", questions=[QUESTION])]))
    chat = counted(room)
    room.start()
    room.until("asking")
    assert room.say("approve").reply == "There is nothing to approve yet."
    room.say("stop")
    room.until("stopped")
    sweeps(house, 2)
    room.settle()
    assert once(chat.posts, ["card", "question", "final"]) == ""


# ---- Redis


def test_our_own_redis_that_dies_is_started_again_and_nothing_acknowledged_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    house = House(open_up(tmp_path_factory.mktemp("own")))
    try:
        for number in (signal.SIGKILL, signal.SIGTERM):
            room = house.room(FILES, by_role([plan("feat: greet louder"), WAITS, *WORK[1:]]))
            chat = counted(room)
            room.start()
            busy(room)
            room.say("make it friendly")
            server = redisserver.running(house.settings.threadwright_home)
            assert server
            os.kill(pid_of(server), number)
            patiently(lambda room=room: room.until("watching"))  # type: ignore[misc]
            assert told(coders(house, room)[-1], "make it friendly") == 1
            assert room.commits() == ["feat: greet louder"]
            assert len(room.pulls()) == 1
            assert once(chat.posts, CARD_AND_RESULT) == ""
    finally:
        house.close()


def test_our_own_redis_is_started_again_also_while_all_workers_are_dead(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    house = House(open_up(tmp_path_factory.mktemp("idle")), workers=0)
    try:
        room = house.room(FILES)
        first = room.start()
        server = redisserver.running(house.settings.threadwright_home)
        assert server
        kill(server)
        until(lambda: redisserver.running(house.settings.threadwright_home) is not None, "started again")
        assert room.view.status == "running"
        assert room.say("and be quick").task == first
    finally:
        house.close()


def patiently(look: Callable[[], Any]) -> None:
    """`look` until Redis answers again."""
    end = time.monotonic() + 45
    while True:
        try:
            look()
        except DeskClosed:
            assert time.monotonic() < end
        else:
            return


def test_redis_away_for_a_while_loses_nothing_and_takes_nothing_it_cannot_keep(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = open_up(tmp_path_factory.mktemp("away"))
    theirs = root / "theirs"
    theirs.mkdir()
    server = redisserver.ensure(theirs)
    house = House(root, redis_url=server.url)
    try:
        room = house.room(FILES, by_role([plan("feat: greet louder"), WAITS, *WORK[1:]]))
        other = house.room(FILES, by_role(WORK))
        chat = counted(room)
        room.start()
        busy(room)
        kill(server)
        gone = time.monotonic()
        request = ChatRequest(
            "e-late", "m-late", other.place, OPERATOR, text=f"[repo={other.repository}] greet ({other.marker})"
        )
        with pytest.raises(DeskClosed, match="I did not take that in"):
            other.desk.submit(request)
        until(lambda: time.monotonic() - gone > AWAY, "away for long enough")
        redisserver.ensure(theirs)
        receipt = other.desk.submit(request)
        assert receipt.started
        assert other.desk.submit(request).task == receipt.task
        other.task = receipt.task
        for each in (room, other):
            each.until("watching")
            assert each.commits() == ["feat: greet louder"]
            assert len(each.pulls()) == 1
        assert house.office.tasks.newest() == [other.task, room.task]
        assert once(chat.posts, CARD_AND_RESULT) == ""
    finally:
        house.close()
        redisserver.stop(theirs)


# ---- the model


def faulty(faults: Sequence[ModelReply], then: Script) -> Script:
    """Each fault once, in order, for the requests of the implementing model; then as scripted."""
    left = list(faults)

    def script(request: Request) -> ModelReply:
        if request.tools and len(request.tools) > 1 and left:
            return left.pop(0)
        return then(request)

    return script


def after(faults: int, answers: Sequence[Answer]) -> Script:
    """`answers` to a conversation that begins with so many answers that were of no use."""
    return by_role([say("(of no use)")] * faults + list(answers))


GARBAGE: Sequence[ModelReply] = (
    call("fly", to="the moon"),
    say("I think so."),
    Answer(calls=(("read_file", '{"path": '),)),
)


def test_answers_that_cannot_be_used_go_back_with_the_error_and_the_task_goes_on(shaky: House) -> None:
    room = shaky.room(FILES, faulty(GARBAGE, after(3, WORK)))
    chat = counted(room)
    room.start()
    room.until("watching")
    said = [str(m["content"]) for m in coders(shaky, room)[3].messages]
    assert any("There is no tool 'fly'" in text for text in said)
    assert any("There was no tool call" in text for text in said)
    assert any("Call read_file again" in text for text in said)
    assert once(chat.posts, CARD_AND_RESULT) == ""
    assert shaky.server.refused == []


def test_too_many_such_answers_in_a_row_end_the_task_clearly(shaky: House) -> None:
    room = shaky.room(FILES, faulty([*GARBAGE, say("")], by_role(())))
    chat = counted(room)
    room.start()
    room.until("failed")
    [text] = room.said("final")
    assert "4 answers in a row that cannot be used" in text
    assert f"`retry {room.task}`" in text
    assert once(chat.posts, ["card", "final"]) == ""
    assert len(coders(shaky, room)) == 4
    assert shaky.server.refused == []


@pytest.mark.parametrize(
    "fault",
    [
        Refuse(429, headers={"Retry-After": "0.1"}),
        Refuse(500),
        Hang(),
        Cut(),
        Raw(b"<html>gateway</html>", headers={"Content-Type": "text/html"}),
    ],
    ids=["429", "500", "hung", "cut", "html"],
)
def test_a_model_that_stumbles_once_is_asked_again(shaky: House, fault: ModelReply) -> None:
    room = shaky.room(FILES, faulty([fault], by_role(WORK)))
    chat = counted(room)
    room.start()
    room.until("watching")
    assert once(chat.posts, CARD_AND_RESULT) == ""
    assert len(coders(shaky, room)) == 4


class Switch:
    """A model that can be taken away and given back."""

    def __init__(self, then: Script) -> None:
        self.away = True
        self.asked = 0
        self._then = then

    def __call__(self, request: Request) -> ModelReply:
        self.asked += 1
        return Refuse(503) if self.away else self._then(request)


def test_a_model_that_is_away_is_waited_for_without_a_worker_and_the_card_says_since_when(shaky: House) -> None:
    model = Switch(by_role(WORK))
    room = shaky.room(FILES, model)
    chat = counted(room)
    room.start()
    room.until("backing off")
    assert not shaky.office.tasks.held(room.task)
    assert room.view.waits_for == "the model"
    # Not the turn's death: it may happen any number of times.
    assert not shaky.office.tasks.record(room.task)["begun"]

    def states() -> list[str]:
        room.drainer.run_once()
        return [card.state for cards in chat.cards.values() for card in cards]

    until(lambda: any(state.startswith("The model has not answered since") for state in states()), "told")
    asked = model.asked
    until(lambda: model.asked > asked, "woken")
    model.away = False
    room.until("watching")
    assert once(chat.posts, CARD_AND_RESULT) == ""
    assert "down_since" not in shaky.office.tasks.record(room.task)


def test_a_model_that_stays_away_for_too_long_ends_the_task(shaky: House) -> None:
    room = shaky.room(FILES, Switch(by_role(WORK)))
    chat = counted(room)
    room.start()
    room.until("backing off")
    room.until("failed")
    [text] = room.said("final")
    assert "the model has not answered for" in text
    assert once(chat.posts, ["card", "final"]) == ""
