"""A channel of the stub Slack to talk in as a person would, with the whole program behind it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boxes import wait_until
from gitrepos import Files, git, make_repository
from pydantic import SecretStr
from rooms import House
from slackserver import ANN, BOT, GENERAL, TEAM, Delivery, Message, SlackServer

from bot.chat import TaskView
from integrations.scriptedmodel import Script
from jobs.listening import listening

APPROVER = f"slack:{TEAM}:{ANN}"


class SlackHouse:
    """The program with real workers and a scripted model, listening to a stub Slack in this process."""

    def __init__(self, root: Path, *, http: bool = False, workers: int = 1, **settings: Any) -> None:
        self.stub = SlackServer()
        self.http = http
        name, value = "slack_app_token", self.stub.app_token
        if http:
            name, value = "slack_signing_secret", self.stub.signing_secret
        self.house = House(
            root,
            workers=workers,
            slack_bot_token=SecretStr(self.stub.bot_token),
            slack_api_url=self.stub.url,
            http_port=0,
            **{"approvers": (APPROVER,), name: SecretStr(value), **settings},
        )
        self.said: list[str] = []
        self._numbers = itertools.count(1)

    @contextmanager
    def listening(self) -> Iterator[None]:
        self.said.clear()
        with listening(self.house.office, self.said.append):
            wait_until(lambda: any("I listen" in line for line in self.said), 20)
            if self.http:
                [address] = re.findall(r"http://\S+?/slack/events", self.said[-1])
                self.stub.push_to(address)
            else:
                self.stub.wait_socket()
            yield

    def close(self) -> None:
        self.house.close()
        self.stub.close()

    def room(self, files: Files, script: Script, *, channel: str = GENERAL) -> SlackRoom:
        number = next(self._numbers)
        marker = f"case-{number}."
        self.house.scripts[marker] = script
        repository = f"acme/slack{number}"
        make_repository(self.house.root / "forge" / f"{repository}.git", files)
        return SlackRoom(self, channel, marker, repository)


class SlackRoom:
    """One thread. `ts` is its first message."""

    def __init__(self, slack: SlackHouse, channel: str, marker: str, repository: str) -> None:
        self.slack = slack
        self.stub = slack.stub
        self.desk = slack.house.office.desk
        self.channel = channel
        self.marker = marker
        self.repository = repository
        self.ts = ""

    @property
    def bare(self) -> Path:
        return self.slack.house.root / "forge" / f"{self.repository}.git"

    def start(self, text: str = "add a greeting", user: str = ANN) -> str:
        self.ts = self.stub.say(user, self.channel, f"<@{BOT}> [repo={self.repository}] {text} ({self.marker})")
        return self.ts

    def say(self, text: str, user: str = ANN) -> str:
        return self.stub.say(user, self.channel, text, thread=self.ts)

    @property
    def posts(self) -> list[Message]:
        """What the bot said in the thread, oldest first."""
        return [m for m in self.stub.messages(self.channel, self.ts) if m.user == BOT]

    def post(self, true: Callable[[Message], object], what: str, seconds: float = 45) -> Message:
        """Wait for a message of the bot."""

        def found() -> Message | None:
            return next((m for m in self.posts if true(m)), None)

        try:
            return wait_until(found, seconds)
        except AssertionError:
            said = "\n---\n".join(shown(m) for m in self.posts)
            raise AssertionError(f"no {what} within {seconds:g} s. {self.status}\n{said}") from None

    @property
    def card(self) -> Message:
        return self.posts[0]

    @property
    def view(self) -> TaskView | None:
        key = f"slack/{TEAM}/{self.channel}/{self.ts}"
        return next((v for v in self.desk.tasks() if key in v.data["places"]), None)

    @property
    def status(self) -> str:
        return self.view.status if self.view else "no task"

    def until(self, *statuses: str, seconds: float = 45) -> TaskView:
        try:
            wait_until(lambda: self.status in statuses, seconds)
        except AssertionError:
            said = "\n---\n".join(shown(m) for m in self.posts)
            raise AssertionError(f"{self.status}, not {statuses}, within {seconds:g} s\n{said}") from None
        assert self.view
        return self.view

    def git(self, *args: str) -> str:
        return git(self.bare, *args)


def shown(message: Message) -> str:
    """All words of a message, the fallback and every text in its blocks."""
    return message.text + "\n" + "\n".join(texts(message.blocks))


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("text", "title") and isinstance(item, str):
                yield item
            else:
                yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def buttons(message: Message) -> list[str]:
    """Action ids of a message."""
    return re.findall(r'"action_id": "(\w+)"', json.dumps(message.blocks))


__all__ = ["ANN", "BOT", "Delivery", "SlackHouse", "SlackRoom", "buttons", "shown"]
