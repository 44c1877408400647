"""On which line of a TOML file a key is written. tomllib does not say, so the file's tokens are walked once more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

from graph.errors import BadInput

NAME = ".threadwright.toml"
MOST_BYTES = 64 << 10
MOST_DEEP = 16
"""Brackets in brackets, and parts of a key."""
MOST_WORD = 256
"""Characters of a key or number without quotes."""

KeyPath = tuple[str | int, ...]


def said(line: int, *words: str) -> str:
    return ": ".join((f"{NAME}, line {line}", *words))


BARE = re.compile(r"[A-Za-z0-9_-]+")
_ENDS_VALUE = ("\n", ",", "]", "}")
_ENDS_KEY = (*_ENDS_VALUE, "[", "{", "=")
_TOKEN = re.compile(
    r"""
    (?:[ \t\r]|\#[^\n]*)++
    |(?P<token>
        \n | [\[\]{},=.]
        | \"{3}(?:[^"\\]|\\.|"{1,2}+(?!"))*+"{3,5}
        | '{3}(?:[^']|'{1,2}+(?!'))*+'{3,5}
        | "(?!"")(?:[^"\\\n]|\\.)*+"
        | '(?!'')[^'\n]*+'
        | [^\s\[\]{},=.\#"']+
    )""",
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    text: str
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    """Of a text that is no TOML: those before the first fault, at least."""
    at, line = 0, 1
    while found := _TOKEN.match(text, at):
        if found["token"]:
            yield _Token(found[0], line)
        at, line = found.end(), line + found[0].count("\n")


def bounded(text: str) -> list[_Token]:
    """tomllib takes 18 seconds for a key of 32,000 parts, and falls off the stack in as many brackets."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise BadInput(said(text.count("\n", 0, exc.start) + 1, "is not UTF-8")) from None
    if size > MOST_BYTES:
        raise BadInput(f"{NAME}: is {size:,} bytes long; at most {MOST_BYTES:,} are read")
    depth = dots = 0
    tokens = list(_tokens(text))
    for token in tokens:
        depth += (token.text in ("[", "{")) - (token.text in ("]", "}"))
        dots = 0 if token.text in _ENDS_KEY else dots + (token.text == ".")
        is_long = len(token.text) > MOST_WORD and token.text[0] not in "\"'"
        if max(depth, dots) > MOST_DEEP or is_long:
            raise BadInput(said(token.line, "is nested deeper, or has a longer word, than anything that belongs here"))
    return tokens


def parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as exc:
        why, line = str(exc), text.rstrip().count("\n") + 1
        if found := re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", why, re.DOTALL):
            why, line = found[1], int(found[2])
        why = why.removesuffix(" (at end of document)")
        if why.startswith(("Cannot overwrite", "Cannot declare")):
            why = "this key or table is there already"
        raise BadInput(said(line, f"this is not TOML: {why}")) from None


class Places:
    """On which line each key and each item of a valid file is written."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._tokens = [*tokens, _Token("\n", 0)]
        self._at = 0
        table: KeyPath = ()
        while self._at < len(self._tokens):
            if self._skip("["):
                self._skip("[")
                table = self._key(())
                self._skip("]")
                self._skip("]")
            elif not self._skip("\n"):
                self._entry(table)

    def line(self, path: KeyPath) -> int:
        """Of a path that is not there: the line of the table that it is missing from."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _skip(self, text: str) -> bool:
        is_there = self._tokens[self._at].text == text
        self._at += is_there
        return is_there

    def _key(self, path: KeyPath) -> KeyPath:
        while True:
            token = self._tokens[self._at]
            path = (*path, token.text if BARE.fullmatch(token.text) else next(iter(tomllib.loads(f"{token.text}=0"))))
            self._at += 1
            if not self._skip("."):
                self._lines[path] = token.line
                return path
            self._lines.setdefault(path, token.line)

    def _entry(self, table: KeyPath) -> None:
        path = self._key(table)
        self._skip("=")
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self._skip("["):
            self._items(path, "]")
        elif self._skip("{"):
            self._items(path, "}")
        else:
            while self._tokens[self._at].text not in _ENDS_VALUE:
                self._at += 1

    def _items(self, path: KeyPath, closing: str) -> None:
        index = 0
        while not self._skip(closing):
            if self._skip(","):
                index += 1
            elif not self._skip("\n"):
                if closing == "}":
                    self._entry(path)
                else:
                    self._lines[*path, index] = self._tokens[self._at].line
                    self._value((*path, index))
