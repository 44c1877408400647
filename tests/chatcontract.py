"""What every adapter of the port `bot.chat.Chat` must do, whoever it speaks to, and the faults that this must notice.

An adapter joins with a `ChatWorld`, which looks at the platform as a person would, and a subclass of `ChatContract`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import pytest
from slackharm import FAMILY, HIDDEN, NASTY

from bot.chat import Ask, Author, Card, CardStep, Chat, Place, Reply, Said

OPENING = "Please add retries"
US = "Threadwright"


class ChatWorld(Protocol):
    """A platform with our bot in it. Ann opened `place`, a thread, with the words `OPENING`, and Ben `elsewhere`."""

    chat: Chat
    place: Place
    elsewhere: Place
    ann: Author
    ben: Author
    card_buttons: bool
    """Whether the card of a task that runs has buttons."""

    def another(self) -> Chat:
        """The adapter as a new process has it. Of a terminal, which ends with its process, the same."""
        ...

    def messages(self, place: Place) -> list[str]:
        """Ids of the bot's messages there, oldest first; a file is one, too."""
        ...

    def shown(self, message: str) -> str:
        """All that is there of it to be read, without its buttons. A file: its name and its text."""
        ...

    def buttons(self, message: str) -> list[str]:
        """What it offers now: labels of buttons and menus, or lines that invite an answer where there are none."""
        ...

    def pings(self, message: str) -> set[str]:
        """Whom it alerts: `Author.id`s, or what else it does to be noticed, such as `@channel`."""
        ...

    def reactions(self, message: str) -> list[str]:
        """The bot's own to this message."""
        ...

    def say(self, author: Author, text: str) -> str:
        """A person says something in `place`; gives the message id."""
        ...

    def plant(self, place: Place, text: str) -> str:
        """A message of the bot with this text as it is, past the adapter; gives its id."""
        ...


# What is said

STEPS = (CardStep("Read the client", "done"), CardStep("Write the retries", "running"), CardStep("Say so", "waiting"))
CARD = Card(
    task="tw-k3f9m",
    title="Add retries to the client",
    state="working on it",
    since=datetime(2026, 11, 20, 14, 2, tzinfo=UTC),
    requester="Wilhelmina",
    repository="acme/api",
    base="develop",
    rule="named in the message",
    steps=STEPS,
    spent="$0.12 of $2.00",
    notes=("The model is slow today",),
    url="https://runs.example/7",
)
FACTS = (
    "tw-k3f9m", "Add retries to the client", "working on it", "Wilhelmina", "acme/api", "develop",
    "named in the message", "Read the client", "Write the retries", "Say so", "$0.12 of $2.00",
    "The model is slow today",
)  # fmt: skip
RESULT = Reply("result", "The retries are in: three, with a pause between them.", sha="a" * 40)
ASKED = Reply(
    "question",
    "How many retries?\n   1. only three\n   2. five times\n   If nobody answers, I assume: rather two",
    asks=(Ask("How many retries?", ("only three", "five times"), "rather two"),),
    question="q-1",
)
TWO_ASKED = Reply(
    "question",
    "Two things.\n1. Which client?\n   1. the old one\n   2. the new one\n2. Log it?\n   1. surely\n   2. rather not",
    asks=(Ask("Which client?", ("the old one", "the new one")), Ask("Log it?", ("surely", "rather not"))),
    question="q-2",
)
HOSTILE = (
    *(piece for piece in NASTY if piece.strip()), "@everyone", "<@&1>", "\x07", "\x1b]0;title\x07", "\x1b]9;ping\x07",
    "\x9b31m", "\x1b[1A\x1b[2K", "\u2066", "\u202d", "\ufeff", "<!everyone>", "<!-- x -->", "<script>", "||spoiler||",
)  # fmt: skip

SWALLOWING = (
    "```these words are seen\nthere\n```", "~~~ these words are seen\nthere", "1. there\n2. ``` seen",
    "[seen]: https://and.that.example\nthere", "[x]: <https://and.that.example> 'seen'\n\nthere",
    "| a |\n|---|\n| there | seen |\n", "![seen](https://and.that.example/p.png) there", "<!-- seen -->\nthere",
    "<b title='seen'>there</b>", "<details><summary>there</summary>seen</details>", "&#x202e;seen there",
    "[seen](<https://and.that.example>) there", "seen\n===\nthere\n---", "> seen\n> > there", "    seen\n\nthere",
    "seen[^1]\n\n[^1]: there", "~~seen~~ ||there||", "```\nseen", "`` seen ` there ``", "\\seen \\there",
)  # fmt: skip
"""Markup in which renderers of Markdown lose words: `seen`, `there`, and an address."""


def long_text(length: int = 30_000) -> str:
    """Numbered lines, some in code fences."""
    lines: list[str] = []
    while sum(map(len, lines)) < length:
        at = len(lines)
        code = [f"    total_{at + n} = call({at + n}, '<b>&amp;', \"`x`\")" for n in range(40)]
        lines += [f"Paragraph {at} says what block {at} does, and why.", "", "```python", *code, "```", ""]
    return "\n".join(lines)


LONG = long_text()


def hostile_texts() -> list[tuple[str, list[str]]]:
    """Each with the words that have to be seen in it."""
    alone = [(f"before{n} {piece} after{n}", n) for n, piece in enumerate(HOSTILE)]
    apart = [(f"before{n}\n{piece}\nafter{n}", n) for n, piece in enumerate(HOSTILE)]
    texts = [(text, [f"before{n}", f"after{n}"]) for text, n in (*alone, *apart)]
    together = " ".join(text for text, _ in alone)
    return [*texts, (together, [word for _, n in alone for word in (f"before{n}", f"after{n}")])]


def hidden_in(text: str) -> list[str]:
    return HIDDEN.findall(FAMILY.sub("", text))


def lost(text: str, shown: str) -> list[str]:
    """Lines of a text that are not shown in their order. A fence itself is not: platforms draw it."""
    rest = iter(line.strip() for line in shown.splitlines())
    wanted = (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("```"))
    return [line for line in wanted if line not in rest]


# Faults: adapters that do one thing wrong


class Through:
    """An adapter that leaves everything to another."""

    def __init__(self, world: ChatWorld) -> None:
        self.world, self.chat = world, world.chat
        self.platform, self.workspace = world.chat.platform, world.chat.workspace
        self.count = 0

    def number(self) -> int:
        self.count += 1
        return self.count

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        return self.chat.post(place, what, key, again=again)

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self.chat.edit(place, message, what)

    def react(self, place: Place, message: str, reaction: str) -> None:
        self.chat.react(place, message, reaction)

    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        return self.chat.upload(place, name, text, key)

    def read_thread(self, place: Place) -> Sequence[Said]:
        return self.chat.read_thread(place)


class PostsAgain(Through):
    """And says that it did not."""

    def __init__(self, world: ChatWorld) -> None:
        super().__init__(world)
        self.known: dict[str, str] = {}

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        made = self.chat.post(place, what, f"{key}-{self.number()}")
        return self.known.setdefault(key, made)


class TakesAllKeysForOne(Through):
    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        return self.chat.post(place, what, "key", again=self.number() > 1)


class EditsByPosting(Through):
    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self.chat.post(place, what, f"edit-{self.number()}")


class NeverEdits(Through):
    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        pass


class EditsTheNewest(Through):
    newest = ""

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        self.newest = self.chat.post(place, what, key, again=again)
        return self.newest

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self.chat.edit(place, self.newest, what)


class PostsAsItIs(Through):
    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        texts = (what.text,) if isinstance(what, Reply) else (what.title, what.state, what.spent)
        return self.world.plant(place, " ".join(texts))


class ReactsOtherwiseTheNextTime(Through):
    def react(self, place: Place, message: str, reaction: str) -> None:
        self.chat.react(place, message, reaction if self.number() == 1 else "white_check_mark")


class UploadsAgain(Through):
    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        number = self.number()
        return self.chat.upload(place, f"{number}-{name}", text, f"{key}-{number}")


class UploadsOneOfAName(Through):
    def upload(self, place: Place, name: str, text: str, key: str) -> str:
        return self.chat.upload(place, name, text, key) if self.number() == 1 else ""


class ReadsBackwards(Through):
    def read_thread(self, place: Place) -> Sequence[Said]:
        return self.chat.read_thread(place)[::-1]


class ReadsNoNames(Through):
    def read_thread(self, place: Place) -> Sequence[Said]:
        return [replace(said, author="somebody") for said in self.chat.read_thread(place)]


class ReadsAnotherThread(Through):
    def read_thread(self, place: Place) -> Sequence[Said]:
        return [*self.chat.read_thread(place), *self.chat.read_thread(self.world.elsewhere)]


class ChangesWhatIsSaid(Through):
    def __init__(self, world: ChatWorld, change: Callable[[Any], Reply | Card]) -> None:
        super().__init__(world)
        self.change = change

    def post(self, place: Place, what: Reply | Card, key: str, *, again: bool = False) -> str:
        return self.chat.post(place, self.change(what), key, again=again)

    def edit(self, place: Place, message: str, what: Reply | Card) -> None:
        self.chat.edit(place, message, self.change(what))


@dataclass(frozen=True)
class Fault:
    name: str
    claim: str
    """The test that has to notice it."""
    adapter: Callable[[ChatWorld], Chat]


def _without(claim: str, **fields: Any) -> Fault:
    adapter = lambda world: ChangesWhatIsSaid(world, lambda what: replace(what, **fields))  # noqa: E731
    return Fault(f"without {', '.join(fields)}", claim, adapter)


def _worded(name: str, claim: str, change: Callable[[str], str]) -> Fault:
    adapter = lambda world: ChangesWhatIsSaid(world, lambda what: replace(what, text=change(what.text)))  # noqa: E731
    return Fault(name, claim, adapter)


_ONCE = "test_the_same_key_again_is_the_same_message_and_nothing_new_is_shown"
_KEYS = "test_two_keys_are_two_messages_though_they_say_the_same"
_DIED = "test_what_a_process_posted_before_it_died_is_not_posted_again"
_CARD_EDIT = "test_an_edited_card_changes_where_it_stands"
_REPLY_EDIT = "test_an_edited_reply_says_its_news_in_no_second_message"
_SAME_EDIT = "test_the_same_edit_twice_shows_nothing_more"
_FACTS = "test_a_card_says_all_that_is_known_of_the_task"
_STEP = "test_a_step_that_is_done_looks_otherwise_than_before"
_FINAL = "test_a_card_of_a_task_that_has_ended_invites_nothing"
_QUESTION = "test_a_question_shows_its_text_its_numbered_suggestions_and_its_assumption"
_SEVERAL = "test_several_questions_show_all_their_suggestions"
_MENTION = "test_a_question_mentions_whom_it_is_for_and_nobody_else"
_ANSWERED = "test_an_answered_question_says_who_answered_and_offers_nothing_more"
_RESULT = "test_a_result_shows_its_text"
_LONG = "test_a_long_text_arrives_whole"
_LONG_EDIT = "test_a_long_text_that_comes_by_an_edit_arrives_whole"
_LONG_AGAIN = "test_a_long_text_asked_for_again_is_there_once"
_PINGS = "test_hostile_text_pings_nobody"
_HIDES = "test_hostile_text_hides_nothing_and_nothing_is_hidden_in_it"
_QUESTION_HARM = "test_a_question_of_hostile_words_pings_only_whom_it_is_for"
_CARD_HARM = "test_a_card_of_hostile_words_pings_nobody_and_hides_nothing"
_SWALLOWS = "test_no_word_of_a_text_is_swallowed_by_its_markup"
_REACTION = "test_a_reaction_is_added_once_although_asked_twice"
_UPLOAD = "test_a_file_is_shown_with_its_name_and_text_once_per_key"
_UPLOADS = "test_the_same_file_under_another_key_is_shown_again"
_READ = "test_a_thread_is_read_oldest_first_with_who_said_what"
_APART = "test_two_cards_in_different_places_do_not_mix"
_OTHERS = "test_what_is_said_in_another_thread_is_not_read_here"

FAULTS = (
    Fault("posts again", _ONCE, PostsAgain),
    Fault("takes all keys for one", _KEYS, TakesAllKeysForOne),
    Fault("posts under no key that is found again", _DIED, PostsAgain),
    Fault("posts an edited card anew", _CARD_EDIT, EditsByPosting),
    Fault("never edits a card", _CARD_EDIT, NeverEdits),
    Fault("posts an edited reply anew", _REPLY_EDIT, EditsByPosting),
    Fault("never edits a reply", _REPLY_EDIT, NeverEdits),
    Fault("posts the same edit anew", _SAME_EDIT, EditsByPosting),
    *(_without(_FACTS, **{name: ""}) for name in ("title", "state", "requester", "repository", "base", "rule")),
    *(_without(_FACTS, **{name: ""}) for name in ("spent", "task")),
    *(_without(_FACTS, **{name: ()}) for name in ("steps", "notes")),
    _without(_STEP, steps=STEPS),
    _without(_FINAL, final=False),
    _worded("asks in one line", _QUESTION, lambda text: text.splitlines()[0]),
    _without(_SEVERAL, text="Two things.", asks=()),
    _without(_MENTION, mentions=()),
    _without(_ANSWERED, answered=""),
    _worded("says less", _RESULT, lambda text: text[: len(text) // 2]),
    _worded("ends a long text early", _LONG, lambda text: text[:29_000]),
    _worded("loses a line of a long text", _LONG, lambda text: text.replace(LONG.splitlines()[400], "…")),
    Fault("never edits to a long text", _LONG_EDIT, NeverEdits),
    Fault("posts a long text again", _LONG_AGAIN, PostsAgain),
    Fault("posts a question as it is", _QUESTION_HARM, PostsAsItIs),
    Fault("posts text as it is, which pings", _PINGS, PostsAsItIs),
    Fault("posts text as it is, which hides", _HIDES, PostsAsItIs),
    Fault("posts a card as it is", _CARD_HARM, PostsAsItIs),
    _worded("swallows a word", _SWALLOWS, lambda text: text.replace("seen", "")),
    Fault("reacts otherwise the next time", _REACTION, ReactsOtherwiseTheNextTime),
    Fault("uploads again", _UPLOAD, UploadsAgain),
    Fault("uploads one file of a name", _UPLOADS, UploadsOneOfAName),
    Fault("reads backwards", _READ, ReadsBackwards),
    Fault("reads no names", _READ, ReadsNoNames),
    Fault("edits the newest message", _APART, EditsTheNewest),
)


# The contract


class ChatContract:
    """Subclasses have a fixture `world` that gives a `ChatWorld`."""

    harmless: ClassVar[frozenset[str]] = frozenset()
    """Names of faults that change nothing on this platform."""

    @staticmethod
    def everything(world: ChatWorld, place: Place) -> str:
        return "\n".join(map(world.shown, world.messages(place)))

    @staticmethod
    def asked(world: ChatWorld, asked: Reply = ASKED) -> Reply:
        return replace(asked, mentions=(world.ann,))

    # --- once

    def test_the_same_key_again_is_the_same_message_and_nothing_new_is_shown(self, world: ChatWorld) -> None:
        for what, words in ((RESULT, RESULT.text), (CARD, CARD.title), (self.asked(world), "How many retries?")):
            first = world.chat.post(world.place, what, f"key-{words}")
            before = world.messages(world.place)
            assert first in before
            assert world.chat.post(world.place, what, f"key-{words}", again=True) == first
            assert world.messages(world.place) == before
            assert self.everything(world, world.place).count(words) == 1

    def test_two_keys_are_two_messages_though_they_say_the_same(self, world: ChatWorld) -> None:
        first, second = (world.chat.post(world.place, RESULT, key) for key in ("one", "two"))
        assert world.messages(world.place) == [first, second]
        assert self.everything(world, world.place).count(RESULT.text) == 2

    def test_what_a_process_posted_before_it_died_is_not_posted_again(self, world: ChatWorld) -> None:
        first = world.chat.post(world.place, RESULT, "key")
        assert world.another().post(world.place, RESULT, "key", again=True) == first
        assert self.everything(world, world.place).count(RESULT.text) == 1

    def test_what_a_process_did_not_get_to_post_is_posted_by_the_next(self, world: ChatWorld) -> None:
        made = world.another().post(world.place, RESULT, "key", again=True)
        assert world.messages(world.place) == [made]

    # --- edits

    def test_an_edited_card_changes_where_it_stands(self, world: ChatWorld) -> None:
        card = world.chat.post(world.place, CARD, "card")
        world.chat.edit(world.place, card, replace(CARD, title="Add five retries", state="asking Ben"))
        assert world.messages(world.place) == [card]
        shown = world.shown(card)
        assert (shown.count("Add five retries"), shown.count("asking Ben"), shown.count("acme/api")) == (1, 1, 1)
        assert CARD.title not in shown
        assert CARD.state not in shown

    def test_an_edited_reply_says_its_news_in_no_second_message(self, world: ChatWorld) -> None:
        result = world.chat.post(world.place, RESULT, "result")
        world.chat.edit(world.place, result, replace(RESULT, text=f"{RESULT.text}\n\nMerged by Ben."))
        assert world.messages(world.place) == [result]
        assert [self.everything(world, world.place).count(text) for text in (RESULT.text, "Merged by Ben.")] == [1, 1]

    def test_the_same_edit_twice_shows_nothing_more(self, world: ChatWorld) -> None:
        card = world.chat.post(world.place, CARD, "card")
        for _ in range(2):
            world.chat.edit(world.place, card, replace(CARD, state="asking Ben"))
        assert world.shown(card).count("asking Ben") == 1

    # --- cards

    def test_a_card_says_all_that_is_known_of_the_task(self, world: ChatWorld) -> None:
        shown = world.shown(world.chat.post(world.place, CARD, "card"))
        assert [fact for fact in FACTS if fact not in shown] == []

    def test_a_step_that_is_done_looks_otherwise_than_before(self, world: ChatWorld) -> None:
        looks = set()
        for number, state in enumerate(("waiting", "running", "done", "failed")):
            step = CardStep("Write the retries", state)  # type: ignore[arg-type]
            card = world.chat.post(world.place, replace(CARD, steps=(step,)), f"card-{number}")
            looks.add(world.shown(card))
        assert len(looks) == 4

    def test_a_card_of_a_task_that_has_ended_invites_nothing(self, world: ChatWorld) -> None:
        card = world.chat.post(world.place, CARD, "card")
        assert bool(world.buttons(card)) == world.card_buttons
        world.chat.edit(world.place, card, replace(CARD, state="done", final=True))
        posted = world.chat.post(world.place, replace(CARD, state="stopped by Ben", final=True), "another")
        assert [world.buttons(message) for message in (card, posted)] == [[], []]
        assert "stopped by Ben" in world.shown(posted)

    def test_two_cards_in_different_places_do_not_mix(self, world: ChatWorld) -> None:
        other = replace(CARD, task="tw-other", title="Say goodbye", steps=(CardStep("Wave", "running"),))
        mine = world.chat.post(world.place, CARD, "card")
        theirs = world.chat.post(world.elsewhere, other, "card")
        assert mine != theirs
        world.chat.edit(world.place, mine, replace(CARD, state="asking Ben"))
        assert (world.messages(world.place), world.messages(world.elsewhere)) == ([mine], [theirs])
        assert "asking Ben" in world.shown(mine)
        assert [word for word in ("tw-other", "goodbye", "Wave") if word in world.shown(mine)] == []
        assert [word for word in (*FACTS[:2], "asking Ben") if word in world.shown(theirs)] == []
        assert "Wave" in world.shown(theirs)

    # --- questions and results

    def test_a_question_shows_its_text_its_numbered_suggestions_and_its_assumption(self, world: ChatWorld) -> None:
        message = world.chat.post(world.place, self.asked(world), "question")
        shown = world.shown(message)
        words = ("How many retries?", "1. only three", "2. five times", "I assume: rather two")
        assert [word for word in words if shown.count(word) != 1] == []
        assert world.buttons(message)

    def test_several_questions_show_all_their_suggestions(self, world: ChatWorld) -> None:
        message = world.chat.post(world.place, self.asked(world, TWO_ASKED), "question")
        shown = world.shown(message)
        assert [s for ask in TWO_ASKED.asks for s in (ask.text, *ask.suggestions) if s not in shown] == []
        assert world.buttons(message)

    def test_a_question_mentions_whom_it_is_for_and_nobody_else(self, world: ChatWorld) -> None:
        one = world.chat.post(world.place, self.asked(world), "one")
        both = world.chat.post(world.place, replace(ASKED, mentions=(world.ann, world.ben)), "both")
        assert world.pings(one) == {world.ann.id}
        assert world.pings(both) == {world.ann.id, world.ben.id}

    def test_an_answered_question_says_who_answered_and_offers_nothing_more(self, world: ChatWorld) -> None:
        asked = self.asked(world)
        message = world.chat.post(world.place, asked, "question")
        world.chat.edit(world.place, message, replace(asked, answered="Wilhelmina: rather seven"))
        assert world.messages(world.place) == [message]
        assert world.shown(message).count("Wilhelmina: rather seven") == 1
        assert world.shown(message).count("How many retries?") == 1
        assert world.buttons(message) == []

    def test_a_result_shows_its_text(self, world: ChatWorld) -> None:
        assert RESULT.text in world.shown(world.chat.post(world.place, RESULT, "result"))

    # --- long texts

    def test_a_long_text_arrives_whole(self, world: ChatWorld) -> None:
        world.chat.post(world.place, replace(RESULT, text=LONG), "long")
        assert lost(LONG, self.everything(world, world.place)) == []

    def test_a_long_text_that_comes_by_an_edit_arrives_whole(self, world: ChatWorld) -> None:
        message = world.chat.post(world.place, RESULT, "result")
        world.chat.edit(world.place, message, replace(RESULT, text=LONG))
        assert lost(LONG, self.everything(world, world.place)) == []

    def test_a_long_text_asked_for_again_is_there_once(self, world: ChatWorld) -> None:
        long = replace(RESULT, text=LONG)
        first = world.chat.post(world.place, long, "long")
        before = self.everything(world, world.place)
        for chat in (world.chat, world.another()):
            assert chat.post(world.place, long, "long", again=True) == first
        assert self.everything(world, world.place) == before

    # --- harm

    def test_hostile_text_pings_nobody(self, world: ChatWorld) -> None:
        for number, (text, _) in enumerate(hostile_texts()):
            message = world.chat.post(world.place, replace(RESULT, text=text), f"key-{number}")
            assert world.pings(message) == set(), repr(text)

    def test_hostile_text_hides_nothing_and_nothing_is_hidden_in_it(self, world: ChatWorld) -> None:
        for number, (text, words) in enumerate(hostile_texts()):
            message = world.chat.post(world.place, replace(RESULT, text=text), f"key-{number}")
            shown = world.shown(message)
            assert hidden_in(shown) == [], repr(text)
            assert [word for word in words if word not in shown] == [], repr(text)

    def test_no_word_of_a_text_is_swallowed_by_its_markup(self, world: ChatWorld) -> None:
        swallowed = {}
        for number, text in enumerate(SWALLOWING):
            shown = world.shown(world.chat.post(world.place, replace(RESULT, text=text), f"key-{number}"))
            swallowed[text] = [
                word for word in ("seen", "there", "and.that.example") if word in text and word not in shown
            ]
        assert {text: words for text, words in swallowed.items() if words} == {}

    def test_a_question_of_hostile_words_pings_only_whom_it_is_for(self, world: ChatWorld) -> None:
        for number, piece in enumerate(HOSTILE):
            evil = replace(world.ann, name=f"{world.ann.name} {piece}")
            ask = Ask(f"Which {piece}?", (f"one {piece}", f"{piece} two"), f"{piece} three")
            text = (
                f"Which {piece}?\n   1. one {piece}\n   2. {piece} two\n   If nobody answers, I assume: {piece} three"
            )
            asked = Reply("question", text, (evil,), (ask,), f"q-{number}")
            message = world.chat.post(world.place, asked, f"key-{number}")
            assert world.pings(message) == {world.ann.id}, repr(piece)
            assert hidden_in("\n".join((world.shown(message), *world.buttons(message)))) == [], repr(piece)

    def test_a_card_of_hostile_words_pings_nobody_and_hides_nothing(self, world: ChatWorld) -> None:
        for number, piece in enumerate(HOSTILE):
            card = replace(
                CARD,
                title=f"title {piece} there",
                state=f"state {piece} there",
                requester=f"who {piece} there",
                repository=f"where {piece} there",
                base=f"base {piece} there",
                rule=f"rule {piece} there",
                spent=f"spent {piece} there",
                notes=(f"note {piece} there",),
                steps=(CardStep(f"step {piece} there", "running"),),
            )
            message = world.chat.post(world.place, card, f"key-{number}")
            shown = world.shown(message)
            assert world.pings(message) == set(), repr(piece)
            assert hidden_in("\n".join((shown, *world.buttons(message)))) == [], repr(piece)
            words = ("title", "state", "who", "where", "base", "rule", "spent", "note", "step")
            assert [word for word in words if word not in shown] == [], repr(piece)
            assert shown.count("there") >= len(words), repr(piece)

    # --- reactions, files, threads

    def test_a_reaction_is_added_once_although_asked_twice(self, world: ChatWorld) -> None:
        message = world.say(world.ann, "are you there?")
        for _ in range(2):
            world.chat.react(world.place, message, "eyes")
        assert len(world.reactions(message)) == 1

    def test_a_file_is_shown_with_its_name_and_text_once_per_key(self, world: ChatWorld) -> None:
        text = "+ first line\n- <b>second</b> & ``` line\n"
        files = [world.chat.upload(world.place, "tw-k3f9m.diff", text, "file") for _ in range(2)]
        shown = self.everything(world, world.place)
        assert lost(text, shown) == []
        assert [shown.count(word) for word in ("tw-k3f9m.diff", "+ first line")] == [1, 1]
        assert files[0] == files[1]

    def test_the_same_file_under_another_key_is_shown_again(self, world: ChatWorld) -> None:
        for key in ("one", "two"):
            assert world.chat.upload(world.place, "tw-k3f9m.diff", "+ first line\n", key)
        assert self.everything(world, world.place).count("+ first line") == 2

    def test_a_thread_is_read_oldest_first_with_who_said_what(self, world: ChatWorld) -> None:
        world.chat.post(world.place, RESULT, "result")
        world.say(world.ben, "Thank you <3 & goodbye")
        world.say(world.ann, "Wait")
        assert [
            (said.author, said.text) for said in world.chat.read_thread(world.place) if OPENING not in said.text
        ] == [
            (US, RESULT.text),
            (world.ben.name, "Thank you <3 & goodbye"),
            (world.ann.name, "Wait"),
        ]
        assert world.chat.read_thread(world.place)[0] == Said(world.ann.name, OPENING)

    # --- controls

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
    def test_control_a_planted_fault_is_noticed(self, world: ChatWorld, fault: Fault) -> None:
        self.plant(world, fault)

    def plant(self, world: ChatWorld, fault: Fault) -> None:
        world.chat = fault.adapter(world)
        claim = getattr(ChatContract if hasattr(ChatContract, fault.claim) else ThreadsContract, fault.claim)
        if fault.name in self.harmless:
            claim(self, world)
            return
        with pytest.raises(AssertionError):
            claim(self, world)


class ThreadsContract(ChatContract):
    """Besides, of platforms where one adapter speaks in several threads. (A terminal is one.)"""

    def test_what_is_said_in_another_thread_is_not_read_here(self, world: ChatWorld) -> None:
        world.chat.post(world.elsewhere, RESULT, "result")
        world.chat.post(world.place, replace(RESULT, text="Only here."), "result")
        assert [said.text for said in world.chat.read_thread(world.place)] == [OPENING, "Only here."]

    def test_control_reading_another_thread_is_noticed(self, world: ChatWorld) -> None:
        self.plant(world, Fault("reads another thread", _OTHERS, ReadsAnotherThread))
