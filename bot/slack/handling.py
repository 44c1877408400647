"""One letter of Slack's: who it is and where, a request for the desk, and what the desk answers shown in Slack."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from bot.chat import ChatRequest, Desk, Letter, Mail, Place, Receipt, Reply, Said, TryLater, Undeliverable
from bot.commands import BadOption, Verb, Words, parse
from bot.slack import payloads
from bot.slack.intake import place_of
from bot.slack.markup import ids_in, rich_to_markdown, to_markdown
from bot.slack.payloads import BadPayload, Heard, Me
from bot.slack.people import People
from bot.slack.posting import SlackChat
from bot.slack.threads import read_files, read_thread
from bot.slack.web import Web

log = logging.getLogger(__name__)

TWIN_SECONDS = 2.0
"""How long a mention waits for the message event that says the same, and has its files."""
NOTED_SECONDS = 10.0
"""How long a reaction waits for the note of which message it is on: people may be quicker than whoever posted it."""
AGAIN_SECONDS = 0.5
EYES = "eyes"


@dataclass(frozen=True)
class Slack:
    """What the parts of the adapter work with."""

    me: Me
    web: Web
    chat: SlackChat
    people: People
    desk: Desk
    mail: Mail


@dataclass
class _Begun:
    """A letter that the desk has answered, until all of the answer is shown: a verb is not obeyed twice."""

    request: ChatRequest
    receipt: Receipt
    shown: set[str] = field(default_factory=set)


class Handling:
    """Implements `bot.slack.reading.Handler`."""

    def __init__(self, slack: Slack, *, now: Callable[[], float] = time.time) -> None:
        self._slack = slack
        self._now = now
        self._begun: dict[str, _Begun] = {}

    def lane(self, letter: Letter) -> str:
        heard = self._heard(letter)
        return f"{heard.channel}/{heard.thread or heard.target or heard.id}" if heard else letter.id

    def order(self, letter: Letter) -> str:
        heard = self._heard(letter)
        return heard.message if heard and heard.kind == "message" else f"{letter.at:017.6f}"

    def handle(self, letter: Letter) -> float:
        slack, heard = self._slack, self._heard(letter)
        if heard is None:
            return 0.0
        if heard.app_mention:
            if slack.mail.came(f"{heard.channel}/{heard.message}"):
                return 0.0
            left = letter.at + TWIN_SECONDS - self._now()
            if left > 0:
                return left
        early = heard.on_ours and letter.at + NOTED_SECONDS > self._now()
        if early and not slack.desk.knows(place_of(heard, slack.me), heard.target):
            return AGAIN_SECONDS
        begun = self._begun.get(letter.id)
        if begun is None:
            request = self._request(heard, letter)
            begun = self._begun[letter.id] = _Begun(request, slack.desk.submit(request))
        for name, show in self._answers(heard, begun, again=letter.tries > 0):
            if name not in begun.shown:
                show()
                begun.shown.add(name)
        del self._begun[letter.id]
        if heard.kind == "message":
            slack.mail.has_read(place_of(heard, slack.me), heard.message)
        if heard.kind in ("reaction", "unreaction"):
            there = heard.kind == "reaction"
            slack.mail.reacted(f"{heard.channel}/{heard.target}", heard.user, heard.reaction, there=there)
        return 0.0

    def _heard(self, letter: Letter) -> Heard | None:
        try:
            return payloads.read(letter.payload, self._slack.me)
        except BadPayload:
            # It could be read when it was stored: another version of this program did that.
            log.exception("a stored letter cannot be read; it is left out")
            return None

    # A request

    def _request(self, heard: Heard, letter: Letter) -> ChatRequest:
        author = self._slack.people.author(heard)
        request = ChatRequest(
            id=heard.id,
            message=heard.message,
            place=place_of(heard, self._slack.me),
            author=author,
            text=self._text(heard),
            addressed=heard.mentions_me or heard.direct,
            own_thread=None,
            opens_thread=heard.root and heard.kind == "message",
            mentions_others=heard.mentions_others,
            target=heard.target,
            secrets=letter.secrets,
            direct=heard.direct,
        )
        match heard.kind:
            case "message":
                return self._with_context(heard, request)
            case "edit" | "delete" | "reaction" | "unreaction":
                return replace(request, kind=heard.kind, reaction=heard.reaction)
            case "button" if heard.question:
                return replace(request, question=heard.question, text=_chosen(heard), addressed=True)
            case "button" | "move":
                return replace(request, kind="command", text=heard.verb, addressed=True)
            case "command" | "give":
                request = replace(request, kind="command", text=heard.text, addressed=True)
                return self._in_a_thread(heard, request, again=letter.tries > 0)

    def _text(self, heard: Heard) -> str:
        if heard.kind not in ("message", "edit"):
            return heard.text
        names = self._slack.people.names(ids_in(heard.text, heard.blocks))
        rich = rich_to_markdown(heard.blocks, names, me=self._slack.me.user)
        return (to_markdown(heard.text, names, me=self._slack.me.user) if rich is None else rich).strip()

    def _with_context(self, heard: Heard, request: ChatRequest) -> ChatRequest:
        """What was said before in a thread that the bot is called into, and the text files of the message."""
        slack = self._slack
        context: tuple[Said, ...] = ()
        if request.addressed and not heard.root and not slack.desk.has_open_task(request.place):
            context = read_thread(
                slack.web, slack.people, heard.channel, heard.thread, before=heard.message, me=slack.me
            )
        if heard.files and (request.addressed or slack.desk.has_open_task(request.place)):
            files = read_files(slack.web, heard.files)
            if slack.desk.has_open_task(request.place):
                # The task has its context already: what is attached later comes as words.
                text = "\n\n".join([request.text, *(f"{said.author}:\n{said.text}" for said in files)])
                request = replace(request, text=text)
            context = (*context, *files)
        return replace(request, context=context)

    def _in_a_thread(self, heard: Heard, request: ChatRequest, *, again: bool) -> ChatRequest:
        """A task from a slash command or a shortcut needs a thread; a command has none, so one is opened for it."""
        slack = self._slack
        try:
            said = parse(request.text)
        except BadOption:
            return request
        if isinstance(said, Verb) or not said.text.strip():
            return request
        if heard.kind == "give":
            context = read_thread(slack.web, slack.people, heard.channel, heard.thread, before="", me=slack.me)
            return replace(request, kind="message", context=context)
        if not slack.desk.may(request.author, "start"):
            return request
        place = request.place
        first = slack.chat.post(place, _opening(request, said), f"opening:{heard.id}", again=again)
        return replace(request, place=replace(place, thread=first), message=first, opens_thread=True, kind="message")

    # The answer

    def _answers(self, heard: Heard, begun: _Begun, *, again: bool) -> Iterator[tuple[str, Callable[[], object]]]:
        chat, request, receipt = self._slack.chat, begun.request, begun.receipt
        if receipt.seen and heard.kind == "message":
            yield "eyes", lambda: self._react(request.place, heard.message)
        if whisper := receipt.whisper:
            yield "whisper", lambda: self._privately(heard, request, whisper)
        if file := receipt.file:
            yield "file", lambda: chat.upload(request.place, *file, f"file:{heard.id}")
        if not receipt.reply:
            return
        if receipt.asks:
            choice = Reply(kind="question", text=receipt.reply, asks=receipt.asks, question=receipt.question)
            yield "reply", lambda: chat.post(request.place, choice, f"answer:{heard.id}", again=again)
        elif heard.kind in ("command", "give", "button", "move") and not receipt.file:
            yield "reply", lambda: self._privately(heard, request, receipt.reply)
        else:
            reply = Reply(kind="notice", text=receipt.reply)
            yield "reply", lambda: chat.post(request.place, reply, f"answer:{heard.id}", again=again)

    def _react(self, place: Place, message: str) -> None:
        try:
            self._slack.chat.react(place, message, EYES)
        except (TryLater, Undeliverable) as exc:
            # A courtesy: the card says the same, and what was said is stored.
            log.info("no 👀 on %s: %s", message, exc)

    def _privately(self, heard: Heard, request: ChatRequest, text: str) -> None:
        if heard.response_url:
            self._slack.chat.respond(heard.response_url, text, fallback=(request.place, request.author))
        else:
            self._slack.chat.whisper(request.place, request.author, text)


def _chosen(heard: Heard) -> str:
    """The answer of a button as a person would type it: the words, or `1: 2; 2: 1` for several questions."""
    if heard.text:
        return heard.text
    parts = [f"{n}: {int(answer) + 1}" for n, answer in enumerate(heard.answers, 1) if answer.isdigit()]
    return "; ".join(parts)


def _opening(request: ChatRequest, said: Words) -> Reply:
    text = f"{request.author.name} asked me by command:\n\n> " + said.text.strip().replace("\n", "\n> ")
    return Reply(kind="notice", text=text)
