"""After a gap, and as a process of its own: nothing that was said meanwhile is lost, and nothing is taken in twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxes import wait_until
from greetings import LOUD, TESTED, TITLE, louder
from rooms import by_role, call, done, plan, write
from slackroom import SlackHouse, SlackRoom, buttons, shown
from slackserver import ANN, BEN, BOT, GENERAL, TEAM

from jobs.settings import environment
from jobs.tasks import Tasks

QUESTION = {"question": "Loud or soft?", "suggestions": ["loud", "soft"], "assumption": "loud"}


def asking() -> object:
    return by_role([call("ask_person", questions=[QUESTION]), plan(TITLE), write("greet.py", LOUD), done()])


@pytest.fixture(scope="module")
def slack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlackHouse]:
    root = tmp_path_factory.mktemp("slack-gap")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    house = SlackHouse(root)
    # An event that finds no socket is lost soon: only catching up brings it.
    house.stub.retry_delays = (0.01, 0.01, 0.01)
    yield house
    house.close()


def waiting(slack: SlackHouse) -> SlackRoom:
    room = slack.room(TESTED, asking())
    room.start()
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    room.until("asking")
    return room


def heard(slack: SlackHouse, room: SlackRoom) -> list[str]:
    """What lies in the inbox or was claimed, in order."""
    assert room.view
    redis = slack.house.office.redis
    parts = [redis.lrange(Tasks.key(room.view.id, part), 0, -1) for part in ("claimed", "inbox")]
    return [raw.decode() for part in parts for raw in part]


def test_what_was_said_while_nobody_listened_is_taken_in_once(slack: SlackHouse) -> None:
    with slack.listening():
        room = waiting(slack)
    room.say("it should be loud")
    slack.stub.settle(30)
    assert slack.stub.lost()
    assert room.status == "asking"
    with slack.listening():
        room.until("watching")
    asked = [str(r.messages) for r in slack.house.server.requests if room.marker in str(r.messages)]
    assert "it should be loud" in asked[-1]
    with slack.listening():
        room.say(f"<@{BOT}> status")
        room.post(lambda m: "watching" in shown(m) or "approval" in shown(m), "status")
    assert asked[-1].count("it should be loud") == 1


def test_control_without_catching_up_it_is_lost(slack: SlackHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.slack.catchup.CatchUp.read", lambda self, place: 0)
    with slack.listening():
        room = waiting(slack)
    room.say("it should be loud")
    slack.stub.settle(30)
    assert slack.stub.lost()
    with slack.listening():
        room.say("nothing", user=BEN)
        room.until("watching")
    asked = [str(r.messages) for r in slack.house.server.requests if room.marker in str(r.messages)]
    assert "it should be loud" not in asked[-1]


def test_a_check_mark_given_while_nobody_listened_counts(slack: SlackHouse) -> None:
    with slack.listening():
        room = slack.room(TESTED, louder())
        room.start()
        result = room.post(lambda m: "React ✅" in shown(m), "result")
    slack.stub.react(ANN, GENERAL, result.ts, "white_check_mark")
    slack.stub.settle(30)
    assert slack.stub.lost()
    with slack.listening():
        wait_until(lambda: room.view and not room.view.data["pull_request"]["draft"], 30)
    with slack.listening():
        slack.stub.unreact(ANN, GENERAL, result.ts, "white_check_mark")
        slack.stub.settle()


def test_a_cut_socket_comes_back_and_the_gap_is_read(slack: SlackHouse) -> None:
    with slack.listening():
        room = waiting(slack)
        slack.stub.drop_sockets()
        room.say("loud")
        room.until("watching", seconds=60)


@contextmanager
def up(slack: SlackHouse) -> Iterator[subprocess.Popen[str]]:
    """`threadwright up` as a person starts it: with two tokens in the environment."""
    env = {**os.environ, **environment(slack.house.settings), "WORKERS": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bot", "up", "--workers", "0"],
        env=env,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        slack.stub.wait_socket()
        yield process
    finally:
        process.kill()
        process.wait()


def test_up_with_two_tokens_runs_a_task_and_survives_kills_of_the_listener(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking())
    with up(slack) as process:
        room.start()
        room.post(lambda m: "tw_answer_0" in buttons(m), "question")
        process.send_signal(signal.SIGKILL)
        process.wait()
    room.say("loud")
    with up(slack) as process:
        room.post(lambda m: re.search("React ✅|pull/1|#1", shown(m)), "result", 60)
        slack.stub.settle()
        assert [m for m in room.posts if "Loud or soft" in shown(m)] == [room.posts[1]]
        assert len(room.posts) == 3
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert f"I listen in the workspace {TEAM}" in said
    assert "Not configured: Discord, GitHub" in said
