"""The terminal as a chat platform: what is printed, once, in place or anew, and harmless."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from bot.chat import Ask, Author, Card, CardStep, Chat, Place, Reply
from bot.console import ConsoleChat, card_text, clock, news, reply_text

PLACE = Place("console", "c-1", "terminal", "c-1")
NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
STEPS = (
    CardStep("feat: add a helper", "done"),
    CardStep("feat: use it", "running"),
    CardStep("docs: say so", "waiting"),
)
CARD = Card(
    task="tw-k3f9m",
    title="Add retries to the client",
    state="working",
    since=datetime(2026, 11, 20, 14, 2, tzinfo=UTC),
    requester="ann",
    repository="acme/api",
    base="main",
    rule="named in the message",
    steps=STEPS,
    spent="$0.12 of $2.00",
)
ASKED = Reply(
    kind="question",
    text="How many retries?",
    mentions=(Author("console:local:ann", "ann", "operator"),),
    asks=(Ask("How many retries?", ("3", "five times"), "3"),),
    question="q1",
)
EVIL = "[bold red]x[/] \x1b[2J\x1b]0;t\x07 \u202ereversed \x9b31m :smile: [link=http://evil]y[/link]"


def console(*, terminal: bool = False, width: int = 100, height: int = 40) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    made = Console(
        file=out,
        force_terminal=terminal,
        width=width,
        height=height,
        color_system=None,
        legacy_windows=False,
        _environ={},
    )
    return made, out


def chat(*, terminal: bool = False, **size: int) -> tuple[ConsoleChat, io.StringIO]:
    made, out = console(terminal=terminal, **size)
    return ConsoleChat(made, "c-1", zone=UTC), out


def screen(raw: str, width: int = 200) -> list[str]:
    """What a terminal shows after these bytes: text, line feeds, CR, cursor up, erase line."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", raw):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b["):
            count = int(part[2:-1] or 1)
            if part[-1] == "A":
                row = max(0, row - count)
            elif part[-1] == "K":
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


# ---- rendering


def test_a_card_says_what_is_asked_by_whom_where_and_how_far() -> None:
    assert card_text(CARD, UTC, now=NOW).plain.splitlines() == [
        "Add retries to the client",
        "working since 14:02 · for ann",
        "acme/api, from main (named in the message)",
        "  ✓ 1. feat: add a helper",
        "  ▸ 2. feat: use it",
        "  · 3. docs: say so",
        "$0.12 of $2.00",
    ]


def test_another_day_is_named() -> None:
    assert clock(CARD.since, UTC, now=NOW) == "14:02"
    assert clock(CARD.since, UTC, now=datetime(2026, 11, 21, tzinfo=UTC)) == "2026-11-20 14:02"


def test_a_question_ends_with_its_numbered_answers() -> None:
    assert reply_text(ASKED).plain.splitlines() == [
        "Question for @ann",
        "How many retries?",
        "   1. 3",
        "   2. five times",
        "   Without an answer: 3",
        "Answer with a number, or in your own words.",
    ]


def test_several_questions_say_how_to_answer_them_all() -> None:
    asks = (Ask("Which client?", ("old", "new")), Ask("Log it?", ("yes", "no"), "no"))
    lines = reply_text(Reply(kind="question", text="Two things.", asks=asks)).plain.splitlines()
    assert lines[2:] == [
        "1. Which client?",
        "   1. old",
        "   2. new",
        "2. Log it?",
        "   1. yes",
        "   2. no",
        "   Without an answer: no",
        "Answer with `1: 2; 2: 1` for suggestion 2 of question 1 and 1 of question 2, or in your own words.",
    ]


def test_suggestions_that_the_text_has_already_are_not_said_twice() -> None:
    text = "How many retries?\n   1. 3\n   2. five times\n   If nobody answers, I assume: 3"
    shown = reply_text(replace(ASKED, text=text)).plain
    assert shown.count("five times") == 1
    assert shown.endswith("Answer with a number, or in your own words.")


def test_an_edited_message_says_only_what_is_new() -> None:
    old = Reply(kind="result", text="PR #1\n\nReceipts\n\nReact ✅")
    assert news(None, old) == old
    assert news(old, old) is None
    fresh = news(old, replace(old, text="PR #1\n\nReceipts\n\nMerged"))
    assert fresh is not None
    assert fresh.text == "Merged"


# ---- untrusted text


def dangers(shown: str) -> list[str]:
    return re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)


def test_foreign_text_is_shown_as_it_is_and_does_nothing() -> None:
    to, out = chat()
    to.post(
        PLACE,
        replace(
            CARD, title=EVIL, state=EVIL, requester=EVIL, rule=EVIL, steps=(CardStep(EVIL, "done"),), notes=(EVIL,)
        ),
        "card",
    )
    to.post(PLACE, Reply(kind="result", text=EVIL, mentions=(Author("a", EVIL),)), "result")
    to.post(PLACE, replace(ASKED, asks=(Ask(EVIL, (EVIL,), EVIL),)), "question")
    to.upload(PLACE, EVIL, EVIL, "file")
    to.say(EVIL)
    to.react(PLACE, "m", EVIL)
    shown = out.getvalue()
    assert not dangers(shown)
    assert "[bold red]x[/]" in shown
    assert ":smile:" in shown


def test_the_check_for_dangers_would_see_them() -> None:
    made, out = console()
    made.print(EVIL, markup=False)
    assert dangers(out.getvalue())


def test_a_title_cannot_add_lines_to_the_card() -> None:
    shown = card_text(replace(CARD, title="x\n  ✓ 4. approved"), UTC, now=NOW).plain
    assert len(shown.splitlines()) == len(card_text(CARD, UTC, now=NOW).plain.splitlines())


# ---- the adapter


def test_it_is_a_chat() -> None:
    to: Chat = chat()[0]
    assert (to.platform, to.workspace) == ("console", "c-1")


def test_a_key_is_posted_once_and_has_one_message() -> None:
    to, out = chat()
    first = to.post(PLACE, ASKED, "q")
    assert to.post(PLACE, ASKED, "q") == first
    assert to.post(PLACE, ASKED, "other") != first
    assert out.getvalue().count("Question for") == 2
    again, _ = chat()
    assert again.post(PLACE, ASKED, "q") == first


def test_a_key_posted_from_many_threads_at_once_is_printed_once() -> None:
    to, out = chat()
    threads = [threading.Thread(target=to.post, args=(PLACE, ASKED, "q")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out.getvalue().count("Question for") == 1


def test_on_a_terminal_the_card_is_redrawn_in_place() -> None:
    to, out = chat(terminal=True)
    message = to.post(PLACE, CARD, "card")
    to.edit(PLACE, message, replace(CARD, steps=STEPS[:1], spent="$0.20 of $2.00"))
    to.edit(PLACE, message, replace(CARD, state="waiting for approval"))
    lines = screen(out.getvalue())
    assert len([line for line in lines if "tw-k3f9m" in line]) == 1
    assert any("waiting for approval" in line for line in lines)
    assert not any("working" in line for line in lines)
    assert any("docs: say so" in line for line in lines)


def test_once_something_stands_below_it_the_card_is_drawn_anew() -> None:
    to, out = chat(terminal=True)
    message = to.post(PLACE, CARD, "card")
    to.post(PLACE, ASKED, "q")
    to.edit(PLACE, message, replace(CARD, state="asking ann"))
    lines = screen(out.getvalue())
    assert len([line for line in lines if "tw-k3f9m" in line]) == 2
    assert any("How many retries?" in line for line in lines)


def test_a_card_taller_than_the_screen_is_not_redrawn() -> None:
    to, out = chat(terminal=True, height=5)
    message = to.post(PLACE, CARD, "card")
    to.edit(PLACE, message, replace(CARD, state="stopped"))
    assert "\x1b[1A" not in out.getvalue()


def test_elsewhere_the_card_is_printed_anew_only_when_a_step_or_the_state_changed() -> None:
    to, out = chat()
    message = to.post(PLACE, CARD, "card")
    to.edit(PLACE, message, CARD)
    to.edit(PLACE, message, replace(CARD, spent="$0.20 of $2.00"))
    assert out.getvalue().count("tw-k3f9m") == 1
    to.edit(PLACE, message, replace(CARD, state="stopped"))
    to.edit(PLACE, message, replace(CARD, state="stopped", steps=STEPS[:2]))
    assert out.getvalue().count("tw-k3f9m") == 3
    assert "\x1b" not in out.getvalue()


def test_an_unfinished_line_is_put_back_behind_what_is_printed() -> None:
    made, out = console(terminal=True, width=20)
    typed = "> add retries to the client please"
    to = ConsoleChat(made, "c-1", zone=UTC, typed=lambda: typed)
    out.write(typed[:20] + "\n" + typed[20:])
    to.say("Hello")
    lines = screen(out.getvalue())
    assert lines == ["Hello", typed]


def test_eyes_are_a_line_once() -> None:
    to, out = chat()
    to.react(PLACE, "m-1", "eyes")
    to.react(PLACE, "m-1", "👀")
    to.react(PLACE, "m-2", "seen")
    assert out.getvalue().splitlines() == ["👀", "👀"]


def test_a_file_is_printed_whole_and_once() -> None:
    to, out = chat(width=30)
    body = "+" + "x" * 80
    assert to.upload(PLACE, "tw-k3f9m.diff", body, "k") == to.upload(PLACE, "tw-k3f9m.diff", body, "k")
    assert out.getvalue().splitlines() == ["--- tw-k3f9m.diff ---", body]


def test_an_address_is_never_broken_into_lines() -> None:
    to, out = chat(width=40)
    address = "https://example.org/" + "a" * 100
    to.post(PLACE, Reply(kind="result", text=f"PR: {address}"), "r")
    assert address in out.getvalue()


def test_a_thread_is_its_first_line_and_the_newest() -> None:
    to, _ = chat()
    for number in range(150):
        to.heard("ann", f"line {number}")
    said = to.read_thread(PLACE)
    assert len(said) == 100
    assert (said[0].text, said[1].text, said[-1].text) == ("line 0", "line 51", "line 149")


def test_it_remembers_what_reactions_are_about() -> None:
    to, _ = chat()
    card = to.post(PLACE, CARD, "card")
    result = to.post(PLACE, Reply(kind="result", text="done", sha="abc"), "result")
    to.post(PLACE, ASKED, "q")
    assert (to.card, to.result) == (card, result)


@pytest.mark.parametrize("kind", ["notice", "final"])
def test_notices_have_no_heading(kind: str) -> None:
    assert reply_text(Reply(kind=kind, text="Stopped by ann.")).plain == "Stopped by ann."  # type: ignore[arg-type]
