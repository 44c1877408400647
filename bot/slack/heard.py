"""What was heard in Slack, as values of ours, and strict readers for the fields of Slack's payloads. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Json = Mapping[str, Any]
Kind = Literal["message", "edit", "delete", "reaction", "unreaction", "command", "button", "give", "move"]

_STAMP = re.compile(r"[0-9]{1,20}\.[0-9]{1,12}")
_IDENTITY = re.compile(r"[A-Z][A-Z0-9]{1,40}")
_TOKEN = re.compile(r"[!-~]{1,250}")


class BadPayload(ValueError):
    """Not what Slack documents. `str` names the field."""


@dataclass(frozen=True)
class Me:
    """Ids of our bot user (U…), bot (B…), workspace (T…) and app (A…); `bot` and `app` are empty where not known."""

    user: str
    bot: str
    team: str
    app: str = ""


@dataclass(frozen=True)
class FileRef:
    """A file of a message: https://docs.slack.dev/reference/objects/file-object. `size` in bytes.

    `url` is empty where Slack tells only the id (files from another workspace).
    """

    id: str
    name: str
    mimetype: str
    size: int
    url: str


@dataclass(frozen=True)
class Heard:
    """One thing that somebody did in Slack."""

    id: str
    """Event id; `edit-<channel>-<ts>-<edited ts>`, `command-<trigger>`, `act-<trigger>` for what has no lasting one."""
    kind: Kind
    channel: str
    thread: str
    """`thread_ts`, else the message's own ts; empty for slash commands. Reactions do not tell it: `target`."""
    message: str = ""
    """ts of the message that this is (or was, for edit and delete)."""
    user: str = ""
    """U…, or B… of a bot without a user. Empty for a deletion that does not tell whose message it was."""
    bot: bool = False
    text: str = ""
    """mrkdwn of messages; plain text of commands and forms; the words of an answer's button."""
    blocks: tuple[Json, ...] = ()
    files: tuple[FileRef, ...] = ()
    direct: bool = False
    mentions_me: bool = False
    mentions_others: bool = False
    """Names other people, a group, or everybody here."""
    root: bool = False
    """It opens its thread."""
    reaction: str = ""
    """`approve`, `reject`, `stop`, or Slack's name of another one, without its skin tone."""
    target: str = ""
    """ts of the message that a reaction, an edit, a deletion, a button or a form is about."""
    on_ours: bool = False
    """The reaction is on a message of the bot's."""
    question: str = ""
    answers: tuple[str, ...] = ()
    """Of `tw_answer_…`: the words. Of `tw_answers`: per question the index of the suggestion, or nothing."""
    task: str = ""
    verb: str = ""
    """Buttons of the card: `cancel tw-…`, `finish tw-…`; what only opens a form: `move`, `give`. Move form: `move
    owner/name tw-…`, empty if no repository was named. Commands: their text.
    """
    response_url: str = ""
    foreign_team: str = ""
    """The person's workspace, if it is not ours (Slack Connect)."""
    app_mention: bool = False
    """Came as `app_mention`: no files, and a `message` event says the same."""
    bot_ids: tuple[str, ...] = ()
    """All that a bot goes by: its user, bot and app id."""


# Reading fields. A field that is null counts as missing.


def inner(of: Json, name: str) -> Json:
    value = of.get(name)
    if not isinstance(value, Mapping):
        raise BadPayload(f"{name} is no object")
    return value


def optional(of: Json, name: str) -> Json:
    return {} if of.get(name) is None else inner(of, name)


def listed(of: Json, name: str) -> tuple[Json, ...]:
    """A list of objects; empty if it is missing."""
    value = of.get(name)
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(one, Mapping) for one in value):
        raise BadPayload(f"{name} is no list of objects")
    return tuple(value)


def text(of: Json, name: str, default: str | None = None) -> str:
    """A string, of any length. Without `default` it must be there."""
    value = of.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadPayload(f"{name} is no text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadPayload(f"{name} is no Unicode text") from None
    return value


def stamp(of: Json, name: str, default: str | None = None) -> str:
    """A message's `ts`: seconds since 1970 with six digits behind the point, and the message's id in its channel."""
    return _matching(_STAMP, of, name, default)


def identity(of: Json, name: str, default: str | None = None) -> str:
    """An id of a channel, person, bot, app or workspace."""
    return _matching(_IDENTITY, of, name, default)


def token(of: Json, name: str, default: str | None = None) -> str:
    """An id without a shape that Slack promises: of events, triggers, views."""
    return _matching(_TOKEN, of, name, default)


def _matching(pattern: re.Pattern[str], of: Json, name: str, default: str | None) -> str:
    value = text(of, name, default)
    # What is not there is not checked; Slack writes some missing ids as empty strings.
    if not value and default is not None:
        return default
    if not pattern.fullmatch(value):
        raise BadPayload(f"{name} has not the form of one")
    return value
