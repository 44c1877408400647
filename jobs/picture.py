"""A picture of what a terminal shows: the demo's output as an SVG that refers to nothing outside itself."""

from __future__ import annotations

import io
import re

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, ROWS = 100, 40
THEME = TerminalTheme(
    (22, 27, 34),
    (214, 220, 228),
    [
        (72, 79, 88), (255, 123, 114), (86, 211, 100), (227, 179, 65),
        (121, 192, 255), (210, 168, 255), (86, 212, 221), (214, 220, 228),
    ],
)  # fmt: skip
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_CARD_TAKEN_AWAY = re.compile(r"\r((?:\x1b\[1A\x1b\[2K)+)")
_REMOTE_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def terminal() -> Console:
    """A terminal that remembers everything it is sent."""
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
        width=COLUMNS,
        height=ROWS,
        highlight=False,
        _environ={"TERM": "xterm"},
    )


def screen(out: Console) -> Text:
    """What `terminal()` shows in the end, scrolled-off lines included."""
    assert isinstance(out.file, io.StringIO)  # noqa: S101 - `terminal` made it
    lines: list[str] = [""]
    position = 0
    sent = out.file.getvalue()
    for erasure in _CARD_TAKEN_AWAY.finditer(sent):
        _write(lines, sent[position : erasure.start()])
        del lines[-1 - erasure[1].count("\x1b[1A") :]
        lines.append("")
        position = erasure.end()
    _write(lines, sent[position:])
    return Text.from_ansi("\n".join(lines).strip("\n"))


def _write(lines: list[str], text: str) -> None:
    first, *rest = text.split("\n")
    lines[-1] += first
    lines += rest


def svg(shown: Text, title: str) -> str:
    """The screen as a picture. The fonts are the reader's own: a picture in a README may fetch none."""
    shown = shown.copy()
    # An element of its own, hence a place of its own: a border stays straight where the font is a little wider.
    shown.highlight_regex(r"[│╭╮╰╯]", Style(italic=False))
    draw = Console(record=True, file=io.StringIO(), width=COLUMNS, highlight=False)
    draw.print(shown)
    made = draw.export_svg(title=title, theme=THEME, unique_id="threadwright")
    made = _REMOTE_FONT.sub("", made).replace("Fira Code, monospace", FONTS)
    made = made.replace("<svg ", '<svg xml:space="preserve" ', 1)
    return re.sub(r"<!--.*?-->\s*", "", made, flags=re.DOTALL)
