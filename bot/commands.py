"""What a message asks for: a verb, or words with options. Pure; the one source of help, README and command line."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bot.chat import Ask
from bot.options import OPTIONS, BadOption, Options, is_repository, read_options, take_options, with_options

TASK = re.compile(r"tw-[a-z0-9]{4,}", re.IGNORECASE)

Arguments = Literal["", "[task]", "[mine]", "owner/name", "[owner/name]"]


@dataclass(frozen=True)
class VerbHelp:
    """One row of the table. `about_task`: the verb takes a task id, wherever it stands among the arguments."""

    name: str
    arguments: Arguments
    help: str
    aliases: tuple[str, ...] = ()
    about_task: bool = True

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".strip()


VERBS: tuple[VerbHelp, ...] = (
    VerbHelp("help", "", "the verbs and options, with an example", about_task=False),
    VerbHelp("status", "[task]", "one task: step, since when, cost, place in the queue, whom it waits for"),
    VerbHelp("list", "[mine]", "the tasks here, newest first, with their state", about_task=False),
    VerbHelp("cancel", "[task]", "stops at once; the work is kept on the branch", aliases=("stop",)),
    VerbHelp("finish", "[task]", "wraps up with what is there: a draft pull request, and a note of what is missing"),
    VerbHelp("pause", "[task]", "pauses at the next step"),
    VerbHelp("resume", "[task]", "goes on from there"),
    VerbHelp("retry", "[task]", "starts a failed or stopped task again from its last good step"),
    VerbHelp("plan", "[task]", "shows the plan"),
    VerbHelp("diff", "[task]", "shows the changes so far"),
    VerbHelp("logs", "[task]", "shows what was done, and explains an error id"),
    VerbHelp("cost", "[task]", "shows what the task has cost, of which cap"),
    VerbHelp("approve", "[task]", "approves the commit of the result, as ✅ on it does"),
    VerbHelp("reject", "[task]", "rejects the result, as ❌ on it does; I ask why"),
    VerbHelp("move", "owner/name", "wrong repository: does the same there, and closes the old branch and draft"),
    VerbHelp("new", "", "the next words start a fresh branch", about_task=False),
    VerbHelp("mute", "", "I stop reading this thread; my question and my result still come", about_task=False),
    VerbHelp("unmute", "", "I read this thread again", about_task=False),
    VerbHelp("repo", "[owner/name]", "shows or sets the repository that is used here by default", about_task=False),
    VerbHelp("settings", "", "shows the defaults that hold here", about_task=False),
)

BY_WORD: Mapping[str, VerbHelp] = MappingProxyType({word: v for v in VERBS for word in (v.name, *v.aliases)})


@dataclass(frozen=True)
class Verb:
    """A verb by its first name, and its arguments in the order: repository or `mine`, task id (lower case)."""

    name: str
    args: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The task id among the arguments; empty if there is none."""
        return next((arg for arg in self.args if TASK.fullmatch(arg)), "")


@dataclass(frozen=True)
class Words:
    """A task, an answer, or talk. `options` as they were written, valid every one; `chosen` the same, typed."""

    text: str
    options: Mapping[str, str]

    @property
    def chosen(self) -> Options:
        return read_options(self.options)


def is_aside(text: str) -> bool:
    """Whether the message is not meant for the bot: it starts with the word `!aside`."""
    return re.match(r"\s*!aside(?![\w-])", text, re.IGNORECASE) is not None


_COURTESY = re.compile(
    r"(?:many |a thousand )?thanks(?: a lot| so much)?|thank you(?: so much| very much)?|thx|ty|cheers|danke|merci"
    r"|gracias|great|nice|cool|perfect|awesome|wonderful|brilliant|well done|good job|nice work|great work|lgtm"
    r"|looks good(?: to me)?|👍|🙏|❤️|🎉|👏",
    re.IGNORECASE,
)


def is_courtesy(text: str) -> bool:
    """Whether the whole message is thanks or praise: nothing to do, and never an approval."""
    parts = [part for part in re.split(r"[\s,.!…]*[,.!…\n]+[\s,.!…]*", text.strip()) if part]
    return bool(parts) and all(_COURTESY.fullmatch(part.strip()) for part in parts)


def parse(text: str, *, models: Collection[str] = (), local: bool = False) -> Verb | Words:
    """Read one message, from which the bot's own mention is stripped.

    `models`: the model names that may be chosen; any name may when there are none. `local`: the message comes from the
    machine's own terminal, so that repositories may be paths. Raises BadOption, and nothing else.
    """
    return _verb(text, local) or Words(*take_options(text, models, local=local))


def _verb(text: str, local: bool) -> Verb | None:
    words = text.strip().rstrip(".!").split()
    known = BY_WORD.get(words[0].lower()) if 1 <= len(words) <= 3 else None
    if known is None:
        return None
    task = ""
    rest: list[str] = []
    for word in words[1:]:
        if known.about_task and not task and TASK.fullmatch(word):
            task = word.lower()
        else:
            rest.append(word)
    if not _fits(known.arguments, rest, local):
        return None
    rest = [word.lower() for word in rest] if known.arguments == "[mine]" else rest
    return Verb(known.name, (*rest, task) if task else tuple(rest))


def _fits(arguments: Arguments, words: list[str], local: bool) -> bool:
    if arguments in ("", "[task]"):
        return not words
    if len(words) != 1:
        return not words and arguments.startswith("[")
    return words[0].lower() == "mine" if arguments == "[mine]" else is_repository(words[0], local=local, urls=False)


# Answers to numbered suggestions

_PART = re.compile(r"\s*([1-9])\s*(?:[:.)=]\s*)?([a-z]|[1-9])(?=[\s,;]|$)[\s,;]*", re.IGNORECASE)
_NAMED_PART = re.compile(r"(?:^|[;\n])\s*([1-9])\s*[:)]\s*([^;\n]+)")


def answer_text(asks: Sequence[Ask], said: str) -> str:
    """What a short answer means, in words.

    One question: `2`, or `b`, is its second suggestion. Several: `1: 2; 2: 1`, `1b 2a`, or own words behind a number,
    `1: 2; 2: keep it as it is`. Everything else, a number that no suggestion has included, stays as it was said.
    """
    said = said.strip()
    if len(asks) == 1:
        return _suggestion(asks[0], said) or said
    if not asks:
        return said
    parts = _answers(said)
    if not parts or any(number > len(asks) for number, _ in parts):
        return said
    lines = []
    for number, value in parts:
        ask = asks[number - 1]
        lines.append(f"{number}. {ask.text} {_suggestion(ask, value) or value}")
    return "\n".join(lines)


def _answers(said: str) -> list[tuple[int, str]]:
    """The numbered parts of an answer: all of it, or none."""
    position = 0
    parts: list[tuple[int, str]] = []
    while position < len(said):
        found = _PART.match(said, position)
        if found is None:
            break
        parts.append((int(found[1]), found[2]))
        position = found.end()
    if parts and position == len(said):
        return parts
    named = [(int(m[1]), m[2].strip()) for m in _NAMED_PART.finditer(said)]
    return named if re.match(r"[1-9]\s*[:)]", said) else []


def _suggestion(ask: Ask, said: str) -> str:
    """The suggestion that is meant, by its words, number or letter; empty if none is."""
    word = said.strip().rstrip(".)").casefold()
    for suggestion in ask.suggestions:
        if suggestion.strip().casefold() == word:
            return suggestion
    for number, suggestion in enumerate(ask.suggestions):
        if word in (str(number + 1), "abcdefghi"[number : number + 1]):
            return suggestion
    return ""


# Help


def verbs_markdown() -> str:
    """The table of verbs, for README and help."""
    rows = [f"| {' or '.join(f'`{form}`' for form in _forms(verb))} | {verb.help} |" for verb in VERBS]
    return "\n".join(("| Verb | What it does |", "| --- | --- |", *rows))


def _forms(verb: VerbHelp) -> tuple[str, ...]:
    return (verb.usage, *(f"{alias} {verb.arguments}".strip() for alias in verb.aliases))


def help_text() -> str:
    """What the verb `help` answers, in Markdown that needs no table."""
    verbs = "\n".join(f"- {' or '.join(f'`{form}`' for form in _forms(verb))}: {verb.help}" for verb in VERBS)
    options = "\n".join(f"- `{option.name}={option.form}`: {option.help}" for option in OPTIONS)
    return (
        "Tell me what to change, and I open a pull request with it. For example:\n"
        "`[repo=acme/api plan=ask budget=2] add retries to the client`\n\n"
        f"**Options**, in brackets or inline:\n{options}\n\n"
        f"**Verbs**; one counts only when it is the whole message:\n{verbs}\n\n"
        "A verb about a task takes the task's id, such as `tw-k3f9m`; without one it means the task of this thread. "
        "I do not read a message that starts with `!aside`."
    )


__all__ = [
    "BY_WORD",
    "OPTIONS",
    "TASK",
    "VERBS",
    "BadOption",
    "Options",
    "Verb",
    "VerbHelp",
    "Words",
    "answer_text",
    "help_text",
    "is_aside",
    "parse",
    "verbs_markdown",
    "with_options",
]
