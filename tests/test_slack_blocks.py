"""Cards, replies and forms as Slack is sent them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slackblocks import check_blocks, check_view
from slackharm import harm, hostile, in_mrkdwn
from slackrules import Refused

from bot.chat import Ask, Author, Card, CardStep, Reply
from bot.slack import blocks as blocks_module
from bot.slack import modals, richtext
from bot.slack.blocks import Shown, give_modal, move_modal, show

ANN = Author("slack:T1:U1", "Ann")
CARD = Card(
    task="tw-k3f9",
    title="Add retries",
    state="working",
    since=datetime(2026, 11, 20, 14, 2, tzinfo=UTC),
    requester="Ann",
    repository="acme/api",
    base="main",
    rule="named in the message",
    steps=(CardStep("look", "done"), CardStep("write", "running"), CardStep("try", "waiting"), CardStep("x", "failed")),
    spent="$0.10 of $2",
    notes=("Pull request #3: https://forge.example/acme/api/pull/3",),
    url="https://runs.example/tw-k3f9",
)
ONE = Reply("question", "Loud or soft?", (ANN,), (Ask("Loud or soft?", ("loud", "soft")),), "q1")
TWO = replace(ONE, asks=(Ask("How?", ("loud", "soft")), Ask("For whom?", ("all", "me"))))


def found(shown: Shown, kind: str) -> list[dict[str, Any]]:
    return [block for block in shown.blocks if block["type"] == kind]


def controls(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [element for block in blocks if block["type"] == "actions" for element in block["elements"]]


def words(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# ---- cards


def test_a_card_has_its_plan_with_states_that_slack_knows() -> None:
    (plan,) = found(show(CARD), "plan")
    assert plan["title"] == "Plan: 1 of 4 done"
    assert [(t["title"], t["status"]) for t in plan["tasks"]] == [
        ("look", "complete"),
        ("write", "in_progress"),
        ("try", "pending"),
        ("x", "error"),
    ]
    assert len({t["task_id"] for t in plan["tasks"]}) == 4


def test_a_card_says_since_when_in_the_readers_zone_for_whom_where_and_what_it_cost() -> None:
    facts, notes = found(show(CARD), "context")
    assert [e["text"] for e in facts["elements"]] == [
        "working since <!date^1795183320^{time}|14:02 UTC>",
        "for Ann",
        "acme/api on main (named in the message)",
        "$0.10 of $2",
        "tw-k3f9",
    ]
    (note,) = notes["elements"]
    assert note["text"] == "Pull request #3: <https://forge.example/acme/api/pull/3>"


def test_a_card_has_its_buttons_until_its_end() -> None:
    buttons = controls(show(CARD).blocks)
    assert [b["action_id"] for b in buttons] == ["tw_stop", "tw_finish", "tw_move", "tw_open"]
    assert [b["text"]["text"] for b in buttons] == ["Stop", "Finish", "Wrong repository", "Open run"]
    assert {b["value"] for b in buttons[:3]} == {'{"t": "tw-k3f9"}'}
    assert buttons[3]["url"] == CARD.url
    assert not controls(show(replace(CARD, final=True)).blocks)
    assert not controls(show(CARD, buttons=False).blocks)
    without = controls(show(replace(CARD, url="javascript:alert(1)")).blocks)
    assert [b["action_id"] for b in without] == ["tw_stop", "tw_finish", "tw_move"]


def test_where_the_plan_block_is_refused_the_steps_are_a_list() -> None:
    shown = show(CARD)
    assert {block["type"] for block in shown.plain} == {"section", "context", "actions"}
    assert "✓ look\\n▸ write\\n○ try\\n✗ x" in words(shown.plain)
    assert shown.text == "Add retries · working · acme/api"


def test_a_card_without_a_plan_has_none_and_is_plain_enough() -> None:
    shown = show(replace(CARD, steps=(), notes=()))
    assert [block["type"] for block in shown.blocks] == ["header", "context", "actions"]


def test_a_long_plan_says_how_many_steps_more_there_are() -> None:
    (plan,) = found(show(replace(CARD, steps=tuple(CardStep(f"step {i}", "waiting") for i in range(60)))), "plan")
    assert len(plan["tasks"]) == 50
    assert plan["tasks"][-1]["title"] == "and 11 more"


# ---- replies


def test_a_question_mentions_whom_it_asks_and_has_a_button_for_each_suggestion() -> None:
    shown = show(ONE)
    first = shown.blocks[0]["elements"][0]["elements"]
    assert first[:2] == [{"type": "user", "user_id": "U1"}, {"type": "text", "text": " "}]
    buttons = controls(shown.blocks)
    assert [b["action_id"] for b in buttons] == ["tw_answer_0", "tw_answer_1"]
    assert [json.loads(b["value"]) for b in buttons] == [{"q": "q1", "a": "loud"}, {"q": "q1", "a": "soft"}]
    assert shown.text == "<@U1> Loud or soft?"
    assert {block["type"] for block in shown.plain} == {"section", "actions"}
    assert shown.plain[0]["text"]["text"] == "<@U1> Loud or soft?"


def test_several_questions_are_chosen_and_then_sent() -> None:
    *choices, send = controls(show(TWO).blocks)
    assert [(c["type"], c["action_id"]) for c in choices] == [
        ("radio_buttons", "tw_choose_0"),
        ("radio_buttons", "tw_choose_1"),
    ]
    assert [(o["text"]["text"], o["value"]) for o in choices[0]["options"]] == [("loud", "0"), ("soft", "1")]
    assert (send["action_id"], send["text"]["text"]) == ("tw_answers", "Send answers")
    assert json.loads(send["value"]) == {"q": "q1", "n": 2}


def test_many_suggestions_are_a_menu() -> None:
    many = Ask("Which?", tuple(f"file {i}" for i in range(12)))
    choice, *_ = controls(show(replace(TWO, asks=(many, Ask("How?", ("a",))))).blocks)
    assert choice["type"] == "static_select"
    assert len(choice["options"]) == 12


def test_a_long_suggestion_is_cut_on_its_button_and_whole_in_its_value() -> None:
    long = "do " * 100
    (button,) = controls(show(replace(ONE, asks=(Ask("How?", (long,)),))).blocks)
    assert len(button["text"]["text"]) == 75
    assert button["text"]["text"].endswith("…")
    assert json.loads(button["value"])["a"] == long


def test_a_suggestion_that_no_value_holds_is_answered_by_its_number() -> None:
    first, second = controls(show(replace(ONE, asks=(Ask("How?", ("short", "x" * 3000)),))).blocks)
    assert json.loads(first["value"])["a"] == "short"
    assert json.loads(second["value"])["a"] == "2"


def test_an_answered_question_has_no_buttons_and_says_who_answered() -> None:
    shown = show(replace(ONE, answered="Ann: loud"))
    assert not controls(shown.blocks)
    assert shown.blocks[-1] == {
        "type": "context",
        "elements": [{"type": "plain_text", "text": "Ann: loud", "emoji": False}],
    }


def test_someone_whose_id_is_no_slack_id_is_named() -> None:
    shown = show(Reply("result", "Done.", (Author("terminal:here:<@U2>", "Ben"),)))
    assert shown.blocks[0]["elements"][0]["elements"][0] == {"type": "text", "text": "Ben "}
    assert shown.text == "Done."


def test_what_is_too_long_is_a_file_and_the_message_says_so() -> None:
    text = "\n\n".join(f"{i}. This is what I found in file {i}." for i in range(1000))
    shown = show(Reply("result", text, (ANN,)))
    assert shown.file == ("message.md", text)
    for blocks in (shown.blocks, shown.plain):
        check_blocks(blocks)
        assert "file 0." in words(blocks)
        assert "This is the beginning" in words(blocks)
        assert "file 999." not in words(blocks)
    assert show(Reply("result", text[:11_000], (ANN,))).file is None


def test_a_long_code_block_is_cut_without_losing_its_fence() -> None:
    shown = show(Reply("notice", "```py\n" + "x = 1\n" * 4000 + "```"))
    kinds = [e["type"] for e in shown.blocks[0]["elements"]]
    assert kinds == ["rich_text_preformatted", "rich_text_section"]
    assert all(block["text"]["text"].count("```") == 2 for block in shown.plain if "x = 1" in words(block))


def test_an_empty_reply_is_still_a_message() -> None:
    assert show(Reply("notice", " \n")) == Shown("…", [], [])


# ---- whatever the texts are


STATES = st.sampled_from(["waiting", "running", "done", "failed"])
MINE = st.builds(Author, st.just("slack:T1:U1") | hostile, hostile)
asks = st.lists(st.builds(Ask, hostile, st.lists(hostile, max_size=12).map(tuple), hostile), max_size=12).map(tuple)
replies = st.builds(
    Reply,
    st.sampled_from(["question", "result", "notice", "final"]),
    hostile | st.builds(lambda text, times: text * times, hostile, st.integers(1, 300)),
    st.lists(MINE, max_size=3).map(tuple),
    asks,
    st.just("q1") | hostile,
    answered=st.just("") | hostile,
)
cards = st.builds(
    Card,
    hostile,
    hostile,
    hostile,
    st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    hostile,
    hostile,
    hostile,
    hostile,
    st.lists(st.builds(CardStep, hostile, STATES), max_size=60).map(tuple),
    hostile,
    st.lists(hostile, max_size=12).map(tuple),
    st.just("https://runs.example/1") | hostile,
    st.booleans(),
)


def wrong(shown: Shown, allowed: tuple[str, ...] = ("U1",)) -> Iterator[str]:
    """Limits that are broken, and what untrusted text did."""
    for blocks in (shown.blocks, shown.plain):
        try:
            check_blocks(blocks)
        except Refused as exc:
            yield f"Slack refuses it: {exc.args} {getattr(exc, 'extra', '')}"
        yield from harm(blocks, allowed)
    if {block["type"] for block in shown.plain} - {"section", "context", "actions"}:
        yield "newer blocks among the plain ones"
    if not 0 < len(shown.text) <= 3000:
        yield f"{len(shown.text)} characters of text"
    yield from in_mrkdwn(shown.text, allowed)
    try:
        json.dumps(shown.blocks, ensure_ascii=False).encode()
        (shown.text + "".join(shown.file or ())).encode()
    except UnicodeEncodeError as exc:
        yield str(exc)


@given(replies, st.booleans())
@settings(deadline=None, max_examples=50)
def test_no_reply_breaks_a_limit_or_does_harm(reply: Reply, buttons: bool) -> None:
    shown = show(reply, buttons=buttons)
    assert not list(wrong(shown))
    assert buttons or not controls(shown.blocks)


@given(cards, st.booleans())
@settings(deadline=None, max_examples=50)
def test_no_card_breaks_a_limit_or_does_harm(card: Card, buttons: bool) -> None:
    assert not list(wrong(show(card, buttons=buttons)))


@pytest.mark.parametrize(
    "piece", ["&", "<", "\u202e.", "`", "https://x.example/ ", "[a](https://x.example/b) ", "@", "|", "\n.", " ", "> "]
)
def test_a_long_text_of_one_thing_is_cut_to_fit(piece: str) -> None:
    shown = show(Reply("result", f"{piece * 20_000}x", (ANN,)))
    assert not list(wrong(shown))
    assert shown.file
    assert shown.file[1].endswith("x")


def test_the_largest_card_fits() -> None:
    big = "& <x> " * 200
    steps = tuple(CardStep(big, "waiting") for _ in range(100))
    notes = tuple(f"https://x.example/{'&' * 400} {big}" for _ in range(30))
    card = Card(big, big, big, CARD.since, big, big, big, big, steps, big, notes, "https://x.example")
    assert not list(wrong(show(card)))


HARMFUL = Reply("question", "<!channel> \u202e & <@U2>", (ANN,), (Ask("x", ("y" * 90,)),), "q1")


def test_the_check_of_messages_would_see_unescaped_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(wrong(show(HARMFUL)))
    monkeypatch.setattr(richtext, "escape", lambda raw: raw)
    assert any("not ours" in one for one in wrong(show(HARMFUL)))
    monkeypatch.setattr(blocks_module, "escape", lambda raw: raw)
    assert any("not ours" in one for one in wrong(show(replace(CARD, state="<!channel>"))))


def test_the_check_of_messages_would_see_hidden_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (richtext, blocks_module):
        monkeypatch.setattr(module, "neutralise", lambda raw: raw)
    assert any("hidden" in one for one in wrong(show(HARMFUL)))
    monkeypatch.setattr(blocks_module, "one_line", lambda raw, limit=200: raw[:limit])
    assert any("hidden" in one for one in wrong(show(replace(CARD, title="a\u202eb"))))


def test_the_check_of_messages_would_see_a_mention_of_others() -> None:
    assert any("mentions" in one for one in wrong(show(ONE), allowed=()))


@pytest.mark.parametrize("limit", ["BUTTON_TEXT", "HEADER", "TASKS", "CONTEXT", "ALL_TEXT"])
def test_the_check_of_messages_would_see_a_broken_limit(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = tuple(CardStep("x", "waiting") for _ in range(60))
    card = replace(CARD, title="x" * 200, steps=steps, notes=("n",) * 12)
    long = replace(HARMFUL, text="word " * 5000)
    assert not [*wrong(show(card)), *wrong(show(long))]
    monkeypatch.setattr(blocks_module, limit, 100_000)
    assert [*wrong(show(card)), *wrong(show(long))]


# ---- forms


def inputs(view: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {block["block_id"]: block["element"] for block in view["blocks"]}


def test_the_wrong_repository_is_put_right_by_choosing_or_typing() -> None:
    view = move_modal("tw-k3f9", ["acme/api", "acme/web"])
    check_view(view)
    assert view["callback_id"] == "tw_move"
    assert json.loads(view["private_metadata"]) == {"t": "tw-k3f9"}
    assert [o["value"] for o in inputs(view)["repo"]["options"]] == ["acme/api", "acme/web"]
    assert inputs(view)["typed"]["type"] == "plain_text_input"


def test_with_nothing_to_choose_from_the_repository_is_typed() -> None:
    view = move_modal("tw-k3f9", [])
    check_view(view)
    assert inputs(view)["repo"]["type"] == "plain_text_input"
    assert view["blocks"][0]["optional"] is False


def test_a_message_is_given_with_its_words_to_change() -> None:
    view = give_modal("*loud* <https://x.example|here>", ["acme/api"], '{"channel": "C1"}')
    check_view(view)
    assert (view["callback_id"], view["private_metadata"]) == ("tw_give", '{"channel": "C1"}')
    assert list(inputs(view)) == ["text", "repo", "typed", "options"]
    assert inputs(view)["text"]["initial_value"] == "**loud** [here](https://x.example)"
    assert all(element["action_id"] == name for name, element in inputs(view).items())


@given(hostile | hostile.map(lambda text: text * 200), st.lists(hostile, max_size=8), st.integers(0, 120))
@settings(deadline=None, max_examples=50)
def test_no_form_breaks_a_limit_or_changes_a_name(text: str, names: list[str], more: int) -> None:
    repositories = [*names, *(f"acme/{number}" for number in range(more))]
    for view in (move_modal(text, repositories), give_modal(text, repositories, "{}")):
        check_view(view)
        assert not list(harm(view))
        assert len(view["private_metadata"]) <= 2000, "there is room for the place"
        for option in inputs(view)["repo"].get("options", ()):
            assert option["value"] in repositories
            assert re.fullmatch(re.escape(option["text"]["text"].rstrip("…")) + ".*", option["value"])


def test_the_check_of_forms_would_see_a_broken_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modals, "INPUT_TEXT", 9000)
    with pytest.raises(Refused):
        check_view(give_modal("x" * 4000, [], "{}"))


def test_a_form_takes_only_so_much_along() -> None:
    with pytest.raises(ValueError, match="3000 characters"):
        give_modal("x", [], "x" * 3001)
