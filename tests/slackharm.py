"""What untrusted text may never do in a message: mention anybody, hide characters, lead somewhere unseen."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from hypothesis import strategies as st

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2061-\u206f\ufeff\ud800-\udfff]")
FAMILY = re.compile("(?<=[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff])\u200d(?=[\u2600-\u27bf\U0001f300-\U0001faff])")
"""What joins emoji into one hides nothing."""
OURS = re.compile(r"<!date\^\d+\^\{time\}\|\d\d:\d\d UTC>|<(?:https?://|mailto:)[^<>|\s]+>")
JOINER = "\u2060"

NASTY = (
    "<!channel>", "<!here|x>", "<@U1>", "<@U1|ann>", "<#C1>", "<!subteam^S1>", "@channel", "@here", "&lt;!channel&gt;",
    "<https://evil.example|https://good.example>", "[https://good.example](https://evil.example)", "&#x202e;", "\u202e",
    "[good.example/login](https://evil.example)", "![x](https://evil.example/p.png)", "\u200b", "\x1b[2J", "\x00",
    "\udc80", "&", "<", ">", "```", "`", "*", "_", "~", "\n", "\n\n", "> ", "- ", "1. ", "   ",
    "| a | b |\n|---|---|\n",
    "| a | b |\n|---|---|\n", "# ", "https://x.example/a_b", "[a](javascript:alert(1))", "[", "](", ")", "|",
    "é", "👩‍👧", "\u2028", "\r\n",
    "\t", "<https://a.example>", "http://[", "&amp;", "\ue000", "word", "snake_case", "www.x.example",
)  # fmt: skip
hostile = st.lists(st.sampled_from(NASTY) | st.text(max_size=12), max_size=25).map("".join)
"""Texts of pieces that have done harm somewhere, and of anything."""


def in_mrkdwn(text: str, allowed: Collection[str] = ()) -> Iterator[str]:
    rest = OURS.sub("", text)
    for user in allowed:
        rest = rest.replace(f"<@{user}>", "")
    if "<" in rest or ">" in rest:
        yield f"markup that is not ours: {rest!r}"
    if re.search(r"(?<!\w)@(?:channel|here|everyone)", rest):
        yield f"becomes a mention: {rest!r}"
    if HIDDEN.search(FAMILY.sub("", text)):
        yield f"hidden characters: {text!r}"


def harm(value: Any, allowed: Collection[str] = ()) -> Iterator[str]:
    """Everything in these blocks that should not be there. `allowed`: whom we mention ourselves."""
    if isinstance(value, list):
        for inner in value:
            yield from harm(inner, allowed)
    if not isinstance(value, dict):
        return
    kind = value.get("type")
    if kind in ("user", "usergroup", "channel", "broadcast") and value.get("user_id") not in allowed:
        yield f"mentions: {value}"
    if kind == "mrkdwn":
        yield from in_mrkdwn(value["text"], () if value.get("verbatim") is not True else allowed)
    elif isinstance(value.get("text"), str) and HIDDEN.search(FAMILY.sub("", value["text"]).replace(JOINER, "\0")):
        yield f"hidden characters: {value['text']!r}"
    if kind == "link":
        yield from _spoofed(value)
    if kind == "image":
        yield f"a picture from elsewhere: {value}"
    for inner in value.values():
        yield from harm(inner, allowed)


def _spoofed(link: dict[str, Any]) -> Iterator[str]:
    if not re.match(r"(https?://|mailto:)\S+$", link["url"]):
        yield f"leads to {link['url']!r}"
    shown = link.get("text", "")
    if re.search(r"good\.example|://|www\.", shown):
        yield f"says {shown!r} and leads to {link['url']!r}"
