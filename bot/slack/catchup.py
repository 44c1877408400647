"""After a gap (a restart, a lost socket): the task threads are read from the last message on that was dealt with.

What is found goes the way of everything that Slack pushes; what came before is known by its channel and time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bot.chat import DeskClosed, Place, TryLater, Undeliverable
from bot.slack.handling import Slack
from bot.slack.intake import PLATFORM, Intake
from bot.slack.payloads import REACTIONS

log = logging.getLogger(__name__)

OVERLAP_SECONDS = 3_600
"""Messages may have come out of order: this far before the last one is read again."""
NAMES = {how: name for name, how in reversed(list(REACTIONS.items()))}
"""The reactions that mean something, back to Slack's name for each."""
PAGE = 15
"""What apps outside the Marketplace may read at a time."""


class CatchUp:
    """Runs once for every `wanted.set()`; it waits where Slack wants it to."""

    def __init__(self, slack: Slack, intake: Intake, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._slack = slack
        self._intake = intake
        self.wanted = threading.Event()
        self.wanted.set()

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if not self.wanted.wait(0.2):
                continue
            self.wanted.clear()
            try:
                places = list(self._slack.desk.open_places(PLATFORM, self._slack.me.team))
            except DeskClosed:
                self.wanted.set()
                stop.wait(1.0)
                continue
            for place in places:
                self._patiently(place, stop)

    def _patiently(self, place: Place, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                taken = self.read(place)
            except (TryLater, DeskClosed) as exc:
                stop.wait(getattr(exc, "after", 1.0))
            except Undeliverable as exc:
                log.info("nothing to catch up on in %s: %s", place.key, exc)
                return
            else:
                if taken:
                    log.info("%d messages of %s were said while I was away", taken, place.key)
                return

    def read(self, place: Place) -> int:
        """How many messages were taken in that had not been. Raises TryLater, Undeliverable, DeskClosed."""
        known = self._slack.mail.read_to(place)
        oldest = f"{max(0.0, float(known) - OVERLAP_SECONDS):.6f}" if known else place.thread
        taken = 0
        for message in self._messages(place, oldest):
            for payload in self._payloads(place, message, known):
                taken += self._intake.take(payload)
        for ours in self._slack.desk.reactable(place):
            taken += self._reactions(place, ours)
        return taken

    def _reactions(self, place: Place, ts: str) -> int:
        """✅, ❌ and 🛑 that came or went meanwhile on a message of ours."""
        answer = self._slack.web.call(
            "conversations.replies",
            channel=place.channel,
            ts=place.thread,
            oldest=ts,
            latest=ts,
            inclusive=True,
            limit=2,
        )
        found: Mapping[str, Any] = next((m for m in answer.get("messages") or () if m.get("ts") == ts), {})
        now = {
            (str(user), REACTIONS[str(reaction.get("name"))])
            for reaction in found.get("reactions") or ()
            for user in reaction.get("users") or ()
            if reaction.get("name") in REACTIONS and user != self._slack.me.user
        }
        known = {(who, how) for who, how in self._slack.mail.reactions(f"{place.channel}/{ts}") if how in NAMES}
        changes = [("reaction_added", pair) for pair in sorted(now - known)]
        changes += [("reaction_removed", pair) for pair in sorted(known - now)]
        return sum(self._intake.take(self._reaction(place, ts, kind, *pair)) for kind, pair in changes)

    def _reaction(self, place: Place, ts: str, kind: str, user: str, how: str) -> dict[str, Any]:
        at = f"{self._now():.6f}"
        event = {
            "type": kind,
            "user": user,
            "reaction": NAMES[how],
            "item": {"type": "message", "channel": place.channel, "ts": ts},
            "item_user": self._slack.me.user,
            "event_ts": at,
        }
        return self._envelope(event, f"caught-{place.channel}-{ts}-{user}-{how}-{at}")

    def _messages(self, place: Place, oldest: str) -> Iterator[Mapping[str, Any]]:
        cursor = ""
        while True:
            answer = self._slack.web.call(
                "conversations.replies",
                channel=place.channel,
                ts=place.thread,
                oldest=oldest,
                inclusive=True,
                limit=PAGE,
                cursor=cursor or None,
            )
            yield from answer.get("messages") or ()
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return

    def _payloads(self, place: Place, message: Mapping[str, Any], known: str) -> Iterator[dict[str, Any]]:
        """The events that would have told of it: that it was said, and that it was edited."""
        kind = "im" if place.channel.startswith("D") else "channel"
        common = {"type": "message", "channel": place.channel, "channel_type": kind}
        ts = str(message.get("ts", ""))
        came = self._slack.mail.came(f"{place.channel}/{ts}")
        if not came:
            yield self._envelope({**message, **common}, f"caught-{place.channel}-{ts}")
        edited = str((message.get("edited") or {}).get("ts", ""))
        if came and edited > known:
            event = {**common, "subtype": "message_changed", "message": {**message}, "ts": edited, "event_ts": edited}
            yield self._envelope(event, f"caught-{place.channel}-{ts}-{edited}")

    def _envelope(self, event: dict[str, Any], number: str) -> dict[str, Any]:
        me = self._slack.me
        return {
            "type": "event_callback",
            "team_id": me.team,
            "api_app_id": me.app,
            "event_id": number,
            "event_time": int(float(event.get("event_ts") or event.get("ts") or 0)),
            "event": event,
        }
