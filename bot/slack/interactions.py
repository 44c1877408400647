"""Slash commands, buttons, the message shortcut and forms as `Heard`. Pure.

https://docs.slack.dev/interactivity/implementing-slash-commands, https://docs.slack.dev/reference/interaction-payloads.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from bot.options import is_repository
from bot.slack.heard import BadPayload, Heard, Json, Me, identity, inner, listed, optional, stamp, text, token

VERBS: Mapping[str, str] = MappingProxyType({"tw_stop": "cancel", "tw_finish": "finish", "tw_move": "move"})
"""Buttons of the card. `tw_move` only opens a form."""
QUESTIONS = 10
"""More than any message of ours asks."""
_ANSWER = re.compile(r"tw_answer_[0-9]{1,2}")
_TASK = re.compile(r"tw-[a-z0-9]{1,60}")
_QUESTION = re.compile(r"[!-~]{1,250}")
_ESCAPED = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


def command(form: Json, me: Me) -> Heard:
    """A slash command. Raises BadPayload."""
    channel, trigger = identity(form, "channel_id"), token(form, "trigger_id")
    text(form, "command")
    said = plain(text(form, "text", ""), me)
    return Heard(
        id=f"command-{trigger}",
        kind="command",
        channel=channel,
        thread="",
        user=identity(form, "user_id"),
        text=said,
        direct=channel.startswith("D"),
        verb=said,
        response_url=text(form, "response_url", ""),
        foreign_team=_other(identity(form, "team_id", ""), me),
    )


def plain(escaped: str, me: Me) -> str:
    """A command's text as it was typed; Slack has put ids into it for names (`should_escape` in the manifest).

    `<@U1|ann>` is `@ann`, `<https://example.com|x>` the address; our own mention is left out.
    """

    def shown(found: re.Match[str]) -> str:
        sign, name, label = found[1], found[2], found[3] or ""
        if sign == "@" and name == me.user:
            return ""
        if sign == "!":
            return "@" + (label or name).lstrip("@")
        return f"{sign}{label or name}" if sign else name

    return html.unescape(_ESCAPED.sub(shown, escaped)).strip()


def interaction(payload: Json, me: Me) -> Heard | None:
    """None: nothing of ours, such as a link that was opened. Raises BadPayload."""
    match text(payload, "type"):
        case "block_actions":
            return _button(payload, me)
        case "message_action":
            return _shortcut(payload, me)
        case "view_submission":
            return _form(payload, me)
        case _:
            return None


def _id(payload: Json) -> str:
    action = next(iter(listed(payload, "actions")), payload)
    view = optional(payload, "view")
    known = token(payload, "trigger_id", "") or token(action, "action_ts", "")
    known = known or "-".join(filter(None, (token(view, "id", ""), token(view, "hash", ""))))
    if not known:
        raise BadPayload("trigger_id is missing")
    return f"act-{known}"


def _foreign(payload: Json, me: Me) -> str:
    team = identity(inner(payload, "user"), "team_id", "") or identity(optional(payload, "team"), "id", "")
    return _other(team, me)


def _other(team: str, me: Me) -> str:
    return "" if team == me.team else team


# Buttons


def _button(payload: Json, me: Me) -> Heard | None:
    """https://docs.slack.dev/reference/interaction-payloads/block_actions-payload: one action at a time."""
    action = next(iter(listed(payload, "actions")), None)
    if action is None:
        raise BadPayload("actions is empty")
    name = text(action, "action_id", "")
    if name in VERBS:
        task = _task(_json(action, "value"))
        verb = VERBS[name]
        return _pressed(payload, me, task=task, verb=verb if verb == "move" else f"{verb} {task}")
    if _ANSWER.fullmatch(name):
        value = _json(action, "value")
        words = text(value, "a")
        return _pressed(payload, me, text=words, question=_question(value), answers=(words,))
    if name == "tw_answers":
        value = _json(action, "value")
        return _pressed(payload, me, question=_question(value), answers=_chosen(payload, value.get("n")))
    return None


def _pressed(payload: Json, me: Me, **more: Any) -> Heard:
    container, message = optional(payload, "container"), optional(payload, "message")
    channel = identity(container, "channel_id", "") or identity(optional(payload, "channel"), "id")
    target = stamp(container, "message_ts", "") or stamp(message, "ts")
    return Heard(
        id=_id(payload),
        kind="button",
        channel=channel,
        thread=stamp(container, "thread_ts", "") or stamp(message, "thread_ts", target),
        user=identity(inner(payload, "user"), "id"),
        direct=channel.startswith("D"),
        target=target,
        response_url=text(payload, "response_url", ""),
        foreign_team=_foreign(payload, me),
        **more,
    )


def _task(value: Json) -> str:
    task = text(value, "t")
    if not _TASK.fullmatch(task):
        raise BadPayload("t is no task")
    return task


def _question(value: Json) -> str:
    question = text(value, "q")
    if not _QUESTION.fullmatch(question):
        raise BadPayload("q is no question")
    return question


def _chosen(payload: Json, questions: Any) -> tuple[str, ...]:
    if type(questions) is not int or not 0 < questions <= QUESTIONS:
        raise BadPayload("n is no number of questions")
    chosen = dict(_inputs(optional(payload, "state")))
    answers = tuple(chosen.get(f"tw_choose_{number}", "") for number in range(questions))
    if not all(re.fullmatch("[0-9]{0,3}", answer) for answer in answers):
        raise BadPayload("what was chosen has no number")
    return answers


def _inputs(state: Json) -> Iterator[tuple[str, str]]:
    """Action id and value of each input: https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload."""
    for block in optional(state, "values").values():
        if not isinstance(block, Mapping):
            raise BadPayload("values holds something that is no block")
        for name in block:
            element = inner(block, name)
            yield name, text(element, "value", "") or text(optional(element, "selected_option"), "value", "")


def _json(of: Json, name: str) -> Json:
    try:
        value = json.loads(text(of, name))
    except (ValueError, RecursionError):
        raise BadPayload(f"{name} is no JSON") from None
    if not isinstance(value, Mapping):
        raise BadPayload(f"{name} is no object")
    return value


# The shortcut and the forms


def _shortcut(payload: Json, me: Me) -> Heard | None:
    """https://docs.slack.dev/reference/interaction-payloads/shortcuts-interaction-payload. It only opens a form."""
    if text(payload, "callback_id") != "tw_give":
        return None
    message = inner(payload, "message")
    ts = stamp(message, "ts", stamp(payload, "message_ts", ""))
    if not ts:
        raise BadPayload("message_ts is missing")
    channel = identity(inner(payload, "channel"), "id")
    return Heard(
        id=_id(payload),
        kind="button",
        channel=channel,
        thread=stamp(message, "thread_ts", ts),
        user=identity(inner(payload, "user"), "id"),
        text=text(message, "text", ""),
        direct=channel.startswith("D"),
        target=ts,
        verb="give",
        response_url=text(payload, "response_url", ""),
        foreign_team=_foreign(payload, me),
    )


def _form(payload: Json, me: Me) -> Heard | None:
    """What was sent with a form of `modals`; its private metadata tells where it was opened."""
    view = inner(payload, "view")
    name = text(view, "callback_id", "")
    if name not in ("tw_give", "tw_move"):
        return None
    place, filled = _json(view, "private_metadata"), dict(_inputs(optional(view, "state")))
    channel, target = identity(place, "channel"), stamp(place, "message", "")
    typed = filled.get("typed", "").strip() or filled.get("repo_text", "").strip()
    repository = typed or filled.get("repo", "").strip()
    task = _task(place) if name == "tw_move" else ""
    moves = bool(task) and is_repository(repository, local=False, urls=False)
    return Heard(
        id=_id(payload),
        kind="move" if task else "give",
        channel=channel,
        thread=stamp(place, "thread", target),
        user=identity(inner(payload, "user"), "id"),
        text=repository if task else _given(repository, filled),
        direct=channel.startswith("D"),
        target=target,
        task=task,
        verb=f"move {repository} {task}" if moves else "",
        foreign_team=_foreign(payload, me),
    )


def _given(repository: str, filled: Mapping[str, str]) -> str:
    """A give form as the message that says the same: `[repo=owner/name budget=2] the words`."""
    options = " ".join(re.sub(r"[\[\]]", " ", filled.get("options", "")).split())
    if re.search(r"[\s,\[\]\"'“”]", repository):
        # No name of a repository: in quotes, so that all of it is refused as one.
        repository = '"' + " ".join(re.sub(r"[\"“”]", "", repository).split()) + '"'
    group = " ".join(filter(None, (f"repo={repository}" if repository else "", options)))
    words = filled.get("text", "").strip()
    return f"[{group}] {words}".strip() if group else words
