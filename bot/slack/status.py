"""The line "Threadwright is working …" below a thread: set while a task runs, and taken away when it does not.

Slack drops it after two minutes, and whenever the app says something in the thread
(https://docs.slack.dev/reference/methods/assistant.threads.setStatus); so it is set again well before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from bot.chat import DeskClosed, Place, TaskView, TryLater, Undeliverable
from bot.slack.handling import Slack
from bot.slack.intake import PLATFORM
from bot.slack.web import Broken

log = logging.getLogger(__name__)

REFRESH_SECONDS = 90.0
LOOK_SECONDS = 2.0


class WorkingStatus:
    def __init__(
        self, slack: Slack, *, look_every: float = LOOK_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slack = slack
        self._look_every = look_every
        self._clock = clock
        self._set: dict[Place, tuple[str, float]] = {}
        self._allowed = True

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(self._look_every) and self._allowed:
            self.look()
        for place in list(self._set):
            self._show(place, "")

    def look(self) -> None:
        """Bring the lines up to date with the tasks."""
        try:
            wanted = self._wanted()
        except DeskClosed:
            return
        for place in [place for place in self._set if place not in wanted]:
            self._show(place, "")
        for place, words in wanted.items():
            shown, at = self._set.get(place, ("", 0.0))
            if shown != words or self._clock() - at >= REFRESH_SECONDS:
                self._show(place, words)

    def _wanted(self) -> dict[Place, str]:
        wanted: dict[Place, str] = {}
        for place in self._slack.desk.open_places(PLATFORM, self._slack.me.team):
            view = next((v for v in self._slack.desk.tasks(place) if place.key in v.data["places"] and _works(v)), None)
            if view is not None and place.thread:
                wanted[place] = f"is working on step {view.step}" if view.step else "is working"
        return wanted

    def _show(self, place: Place, words: str) -> None:
        try:
            self._slack.web.call(
                "assistant.threads.setStatus", channel_id=place.channel, thread_ts=place.thread, status=words[:100]
            )
        except (TryLater, Undeliverable) as exc:
            # Not every app may set it, and nothing depends on it.
            self._allowed = not (isinstance(exc, Broken) and exc.code == "missing_scope")
            log.info("the working status of %s is as it was: %s", place.key, exc)
        if words:
            self._set[place] = (words, self._clock())
        else:
            self._set.pop(place, None)


def _works(view: TaskView) -> bool:
    return view.status == "running" and not view.queue_place
