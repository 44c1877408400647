"""What people write in Slack, as plain Markdown; and back (`bot.slack.richtext`). Pure.

A message comes as mrkdwn (https://docs.slack.dev/messaging/formatting-message-text) and, from most clients, as
`rich_text` too (https://docs.slack.dev/reference/block-kit/blocks/rich-text-block). Both are anybody's: whatever they
hold, nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from bot.slack.richtext import escape, fallback, rich_text
from bot.text import one_line

Names = Mapping[str, str]
"""Slack's id (U…, C…, S…) and the name that it stands for, without @ or #."""

# mrkdwn

_CODE = re.compile(r"```(?P<block>.+?)```|`(?P<span>[^`\n]+)`", re.DOTALL)
_TOKEN = re.compile(r"<([^<>\n]+)>")
_MARKED = re.compile(
    r"<(?P<token>[^<>\n]+)>|(?<![\w*])\*(?P<bold>(?=[^\s*])[^*\n]*[^\s*])\*(?![\w*])"
    r"|(?<![\w~])~(?P<strike>(?=[^\s~])[^~\n]*[^\s~])~(?![\w~])"
)
_BULLET = re.compile(r"(?m)^([ \t]*)[•◦▪]\ufe0e?[ \t]+")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_IDS = re.compile(r"<(?:[@#]|!subteam\^)([A-Z][A-Z0-9]+)")
_TIMES = 10**11


def to_markdown(text: str, names: Names, *, me: str = "") -> str:
    """A received message's mrkdwn as Markdown. Mentions become `@name`; that of `me`, a user id, is left out."""
    if me:
        text = re.sub(rf"(?:^|(?<=[\s*_~]))<@{re.escape(me)}(?:\|[^<>\n]*)?>[ \t]?", "", text)
    parts: list[str] = []
    position = 0
    for found in _CODE.finditer(text):
        parts += [_prose(text[position : found.start()], names, me), _code(found, names, me)]
        position = found.end()
        if found["block"] is not None and text[position : position + 1] not in ("", "\n"):
            parts.append("\n")
    return "".join((*parts, _prose(text[position:], names, me)))


def _prose(text: str, names: Names, me: str) -> str:
    def marked(found: re.Match[str]) -> str:
        match found.lastgroup:
            case "bold":
                return f"**{_prose(found['bold'], names, me)}**"
            case "strike":
                return f"~~{_prose(found['strike'], names, me)}~~"
        return _token(found["token"], names, me)

    position, parts = 0, []
    text = _BULLET.sub(r"\1- ", text)
    for found in _MARKED.finditer(text):
        parts += [_unescaped(text[position : found.start()]), marked(found)]
        position = found.end()
    return "".join((*parts, _unescaped(text[position:])))


def _code(found: re.Match[str], names: Names, me: str) -> str:
    """Slack marks addresses and mentions in code too; there only the words count."""
    raw = found["block"] if found["block"] is not None else found["span"]
    position, parts = 0, []
    for token in _TOKEN.finditer(raw):
        parts += [_unescaped(raw[position : token.start()]), _token(token[1], names, me, bare=True)]
        position = token.end()
    code = "".join((*parts, _unescaped(raw[position:])))
    if found["block"] is None:
        return f"`{code}`"
    start = found.start() == 0 or found.string[found.start() - 1] == "\n"
    return ("" if start else "\n") + _fenced(code)


def _unescaped(text: str) -> str:
    return re.sub("&lt;|&gt;|&amp;", lambda m: _ENTITIES[m[0]], text)


def _token(raw: str, names: Names, me: str, *, bare: bool = False) -> str:
    """What stands between < and >. `bare`: for code, without Markdown."""
    target, _, label = (_unescaped(part) for part in raw.partition("|"))
    kind, rest = target[:1], target[1:]
    if kind == "@":
        return "" if rest == me else _named("@", rest, names, label)
    if kind == "#":
        return _named("#", rest, names, label)
    if kind == "!":
        return _special(rest, names, label)
    if re.match(r"(https?|mailto|tel|ftp|slack|file|ssh|git):", target, re.IGNORECASE):
        return (label or target) if bare else _link(target, label)
    return f"<{_unescaped(raw)}>"


def _named(sign: str, key: str, names: Names, label: str = "") -> str:
    return sign + one_line(names.get(key) or label or key, 80).removeprefix(sign)


def _special(rest: str, names: Names, label: str) -> str:
    """https://docs.slack.dev/messaging/formatting-message-text#special-mentions and #date-formatting."""
    name, *more = rest.split("^")
    if name in ("here", "channel", "everyone"):
        return f"@{name}"
    if name == "subteam" and more:
        return _named("@", more[0], names, label)
    if name == "date" and more:
        return label or _time(more[0])
    return label or f"<!{rest}>"


def _time(timestamp: Any) -> str:
    try:
        seconds = int(timestamp)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC" if abs(seconds) < _TIMES else ""
    except (ValueError, TypeError, OverflowError, OSError):
        return ""


def _link(url: str, label: str) -> str:
    label = " ".join(label.split())
    if not label or label == url:
        return url
    if url in (f"http://{label}", f"https://{label}", f"mailto:{label}", f"tel:{label}"):
        return label  # Slack made a link of what was typed as plain words
    address = f"<{url}>" if re.search(r"[()\s]", url) else url
    escaped = re.sub(r"([][])", r"\\\1", label)
    return f"[{escaped}]({address})"


def _fenced(code: str, language: str = "") -> str:
    code = code.removeprefix("\n").removesuffix("\n")
    longest = max((len(run) for run in re.findall("`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


# Rich text


def rich_to_markdown(blocks: Sequence[Mapping[str, Any]], names: Names, *, me: str = "") -> str | None:
    """A received message's `rich_text` blocks as Markdown; None when there are none, and `to_markdown` has to do."""
    rich = [block for block in blocks if isinstance(block, Mapping) and block.get("type") == "rich_text"]
    if not rich:
        return None
    words = _Words(names, me)
    parts: list[str] = []
    previous = ""
    for element in (e for block in rich for e in _elements(block)):
        kind = element.get("type")
        text = words.block(element)
        if not text.strip("\n"):
            continue
        if parts:
            parts.append("\n" if kind == previous == "rich_text_list" else "\n\n")
        parts.append(text.strip("\n"))
        previous = str(kind)
    return "".join(parts)


def _elements(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = value.get("elements")
    return [e for e in inner if isinstance(e, Mapping)] if isinstance(inner, list | tuple) else []


def _string(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _number(value: Mapping[str, Any], key: str, most: int) -> int:
    found = value.get(key)
    return min(max(found, 0), most) if isinstance(found, int) else 0


_MARKS = (("strike", "~~"), ("italic", "*"), ("bold", "**"))


class _Words:
    def __init__(self, names: Names, me: str) -> None:
        self._names = names
        self._me = me

    def block(self, element: Mapping[str, Any]) -> str:
        match element.get("type"):
            case "rich_text_section":
                return self.line(element)
            case "rich_text_quote":
                return "\n".join(f"> {line}".rstrip() for line in self.line(element).strip("\n").split("\n"))
            case "rich_text_preformatted":
                language = re.sub(r"[^\w+#.-]", "", _string(element, "language"))[:30]
                return _fenced("".join(self.plain(e) for e in _elements(element)), language)
            case "rich_text_list":
                return self._list(element)
        return ""

    def _list(self, element: Mapping[str, Any]) -> str:
        ordered = element.get("style") == "ordered"
        number = _number(element, "offset", 10**6) + 1
        indent = "    " * _number(element, "indent", 8)
        lines = []
        for item in _elements(element):
            mark = f"{number}. " if ordered else "- "
            lines.append(indent + mark + self.line(item).strip("\n").replace("\n", "\n" + indent + " " * len(mark)))
            number += 1
        return "\n".join(lines)

    def line(self, element: Mapping[str, Any]) -> str:
        text = ""
        for style, run in groupby(_elements(element), key=_style):
            words = ""
            for inner in run:
                piece = self._inline(inner, code="code" in style)
                if inner.get("type") == "user" and not piece and (text + words)[-1:] in ("", " ", "\n"):
                    words += "\0"
                    continue
                words = words[:-1] + re.sub("^[ \t]", "", piece) if words.endswith("\0") else words + piece
            text += _styled(words.removesuffix("\0"), style)
        return text

    def _inline(self, element: Mapping[str, Any], *, code: bool) -> str:
        if element.get("type") == "link" and not code:
            return _link(_string(element, "url"), _string(element, "text"))
        return self.plain(element)

    def plain(self, element: Mapping[str, Any]) -> str:
        """Without Markdown."""
        match element.get("type"):
            case "text":
                return _string(element, "text").replace("\0", "")
            case "link":
                return _string(element, "text") or _string(element, "url")
            case "emoji":
                return f":{name}:" if (name := _string(element, "name")) else ""
            case "user":
                key = _string(element, "user_id")
                return _named("@", key, self._names) if key and key != self._me else ""
            case "usergroup":
                return _named("@", _string(element, "usergroup_id"), self._names)
            case "channel":
                return _named("#", _string(element, "channel_id"), self._names)
            case "broadcast":
                return f"@{_string(element, 'range')}"
            case "date":
                return _string(element, "fallback") or _time(element.get("timestamp"))
            case "color":
                return _string(element, "value")
        return _string(element, "text").replace("\0", "")


def _style(element: Mapping[str, Any]) -> tuple[str, ...]:
    style = element.get("style")
    known = ("code", "bold", "italic", "strike")
    return tuple(s for s in known if style.get(s) is True) if isinstance(style, Mapping) else ()


def _styled(words: str, style: tuple[str, ...]) -> str:
    """Marks go around the words, not around the space beside them, and never over a line's end."""
    if not style or not words.strip():
        return words
    return "\n".join(_styled_line(line, style) for line in words.split("\n"))


def _styled_line(line: str, style: tuple[str, ...]) -> str:
    bare = line.strip()
    if not bare:
        return line
    text = bare
    if "code" in style:
        ticks = "`" * (max((len(run) for run in re.findall("`+", bare)), default=0) + 1)
        space = " " if bare.startswith("`") or bare.endswith("`") else ""
        text = f"{ticks}{space}{bare}{space}{ticks}"
    for name, mark in _MARKS:
        text = f"{mark}{text}{mark}" if name in style else text
    start = line.index(bare)
    return line[:start] + text + line[start + len(bare) :]


# What is referred to


def ids_in(text: str, blocks: Sequence[Mapping[str, Any]] = ()) -> frozenset[str]:
    """Users, channels and groups that a message refers to, whose names are wanted."""
    return frozenset(_IDS.findall(text)) | frozenset(_referred(blocks))


def _referred(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    left: list[Any] = list(blocks)
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            found = value.get(
                {"user": "user_id", "channel": "channel_id", "usergroup": "usergroup_id"}.get(
                    str(value.get("type")), ""
                )
            )
            if isinstance(found, str) and re.fullmatch("[A-Z][A-Z0-9]+", found):
                yield found
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value


__all__ = ["Names", "escape", "fallback", "ids_in", "rich_text", "rich_to_markdown", "to_markdown"]
