"""What Slack pushes on its way into the mail: only what concerns the bot, and stored before it is acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bot.chat import Desk, Mail, Place
from bot.slack import payloads
from bot.slack.payloads import BadPayload, Heard, Me

log = logging.getLogger(__name__)

PLATFORM = "slack"


def place_of(heard: Heard, me: Me) -> Place:
    return Place(PLATFORM, me.team, heard.channel, heard.thread)


class Intake:
    """Raises DeskClosed when nothing can be stored: then Slack must not be told that it was."""

    def __init__(self, mail: Mail, desk: Desk, me: Me) -> None:
        self._mail = mail
        self._desk = desk
        self._me = me

    def take(self, payload: Mapping[str, Any]) -> bool:
        """True: stored now. False: no concern of ours, or known already."""
        try:
            heard = payloads.read(payload, self._me)
            keys = payloads.keys(payload, self._me) if heard else []
        except BadPayload as exc:
            # Slack would send the same again: acknowledged, and told to the operator.
            log.warning("Slack sent something that I cannot read: %s", exc)
            return False
        if heard is None or not self._concerns(heard):
            return False
        return self._mail.keep(keys, dict(payload))

    def _concerns(self, heard: Heard) -> bool:
        """Messages outside our threads that do not mention the bot are dropped unread."""
        if heard.kind in ("reaction", "unreaction"):
            return heard.on_ours or self._desk.knows(place_of(heard, self._me), heard.target)
        if heard.kind not in ("message", "edit", "delete"):
            return True
        if heard.mentions_me or heard.direct:
            return True
        if heard.root and heard.kind == "message":
            return False
        return self._desk.knows(place_of(heard, self._me))
