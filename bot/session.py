"""The conversation in a terminal: lines to requests, a task followed to its end, a keyboard and a pipe."""

from __future__ import annotations

import os
import pwd
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from bot.chat import Author, ChatRequest, Desk, Place, Receipt, Said, TaskView
from bot.cli import ENDED, FAILED, QUESTION, CannotGoOn, exit_code, places_of
from bot.commands import BY_WORD, BadOption, Verb, is_aside, parse, with_options
from bot.console import ConsoleChat

PROMPT = "> "
LOOK_EVERY = 0.2
"""Seconds between two looks at a task that is being followed."""


def me() -> Author:
    """The terminal's user: the operator."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Author(id=f"console:local:{name}", name=name, standing="operator")


def new_place() -> Place:
    session = f"c-{uuid.uuid4().hex[:8]}"
    return Place("console", session, "terminal", session)


def home_of(view: TaskView) -> Place:
    """Where a task is talked about: in a terminal if it is, else its first place."""
    places = places_of(view.data)
    return next((place for place in places if place.platform == "console"), places[0] if places else new_place())


class Session:
    """One person at the terminal, talking to the desk in one place. `task`: the newest task that came of it."""

    def __init__(
        self,
        desk: Desk,
        chat: ConsoleChat,
        place: Place,
        author: Author,
        *,
        options: Mapping[str, str] | None = None,
        task: str = "",
    ) -> None:
        self.desk = desk
        self.chat = chat
        self.place = place
        self.author = author
        self.options = dict(options or {})
        self.task = task

    def view(self) -> TaskView | None:
        return self.desk.task(self.task) if self.task else None

    def line(self, said: str) -> bool:
        """Obey one line of the terminal. False: the person wants to leave."""
        said = said.strip()
        if said in ("/quit", "/exit"):
            return False
        if not said or is_aside(said):
            return True
        before = tuple(self.chat.read_thread(self.place))
        self.chat.heard(self.author.name, said)
        if said.startswith("/react"):
            self.react(reaction_of(said.removeprefix("/react")))
            return True
        if re.fullmatch(r"/\w+", said) and said[1:].lower() not in BY_WORD:
            self.chat.say(f"I know no `{said}`. There are `/react ✅`, `/quit`, and the verbs: `help` lists them.")
            return True
        # Chat people know verbs with a slash; a path at the start of a sentence is words.
        unslashed = said[1:] if said.startswith("/") and self._reads_as_verb(said[1:]) else said
        try:
            self.words(unslashed, before)
        except BadOption as problem:
            self.chat.say(str(problem))
        return True

    @staticmethod
    def _reads_as_verb(text: str) -> bool:
        try:
            return isinstance(parse(text, local=True), Verb)
        except BadOption:
            return False

    def words(self, said: str, before: tuple[Said, ...] = ()) -> Receipt:
        """A verb, an answer, or a task. `before`: what was said earlier, as its context. Raises BadOption."""
        asked = parse(said, local=True)
        if isinstance(asked, Verb):
            return self.verb(said)
        view = self.view()
        if view and view.status in ("asking", "parked"):
            return self.answer(said)
        if view is None or view.status in ENDED:
            # The options of the command line hold for every task that starts here, unless the words name their own.
            mine = {name: value for name, value in self.options.items() if name not in asked.options}
            said = with_options(said, mine)
        return self._submit("message", text=said, context=before)

    def answer(self, said: str) -> Receipt:
        """The desk reads numbers; here they stay as they were typed, or they would be read twice."""
        return self._submit("message", text=said, replies_to_question=True)

    def verb(self, text: str) -> Receipt:
        return self._submit("command", text=text)

    def react(self, reaction: str) -> Receipt | None:
        """A reaction on the newest result, or for `stop` on the card."""
        target = self.chat.card if reaction == "stop" else self.chat.result or self.chat.card
        if not target and self.task and reaction in ("approve", "reject", "stop"):
            # The message was posted by another process: the verb means the same.
            return self.verb(f"{reaction} {self.task}")
        if not target:
            self.chat.say("There is nothing to react to yet.")
            return None
        return self._submit("reaction", reaction=reaction, target=target)

    def _submit(
        self,
        kind: Literal["message", "command", "reaction"],
        *,
        text: str = "",
        reaction: str = "",
        target: str = "",
        replies_to_question: bool = False,
        context: tuple[Said, ...] = (),
    ) -> Receipt:
        said = uuid.uuid4().hex
        request = ChatRequest(
            id=f"e-{said}",
            message=f"m-{said}",
            place=self.place,
            author=self.author,
            kind=kind,
            text=text,
            reaction=reaction,
            target=target,
            replies_to_question=replies_to_question,
            context=context,
            local=True,
        )
        receipt = self.desk.submit(request)
        if receipt.task and (kind == "message" or receipt.started):
            self.task = receipt.task
        self._show(request, receipt)
        return receipt

    def _show(self, request: ChatRequest, receipt: Receipt) -> None:
        if receipt.seen:
            self.chat.react(request.place, request.message, "seen")
        for text in (receipt.reply, receipt.whisper):
            if text:
                self.chat.say(text)
        if receipt.file:
            self.chat.file(*receipt.file)


REACTIONS = {
    "approve": "approve", "✅": "approve", "✔": "approve",
    "reject": "reject", "❌": "reject",
    "stop": "stop", "🛑": "stop",
}  # fmt: skip


def reaction_of(text: str) -> str:
    """`approve`, `reject`, `stop`, or the reaction's own name; ✅ when there is none."""
    word = text.strip().strip(":\ufe0f").lower() or "approve"
    return REACTIONS.get(word, word)


def waits_first(line: str) -> bool:
    """Whether a piped line is for a task that waits: words, answers and approvals are, other verbs are not."""
    said = line.strip()
    if said.startswith("/react"):
        return reaction_of(said.removeprefix("/react")) != "stop"
    try:
        asked = parse(said.removeprefix("/"), local=True)
    except BadOption:
        return False
    return not isinstance(asked, Verb) or asked.name in ("approve", "reject")


def settled(view: TaskView | None) -> bool:
    """Whether a task waits for people or has ended."""
    return view is None or view.status in ENDED or view.status in ("asking", "watching", "parked", "paused")


def drain_all(drain: Callable[[], int]) -> None:
    """Post until there is nothing due."""
    while drain():
        pass


def follow(
    session: Session, *, answers: Sequence[str], approve: bool, drain: Callable[[], int], wait: Callable[[], None]
) -> int:
    """Stay with the session's task until its exit code is known: give `answers` in order, approve if told to.

    `drain` posts what is due, `wait` passes the time between two looks. Raises CannotGoOn when the task is gone.
    """
    left = list(answers)
    done: set[str] = set()
    refused = ""
    while True:
        drain_all(drain)
        view = session.view()
        if view is None:
            raise CannotGoOn(f"The task {session.task} is gone: its time in the store was over.")
        code = exit_code(view.data, approve)
        question, pull = view.data.get("question") or {}, view.data.get("pull_request") or {}
        if code == QUESTION and question.get("id") in done:
            code = None  # the answer is in, and not read yet
        elif code == QUESTION and question and left:
            done.add(question["id"])
            session.answer(left.pop(0))
            code = None
        elif code is None and approve and view.status == "watching" and pull and pull["head"] not in done:
            done.add(pull["head"])
            refused = view.data.get("refused") or ""
            session.react("approve")
        elif code is None and view.status == "watching" and (view.data.get("refused") or "") != refused:
            code = FAILED  # the approval was taken, and the forge did not do what it promises: the notice says why
        if code is not None:
            drain_all(drain)
            return code
        wait()


# Lines


class Keyboard:
    """Reads lines, and knows what stands on the one that is not sent yet."""

    def __init__(self, say: Callable[[str], object]) -> None:
        import readline  # noqa: PLC0415 - only a terminal needs it

        self._readline = readline
        self._say = say
        self._reading = False

    def unsent(self) -> str:
        return PROMPT + self._readline.get_line_buffer() if self._reading else ""

    def line(self) -> str | None:
        """The next line; None for the end of input, or when Ctrl-C was pressed twice in a row."""
        for last in (False, True):
            self._reading = True
            try:
                return input(PROMPT)
            except EOFError:
                return None
            except KeyboardInterrupt:
                if not last:
                    self._say("\nCtrl-C again, or `/quit`, leaves; the task stays. `stop` stops the task.")
            finally:
                self._reading = False
        self._say("")
        return None


def read_pipe(session: Session, lines: Iterable[str], *, drain: Callable[[], int], wait: Callable[[], None]) -> None:
    """Lines from a pipe: words, answers and approvals wait until the task waits for them."""

    def until_settled() -> None:
        while not settled(session.view()):
            drain_all(drain)
            wait()
        drain_all(drain)

    for line in lines:
        if waits_first(line):
            until_settled()
        if not session.line(line):
            return
    until_settled()
