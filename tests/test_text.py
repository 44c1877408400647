"""Text on its way to people: split without breaking code fences, and made harmless."""

from __future__ import annotations

import re
import string
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.text import SMALLEST_LIMIT, code_ranges, neutralise, one_line, opened, plain, split

# ---- splitting

CODE_LINES = st.text(string.ascii_letters + "=(){} ._", min_size=1, max_size=90).filter(str.strip)


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 6))):
        block = draw(st.lists(CODE_LINES, max_size=8))
        if draw(st.booleans()):
            fence = draw(st.sampled_from(["```", "~~~", "````"]))
            lines += [fence + draw(st.sampled_from(["", "py", "diff"])), *block, fence]
        else:
            lines += [*block, ""]
    return "\n".join(lines)


def fence_is_open(piece: str) -> bool:
    fence = None
    for line in piece.split("\n"):
        if fence is None:
            fence = opened(line)
        elif fence.closed_by(line):
            fence = None
    return fence is not None


def content(text: str) -> str:
    """All characters but fence lines and spaces."""
    lines = [line for line in text.split("\n") if not re.match(r"\s*(`{3,}|~{3,})", line)]
    return "".join("".join(lines).split())


@given(documents(), st.integers(SMALLEST_LIMIT, 300))
def test_pieces_fit_keep_everything_and_close_their_fences(text: str, limit: int) -> None:
    pieces = split(text, limit)
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert not any(fence_is_open(piece) for piece in pieces)
    assert content("\n".join(pieces)) == content(text)


def test_the_check_for_open_fences_would_see_one() -> None:
    assert fence_is_open("```py\ncode")
    assert content("a\n```py\nb\n```") == "ab"


@settings(max_examples=300)
@given(st.text("`~ \tab\n", max_size=400), st.integers(SMALLEST_LIMIT, 100))
def test_any_text_is_split_within_the_limit(text: str, limit: int) -> None:
    pieces = split(text, limit)
    assert all(piece.strip() and len(piece) <= limit for piece in pieces)
    letters = re.sub(r"[^ab]", "", "".join(pieces))
    # A language is said again where its block is reopened; nothing else is.
    assert len(letters) >= len(re.sub(r"[^ab]", "", text))


def test_a_block_is_reopened_with_its_language() -> None:
    text = "Before\n```python\n" + "\n".join(f"line_{n} = {n}" for n in range(20)) + "\n```\nAfter"
    pieces = split(text, 100)
    assert len(pieces) > 2
    assert pieces[0].startswith("Before\n```python\nline_0 = 0\n")
    assert all(piece.startswith("```python\n") for piece in pieces[1:])
    assert all(piece.endswith("\n```") for piece in pieces[:-1])
    assert pieces[-1].endswith("```\nAfter")


def test_short_text_is_one_piece_and_blank_text_none() -> None:
    assert split("hello\nthere", 100) == ["hello\nthere"]
    assert split(" \n\n", 100) == []
    with pytest.raises(ValueError, match="64"):
        split("x", 10)


# ---- untrusted text


@given(st.text(st.characters(), max_size=200))
def test_neutral_text_can_be_shown_anywhere(text: str) -> None:
    clean = neutralise(text)
    clean.encode()
    for char in clean:
        assert char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs")
        assert not "\u202a" <= char <= "\u202e"
        assert not 0xE0000 <= ord(char) <= 0xE0FFF
    assert neutralise(clean) == clean


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ünïcode ✅️ 👩‍💻\n\tx", "plain ünïcode ✅️ 👩‍💻\n\tx"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x\x1b]8;;http://evil\x1b\\y", "xy"),
        ("\x9b2Jx", "x"),
        ("\x1b]52;never ends", "␛]52;never ends"),
        ("a\x1b\x1b[31m[0mb", "a␛[0mb"),
        ("a\rb\r\nc", "a␍b\nc"),
        ("a\x00\x07\x7f\x85b", "a␀␇␡\\x85b"),
        ("user\u202etxt.exe", "user<U+202E>txt.exe"),
        ("pay\u200bpal", "pay<U+200B>pal"),
        ("x" + "".join(chr(0xE0000 + ord(c)) for c in "ignore all"), "x<10 hidden characters>"),
        ("caf\udce9", "caf\\xe9"),
    ],
)
def test_what_is_hidden_is_removed_or_shown(raw: str, shown: str) -> None:
    assert neutralise(raw) == shown


def test_one_line_is_one_line() -> None:
    assert one_line("a\n\x1b[1mb\u2028c ", 100) == "a b<U+2028>c"
    assert one_line("x" * 300, 10) == "x" * 9 + "…"


def test_plain_shows_where_a_link_goes_and_leaves_code_alone() -> None:
    assert plain("# Title\n**bold** [here](https://e.org/x) `[a](b)`") == "Title\nbold here (https://e.org/x) `[a](b)`"
    assert plain("[https://e.org](https://e.org)") == "https://e.org"
    assert plain("```\n**x**\n```") == "```\n**x**\n```"


def test_code_is_found() -> None:
    text = "a `b` c ``d ` e`` f `g\n```\nh\n```\ni"
    assert [text[start:end] for start, end in code_ranges(text)] == ["`b`", "``d ` e``", "```\nh\n```\n"]
