"""A thread in the stub Slack, a chat that posts there, and one clock for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from slackserver import ANN, BEN, BOT, BOT_ID, GENERAL, TEAM, Fault, Message, SlackServer

from bot.chat import Author, Card, CardStep, Place, Reply, TryLater
from bot.slack.payloads import Me
from bot.slack.posting import SlackChat
from bot.slack.web import Web

ME = Me(BOT, BOT_ID, TEAM)
PERSON = Author(f"slack:{TEAM}:{ANN}", "Ann")
OTHER = Author(f"slack:{TEAM}:{BEN}", "Ben")
REPLY = Reply("result", "All done.", (PERSON,))
PLAIN_CARD = Card("tw-x", "Add retries", "working", datetime(2026, 11, 20, 9, tzinfo=UTC), "Ann")
CARD = replace(PLAIN_CARD, steps=(CardStep("look", "done"), CardStep("write", "running")))


class Clock:
    """The same for Slack and for us."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A thread that Ann opened, and a chat that posts there."""

    stub: SlackServer
    clock: Clock

    def __post_init__(self) -> None:
        self.thread = self.stub.say(ANN, GENERAL, "hello there")
        self.place = Place("slack", TEAM, GENERAL, self.thread)
        self.chat = self.another()

    def another(self, **given: int) -> SlackChat:
        """As a new process would have it, which knows nothing of what was tried before."""
        web = Web(self.stub.bot_token, base_url=self.stub.url, timeout=5, clock=self.clock)
        return SlackChat(web, ME, clock=self.clock, now=self.clock, **given)

    def persist(self, key: str = "k", *, what: Reply | Card = REPLY, chat: SlackChat | None = None) -> str:
        """As the drainer does: again until it is through."""
        for _ in range(100):
            try:
                return (chat or self.chat).post(self.place, what, key)
            except TryLater as exc:
                self.clock.now += exc.after
        raise AssertionError("100 tries were not enough")

    def thread_posts(self) -> list[Message]:
        return [m for m in self.stub.messages(GENERAL, self.thread) if m.bot_id == BOT_ID]

    def direct(self, person: str = ANN) -> list[Message]:
        return self.stub.posts(self.stub.dm(person))


FAULTS = (
    Fault.status(500),
    Fault.status(503, done=True),
    Fault.drop_before(),
    Fault.drop_after(),
    Fault.limited(1),
    Fault.error("internal_error"),
)


@contextmanager
def scenes() -> Iterator[Scene]:
    clock = Clock()
    with SlackServer(clock=clock) as stub:
        yield Scene(stub, clock)


def keys(messages: list[Message]) -> Counter[str]:
    return Counter(m.metadata["event_payload"]["key"] for m in messages)
