"""Text on its way to people: splitting without breaking code fences, and making untrusted text harmless. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

SMALLEST_LIMIT = 64
"""Below this there is no room for a fence's two lines and a word between them."""

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})([^\n]*)$")


@dataclass(frozen=True)
class Fence:
    """An opened code fence: what reopens and what closes it."""

    opener: str
    closer: str

    def closed_by(self, line: str) -> bool:
        mark = line.strip()
        sign = self.closer.strip()
        return len(mark) >= len(sign) and not mark.strip(sign[0])


def opened(line: str) -> Fence | None:
    """The fence that `line` opens, if it does. A backtick fence has no backticks behind its language."""
    found = _FENCE.match(line)
    if not found or (found[2][0] == "`" and "`" in found[3]):
        return None
    return Fence(line.rstrip(), found[1] + found[2])


def code_ranges(text: str) -> list[tuple[int, int]]:
    """Where code is, as half-open ranges of characters: fenced blocks (an unclosed one to the end) and spans."""
    ranges: list[tuple[int, int]] = []
    fence: Fence | None = None
    position = start = prose = 0
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if fence is None:
            fence = opened(bare)
            if fence is not None:
                ranges += _spans(text, prose, position)
                start = position
        elif fence.closed_by(bare):
            fence = None
            prose = position + len(line)
            ranges.append((start, prose))
        position += len(line)
    return ranges + ([(start, len(text))] if fence else list(_spans(text, prose, len(text))))


def _spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans between two runs of equally many backticks. A run that nothing closes is no code."""
    runs = [(m.start(), m.end()) for m in re.finditer("`+", text[start:end])]
    last: dict[int, int] = {b - a: i for i, (a, b) in enumerate(runs)}
    i = 0
    while i < len(runs):
        a, b = runs[i]
        if last[b - a] == i:
            i += 1
            continue
        j = next(j for j in range(i + 1, len(runs)) if runs[j][1] - runs[j][0] == b - a)
        yield start + a, start + runs[j][1]
        i = j + 1


# Splitting


@dataclass
class _Splitter:
    limit: int
    pieces: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    size: int = 0
    fence: Fence | None = None
    reopened: bool = False
    """The piece has nothing yet but the reopened fence."""

    def _tail(self) -> int:
        return len(self.fence.closer) + 1 if self.fence else 0

    def room(self) -> int:
        """Characters that one more line may have."""
        return self.limit - self.size - self._tail() - (1 if self.lines else 0)

    def put(self, line: str) -> None:
        self.size += len(line) + (1 if self.lines else 0)
        self.lines.append(line)
        self.reopened = False

    def flush(self) -> None:
        if self.fence:
            if self.lines and self.lines[-1] == self.fence.opener:
                # Nobody wants an empty block at the end of a message: the next piece opens it anyway.
                self.lines.pop()
            elif self.lines:
                self.lines.append(self.fence.closer)
        piece = "\n".join(self.lines)
        if piece.strip():
            self.pieces.append(piece)
        self.lines, self.size = [], 0
        if self.fence:
            self.put(self.fence.opener)
            self.reopened = True

    def add(self, line: str) -> None:
        if len(line) > self.room() and not (self.reopened or not self.lines):
            self.flush()
        while len(line) > self.room():
            head, line = _cut(line, self.room())
            self.put(head)
            self.flush()
        self.put(line)

    def open(self, fence: Fence, info: str) -> None:
        if len(fence.opener) > self.limit // 4:
            # A language of that length is no language: keep the words, as the block's first line.
            fence = Fence(fence.closer, fence.closer)
        else:
            info = ""
        if self.lines and self.size + 2 * (len(fence.opener) + 1) + len(fence.closer) >= self.limit:
            self.flush()
        self.put(fence.opener)
        self.fence = fence
        self.reopened = len(self.lines) == 1
        if info:
            self.add(info)

    def close(self, line: str) -> None:
        # Room for the closer has been kept all the time; the original may be longer, or indented otherwise.
        closer = (
            line if self.fence and len(line) <= len(self.fence.closer) else self.fence.closer if self.fence else line
        )
        self.fence = None
        self.put(closer)


def _cut(line: str, room: int) -> tuple[str, str]:
    """Cut a long line in two, at a space where one is near."""
    at = line.rfind(" ", room * 2 // 3, room) + 1
    return (line[:at], line[at:]) if at > 0 else (line[:room], line[room:])


def split(text: str, limit: int) -> list[str]:
    """Pieces of at most `limit` characters (at least 64), in order; blank ones are left out.

    A code fence that a cut goes through is closed before it and reopened, with its language, behind it; one that the
    text leaves open is closed. Lines are kept whole where they fit.
    """
    if limit < SMALLEST_LIMIT:
        raise ValueError(f"limit must be at least {SMALLEST_LIMIT}")
    state = _Splitter(limit)
    for line in text.replace("\r\n", "\n").split("\n"):
        if state.fence is not None:
            if state.fence.closed_by(line):
                state.close(line)
            else:
                state.add(line)
            continue
        fence = opened(line)
        if fence is not None and len(fence.closer) <= limit // 4:
            state.open(fence, line.strip().lstrip("`~").strip())
        else:
            state.add(line)
    if state.fence:
        state.close(state.fence.closer)
    state.flush()
    return state.pieces


# Untrusted text

# Whole escape sequences, in their 7-bit and 8-bit forms. Strings (OSC and the like) must end within reach: an
# unfinished one would otherwise hide the rest of the text.
_ESCAPES = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]{0,2048}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\^-~]"
)
_JOINED_EMOJI = "(?<=[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff])\u200d(?=[\u2600-\u27bf\U0001f300-\U0001faff])"
# Direction changes, zero width, fillers that look like nothing, tag characters, selectors that can carry hidden bytes.
_UNSEEN = (
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_DANGEROUS = re.compile(
    f"(?P<escape>{_ESCAPES})|(?P<emoji>{_JOINED_EMOJI})|(?P<unseen>{_UNSEEN}+)|(?P<newline>\r\n)"
    "|(?P<control>[\x00-\x08\x0b-\x1f\x7f-\x9f])|(?P<byte>[\ud800-\udfff])"
)
_MANY = 8


def neutralise(text: str) -> str:
    """Untrusted text for a terminal: what it shows is what is there.

    Escape sequences are removed; control, direction, zero-width and tag characters, and bytes that are no UTF-8, are
    made visible. Line feeds and tabs stay. The result can be encoded as UTF-8.
    """
    return _DANGEROUS.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    raw = found[0]
    match found.lastgroup:
        case "escape":
            return ""
        case "emoji":
            return raw
        case "newline":
            return "\n"
        case "unseen":
            return f"<{len(raw)} hidden characters>" if len(raw) > _MANY else "".join(f"<U+{ord(c):04X}>" for c in raw)
        case "byte":
            code = ord(raw)
            # surrogateescape keeps the byte 0xNN of a file's name as U+DCNN.
            return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"<U+{code:04X}>"
    code = ord(raw)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"\\x{code:02x}"


def one_line(text: str, limit: int = 200) -> str:
    """`neutralise`, on one line of at most `limit` characters: a title cannot pretend to be the next line."""
    flat = " ".join(neutralise(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def split_block(markdown: str) -> tuple[str, str | None]:
    """What stands before the one code block that ends a text, and the block's lines without its fence; else None.

    Only a closing line without indentation counts: a changed Markdown file inside a diff has fences of its own.
    """
    lines = markdown.rstrip("\n").split("\n")
    at, fence = next(((i, found) for i, line in enumerate(lines) if (found := opened(line))), (0, None))
    if fence is None or fence.closer not in lines[at + 1 :] or lines.index(fence.closer, at + 1) != len(lines) - 1:
        return markdown, None
    return "\n".join(lines[:at]), "\n".join(lines[at + 1 : -1])


_LINK = re.compile(r"(?<![!\\])\[([^\[\]\n]+)\]\(<?([^\s()<>]+)>?\)")
_BOLD = re.compile(r"(\*\*|__)(?=\S)([^\n]{0,500}?\S)\1")
_HEADING = re.compile(r"(?m)^#{1,6}[ ]+")


def plain(markdown: str) -> str:
    """Markdown for a terminal: links with their true address, no marks for bold and headings; code untouched."""
    pieces: list[str] = []
    position = 0
    for start, end in code_ranges(markdown):
        pieces += [_without_marks(markdown[position:start]), markdown[start:end]]
        position = end
    return "".join((*pieces, _without_marks(markdown[position:])))


def _without_marks(text: str) -> str:
    text = _LINK.sub(lambda m: m[2] if m[1] == m[2] else f"{m[1]} ({m[2]})", text)
    return _HEADING.sub("", _BOLD.sub(r"\2", text))
