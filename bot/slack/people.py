"""Who somebody in Slack is, and what people and channels are called. Who cannot be looked up is nobody who may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from bot.chat import Author, Standing, TryLater, Undeliverable
from bot.slack.heard import Heard, Json, Me
from bot.slack.markup import Names
from bot.text import one_line

CACHE_SECONDS = 300.0
CACHED = 10_000
"""Entries, of which the oldest are forgotten first."""
LOOK_UPS = 150
"""At most for one set of names: a message may mention as many people as it likes."""
NAME_LENGTH = 80
SLACKBOT = "USLACKBOT"
_FLAGS = ("is_bot", "is_restricted", "is_ultra_restricted")


class Caller(Protocol):
    """What this needs of `bot.slack.web.Web`. Raises Undeliverable, TryLater."""

    def call(self, method: str, **arguments: Any) -> dict[str, Any]: ...


class People:
    """Safe to use from several threads.

    `allowed_bots`: bot, app or bot user ids that may what members may. `allowed_people`: user ids of guests and of
    strangers who may. `clock`: seconds, rising.
    """

    def __init__(
        self,
        web: Caller,
        me: Me,
        *,
        allowed_bots: Collection[str] = (),
        allowed_people: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._web, self._me, self._clock = web, me, clock
        self._allowed_bots, self._allowed_people = frozenset(allowed_bots), frozenset(allowed_people)
        self._known: dict[str, tuple[float, Json]] = {}
        self._lock = threading.Lock()

    def author(self, heard: Heard) -> Author:
        """Id `slack:<our team>:<user>`. Raises TryLater where Slack has to be asked again."""
        if heard.bot:
            return self._bot(heard)
        info = self._user(heard.user)
        standing = self._standing(heard, info) if info else "unknown"
        return self._author(heard.user, standing, info)

    def names(self, ids: Iterable[str]) -> Names:
        """Names of those people and channels that Slack tells; a name is worth no waiting and no failure."""
        found: dict[str, str] = {}
        left, asking = LOOK_UPS, True
        for one in dict.fromkeys(ids):
            info = self._fresh(one)
            if info is None and asking and left > 0:
                left -= 1
                try:
                    info = self._look_up(one)
                except TryLater:
                    asking = False
            if info and (name := _name(info)):
                found[one] = name
        return found

    def shared(self, channel: str) -> bool:
        """Whether people of other organisations read there; True where Slack does not tell. Raises TryLater."""
        info = self._look_up(channel)
        missing = False if info.get("is_im") is True else None  # the flag is no part of a direct message
        return not info or info.get("is_ext_shared", missing) is not False

    # Standing

    def _bot(self, heard: Heard) -> Author:
        allowed = not self._allowed_bots.isdisjoint(heard.bot_ids) and not heard.foreign_team
        return self._author(heard.user, "member" if allowed else "bot", self._fresh(heard.user) or {})

    def _standing(self, heard: Heard, info: Json) -> Standing:
        """https://docs.slack.dev/reference/objects/user-object. A flag that is missing is no leave."""
        if info.get("deleted") is not False or any(not isinstance(info.get(flag), bool) for flag in _FLAGS):
            return "unknown"
        if info["is_bot"] or info.get("is_workflow_bot") or heard.user == SLACKBOT:
            profile = _object(info, "profile")
            ids = {heard.user, str(profile.get("bot_id", "")), str(profile.get("api_app_id", ""))}
            ours = self._is_ours(heard, info)
            return "member" if ours and not self._allowed_bots.isdisjoint(ids) else "bot"
        if heard.user in self._allowed_people:
            return "member"
        if info.get("is_stranger") or not self._is_ours(heard, info):
            return "outsider"
        return "guest" if info["is_restricted"] or info["is_ultra_restricted"] else "member"

    def _is_ours(self, heard: Heard, info: Json) -> bool:
        """In an Enterprise organisation a person has several workspaces and one home, perhaps not ours."""
        enterprise = _object(info, "enterprise_user")
        teams = enterprise.get("teams")
        home = {self._me.team}
        if isinstance(teams, list) and self._me.team in teams:
            home |= {str(team) for team in teams} | {str(enterprise.get("enterprise_id"))}
        return str(info.get("team_id")) in home and (not heard.foreign_team or heard.foreign_team in home)

    def _author(self, user: str, standing: Standing, info: Json) -> Author:
        return Author(f"slack:{self._me.team}:{user}", _name(info) or user or "somebody", standing)

    # Looking up

    def _user(self, user: str) -> Json:
        return self._look_up(user) if user.startswith(("U", "W")) else {}

    def _look_up(self, one: str) -> Json:
        """Slack's object for a person or channel; empty if it gives none. Raises TryLater. Only answers are kept."""
        if (known := self._fresh(one)) is not None:
            return known
        try:
            match one[:1]:
                case "U" | "W":
                    info = _object(self._web.call("users.info", user=one), "user")
                case "C" | "D" | "G":
                    info = _object(self._web.call("conversations.info", channel=one), "channel")
                case _:
                    return {}
        except Undeliverable:
            return {}
        if info.get("id") != one:
            return {}
        with self._lock:
            self._known.pop(one, None)
            self._known[one] = (self._clock() + CACHE_SECONDS, info)
            while len(self._known) > CACHED:
                del self._known[next(iter(self._known))]
        return info

    def _fresh(self, one: str) -> Json | None:
        with self._lock:
            until, info = self._known.get(one, (0.0, {}))
        return info if info and self._clock() < until else None


def _object(of: Json, name: str) -> Json:
    value = of.get(name)
    return value if isinstance(value, Mapping) else {}


def _name(info: Json) -> str:
    """What people see: display name, else real name, else the name that the account or channel has."""
    profile = _object(info, "profile")
    wanted = (profile.get("display_name"), profile.get("real_name"), info.get("real_name"), info.get("name"))
    names = (one_line(name, NAME_LENGTH) for name in wanted if isinstance(name, str))
    return next((name for name in names if name), "")
