"""The options of a message: `[repo=acme/api budget=2]`, or inline for known names. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from bot.text import code_ranges

OWNER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
LOCAL_PATH = re.compile(r"(?:file://|~|\.{0,2}/)[^\x00\n]*")


@dataclass(frozen=True)
class OptionHelp:
    name: str
    form: str
    help: str


OPTIONS: tuple[OptionHelp, ...] = (
    OptionHelp("repo", "owner/name", "the repository, by name or address"),
    OptionHelp("branch", "name", "the base branch"),
    OptionHelp("model", "name", "the model of this task"),
    OptionHelp("plan", "ask|go", "`ask` waits for your yes to the plan, `go` does not"),
    OptionHelp("budget", "2", "US dollars after which I stop and ask"),
    OptionHelp("time", "20m", "work, in hours, minutes or seconds, after which I stop and ask"),
)
_OPTION_NAMES = tuple(option.name for option in OPTIONS)

PlanOption = Literal["ask", "go"]


@dataclass(frozen=True)
class Options:
    """The options of a message, typed. None and empty: not given."""

    repo: str = ""
    branch: str = ""
    model: str = ""
    plan: PlanOption | None = None
    budget: float | None = None
    """US dollars."""
    time: float | None = None
    """Minutes of work."""


class BadOption(Exception):
    """An option that is not understood. `str` is Markdown for the person, and lists the valid ones. Nothing starts."""

    def __init__(self, problem: str) -> None:
        valid = ", ".join(f"`{option.name}={option.form}`" for option in OPTIONS)
        super().__init__(
            f"{problem} Options are {valid}. I have started nothing. "
            "If the brackets belong to the task, put them between backticks."
        )
        self.problem = problem


_VALUE_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_LONGEST_VALUE = 1000
_GROUP = re.compile(r"(?<![A-Za-z0-9_\\)\]!])\[(?=[ \t]*([A-Za-z][\w-]*)[ \t]*=(?![=>]))")
_NAME = re.compile(r"([A-Za-z][\w-]*)[ \t]*=[ \t]*")
_BARE = re.compile(r"[^\s\]]+")
_INLINE = re.compile(rf"(?<!\S)({'|'.join(_OPTION_NAMES)})=", re.IGNORECASE)

Found = tuple[str, str, int, int]
"""An inline option: name, value, start and end."""


def take_options(text: str, models: Collection[str], *, local: bool) -> tuple[str, Mapping[str, str]]:
    """The text without its options, and the options as they were written, valid every one. Raises BadOption."""
    code = code_ranges(text)
    options: dict[str, str] = {}
    cuts: list[tuple[int, int]] = []
    for match in _GROUP.finditer(text):
        if _within(match.start(), code) or _within(match.start(), cuts):
            continue
        group = _read_group(text, match.end())
        if group is None and match[1].lower() in _OPTION_NAMES:
            raise BadOption("The brackets with the options are not closed.")
        if group is None or text.startswith("(", group[1]):  # a link
            continue
        for name, value in group[0]:
            _keep(options, name, _valid(name, value, models, local))
        cuts.append((match.start(), group[1]))
    inline = [
        found
        for match in _INLINE.finditer(text)
        if not _within(match.start(), code) and not _within(match.start(), cuts)
        for found in _read_inline(text, match, models, local)
    ]
    for name, value, _, _ in inline:
        _keep(options, name, value)
    return _without(text, cuts, inline), MappingProxyType(options)


def _within(position: int, ranges: list[tuple[int, int]]) -> bool:
    """Whether a position is in one of these ranges, which are in order."""
    at = bisect_right(ranges, position, key=lambda r: r[0])
    return at > 0 and position < ranges[at - 1][1]


def _keep(options: dict[str, str], name: str, value: str) -> None:
    if options.setdefault(name, value) != value:
        raise BadOption(f"The option `{name}` is given twice, as {shown(options[name])} and as {shown(value)}.")


def _read_group(text: str, position: int) -> tuple[list[tuple[str, str]], int] | None:
    """The pairs of a bracket group and where it ends; None when it is not closed on its line."""
    pairs: list[tuple[str, str]] = []
    while True:
        while text[position : position + 1] in (" ", "\t", ","):
            position += 1
        if position >= len(text) or text[position] == "\n":
            return None
        if text[position] == "]":
            return pairs, position + 1
        name = _NAME.match(text, position)
        if name is None:
            stray = _BARE.match(text, position)
            end = text.find("\n", position)
            if stray is None or text.find("]", position, end if end >= 0 else len(text)) < 0:
                return None
            raise BadOption(f"{shown(stray[0])} is not an option.")
        value = _read_value(text, name.end())
        if value is None:
            return None
        pairs.append((name[1].lower(), value[0]))
        position = value[1]


def _read_value(text: str, position: int) -> tuple[str, int] | None:
    """A value, in quotes or up to the next space or `]`; None when its quote is not closed on its line."""
    close = _VALUE_QUOTES.get(text[position : position + 1])
    if close is None:
        bare = _BARE.match(text, position)
        raw = bare[0] if bare else ""
        return raw.rstrip(","), position + len(raw)
    value: list[str] = []
    position += 1
    # The bound keeps a message full of open quotes from being read over and over to its end.
    while position < len(text) and text[position] != "\n" and len(value) < _LONGEST_VALUE:
        char = text[position]
        if char == close:
            return "".join(value), position + 1
        if char == "\\" and text[position + 1 : position + 2] in ("\\", close):
            position += 1
            char = text[position]
        value.append(char)
        position += 1
    return None


def _read_inline(text: str, match: re.Match[str], models: Collection[str], local: bool) -> Iterator[Found]:
    """An option without brackets. What is not valid is just words."""
    value = _read_value(text, match.end())
    if value is None or not (value[1] == len(text) or text[value[1]].isspace()):
        return
    try:
        yield match[1].lower(), _valid(match[1].lower(), value[0], models, local), match.start(), value[1]
    except BadOption:
        return


def _without(text: str, groups: list[tuple[int, int]], inline: list[Found]) -> str:
    """The text without its option groups, and without inline options at its start and end.

    An inline option in the middle of a sentence stays: "pass branch=main to the script" would be mutilated.
    """
    cuts = list(groups)
    rest = text
    for start, end in groups:
        rest = _blank(rest, start, end)
    for order in (inline, inline[::-1]):
        for _, _, start, end in order:
            if rest[:start].isspace() or rest[end:].isspace() or start == 0 or end == len(rest):
                cuts.append((start, end))
                rest = _blank(rest, start, end)
            else:
                break
    kept: list[str] = []
    position = 0
    for start, end in sorted(set(cuts)):
        kept.append(text[position:start])
        # One of the two spaces around it goes too.
        lone = start == 0 or text[start - 1].isspace()
        position = end + 1 if lone and text[end : end + 1] == " " else end
    return "".join((*kept, text[position:])).strip()


def _blank(text: str, start: int, end: int) -> str:
    return text[:start] + " " * (end - start) + text[end:]


# Values

_BRANCH_NEVER = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(?:/|$)|(?:^|/)\.|^[-/]|[/.]$|^@$")
_MODEL = re.compile(r"[A-Za-z0-9][\w./:@+-]{0,99}", re.ASCII)
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d{1,5})?/[^\s\x00-\x1f<>\"]{1,200}", re.ASCII)
_MONEY = re.compile(r"\$?([0-9]{1,6}(?:\.[0-9]{1,4})?)(?:\s?usd|\$)?", re.IGNORECASE)
_TIME = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m(?:in)?)?(?:([0-9]{1,6})s)?", re.IGNORECASE)


def is_repository(value: str, *, local: bool, urls: bool = True) -> bool:
    if local and LOCAL_PATH.fullmatch(value):
        return True
    return OWNER_NAME.fullmatch(value) is not None or (urls and _URL.fullmatch(value) is not None)


def minutes(value: str) -> float | None:
    """`20m`, `2h`, `90s`, `1h30m` in minutes; None when it is no such time, or no time at all."""
    found = _TIME.fullmatch(value)
    if found is None:
        return None
    hours, mins, seconds = (int(part or 0) for part in found.groups())
    return hours * 60 + mins + seconds / 60 or None


def dollars(value: str) -> float | None:
    """`2`, `2.50`, `$2`; None when it is no such sum, or nothing."""
    found = _MONEY.fullmatch(value)
    return (float(found[1]) or None) if found else None


def shown(value: str) -> str:
    """A person's own word, in backticks, short, unable to end them."""
    flat = " ".join(value.replace("`", "'").split())
    return f"`{flat[:60]}…`" if len(flat) > 60 else f"`{flat}`"


def _fits(name: str, value: str, models: Collection[str], local: bool) -> bool:
    match name:
        case "repo":
            return is_repository(value, local=local)
        case "branch":
            return 0 < len(value) <= 200 and not _BRANCH_NEVER.search(value)
        case "model":
            return value in models if models else _MODEL.fullmatch(value) is not None
        case "plan":
            return value in get_args(PlanOption)
        case "budget":
            return dollars(value) is not None
    return minutes(value) is not None


def _wanted(name: str, models: Collection[str], local: bool) -> str:
    return {
        "repo": "owner/name or an address" + (", or a path" if local else ""),
        "branch": "the name of a branch",
        "model": f"one of {', '.join(map(shown, sorted(models)))}" if models else "the name of a model",
        "plan": "`ask` or `go`",
        "budget": "US dollars above 0, such as `2` or `0.50`",
        "time": "a time such as `20m`, `2h` or `90s`",
    }[name]


def _valid(name: str, value: str, models: Collection[str], local: bool) -> str:
    """The value as it is kept. Raises BadOption."""
    if name not in _OPTION_NAMES:
        raise BadOption(f"I know no option {shown(name)}.")
    value = value.strip()
    if name == "plan":
        value = value.lower()
    if not _fits(name, value, models, local):
        given = shown(value) if value else "no value"
        raise BadOption(f"The option `{name}` has {given}, but wants {_wanted(name, models, local)}.")
    return value


def read_options(options: Mapping[str, str]) -> Options:
    """Typed options out of valid ones, as `Words.options` holds them."""
    plan: PlanOption | None = None
    if "plan" in options:
        plan = "ask" if options["plan"] == "ask" else "go"
    return Options(
        repo=options.get("repo", ""),
        branch=options.get("branch", ""),
        model=options.get("model", ""),
        plan=plan,
        budget=dollars(options["budget"]) if "budget" in options else None,
        time=minutes(options["time"]) if "time" in options else None,
    )


def with_options(text: str, options: Mapping[str, str]) -> str:
    """The message that `parse` reads as `text` with `options`, for callers that have them apart. Empty: left out."""
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in options.items() if value}
    pairs = " ".join(f'{name}="{value}"' for name, value in escaped.items())
    return f"[{pairs}] {text}" if pairs else text
