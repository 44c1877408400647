"""Whether something of ours is in Slack already: the look before a post is tried again.

Each message carries our key in its metadata (https://docs.slack.dev/messaging/message-metadata). Apps that are
distributed outside the Marketplace may read once a minute, 15 messages at a time: a search goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bot.chat import Place, TryLater
from bot.slack.payloads import Me
from bot.slack.web import Refusal, Web

EVENT = "threadwright"
"""Event type of our messages' metadata; the payload is `{"key": …}`."""
PAGE = 200
"""Messages a call, as Slack recommends; some apps get 15 whatever they ask for."""
SKEW_SECONDS = 300.0
"""How far our clock may be from Slack's: a thread is read from that much earlier on."""


def metadata(key: str) -> dict[str, Any]:
    return {"event_type": EVENT, "event_payload": {"key": key}}


@dataclass
class Search:
    """Where in a place to look. `since`: seconds since 1970, 0 if not known; `cursor`: where to read on."""

    since: float = 0.0
    cursor: str = ""


class Finder:
    def __init__(self, web: Web, me: Me) -> None:
        self._web, self._me = web, me

    def message(self, place: Place, key: str, search: Search) -> str:
        """The `ts` of our message with that key, or empty. Raises Refusal, TryLater (call it again to go on).

        Where there is no thread and `since` is not known, only the newest page of the channel is read.
        """
        return self._first(place, search, lambda message: self._ts(message, key))

    def file(self, place: Place, name: str) -> str:
        """Id of our file of that name in the thread, or empty."""
        return self._first(place, Search(), lambda message: self._file(message, name))

    def _first(self, place: Place, search: Search, what: Callable[[Mapping[str, Any]], str]) -> str:
        for page in self._pages(place, search):
            for message in page:
                if found := what(message):
                    search.cursor = ""
                    return found
        return ""

    def _pages(self, place: Place, search: Search) -> Iterator[list[Mapping[str, Any]]]:
        while True:
            answer = self._page(place, search)
            yield answer.get("messages") or []
            read, following = search.cursor, (answer.get("response_metadata") or {}).get("next_cursor") or ""
            search.cursor = following if place.thread or search.since else ""
            if search.cursor in {"", read}:
                search.cursor = ""
                return

    def _page(self, place: Place, search: Search) -> dict[str, Any]:
        try:
            return self._web.call(
                "conversations.replies" if place.thread else "conversations.history",
                channel=place.channel,
                ts=place.thread or None,
                oldest=f"{search.since - SKEW_SECONDS:.6f}" if search.since else None,
                cursor=search.cursor or None,
                limit=PAGE,
                include_all_metadata=True,
            )
        except Refusal as exc:
            if exc.code != "invalid_cursor":
                raise
            search.cursor = ""
            raise TryLater("Slack has forgotten where I was reading the thread.", unclear=True) from exc

    def _ts(self, message: Mapping[str, Any], key: str) -> str:
        carried = message.get("metadata") or {}
        if carried.get("event_type") != EVENT or (carried.get("event_payload") or {}).get("key") != key:
            return ""
        # Anybody's app may write the same metadata.
        ours = message.get("user") == self._me.user or message.get("bot_id") == self._me.bot
        return str(message["ts"]) if ours else ""

    def _file(self, message: Mapping[str, Any], name: str) -> str:
        if message.get("user") not in {self._me.user, None}:
            return ""
        return next((str(file.get("id")) for file in message.get("files") or () if file.get("name") == name), "")
