"""What people write in Slack as Markdown, and Markdown as Slack shows it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slackblocks import check_blocks
from slackharm import harm, hostile, in_mrkdwn

from bot.slack import richtext
from bot.slack.markup import escape, fallback, ids_in, rich_text, rich_to_markdown, to_markdown
from bot.slack.richtext import sections, shorten

NAMES = {"U1": "Ann", "C1": "general", "S1": "crew"}
ME = "UBOT"


# ---- mrkdwn to Markdown


@pytest.mark.parametrize(
    ("slack", "markdown"),
    [
        ("*bold* and _italic_ and ~gone~", "**bold** and _italic_ and ~~gone~~"),
        ("2*3*4 and snake_case_name", "2*3*4 and snake_case_name"),
        ("run `make *all*` now", "run `make *all*` now"),
        ("```\nx = 1\n```", "```\nx = 1\n```"),
        ("so: ```a &lt; b``` yes", "so: \n```\na < b\n```\n yes"),
        ("`<http://example.com|example.com>`", "`example.com`"),
        ("&gt; quoted &amp; so", "> quoted & so"),
        ("• one\n    ◦ two", "- one\n    - two"),
        ("&lt;@U1&gt; is text", "<@U1> is text"),
        ("<@U1> and <@U2|ben> and <@U3>", "@Ann and @ben and @U3"),
        ("<#C1> <#C2|random> <!subteam^S1> <!subteam^S2|@team>", "#general #random @crew @team"),
        ("<!here> <!channel|@channel> <!everyone>", "@here @channel @everyone"),
        ("<https://x.example|label>", "[label](https://x.example)"),
        ("<https://x.example/a?b=1&amp;c=2>", "https://x.example/a?b=1&c=2"),
        ("<http://x.example|x.example>", "x.example"),
        ("<mailto:a@b.example|a@b.example>", "a@b.example"),
        ("<https://x.example/a_(b)|a [b]>", r"[a \[b\]](<https://x.example/a_(b)>)"),
        ("<!date^1392734382^{date}|Feb 18>", "Feb 18"),
        ("<!date^1392734382^{date}>", "2014-02-18 14:39 UTC"),
        (":tada: fine", ":tada: fine"),
        ("<@UBOT> fix it", "fix it"),
        ("hey <@UBOT> fix it", "hey fix it"),
        ("fix it, <@UBOT>!", "fix it, !"),
        ("*<@UBOT> fix <@U1>'s*", "**fix @Ann's**"),
    ],
)
def test_a_message_becomes_markdown(slack: str, markdown: str) -> None:
    assert to_markdown(slack, NAMES, me=ME) == markdown


# ---- rich text to Markdown


def block(*elements: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "rich_text", "elements": list(elements)}]


def line(*elements: dict[str, Any] | str) -> dict[str, Any]:
    return {"type": "rich_text_section", "elements": [text(e) if isinstance(e, str) else e for e in elements]}


def text(words: str, **style: bool) -> dict[str, Any]:
    return {"type": "text", "text": words, **({"style": style} if style else {})}


def bullets(*items: str, indent: int = 0, style: str = "bullet", **more: int) -> dict[str, Any]:
    return {"type": "rich_text_list", "style": style, "indent": indent, "elements": [line(i) for i in items], **more}


@pytest.mark.parametrize(
    ("elements", "markdown"),
    [
        ([line(text("bold ", bold=True), text("both", bold=True, italic=True))], "**bold** ***both***"),
        ([line("a ", text("gone", strike=True), " ", text("x = `1`", code=True))], "a ~~gone~~ `` x = `1` ``"),
        ([bullets("one"), bullets("two", indent=1), bullets("three")], "- one\n    - two\n- three"),
        ([bullets("one", "two", style="ordered", offset=2)], "3. one\n4. two"),
        ([line("so:\n"), {"type": "rich_text_preformatted", "elements": [text("a\nb")]}], "so:\n\n```\na\nb\n```"),
        (
            [{"type": "rich_text_preformatted", "language": "python", "elements": [text("x = '```'")]}],
            "````python\nx = '```'\n````",
        ),
        ([{"type": "rich_text_quote", "elements": [text("a\nb")]}, line("c")], "> a\n> b\n\nc"),
        ([line({"type": "link", "url": "https://x.example", "text": "here"})], "[here](https://x.example)"),
        ([line({"type": "link", "url": "https://x.example"})], "https://x.example"),
        ([line({"type": "link", "url": "http://x.example", "text": "x.example"})], "x.example"),
        ([line({"type": "emoji", "name": "tada"}, " fine")], ":tada: fine"),
        ([line({"type": "user", "user_id": ME}, " fix it")], "fix it"),
        ([line("hey ", {"type": "user", "user_id": ME}, " fix it")], "hey fix it"),
        ([line({"type": "user", "user_id": "U1"}, {"type": "user", "user_id": "U9"})], "@Ann@U9"),
        ([line({"type": "channel", "channel_id": "C1"}, {"type": "usergroup", "usergroup_id": "S1"})], "#general@crew"),
        ([line({"type": "broadcast", "range": "here"})], "@here"),
        ([line({"type": "date", "timestamp": 1392734382, "format": "{date}"})], "2014-02-18 14:39 UTC"),
        ([line({"type": "date", "timestamp": 1, "format": "{date}", "fallback": "then"})], "then"),
        ([line("a"), line()], "a"),
    ],
)
def test_rich_text_becomes_markdown(elements: list[dict[str, Any]], markdown: str) -> None:
    assert rich_to_markdown(block(*elements), NAMES, me=ME) == markdown


def test_without_rich_text_there_is_none() -> None:
    assert rich_to_markdown([{"type": "section", "text": {"type": "mrkdwn", "text": "x"}}], NAMES) is None


def test_the_ids_whose_names_are_wanted_are_found_in_text_and_blocks() -> None:
    blocks = block(line({"type": "user", "user_id": "U2"}), bullets("x"), line({"type": "channel", "channel_id": "C2"}))
    assert ids_in("<@U1> <#C1|x> <!subteam^S1> <!here> &lt;@U9&gt;", blocks) == {"U1", "C1", "S1", "U2", "C2"}


KINDS = ["rich_text", "rich_text_section", "rich_text_list", "rich_text_quote", "rich_text_preformatted"]
INLINE = ["text", "link", "user", "channel", "date", "emoji"]
KEYS = ["type", "elements", "style", "text", "url", "user_id", "offset", "indent", "timestamp", "language", "name"]
words = st.sampled_from([*KINDS, *INLINE, *KEYS, "ordered"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)
element = st.fixed_dictionaries({"type": words, "elements": st.lists(anything, max_size=4)}) | anything


@given(st.lists(st.fixed_dictionaries({"type": st.just("rich_text"), "elements": st.lists(element)}) | anything))
@settings(deadline=None)
def test_whatever_blocks_come_they_become_text(blocks: list[Any]) -> None:
    markdown = rich_to_markdown(blocks, NAMES, me=ME)
    assert markdown is None or isinstance(markdown, str)
    assert all(re.fullmatch("[A-Z][A-Z0-9]+", found) for found in ids_in("", blocks))


def test_deep_nesting_is_no_trouble() -> None:
    deep: Any = {"type": "user", "user_id": "U1"}
    for _ in range(20_000):
        deep = {"elements": [deep]}
    assert ids_in("", [deep]) == {"U1"}
    assert rich_to_markdown([{"type": "rich_text", "elements": [deep]}], NAMES) == ""
    assert rich_text("> " * 5_000 + "x")[0]["type"] == "rich_text"
    assert fallback("*" * 20_000 + "[" * 5_000)


@given(hostile)
@settings(deadline=None)
def test_whatever_text_comes_it_becomes_markdown_without_our_mention(said: str) -> None:
    assert f"<@{ME}>" not in to_markdown(said.replace("&", ""), NAMES, me=ME)
    assert f"<@{ME}>" not in to_markdown(f"<@{ME}> {said.replace('&', '')}", NAMES, me=ME)
    ids_in(said)


def test_the_check_for_our_mention_would_see_it() -> None:
    assert f"<@{ME}>" in to_markdown(f"&lt;@{ME}&gt;", NAMES, me=ME)


# ---- Markdown to rich text


def elements(markdown: str) -> list[dict[str, Any]]:
    (found,) = rich_text(markdown)
    return list(found["elements"])


def test_styles_code_and_breaks_are_kept() -> None:
    (section,) = elements("# Head\nis **bold *both*** and `x*y` ~~gone~~\nnext\n\nlast")
    assert section["elements"] == [
        text("Head", bold=True),
        text("\n\n"),
        text("is "),
        text("bold ", bold=True),
        text("both", bold=True, italic=True),
        text(" and "),
        text("x*y", code=True),
        text(" "),
        text("gone", strike=True),
        text("\nnext"),
        text("\n\n"),
        text("last"),
    ]


def test_lists_nest_and_go_on_counting_behind_code() -> None:
    found = elements("3. three\n   - a\n     - b\n4. four\n\n   ```py\n   x = 1\n   ```\n5. five")
    assert [(e["type"], e.get("style"), e.get("indent"), e.get("offset")) for e in found] == [
        ("rich_text_list", "ordered", 0, 2),
        ("rich_text_list", "bullet", 1, None),
        ("rich_text_list", "bullet", 2, None),
        ("rich_text_list", "ordered", 0, 3),
        ("rich_text_preformatted", None, None, None),
        ("rich_text_list", "ordered", 0, 4),
    ]
    assert found[4]["elements"] == [text("x = 1")]


def test_what_follows_a_list_of_suggestions_is_not_part_of_the_last_one() -> None:
    found = elements("Loud or soft?\n   1. loud\n   2. soft\n   If nobody answers, I assume: loud")
    assert [e["type"] for e in found] == ["rich_text_section", "rich_text_list", "rich_text_section"]
    assert found[1]["elements"][1] == line("soft")


def test_quotes_tables_and_rules_become_what_slack_has() -> None:
    found = elements("> a\n> b\n\n| name | n |\n|---|---|\n| x | 1 |\n\n---")
    assert found[0] == {"type": "rich_text_quote", "elements": [text("a\nb")]}
    assert found[1] == {"type": "rich_text_preformatted", "elements": [text("name | n\nx    | 1")]}
    assert found[2]["type"] == "rich_text_section"


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("[here](https://x.example/a)", [{"type": "link", "url": "https://x.example/a", "text": "here"}]),
        ("<https://x.example>", [{"type": "link", "url": "https://x.example"}]),
        ("https://x.example/a_b.", [{"type": "link", "url": "https://x.example/a_b"}, text(".")]),
        (
            "[a.py:3](https://x.example/src/a.py)",
            [{"type": "link", "url": "https://x.example/src/a.py", "text": "a.py:3"}],
        ),
        (
            "[good.example](https://evil.example)",
            [text("good.example ("), {"type": "link", "url": "https://evil.example"}, text(")")],
        ),
        (
            "[good\u2024example/x](https://evil.example)",
            [text("good\u2024example/x ("), {"type": "link", "url": "https://evil.example"}, text(")")],
        ),
        ("[a](file:///etc/passwd)", [text("[a](file:///etc/passwd)")]),
        ("![cat](https://x.example/c.png)", [{"type": "link", "url": "https://x.example/c.png", "text": "cat"}]),
        ("<!channel> <@U1> <b>", [text("<!channel> <@U1> <b>")]),
        ("a&#x202e;b", [text("a<U+202E>b")]),
    ],
)
def test_links_lead_where_they_say(markdown: str, shown: list[dict[str, Any]]) -> None:
    assert elements(markdown) == [{"type": "rich_text_section", "elements": shown}]


@given(hostile)
@settings(deadline=None)
def test_no_markdown_pings_hides_spoofs_or_is_refused(markdown: str) -> None:
    rich = rich_text(markdown)
    check_blocks(rich)
    assert not list(harm(rich))
    plain = sections(rich)
    check_blocks(plain)
    assert not list(harm(plain))


@given(hostile, st.integers(1, 3000))
@settings(deadline=None)
def test_no_fallback_pings_or_is_too_long(markdown: str, limit: int) -> None:
    shown = fallback(markdown, limit)
    assert len(shown) <= limit
    assert not list(in_mrkdwn(shown))


@given(hostile)
@settings(deadline=None)
def test_escaped_text_is_only_text(untrusted: str) -> None:
    escaped = escape(untrusted)
    assert not list(in_mrkdwn(escaped))
    assert "<" not in escaped
    assert "```" not in escaped
    for limit in (1, 5, 20):
        assert not re.search(r"&[a-z]*(…|$)", shorten(escaped, limit))


PLANTED = "<!channel> @here \u202e [https://good.example](https://evil.example)"


@pytest.mark.parametrize("name", ["escape", "neutralise", "_escaped"])
def test_the_check_of_mrkdwn_would_see_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(richtext, name, lambda raw: raw)
    assert list(in_mrkdwn(fallback(PLANTED))) or list(in_mrkdwn(richtext.escape(PLANTED)))
    assert list(harm(sections(rich_text(PLANTED))))


def test_the_check_of_rich_text_would_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(harm(block(line({"type": "user", "user_id": "U1"}))))
    assert list(harm(block(line({"type": "broadcast", "range": "channel"}))))
    monkeypatch.setattr(richtext, "_pretends", lambda label, url: False)
    assert any("good.example" in found for found in harm(rich_text(PLANTED)))
    monkeypatch.setattr(richtext, "neutralise", lambda raw: raw)
    assert any("hidden" in found for found in harm(rich_text("a\u202eb")))


def test_the_check_of_lengths_would_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(richtext, "shorten", lambda raw, limit: raw)
    assert len(fallback("x" * 4000)) > 3000
    assert re.search(r"&[a-z]*(…|$)", escape("&&")[:7] + "…")


def test_code_can_be_copied_from_plain_sections() -> None:
    (found,) = sections(rich_text("```py\n@app.get('https://x.example')\n```"))
    assert found["text"]["text"] == "```\n@app.get('https://x.example')\n```"
