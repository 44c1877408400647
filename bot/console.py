"""The terminal as a chat platform: cards and replies as text, and the adapter that prints them.

Every word that is not ours goes through `neutralise`, and nothing is ever read as rich markup: it is printed as `Text`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo

from rich.console import Console, RenderableType
from rich.control import Control
from rich.panel import Panel
from rich.segment import ControlType
from rich.text import Text

from bot.chat import Card, CardStep, Place, Reply, Said
from bot.text import neutralise, one_line, plain, split_block

STEP_MARKS = {"waiting": "·", "running": "▸", "done": "✓", "failed": "✗"}
STEP_STYLES = {"waiting": "dim", "running": "bold", "done": "green", "failed": "red"}
HEADINGS = {"question": "Question", "result": "Result", "notice": "", "final": ""}
KEPT_MESSAGES = 100
EYES = "👀"
_EYES_NAMES = frozenset({"", "seen", "eyes", EYES})


# Pure rendering


def clock(at: datetime, zone: tzinfo | None = None, *, now: datetime | None = None) -> str:
    """`14:02`, with the date when that was another day. `zone` None: the machine's own."""
    here = at.astimezone(zone)
    today = (now or datetime.now(UTC)).astimezone(zone).date()
    return f"{here:%H:%M}" if here.date() == today else f"{here:%Y-%m-%d %H:%M}"


def card_text(card: Card, zone: tzinfo | None = None, *, now: datetime | None = None) -> Text:
    """A task's card, some ten lines. It says nothing that changes with the clock."""
    lines = [Text(one_line(card.title), "bold")]
    since = f"{one_line(card.state)} since {clock(card.since, zone, now=now)}"
    lines.append(Text(" · ".join(filter(None, (since, f"for {one_line(card.requester)}" if card.requester else "")))))
    if card.repository:
        base = f", from {one_line(card.base)}" if card.base else ""
        rule = f" ({one_line(card.rule)})" if card.rule else ""
        lines.append(Text(f"{one_line(card.repository)}{base}{rule}"))
    lines += [_step(number, step) for number, step in enumerate(card.steps, 1)]
    if card.spent:
        lines.append(Text(one_line(card.spent), "dim"))
    lines += [Text(one_line(note, 500)) for note in (*card.notes, card.url) if note]
    return Text("\n").join(lines)


def _step(number: int, step: CardStep) -> Text:
    return Text(f"  {STEP_MARKS[step.state]} {number}. {one_line(step.title)}", STEP_STYLES[step.state])


def reply_text(reply: Reply) -> Text:
    """A message of the bot. A question ends with its numbered answers, where its own text has not got them."""
    text = Text()
    if heading := HEADINGS[reply.kind]:
        text.append(heading, "bold")
        names = ", ".join(f"@{one_line(author.name, 60)}" for author in reply.mentions)
        text.append(f" for {names}\n" if names else "\n")
    text.append(neutralise(plain(reply.text)).strip())
    if reply.kind == "question":
        for line in _answers(reply):
            text.append("\n" + line)
    return text


def _answers(reply: Reply) -> Iterator[str]:
    several = len(reply.asks) > 1
    for number, ask in enumerate(reply.asks, 1):
        if all(suggestion in reply.text for suggestion in (*ask.suggestions, ask.assumption)):
            continue
        if several or ask.text not in reply.text:
            yield f"{number}. {one_line(ask.text, 500)}" if several else one_line(ask.text, 500)
        for at, suggestion in enumerate(ask.suggestions, 1):
            yield f"   {at}. {one_line(suggestion, 500)}"
        if ask.assumption:
            yield f"   Without an answer: {one_line(ask.assumption, 500)}"
    if several:
        yield "Answer with `1: 2; 2: 1` for suggestion 2 of question 1 and 1 of question 2, or in your own words."
    elif any(ask.suggestions for ask in reply.asks):
        yield "Answer with a number, or in your own words."


def news(old: Reply | None, new: Reply) -> Reply | None:
    """What an edited message says that it did not say before; None: nothing."""
    if old is None:
        return new
    known = set(old.text.split("\n\n"))
    fresh = [part for part in new.text.split("\n\n") if part not in known]
    if not fresh:
        return None
    return Reply(kind="notice", text="\n\n".join(fresh), mentions=new.mentions)


def message_id(place: Place, key: str) -> str:
    """The same for the same key, so that whoever posts again after a crash speaks of the same message."""
    return "m-" + hashlib.sha256(f"{place.key}\n{key}".encode()).hexdigest()[:12]


# The adapter


class ConsoleChat:
    """`bot.chat.Chat` for platform `console`. May be used from several threads.

    On a terminal the card is redrawn in place while it is the last thing on the screen. Elsewhere, and once something
    stands below it, it is printed anew, but only when a step or the state has changed.
    `typed` gives the input line that the person has not sent yet, prompt included; empty when none is being read.
    """

    platform = "console"

    def __init__(
        self,
        out: Console,
        workspace: str,
        *,
        zone: tzinfo | None = None,
        typed: Callable[[], str] = str,
    ) -> None:
        self.workspace = workspace
        self._out = out
        self._zone = zone
        self.typed = typed
        self._live = out.is_terminal and not out.is_dumb_terminal
        self._lock = threading.RLock()
        self._cards: dict[str, Card] = {}
        self._replies: dict[str, Reply] = {}
        self._done: set[str] = set()
        self._said: list[Said] = []
        self._last = ""
        """The card that is the last thing on the screen."""
        self._height = 0
        self.result = ""
        """Message id of the newest result: what ✅ and ❌ are about."""
        self.card = ""
        """Message id of the newest card: what 🛑 is about."""

    # The port

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:  # noqa: ARG002
        message = message_id(place, key)
        with self._lock:
            if message not in self._cards and message not in self._replies:
                self._show(message, what)
        return message

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:  # noqa: ARG002
        with self._lock:
            self._show(message, what)

    def react(self, place: Place, message: str, reaction: str) -> None:  # noqa: ARG002
        """A 👀 is a line of its own, once a message."""
        mark = EYES if reaction in _EYES_NAMES else one_line(reaction, 20)
        with self._lock:
            if self._once(f"{message} {mark}"):
                self._print(Text(mark))

    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        message = message_id(place, key)
        with self._lock:
            if self._once(message):
                self.file(name, text)
        return message

    def read_thread(self, place: Place) -> Sequence[Said]:  # noqa: ARG002
        """The first line and the newest 99."""
        with self._lock:
            said = tuple(self._said)
        return said if len(said) <= KEPT_MESSAGES else (said[0], *said[1 - KEPT_MESSAGES :])

    # What else a terminal does

    def heard(self, author: str, text: str) -> None:
        """The person has sent a line: it now stands below the card."""
        with self._lock:
            self._last = ""
            self._said.append(Said(author, text))

    def say(self, markdown: str) -> None:
        """A line of the desk or of this program that is no message of a task."""
        with self._lock:
            before, block = split_block(markdown)
            shown = plain(before) if block is None else "\n".join(filter(None, (plain(before), block)))
            self._print(Text(neutralise(shown)))

    def show(self, what: RenderableType, *, above: bool = False) -> None:
        """Something that is no message. `above`: on a terminal above the card, which stays the last thing there."""
        with self._lock:
            card = self._last if above and self._in_place(self._last) else ""
            with self._above_the_prompt(), self._out:
                self._erase(card)
                self._out.print(what)
                self._panel(card)
            self._last = card

    def file(self, name: str, text: str) -> None:
        with self._lock:
            before, block = split_block(text)
            bare = text if block is None or before else block
            self._print(Text(f"--- {one_line(name)} ---\n", "dim") + Text(neutralise(bare).rstrip("\n")))

    # Inside

    def _once(self, key: str) -> bool:
        new = key not in self._done
        self._done.add(key)
        return new

    def _show(self, message: str, what: Reply | Card) -> None:
        if isinstance(what, Card):
            old, self._cards[message] = self._cards.get(message), what
            self.card = message
            if old is None or old != what:
                self._draw(message, old, what)
            return
        before, self._replies[message] = self._replies.get(message), what
        if what.kind == "result":
            self.result = message
        fresh = news(before, what)
        if fresh is not None:
            self._said.append(Said("Threadwright", fresh.text))
            self._print(reply_text(fresh))
        if what.answered and not (before and before.answered):
            self._print(Text(one_line(what.answered, 500)))

    def _draw(self, message: str, old: Card | None, card: Card) -> None:
        in_place = self._in_place(message)
        # An ended task's last message comes below, and says it all.
        if old is not None and not in_place and (card.final or _standing(old) == _standing(card)):
            return
        # One write: a card that is taken away and drawn again in two would flicker.
        with self._above_the_prompt(), self._out:
            self._erase(message if in_place else "")
            self._panel(message)
        self._last = message if self._live else ""

    def _in_place(self, message: str) -> bool:
        return bool(message) and self._last == message and 0 < self._height < self._out.size.height

    def _erase(self, message: str) -> None:
        if message:
            up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
            self._out.control(Control(ControlType.CARRIAGE_RETURN, *(up * self._height)))

    def _panel(self, message: str) -> None:
        if message:
            card = self._cards[message]
            panel = Panel(card_text(card, self._zone), title=Text(one_line(card.task, 40)), title_align="left")
            self._out.print(panel)
            self._height = len(self._out.render_lines(panel))

    def _print(self, text: Text) -> None:
        self._last = ""
        with self._above_the_prompt():
            # Whole lines, so that an address or a command can be copied.
            self._out.print(text, soft_wrap=True)

    @contextmanager
    def _above_the_prompt(self) -> Iterator[None]:
        """Take the unfinished input line away, and put it back behind what is printed."""
        typed = self.typed() if self._live else ""
        if typed:
            rows = max(0, Text(typed).cell_len - 1) // max(1, self._out.size.width)
            erase = (ControlType.ERASE_IN_LINE, 2)
            up = ((ControlType.CURSOR_UP, 1), erase)
            self._out.control(Control(ControlType.CARRIAGE_RETURN, erase, *(up * rows)))
        yield
        if typed:
            self._out.file.write(typed)
            self._out.file.flush()


def _standing(card: Card) -> tuple[object, ...]:
    """What makes a card worth printing again."""
    return card.state, card.steps, card.final
