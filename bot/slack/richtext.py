"""Markdown of ours, with untrusted pieces in it, as Slack shows it: `rich_text`, mrkdwn, one plain text. Pure.

The text of a `rich_text` element is literal, so that nothing in it mentions anybody
(https://docs.slack.dev/reference/block-kit/blocks/rich-text-block). A mrkdwn text needs `escape`
(https://docs.slack.dev/messaging/formatting-message-text#escaping).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from bot.text import code_ranges, neutralise, one_line

Element = dict[str, Any]

SECTION_TEXT = 3000
"""https://docs.slack.dev/reference/block-kit/blocks/section-block"""
INDENT = 8
"""https://docs.slack.dev/reference/block-kit/block-elements/rich-text-list-element"""
URL_LENGTH = 3000
"""https://docs.slack.dev/reference/block-kit/block-elements/button-element"""
_OFFSET = 1_000_000
_COLUMN = 30
_JOINER = "\u2060"

_PARSER = (
    MarkdownIt("commonmark", {"html": False, "maxNesting": 100}).enable(["table", "strikethrough"]).disable("reference")
)
_ADDRESS = re.compile(r"https?://[^\s<>\"'`|\\^{}]+", re.IGNORECASE)
_TRAILING = ".,;:!?)]*_~…"
_ITEM = re.compile(r"([ \t]*)([-*+]|\d{1,9}[.)])([ \t]+)(?=\S)")
_STYLES = {"strong": "bold", "em": "italic", "s": "strike"}


# Untrusted text in mrkdwn

_AUTOMATIC = re.compile(
    r"(?<!\w)([@#])(?=[^\W\d])|(?<=\bmailto)(:)|(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?<=`)(?=`)", re.IGNORECASE
)


def escape(text: str) -> str:
    """Untrusted text for a mrkdwn field: nothing in it is a mention, a link or a code block, or becomes one."""
    return _AUTOMATIC.sub(lambda m: m[0] + _JOINER, _escaped(neutralise(text)))


_IN_CODE = re.compile(r"(?<=`)(?=`)|(?<!\w)@(?=(?:channel|here|everyone)\b)")


def _escaped_code(text: str) -> str:
    """For fields where Slack makes no links of its own: people copy code, so only what would ping or end it changes."""
    return _IN_CODE.sub(lambda m: m[0] + _JOINER, _escaped(neutralise(text)))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shorten(escaped: str, limit: int) -> str:
    """Escaped text of at most `limit` characters, never cut inside an entity or a link."""
    if len(escaped) <= limit:
        return escaped
    return re.sub(r"(<[^>]*|&[a-z]{0,4})$", "", escaped[: limit - 1]) + "…"


# Markdown to rich text


def rich_text(markdown: str) -> list[dict[str, Any]]:
    """One `rich_text` block, or none for a text that is blank.

    Only http, https and mailto addresses are links; one whose label looks like another address shows its own.
    """
    source = _without_laziness(neutralise(markdown))
    page = _Page(source.split("\n"))
    for node in SyntaxTreeNode(_PARSER.parse(source)).children:
        page.add(node)
    if not page.elements and (words := neutralise(markdown).strip()):
        # The parser gives up on what is nested too deep: shown as it was written.
        page.elements.append({"type": "rich_text_section", "elements": [_text(words)]})
    return [{"type": "rich_text", "elements": page.elements}] if page.elements else []


def _without_laziness(markdown: str) -> str:
    """A line that is indented less than the list item above it is none of the item's words: what follows a list of
    suggestions would otherwise belong to the last of them."""
    code = [range(a, b) for a, b in code_ranges(markdown) if "\n" in markdown[a:b]]
    lines: list[str] = []
    position = content = 0
    for line in markdown.split("\n"):
        start, position = position, position + len(line) + 1
        item = _ITEM.match(line)
        if any(start in fenced for fenced in code) or not line.strip():
            content = 0
        elif item:
            content = item.end() if len(item[3]) <= 4 else item.end(2) + 1
        elif len(line) - len(line.lstrip()) < content:
            lines.append("")
            content = 0
        lines.append(line)
    return "\n".join(lines)


class _Page:
    """The elements of one `rich_text` block, as they come."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.elements: list[Element] = []
        self._lines = lines

    def add(self, node: SyntaxTreeNode, depth: int = 0, *, quoted: bool = False) -> None:
        match node.type:
            case "paragraph" | "heading":
                self._paragraph(_inline_of(node), quoted=quoted)
            case "fence":
                language = node.content.strip() and re.fullmatch(r"[\w+#.-]{0,30}", node.info.strip())
                self._preformatted(node.content if language else f"{node.info.strip()}\n{node.content}", quoted=quoted)
            case "code_block":
                self._preformatted(node.content, quoted=quoted)
            case "table":
                self._preformatted(self._whole(node) or _table(node), quoted=quoted)
            case "bullet_list" | "ordered_list":
                self._list(node, depth, quoted=quoted)
            case "blockquote":
                for child in node.children:
                    self.add(child, depth, quoted=True)
            case "hr":
                self._paragraph([_text("———")], quoted=quoted)
            case _:
                self._paragraph(_literal(node.content, {}), quoted=quoted)

    def _paragraph(self, words: list[Element], *, quoted: bool) -> None:
        if not words:
            return
        kind = "rich_text_quote" if quoted else "rich_text_section"
        if self.elements and self.elements[-1]["type"] == kind:
            self.elements[-1]["elements"] += [_text("\n" if quoted else "\n\n"), *words]
        else:
            self.elements.append({"type": kind, "elements": words})

    def _whole(self, table: SyntaxTreeNode) -> str:
        """The lines of a table whose surplus cells the parser drops, as they were written; else empty."""
        start, end = table.map or (0, 0)
        pipes = [line.count("|") - line.count("\\|") for line in self._lines[start:end]]
        return "\n".join(self._lines[start:end]) if pipes and max(pipes) > pipes[0] else ""

    def _preformatted(self, code: str, *, quoted: bool) -> None:
        text = neutralise(code).rstrip("\n")
        if text:
            border = {"border": 1} if quoted else {}
            self.elements.append({"type": "rich_text_preformatted", "elements": [_text(text)], **border})

    def _list(self, node: SyntaxTreeNode, depth: int, *, quoted: bool) -> None:
        ordered = node.type == "ordered_list"
        number = int(node.attrs.get("start", 1)) if ordered else 0
        for item in node.children:
            words: list[Element] = []
            children = list(item.children)
            while children and children[0].type in ("paragraph", "heading"):
                more = _inline_of(children.pop(0))
                words += [_text("\n"), *more] if words and more else more
            self._item(words or [_text(" ")], number, min(depth, INDENT), quoted=quoted)
            for child in children:
                self.add(child, depth + 1, quoted=quoted)
            number += ordered

    def _item(self, words: list[Element], number: int, indent: int, *, quoted: bool) -> None:
        section = {"type": "rich_text_section", "elements": words}
        style = "ordered" if number else "bullet"
        last = self.elements[-1] if self.elements else {}
        if (
            last.get("type") == "rich_text_list"
            and (last["style"], last["indent"], last["border"]) == (style, indent, int(quoted))
            and (not number or last.get("offset", 0) + len(last["elements"]) == number - 1)
        ):
            last["elements"].append(section)
            return
        head: Element = {"type": "rich_text_list", "style": style, "indent": indent, "border": int(quoted)}
        if 1 < number <= _OFFSET:
            head["offset"] = number - 1
        self.elements.append({**head, "elements": [section]})


def _text(text: str, style: Mapping[str, bool] | None = None) -> Element:
    return {"type": "text", "text": text, **({"style": dict(style)} if style else {})}


def _inline_of(node: SyntaxTreeNode) -> list[Element]:
    style = {"bold": True} if node.type == "heading" else {}
    return _joined(e for line in node.children for e in _inline(line.children, style))


def _inline(nodes: Sequence[SyntaxTreeNode], style: Mapping[str, bool]) -> Iterator[Element]:
    for node in nodes:
        match node.type:
            case "softbreak" | "hardbreak":
                yield _text("\n", style)
            case "code_inline":
                yield from [_text(neutralise(node.content), {**style, "code": True})] if node.content else []
            case "strong" | "em" | "s":
                yield from _inline(node.children, {**style, _STYLES[node.type]: True})
            case "link":
                yield from _link(_words(node), str(node.attrs.get("href", "")), style)
            case "image":
                yield from _link(_words(node) or node.content, str(node.attrs.get("src", "")), style)
            case _:
                yield from _literal(node.content, style)


def _words(node: SyntaxTreeNode) -> str:
    parts = (
        " " if leaf.type in ("softbreak", "hardbreak") else leaf.content for leaf in node.walk() if not leaf.children
    )
    return neutralise("".join(parts)).replace("\n", " ").strip()


def _literal(content: str, style: Mapping[str, bool]) -> list[Element]:
    """Text as it is; an address in it can be followed, and shows where it leads."""
    text, position = neutralise(content), 0
    found: list[Element] = []
    for match in _ADDRESS.finditer(text):
        url = match[0].rstrip(_TRAILING)
        if not _leads_somewhere(url):
            continue
        found += [_text(text[position : match.start()], style), {"type": "link", "url": url, **_styled(style)}]
        position = match.start() + len(url)
    return [e for e in (*found, _text(text[position:], style)) if e["type"] == "link" or e["text"]]


def _styled(style: Mapping[str, bool]) -> Element:
    return {"style": dict(style)} if style else {}


def _joined(elements: Iterable[Element]) -> list[Element]:
    joined: list[Element] = []
    for element in elements:
        last = joined[-1] if joined else {}
        if element["type"] == last.get("type") == "text" and element.get("style") == last.get("style"):
            last["text"] += element["text"]
        else:
            joined.append(element)
    return joined


def _table(node: SyntaxTreeNode) -> str:
    rows = [
        [one_line("".join(_words(line) for line in cell.children), 1000) for cell in row.children]
        for part in node.children
        for row in part.children
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(min(width, _COLUMN)) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(" | ".join(row).rstrip() for row in padded)


# Links

_LOOKS_LIKE_ADDRESS = re.compile(
    r"(?i)://|^\W*www\.|^\W*(?:[^\s/@]+@)?[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}(?:[:/?#].*)?\W*$"
)


def _leads_somewhere(url: str) -> bool:
    if len(url) > URL_LENGTH or re.search(r"[\s<>|\x00-\x20]", url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme == "mailto" or (parts.scheme in ("http", "https") and bool(parts.hostname))
    except ValueError:
        return False


def _link(label: str, address: str, style: Mapping[str, bool]) -> list[Element]:
    url = neutralise(address)
    if not _leads_somewhere(url):
        shown = label if not url or label == url else f"{label} ({url})".lstrip()
        return [_text(shown, style)] if shown else []
    link: Element = {"type": "link", "url": url}
    if not label or _bare(label) == _bare(url):
        return [{**link, **_styled(style)}]
    if _pretends(label, url):
        return [_text(f"{label} (", style), {**link, **_styled(style)}, _text(")", style)]
    return [{**link, "text": label, **_styled(style)}]


def _bare(address: str) -> str:
    return re.sub(r"^(https?://|mailto:)", "", address.strip(), flags=re.IGNORECASE).rstrip("/").lower()


def _pretends(label: str, url: str) -> bool:
    """Whether `label` looks like an address that `url` is not. The name of a file that it leads to does not."""
    seen = unicodedata.normalize("NFKC", label).strip()
    if not _LOOKS_LIKE_ADDRESS.search(seen):
        return False
    return not ("/" not in seen and urlsplit(url).path.endswith("/" + re.sub(r":\d+$", "", seen)))


# Rich text to mrkdwn


def fallback(markdown: str, limit: int = 3000) -> str:
    """One escaped text without marks, for notifications and old clients; at most `limit` characters (at least 1)."""
    return shorten("\n".join(text for _, text in _lines(rich_text(markdown), marked=False)), limit)


def sections(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`rich_text` blocks as `section` blocks, for who takes nothing newer."""
    texts: list[str] = []
    for code, text in _lines(blocks, marked=True):
        for piece in _pieces(text, SECTION_TEXT - 8 if code else SECTION_TEXT):
            whole = f"```\n{piece}\n```" if code else piece
            if texts and len(texts[-1]) + 1 + len(whole) <= SECTION_TEXT:
                texts[-1] += "\n" + whole
            else:
                texts.append(whole)
    return [section(text) for text in texts if text.strip()]


def section(mrkdwn: str) -> dict[str, Any]:
    """`verbatim`: Slack makes no links and mentions of its own (.../composition-objects/text-object)."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn, "verbatim": True}}


def _pieces(text: str, limit: int) -> Iterator[str]:
    while len(text) > limit:
        head = text[:limit]
        at = head.rfind("\n") + 1 or len(re.sub(r"(<[^>]*|&[a-z]{0,4})$", "", head)) or limit
        yield text[:at].rstrip("\n")
        text = text[at:]
    yield text


def _lines(blocks: Sequence[Mapping[str, Any]], *, marked: bool) -> Iterator[tuple[bool, str]]:
    """Each element's text, escaped, and whether it is code."""
    for element in (e for block in blocks for e in block["elements"]):
        if element["type"] == "rich_text_preformatted":
            code = element["elements"][0]["text"]
            yield marked, _escaped_code(code) if marked else escape(code)
        elif element["type"] == "rich_text_list":
            first = element.get("offset", 0) + 1
            for number, item in enumerate(element["elements"], first):
                mark = f"{number}." if element["style"] == "ordered" else "•"
                yield False, f"{'    ' * element['indent']}{mark} {mrkdwn(item['elements'], marked=marked)}"
        else:
            text = mrkdwn(element["elements"], marked=marked)
            if element["type"] == "rich_text_quote":
                text = "\n".join(f"&gt; {line}" for line in text.split("\n"))
            yield False, text


_MARKS = {"code": "`", "bold": "*", "italic": "_", "strike": "~"}


def mrkdwn(elements: Iterable[Mapping[str, Any]], *, marked: bool = True) -> str:
    """Inline elements of ours as mrkdwn. `marked`: with marks for bold, code and so on, where they would be seen."""
    text = ""
    for element in elements:
        match element["type"]:
            case "user":
                text += f"<@{element['user_id']}>"
            case "link":
                address = f"<{_escaped(element['url'])}>"
                text += f"{escape(element['text'])} ({address})" if element.get("text") else address
            case _:
                text += _marked(element, text[-1:]) if marked else escape(element["text"])
    return text


def _marked(element: Mapping[str, Any], before: str) -> str:
    words, style = element["text"], element.get("style", {})
    mark = next((m for s, m in _MARKS.items() if s in style), "")
    if not mark or words.strip() != words or {mark, "\n"} & set(words) or before.isalnum():
        return escape(words)
    return mark + (_escaped_code(words) if mark == "`" else escape(words)) + mark


def linked(text: str) -> str:
    """Untrusted plain text as mrkdwn: escaped, its addresses links that show themselves."""
    return mrkdwn(_literal(text, {}), marked=False)
