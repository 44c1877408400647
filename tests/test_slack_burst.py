"""Two thousand messages at a hundred a second while the listener is killed: each is heard once, in order."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from math import inf
from pathlib import Path
from typing import Any

import pytest
from boxes import wait_until
from gitrepos import make_repository
from greetings import TESTED
from pydantic import SecretStr
from rooms import House
from slackserver import ANN, BEN, BOT, GENERAL, TEAM, SlackServer

from bot.chat import Place
from bot.slack.http import PATH
from jobs.settings import environment
from jobs.tasks import Entry, Tasks

ROOT = Path(__file__).parents[1]
UP = ("-m", "bot", "up", "--workers", "0")
HASTY = ("tests/slacklistener.py",)
"""Acknowledges first and stores later, and does not catch up."""
PER_SECOND = 100
THREADS = 20
REPOSITORY = "acme/burst"


class Burst:
    """A stub Slack, a house without workers, and a listening process of its own that is killed and started again."""

    def __init__(self, root: Path, *, program: tuple[str, ...] = UP, http: bool = False) -> None:
        self.stub = SlackServer(seed=11)
        # What the bot itself does would be as many events again.
        self.stub.echo = False
        # An event outlives the seconds without a listener on a slow machine: Slack itself tries three times again, at
        # once and after one and five minutes.
        self.stub.retry_delays = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
        self.program = program
        self.port = free_port()
        name, value = "slack_app_token", self.stub.app_token
        if http:
            name, value = "slack_signing_secret", self.stub.signing_secret
            self.stub.push_to(f"http://127.0.0.1:{self.port}{PATH}")
        self.http = http
        self.house = House(
            root,
            workers=0,
            slack_bot_token=SecretStr(self.stub.bot_token),
            slack_api_url=self.stub.url,
            http_port=self.port,
            **{name: SecretStr(value)},
        )
        self.redis = self.house.office.redis
        self.log = (root / "listener.log").open("wb")
        self.process: subprocess.Popen[bytes] | None = None
        self.said: dict[str, list[tuple[str, str]]] = {}
        """By thread: word and ts, as they were said."""
        make_repository(root / "forge" / f"{REPOSITORY}.git", TESTED)

    # --- the listener

    def start(self) -> None:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment(self.house.settings)}
        self.process = subprocess.Popen(
            [sys.executable, *self.program], cwd=ROOT, env=env, stdout=self.log, stderr=subprocess.STDOUT
        )

    def listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, "the listener died by itself"
        if not self.http:
            return bool(self.stub.sockets)
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        self.kill()
        self.house.close()
        self.stub.close()
        self.log.close()

    # --- what is said

    def open(self, threads: int) -> None:
        """As many threads with a task each."""
        self.start()
        wait_until(self.listens, 30)
        for number in range(threads):
            ts = self.stub.say(ANN, GENERAL, f"<@{BOT}> [repo={REPOSITORY}] add greeting number {number}")
            self.said[ts] = []
        wait_until(lambda: all(self.task(ts) for ts in self.said), 30)

    def say_some(
        self,
        count: int,
        *,
        rate: float = PER_SECOND,
        mentions: bool = True,
        between: Callable[[int], None] = lambda _: None,
    ) -> None:
        """One in ten mentions the bot and arrives as two events.

        `between` is called with the number of each message, before it is said.
        """
        threads, begun = list(self.said), time.monotonic()
        for number in range(count):
            between(number)
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            thread, word = threads[number % len(threads)], f"word-{number};"
            mention = mentions and number // len(threads) % 10 == 3
            text = f"<@{BOT}> and {word} too" if mention else f"and {word} too"
            ts = self.stub.say(ANN if number % 3 else BEN, GENERAL, text, thread=thread)
            self.said[thread].append((word, ts))

    def settle(self) -> None:
        """Until Slack has no more to deliver and the listener nothing more to read."""
        self.stub.settle(60)
        wait_until(lambda: self.redis.xlen(f"tw:mail:slack/{TEAM}") == 0, 60)

    # --- what is heard

    def task(self, thread: str) -> str:
        return self.house.office.tasks.of_place(Place("slack", TEAM, GENERAL, thread))

    def inbox(self, thread: str) -> list[str]:
        entries = [Entry.load(raw) for raw in self.redis.lrange(Tasks.key(self.task(thread), "inbox"), 0, -1)]
        return [word for entry in entries for word in re.findall(r"word-\d+;", entry.text)]

    def everything(self) -> list[str]:
        """The words in all inboxes there are."""
        keys = list(self.redis.scan_iter(match="tw:task:*:inbox"))
        return re.findall(r"word-\d+;", str([self.redis.lrange(key, 0, -1) for key in keys]))

    def all_said(self) -> list[str]:
        return [word for words in self.said.values() for word, _ in words]

    def out_of_order(self) -> list[tuple[str, str]]:
        """Pairs of a thread that are heard the other way round although Slack had delivered the first before."""
        sent: dict[str, float] = {}
        stored: dict[str, float] = {}
        for delivery in self.stub.deliveries:
            ts = delivery.payload["event"]["ts"]
            sent[ts] = min([sent.get(ts, inf), *delivery.sent])
            if delivery.payload["event"]["type"] == "message":
                stored[ts] = delivery.acked or inf
        wrong = []
        for thread, words in self.said.items():
            heard = {word: place for place, word in enumerate(self.inbox(thread))}
            for (earlier, a), (later, b) in combinations(words, 2):
                if heard[earlier] > heard[later] and stored[a] < sent[b]:
                    wrong.append((earlier, later))
        return wrong


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def burst(root: Path, **more: Any) -> Iterator[Burst]:
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    running = Burst(root, **more)
    try:
        yield running
    finally:
        running.close()


@pytest.mark.parametrize(("http", "count"), [(False, 2000), (True, 600)], ids=["socket", "http"])
def test_of_a_burst_each_message_is_heard_once_and_in_order_though_the_listener_is_killed_twice(
    tmp_path: Path, http: bool, count: int
) -> None:
    chance = random.Random(count)
    kills = {chance.randrange(count // 10, count // 2), chance.randrange(count // 2, 9 * count // 10)}
    with burst(tmp_path, http=http) as slack:
        slack.open(THREADS)
        slack.stub.redeliver = 0.05

        def between(number: int) -> None:
            if number in kills:
                slack.kill()
                slack.start()

        slack.say_some(count, between=between)
        slack.settle()
        assert slack.stub.lost() == []
        assert slack.stub.problems == []
        assert len([d for d in slack.stub.deliveries if len(d.sent) > 1]) > count * 0.02, "some came more than once"
        assert len(slack.house.desk().tasks()) == THREADS
        for thread, words in slack.said.items():
            assert sorted(slack.inbox(thread)) == sorted(word for word, _ in words)
        assert sorted(slack.everything()) == sorted(slack.all_said())
        assert slack.out_of_order() == []


def test_control_what_is_acknowledged_before_it_is_stored_is_lost_when_the_listener_is_killed(tmp_path: Path) -> None:
    with burst(tmp_path, program=HASTY) as slack:
        slack.open(2)

        def between(number: int) -> None:
            if number == 100:
                wait_until(lambda: not slack.stub.unacknowledged())
                slack.kill()
                slack.start()

        slack.say_some(120, between=between)
        slack.settle()
        wait_until(lambda: "word-119;" in slack.everything())
        assert slack.stub.lost() == []
        assert len(slack.everything()) < 120


def test_control_without_the_keys_of_what_came_before_messages_are_heard_twice_after_a_kill(tmp_path: Path) -> None:
    with burst(tmp_path) as slack:
        slack.open(2)
        slack.say_some(40)
        slack.settle()
        assert sorted(slack.everything()) == sorted(slack.all_said())
        slack.kill()
        for pattern in ("tw:mailed:*", "tw:seen:*"):
            for key in slack.redis.scan_iter(match=pattern):
                slack.redis.delete(key)
        slack.start()
        wait_until(lambda: len(slack.everything()) > 40, 30)
        assert set(slack.everything()) == set(slack.all_said())


def test_control_words_that_change_places_are_seen(tmp_path: Path) -> None:
    with burst(tmp_path) as slack:
        slack.open(1)
        slack.say_some(4)
        slack.settle()
        assert slack.out_of_order() == []
        [thread] = slack.said
        key = Tasks.key(slack.task(thread), "inbox")
        slack.redis.lmove(key, key, "LEFT", "RIGHT")
        assert slack.out_of_order()
