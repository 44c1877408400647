"""Cards and replies as the messages that Slack is sent, with their buttons. Pure.

Slack's limits: 50 blocks a message (https://docs.slack.dev/reference/block-kit/blocks), header 150 characters
(.../blocks/header-block), plan 50 tasks (.../blocks/plan-block), context 10 elements (.../blocks/context-block),
actions 25 (.../blocks/actions-block), button text 75 and value 2,000 (.../block-elements/button-element), 10 radio
buttons (.../block-elements/radio-button-group-element), about 13,000 characters in all
(measured: https://github.com/slackapi/bolt-js/issues/2509); 4,000 characters of text in `chat.update`
(https://docs.slack.dev/reference/methods/chat.update), of 40,000 in `chat.postMessage`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from bot.chat import Ask, Author, Card, CardStep, Reply
from bot.slack.modals import OPTION_TEXT, OPTIONS, give_modal, move_modal, option, plain_text
from bot.slack.richtext import escape, fallback, linked, rich_text, section, sections, shorten
from bot.text import SMALLEST_LIMIT, neutralise, one_line, split

Block = dict[str, Any]

BLOCKS = 50
HEADER = 150
TASKS = 50
CONTEXT = 10
ACTIONS = 25
BUTTON_TEXT = 75
BUTTON_VALUE = 2000
RADIOS = 10
ALL_TEXT = 12_000
"""Characters of a message's blocks together, with room below what was measured."""
MARKDOWN = ALL_TEXT * 3 // 2
"""Characters of Markdown that are looked at: what is longer does not fit."""
CONTROLS_TEXT = 6000
ASKS = 10
FALLBACK = 3000
FILE = "message.md"
CUT = "_This is the beginning. All of it is in the file `message.md` in this thread._"
STEP_STATES = {"waiting": "pending", "running": "in_progress", "done": "complete", "failed": "error"}
STEP_MARKS = {"waiting": "○", "running": "▸", "done": "✓", "failed": "✗"}


@dataclass(frozen=True)
class Shown:
    """A message as Slack takes it."""

    text: str
    """The fallback, at most 3,000 characters: for notifications, and clients without blocks."""
    blocks: list[Block]
    plain: list[Block]
    """The same in `section`, `context` and `actions` alone, which every workspace takes."""
    file: tuple[str, str] | None = None
    """Name and text, all of it, where a message would be too long."""


def show(what: Card | Reply, *, buttons: bool = True) -> Shown:
    """Never raises, whatever the texts are."""
    return _card(what, buttons=buttons) if isinstance(what, Card) else _reply(what, buttons=buttons)


# Cards


def _card(card: Card, *, buttons: bool) -> Shown:
    title = one_line(card.title, HEADER) or one_line(card.task, HEADER) or "Task"
    facts = [_context(_facts(card)), *([_context(_notes(card.notes))] if card.notes else [])]
    actions = _card_actions(card) if buttons and not card.final else []
    done = sum(step.state == "done" for step in card.steps)
    head: Block = {"type": "header", "text": plain_text(title)}
    plan = {"type": "plan", "title": f"Plan: {done} of {len(card.steps)} done", "tasks": _tasks(card.steps)}
    bare = {"type": "section", "text": plain_text(title)}
    steps = {"type": "section", "text": plain_text(_checklist(card.steps) or "…")}
    words = " · ".join(filter(None, (title, one_line(card.state), one_line(card.repository))))
    return Shown(
        text=shorten(escape(words), FALLBACK),
        blocks=[head, *([plan] if card.steps else []), *facts, *actions],
        plain=[bare, *([steps] if card.steps else []), *facts, *actions],
    )


def _shown_steps(steps: Sequence[CardStep]) -> list[tuple[str, str]]:
    """Title and state of those that fit; the last one says how many more there are."""
    rows: list[tuple[str, str]] = [(one_line(step.title, HEADER) or "…", step.state) for step in steps]
    left = len(rows) - TASKS + 1
    return rows if left <= 1 else [*rows[: TASKS - 1], (f"and {left} more", "waiting")]


def _tasks(steps: Sequence[CardStep]) -> list[Block]:
    return [
        {"task_id": f"step-{number}", "title": title, "status": STEP_STATES[state]}
        for number, (title, state) in enumerate(_shown_steps(steps), 1)
    ]


def _checklist(steps: Sequence[CardStep]) -> str:
    lines = "\n".join(f"{STEP_MARKS[state]} {title}" for title, state in _shown_steps(steps))
    return lines if len(lines) <= FALLBACK else lines[: FALLBACK - 1] + "…"


def _context(elements: Sequence[Block]) -> Block:
    return {"type": "context", "elements": list(elements)}


def _mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _facts(card: Card) -> list[Block]:
    """Since when, in the reader's zone: https://docs.slack.dev/messaging/formatting-message-text#date-formatting."""
    since = card.since if card.since.tzinfo else card.since.replace(tzinfo=UTC)
    at = since.astimezone(UTC) if 1 < since.year < 9999 else since
    when = f"since <!date^{max(0, int(at.timestamp()))}^{{time}}|{at:%H:%M} UTC>"
    state = shorten(escape(one_line(card.state, 100)), 300)
    where = one_line(card.repository)
    where += f" on {one_line(card.base, 100)}" if where and card.base else ""
    where += f" ({one_line(card.rule)})" if where and card.rule else ""
    rest = (f"for {one_line(card.requester, 100)}" if card.requester else "", where, card.spent, card.task)
    return [
        _mrkdwn(f"{state} {when}".lstrip()),
        *(plain_text(words) for text in rest if (words := one_line(text, 500))),
    ]


def _notes(notes: Sequence[str]) -> list[Block]:
    shown = [_note(one_line(note, 300) or "…") for note in notes]
    left = len(shown) - CONTEXT + 1
    return shown if left <= 1 else [*shown[: CONTEXT - 1], plain_text(f"and {left} more notes")]


def _note(note: str) -> Block:
    """With its address as a link, where it has one."""
    text = linked(note)
    return _mrkdwn(text) if "<" in text and len(text) <= 400 else plain_text(note)


def _button(text: str, action: str, value: str, **more: str) -> Block:
    return {
        "type": "button",
        "text": plain_text(one_line(text, BUTTON_TEXT) or "(empty)"),
        "action_id": action,
        **({"value": value} if value else {}),
        **more,
    }


def _value(**facts: Any) -> str:
    """JSON that is at most 2,000 characters; empty when it would be longer."""
    text = json.dumps(facts, ensure_ascii=False).encode(errors="replace").decode()
    return text if len(text) <= BUTTON_VALUE else ""


def _card_actions(card: Card) -> list[Block]:
    value = _value(t=card.task)
    elements = [
        _button("Stop", "tw_stop", value, style="danger"),
        _button("Finish", "tw_finish", value),
        _button("Wrong repository", "tw_move", value),
    ]
    if re.fullmatch(r"https?://[^\s<>|\x00-\x20]{1,2900}", card.url) and neutralise(card.url) == card.url:
        elements.append(_button("Open run", "tw_open", "", url=card.url))
    return [{"type": "actions", "elements": elements}]


# Replies


def _reply(reply: Reply, *, buttons: bool) -> Shown:
    below: list[Block] = []
    if reply.answered:
        below = [_context([plain_text(one_line(reply.answered, 500) or "…")])]
    elif buttons and reply.question:
        below = _controls(reply)
    text = neutralise(reply.text)
    room = ALL_TEXT - _size(below)
    limit = len(text)
    body, plain = _body(text[:MARKDOWN], reply.mentions)
    cut = limit > MARKDOWN or _too_long(body, plain, below, room)
    while limit > MARKDOWN or _too_long(body, plain, below, room):
        limit = room - 200 if limit > room else limit * 3 // 4
        head = next(iter(split(text[: 2 * limit], max(limit, SMALLEST_LIMIT))), "…")
        body, plain = _body(f"{head}\n\n{CUT}", reply.mentions[:CONTEXT])
    people = " ".join(filter(None, map(_mention, reply.mentions[:CONTEXT])))
    words = fallback(text[: 2 * FALLBACK], FALLBACK - len(people) - 1)
    return Shown(
        text=f"{people} {words}".strip() or "…",
        blocks=[*body, *below],
        plain=[*plain, *below],
        file=(FILE, text) if cut else None,
    )


def _too_long(body: Sequence[Block], plain: Sequence[Block], below: Sequence[Block], room: int) -> bool:
    return max(_size(body), _size(plain)) > room or len(plain) + len(below) > BLOCKS


def _body(markdown: str, mentions: Sequence[Author]) -> tuple[list[Block], list[Block]]:
    rich = rich_text(markdown)
    elements: list[Block] = rich[0]["elements"] if rich else []
    people = [element for author in mentions for element in _person(author)]
    if people and elements and elements[0]["type"] == "rich_text_section":
        elements[0]["elements"] = people + elements[0]["elements"]
    elif people:
        elements = [{"type": "rich_text_section", "elements": people}, *elements]
    blocks: list[Block] = [{"type": "rich_text", "elements": elements}] if elements else []
    return blocks, sections(blocks)


def _user(author: Author) -> str:
    """Slack's id of a person; empty for what is none."""
    user = author.id.rpartition(":")[2]
    return user if re.fullmatch("[UW][A-Z0-9]{1,30}", user) else ""


def _mention(author: Author) -> str:
    return f"<@{user}>" if (user := _user(author)) else ""


def _person(author: Author) -> list[Block]:
    if user := _user(author):
        return [{"type": "user", "user_id": user}, {"type": "text", "text": " "}]
    return [{"type": "text", "text": f"{name} "}] if (name := one_line(author.name, 80)) else []


def _size(blocks: Sequence[Mapping[str, Any]]) -> int:
    """Characters of all texts, and of addresses that are shown."""
    return sum(map(len, _texts(blocks)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str):
                yield from [inner] if key in ("text", "title", "url", "user_id") else []
            else:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


# Answers to choose from


def _controls(reply: Reply) -> list[Block]:
    """None where they would not fit: an answer in words always does."""
    offered = [(number, ask) for number, ask in enumerate(reply.asks) if ask.suggestions]
    if not offered or len(offered) > ASKS:
        return []
    if len(reply.asks) == 1:
        return _answers(reply.question, offered[0][1])
    send = _value(q=reply.question, n=len(reply.asks))
    blocks = [block for number, ask in offered for block in _choice(number, ask)]
    blocks.append({"type": "actions", "elements": [_button("Send answers", "tw_answers", send, style="primary")]})
    return blocks if send and _size(blocks) <= CONTROLS_TEXT else []


def _answers(question: str, ask: Ask) -> list[Block]:
    elements = []
    for number, words in enumerate(ask.suggestions[:ACTIONS]):
        # The desk takes a suggestion's number for its words.
        value = _value(q=question, a=words) or _value(q=question, a=str(number + 1))
        elements += [_button(words, f"tw_answer_{number}", value)] if value else []
    return [{"type": "actions", "elements": elements}] if elements else []


def _choice(number: int, ask: Ask) -> list[Block]:
    options = [option(words, str(index)) for index, words in enumerate(ask.suggestions[:OPTIONS])]
    action: Block = {"action_id": f"tw_choose_{number}", "options": options}
    if len(options) <= RADIOS:
        element = {"type": "radio_buttons", **action}
    else:
        element = {"type": "static_select", "placeholder": plain_text("Choose"), **action}
    label = one_line(ask.text, OPTION_TEXT * 2) or f"Question {number + 1}"
    return [
        {"type": "section", "text": plain_text(f"{number + 1}. {label}")},
        {"type": "actions", "elements": [element]},
    ]


__all__ = ["Shown", "give_modal", "move_modal", "section", "show"]
