"""A drainer that is killed between Slack's acceptance and its note loses nothing and says nothing twice."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis as redis_module
import slackposter
from office import DeskRoom
from servers import wait_for
from slackserver import ANN, BOT_ID, GENERAL, TEAM, Fault, SlackServer

from bot.chat import Author, Place, Reply
from jobs.outbox import BEGUN, Drainer
from jobs.wording import Post

PERSON = Author(f"slack:{TEAM}:{ANN}", "Ann")
ANSWER_SECONDS = 0.03
"""How long Slack takes to answer what it has accepted: most kills fall into it."""


@pytest.fixture
def stub() -> Iterator[SlackServer]:
    with SlackServer() as stub:
        stub.fault("chat.postMessage", Fault.delay(ANSWER_SECONDS), times=10_000)
        yield stub


def kill_often(
    stub: SlackServer, redis: redis_module.Redis, redis_url: str, rounds: int, between: Callable[[str], None]
) -> tuple[Counter[str], list[str]]:
    """How often each key was posted, and the keys that were to be, after `rounds` drainers were killed."""
    chance = random.Random(7)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["slackposter"])
    thread = stub.say(ANN, GENERAL, "hello there")
    room = DeskRoom(redis, place=Place("slack", TEAM, GENERAL, thread))
    task = room.say(PERSON, "add retries").task
    wanted = [f"{task}:card"]
    for number in range(rounds):
        for part in "ab":
            room.outbox.say(task, Post(f"notice-{number}{part}", Reply("notice", f"{number}{part}")), anyone=True)
            wanted.append(f"{task}:notice-{number}{part}")
        before = len(stub.posts(GENERAL))
        victim = processes.Process(target=slackposter.drain, args=(redis_url, stub.url, stub.bot_token), daemon=True)
        victim.start()
        wait_for(lambda: len(stub.posts(GENERAL)) > before, 20)  # noqa: B023
        time.sleep(chance.uniform(0, 1.5 * ANSWER_SECONDS))
        victim.kill()
        victim.join(10)
        between(task)
    wait_for(lambda: not redis.exists(f"tw:drain:slack/{TEAM}"))
    last = Drainer(room.tasks, slackposter.chat(stub.url, stub.bot_token), edit_seconds=0)
    wait_for(lambda: last.run_once() == 0 and not redis.llen(f"tw:out:slack/{TEAM}"), 30)
    posts = [m for m in stub.messages(GENERAL, thread) if m.bot_id == BOT_ID]
    return Counter(m.metadata["event_payload"]["key"] for m in posts), wanted


def test_a_drainer_that_is_killed_twenty_times_loses_nothing_and_says_nothing_twice(
    stub: SlackServer, redis: redis_module.Redis, redis_url: str
) -> None:
    posted, wanted = kill_often(stub, redis, redis_url, 20, lambda _: None)
    assert posted == Counter(wanted)


def test_control_without_the_note_that_a_post_was_begun_things_are_said_twice(
    stub: SlackServer, redis: redis_module.Redis, redis_url: str
) -> None:
    def forget(task: str) -> None:
        posted = f"{DeskRoom(redis).tasks.key(task, 'posted')}"
        for field, value in redis.hgetall(posted).items():
            if value.startswith(BEGUN.encode()):
                redis.hdel(posted, field)

    posted, wanted = kill_often(stub, redis, redis_url, 8, forget)
    assert set(posted) == set(wanted)
    assert max(posted.values()) > 1
