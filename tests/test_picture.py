"""The picture of a run shows what a terminal showed: a card that was redrawn is there once, as it last was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from rich.text import Text

from bot.chat import Card, Place, Reply
from bot.console import ConsoleChat
from jobs import picture

PLACE = Place("console", "c-1", "terminal", "c-1")
CARD = Card("tw-k3f9m", "Add retries", "queued", datetime(2026, 11, 2, 14, tzinfo=UTC), requester="ann")


def shown_after(*, working: bool) -> list[str]:
    out = picture.terminal()
    chat = ConsoleChat(out, "c-1", zone=UTC)
    message = chat.post(PLACE, CARD, "card")
    if working:
        chat.show(Text("edit client.py"), above=True)
        chat.edit(PLACE, message, replace(CARD, state="working"))
    chat.post(PLACE, Reply(kind="result", text="Done."), "result")
    return picture.screen(out).plain.splitlines()


def test_a_card_that_was_redrawn_is_shown_once_and_the_work_above_it() -> None:
    lines = shown_after(working=True)
    assert len(shown_after(working=False)) == len(lines) - 1
    assert lines[0] == "edit client.py"
    assert len([line for line in lines if "tw-k3f9m" in line]) == 1
    assert not any("queued" in line for line in lines)
    assert lines[-2:] == ["Result", "Done."]


def test_what_stands_above_a_line_of_the_person_stays() -> None:
    out = picture.terminal()
    chat = ConsoleChat(out, "c-1", zone=UTC)
    message = chat.post(PLACE, CARD, "card")
    chat.show(Text("ann> /react ✅"))
    chat.show(Text("push"), above=True)
    chat.edit(PLACE, message, replace(CARD, state="working"))
    lines = picture.screen(out).plain.splitlines()
    assert len([line for line in lines if "tw-k3f9m" in line]) == 2
    assert lines.index("ann> /react ✅") == lines.index("push") - 1


def test_an_ended_tasks_card_is_not_printed_a_second_time_below_its_result() -> None:
    out = picture.terminal()
    chat = ConsoleChat(out, "c-1", zone=UTC)
    message = chat.post(PLACE, CARD, "card")
    chat.post(PLACE, Reply(kind="result", text="Done."), "result")
    chat.edit(PLACE, message, replace(CARD, state="done", final=True))
    assert picture.screen(out).plain.count("tw-k3f9m") == 1


def test_the_picture_keeps_spaces_and_fetches_no_font() -> None:
    drawn = picture.svg(Text("   1. Raise ValueError"), "a title")
    assert 'xml:space="preserve"' in drawn
    assert "font-face" not in drawn
    assert drawn.count("://") == 1  # the name of the SVG namespace
    assert "a&#160;title" in drawn
    assert "&#160;&#160;&#160;1.&#160;Raise&#160;ValueError" in drawn
