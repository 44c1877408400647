"""Slack as the outbox sees it: `SlackChat`, which posts once per key whatever breaks in between.

`chat.postMessage` has no idempotency key: after a try that may have got through, the thread is read first.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.chat import Author, Card, Place, Reply, Said, TryLater, Undeliverable
from bot.slack import threads
from bot.slack.blocks import Shown, show
from bot.slack.finding import Finder, Search, metadata
from bot.slack.payloads import Me
from bot.slack.people import People
from bot.slack.uploads import Uploads
from bot.slack.web import ParentGone, Refusal, Refused, Web
from bot.text import split

log = logging.getLogger(__name__)

QUIET: dict[str, Any] = {"link_names": False, "unfurl_links": False, "unfurl_media": False}
"""Nothing in a text pings, and no preview is fetched: previews have carried data out."""
PIECE = 2_000
"""Characters of Markdown that surely fit into one message."""
ANSWERS = 5
"""How often a `response_url` may be used."""
SEEN = "eyes"
_SEEN_NAMES = frozenset({"", "seen", "👀", SEEN})


@dataclass
class _Trial:
    """What is known about one post that has not come to its end."""

    search: Search
    doubt: bool
    """It may have been posted."""
    message: str = ""
    stray: str = ""
    """Our message that landed outside its thread and has to go."""
    refusal: Refusal | None = None
    told: set[str] = field(default_factory=set)

    @property
    def begun(self) -> bool:
        """Something of it may be in Slack."""
        return self.doubt or bool(self.message) or self.refusal is not None


class Budget:
    """So many calls in any `seconds`; `take` raises TryLater when they are used up."""

    def __init__(self, calls: int, seconds: float, clock: Callable[[], float]) -> None:
        self._calls, self._seconds, self._clock = calls, seconds, clock
        self._taken: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> None:
        with self._lock:
            now = self._clock()
            while self._taken and self._taken[0] <= now - self._seconds:
                self._taken.popleft()
            if len(self._taken) >= self._calls:
                left = max(0.0, self._taken[0] + self._seconds - now)
                raise TryLater(f"the cards' {self._calls} edits of this minute are used up", left)
            self._taken.append(now)


KEPT_FILES = 1000
"""How many files are remembered, so that the same answer is not sent twice."""


class SlackChat:
    """The port `bot.chat.Chat` to one workspace. Safe to use from several threads.

    `edits_a_minute`: what all cards of the workspace share, below the 50 a minute that Slack allows for `chat.update`
    (https://docs.slack.dev/apis/web-api/rate-limits), so that questions and results need not wait.
    `clock`: seconds, rising; `now`: seconds since 1970. Everything here raises Undeliverable (as `web.Refusal`) or
    TryLater (as `web.Broken` where the operator has to act).
    """

    platform = "slack"

    def __init__(
        self,
        web: Web,
        me: Me,
        *,
        edits_a_minute: int = 40,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.workspace = me.team
        self._web, self._me, self._now = web, me, now
        self._finder = Finder(web, me)
        self._uploads = Uploads(web, self._finder)
        self._budget = Budget(edits_a_minute, 60, clock)
        self._trials: dict[tuple[str, str], _Trial] = {}
        self._files: dict[tuple[str, str], str] = {}
        self._no_plans = False
        """This workspace refuses the newer blocks."""

    # The port

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        """Post once per `key` and give the message's `ts`. TryLater with `unclear`: it may have been posted.

        Where a reply cannot be delivered for good, those whom it mentions get it as a direct message.
        """

        def refused(trial: _Trial) -> None:
            self._clear_away(place, trial)
            if isinstance(what, Reply):
                self._tell_all(place, what, key, trial, again=again)

        return self._once(place, show(what), key, again=again, refused=refused)

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        """Cards wait for their budget; replies never do."""
        if isinstance(what, Card):
            self._budget.take()
        shown = show(what)
        target: dict[str, Any] = {"channel": place.channel, "ts": message, "link_names": False}
        self._in_some_form(shown, lambda form: self._web.call("chat.update", **target, **form))
        self._uploads.rest(place, shown.file, look=True)

    def react(self, place: Place, message: str, reaction: str) -> None:
        name = SEEN if reaction in _SEEN_NAMES else reaction.strip(":")
        try:
            self._web.call("reactions.add", channel=place.channel, timestamp=message, name=name)
        except Refusal as exc:
            if exc.code != "already_reacted":
                raise

    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        """The file's id."""
        sent = (place.key, key)
        if len(self._files) > KEPT_FILES:
            self._files.clear()
        if sent not in self._files:
            self._files[sent] = self._uploads.send(place, name, text)
        return self._files[sent]

    def read_thread(self, place: Place) -> Sequence[Said]:
        people = People(self._web, self._me)
        return threads.read_thread(self._web, people, place.channel, place.thread, before="", me=self._me)

    # To one person

    def whisper(self, place: Place, author: Author, text: str) -> None:
        """Markdown that only `author` sees; in a direct message, where nobody else is, an ordinary message."""
        for form in _pieces(text):
            target: dict[str, Any] = {"channel": place.channel, "thread_ts": place.thread or None, **form}
            if place.channel.startswith("D"):
                self._web.call("chat.postMessage", unclear=True, **QUIET, **target)
            else:
                self._web.call("chat.postEphemeral", unclear=True, user=user_of(author), link_names=False, **target)

    def respond(self, url: str, text: str, *, fallback: tuple[Place, Author]) -> None:
        """Answer a command or a button by its `response_url`, good for 30 minutes and five answers; else whisper.

        https://docs.slack.dev/interactivity/handling-user-interaction#message_responses
        """
        pieces = _pieces(text)
        try:
            if len(pieces) > ANSWERS:
                raise Refusal("Those are more messages than the address is good for.")
            for form in pieces:
                body = {"response_type": "ephemeral", "replace_original": False, **form}
                self._web.put(url, json.dumps(body).encode(), mimetype="application/json")
        except Refusal as exc:
            log.info("a response address is of no use: %s", exc)
            self.whisper(*fallback, text)

    # Posting

    def _once(
        self,
        place: Place,
        shown: Shown,
        key: str,
        *,
        again: bool,
        refused: Callable[[_Trial], None] = lambda _: None,
    ) -> str:
        """`refused` may be called more than once: it raises TryLater until all is done. Raises as `post` does."""
        name = (place.key, key)
        new = _Trial(Search(0.0 if again else self._now()), doubt=again)
        trial = self._trials.setdefault(name, new)
        trial.doubt = trial.doubt or (again and not trial.begun)
        try:
            if trial.refusal is None:
                self._attempt(place, shown, key, trial, again=again)
            if trial.refusal is not None:
                refused(trial)
        except TryLater as exc:
            exc.unclear = exc.unclear or trial.begun
            if not exc.unclear:
                self._trials.pop(name, None)
            raise
        self._trials.pop(name, None)
        if trial.refusal is not None:
            raise trial.refusal
        return trial.message

    def _attempt(self, place: Place, shown: Shown, key: str, trial: _Trial, *, again: bool) -> None:
        try:
            if not trial.message:
                found = self._look(place, key, trial) if trial.doubt else ""
                trial.message = found or self._send(place, shown, key, trial)
            self._uploads.rest(place, shown.file, look=again)
        except Refusal as exc:
            trial.refusal = exc

    def _look(self, place: Place, key: str, trial: _Trial) -> str:
        """The `ts` of the message that carries `key`; empty: it was not posted, and the doubt is over."""
        start = self._now()
        try:
            found = self._finder.message(place, key, trial.search)
        except ParentGone:
            channel = Place(place.platform, place.workspace, place.channel)
            trial.stray = self._finder.message(channel, key, trial.search)
            raise
        if not found:
            trial.doubt, trial.search = False, Search(start)
        return found

    def _send(self, place: Place, shown: Shown, key: str, trial: _Trial) -> str:
        target: dict[str, Any] = {"channel": place.channel, "thread_ts": place.thread or None, **QUIET}

        def send(form: Mapping[str, Any]) -> dict[str, Any]:
            return self._web.call("chat.postMessage", unclear=True, metadata=metadata(key), **target, **form)

        try:
            answer = self._in_some_form(shown, send)
        except TryLater as exc:
            trial.doubt = exc.unclear
            raise
        message = str(answer.get("ts") or "")
        landed = (answer.get("message") or {}).get("thread_ts") or ""
        if place.thread and landed != place.thread:
            trial.stray = message
            raise ParentGone("The message that this thread hangs on was deleted.", "parent_gone")
        return message

    def _in_some_form(self, shown: Shown, send: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """As blocks, else as blocks that every workspace takes, else as text. That plans are refused is remembered."""
        plan = any(block.get("type") == "plan" for block in shown.blocks)
        rich = shown.blocks != shown.plain and not (plan and self._no_plans)
        if rich:
            try:
                return send(_message(shown))
            except Refused as exc:
                log.warning("Slack refused a message's blocks (%s): it is sent in plainer ones", exc.code)
        try:
            answer = send(_message(shown, plain=True))
        except Refused as exc:
            log.warning("Slack refused a message's plain blocks (%s): it is sent as text", exc.code)
            return send({"text": shown.text})
        self._no_plans = self._no_plans or (plan and rich)
        return answer

    # What cannot be delivered

    def _clear_away(self, place: Place, trial: _Trial) -> None:
        """What landed in the wrong place."""
        if not trial.stray:
            return
        try:
            self._web.call("chat.delete", channel=place.channel, ts=trial.stray)
        except Refusal as exc:
            log.info("a stray message cannot be deleted: %s", exc)
        trial.stray = ""

    def _tell_all(self, place: Place, reply: Reply, key: str, trial: _Trial, *, again: bool) -> None:
        """Those whom it was for, each once, as a direct message."""
        shown = _undelivered(place, reply, str(trial.refusal))
        for user in dict.fromkeys(user_of(author) for author in reply.mentions):
            if user in trial.told:
                continue
            try:
                channel = self._web.call("conversations.open", users=user).get("channel") or {}
                direct = Place(place.platform, place.workspace, str(channel.get("id") or ""))
                self._once(direct, shown, key, again=again)
            except Undeliverable as exc:
                log.warning("nor can %s be told directly: %s", user, exc)
            trial.told.add(user)


def _undelivered(place: Place, reply: Reply, why: str) -> Shown:
    shown = show(reply, buttons=False)
    note = f"I could not answer in <#{place.channel}>. {why} This is what I had to say:"
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": note}}, *shown.plain]
    return Shown(text=f"{note}\n{shown.text}", blocks=blocks, plain=blocks, file=shown.file)


def user_of(author: Author) -> str:
    """`slack:T1:U1` -> `U1`."""
    return author.id.rpartition(":")[2]


def _pieces(text: str) -> list[dict[str, Any]]:
    """Messages for one person, who can be sent no file that only they see."""
    whole = show(Reply("notice", text))
    if whole.file is None:
        return [_message(whole, plain=True)]
    return [_message(show(Reply("notice", piece)), plain=True) for piece in split(text, PIECE)]


def _message(shown: Shown, *, plain: bool = False) -> dict[str, Any]:
    return {"text": shown.text, "blocks": (shown.plain if plain else shown.blocks) or None}
