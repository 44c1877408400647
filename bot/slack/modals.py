"""Forms: which repository instead, and a message that is given to the bot. Pure.

https://docs.slack.dev/reference/views/modal-views: title 24 characters, private_metadata 3,000. The inputs of a form
have the same block id and action id: `repo`, `typed`, `text`, `options`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from bot.slack.markup import to_markdown
from bot.text import neutralise, one_line

TITLE = 24
METADATA = 3000
OPTIONS = 100
"""https://docs.slack.dev/reference/block-kit/block-elements/select-menu-element"""
OPTION_TEXT = 75
OPTION_VALUE = 150
"""https://docs.slack.dev/reference/block-kit/composition-objects/option-object"""
INPUT_TEXT = 3000
"""https://docs.slack.dev/reference/block-kit/block-elements/plain-text-input-element"""


def plain_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def option(text: str, value: str) -> dict[str, Any]:
    """One that may be chosen: its words on one line of at most 75 characters. `value`: at most 150."""
    return {"text": plain_text(one_line(text, OPTION_TEXT) or "(empty)"), "value": value}


def move_modal(task: str, repositories: Sequence[str]) -> dict[str, Any]:
    """ "Wrong repository": one of those (`repo`), or another name (`typed`, if there are any to choose from).

    `private_metadata` is JSON: {"t": task}.
    """
    return {
        **_modal("tw_move", "Wrong repository", "Move the task", json.dumps({"t": task[:100]})),
        "blocks": _which(repositories, needed=True),
    }


def give_modal(text: str, repositories: Sequence[str], metadata: str) -> dict[str, Any]:
    """ "Give this to Threadwright": `text`, `repo` (and `typed`), `options` as in `plan=ask budget=2`.

    `text`: the message's, as Slack sent it. `metadata`: up to 3,000 characters that come back with the form. Raises
    ValueError for more.
    """
    if len(metadata) > METADATA:
        raise ValueError(f"the form takes {METADATA} characters along, not {len(metadata)}")
    return {
        **_modal("tw_give", "Give to Threadwright", "Give", metadata),
        "blocks": [
            _input("text", "What to change", _typing("text", _cut(to_markdown(text, {})), multiline=True)),
            *_which(repositories, needed=False),
            _input("options", "Options, such as plan=ask budget=2", _typing("options"), needed=False),
        ],
    }


def _modal(name: str, title: str, submit: str, metadata: str) -> dict[str, Any]:
    return {
        "type": "modal",
        "callback_id": name,
        "title": plain_text(title[:TITLE]),
        "submit": plain_text(submit),
        "close": plain_text("Cancel"),
        "private_metadata": metadata,
    }


def _which(repositories: Iterable[str], *, needed: bool) -> list[dict[str, Any]]:
    offered = [option(name, name) for name in dict.fromkeys(repositories) if _offerable(name)][:OPTIONS]
    if not offered:
        return [_input("repo", "Repository, as owner/name", _typing("repo", least=1 if needed else 0), needed=needed)]
    menu = {"type": "static_select", "action_id": "repo", "placeholder": plain_text("Choose"), "options": offered}
    return [
        _input("repo", "Repository", menu, needed=False),
        _input("typed", "Or another one, as owner/name", _typing("typed"), needed=False),
    ]


def _offerable(name: str) -> bool:
    """A name that a menu would cut or change would move the task elsewhere; it can be typed."""
    return 0 < len(name) <= OPTION_VALUE and one_line(name, OPTION_VALUE) == name


def _input(name: str, label: str, element: dict[str, Any], *, needed: bool = True) -> dict[str, Any]:
    return {"type": "input", "block_id": name, "label": plain_text(label), "element": element, "optional": not needed}


def _typing(name: str, initial: str = "", *, multiline: bool = False, least: int = 0) -> dict[str, Any]:
    element: dict[str, Any] = {"type": "plain_text_input", "action_id": name, "multiline": multiline}
    return element | ({"initial_value": initial} if initial else {}) | ({"min_length": least} if least else {})


def _cut(text: str) -> str:
    shown = neutralise(text)
    return shown if len(shown) <= INPUT_TEXT else shown[: INPUT_TEXT - 1] + "…"
