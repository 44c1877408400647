"""The stub Slack refuses the blocks and views that Slack refuses, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from slackblocks import check_blocks, check_view
from slackrules import Refused

Block = dict[str, Any]


def plain(text: str) -> Block:
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text}


def section(text: str = "hello", **more: Any) -> Block:
    return {"type": "section", "text": mrkdwn(text), **more}


def button(action_id: str = "a", **more: Any) -> Block:
    return {"type": "button", "action_id": action_id, "text": plain("Go"), **more}


def actions(*elements: Block) -> Block:
    return {"type": "actions", "elements": list(elements)}


def options(number: int, **more: Any) -> list[Block]:
    return [{"text": plain(f"option {index}"), "value": str(index), **more} for index in range(number)]


def plan(*statuses: str) -> Block:
    tasks = [{"task_id": f"t{i}", "title": "Do", "status": status} for i, status in enumerate(statuses)]
    return {"type": "plan", "title": "Plan", "tasks": tasks}


def rich(*elements: Block) -> Block:
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}


def chooser(kind: str, number: int, **more: Any) -> Block:
    return {"type": kind, "action_id": "c", "options": options(number), **more}


GOOD = [
    section("x" * 3000),
    section(fields=[plain("x" * 2000), *[plain("x")] * 9], accessory=button(value="v" * 2000, style="primary")),
    {"type": "header", "text": plain("x" * 150)},
    {"type": "divider"},
    {"type": "context", "elements": [mrkdwn("x")] * 10},
    actions(*[button(str(index)) for index in range(25)]),
    actions(button(text=plain("x" * 75), url="https://example.com/")),
    actions(chooser("static_select", 100, placeholder=plain("Choose"), initial_option=options(100)[7])),
    actions(chooser("radio_buttons", 10)),
    plan("pending", "in_progress", "complete", "error"),
    {"type": "task_card", "task_id": "t", "title": "Do", "details": rich({"type": "text", "text": "x"})},
    rich(
        {"type": "text", "text": "x", "style": {"bold": True}},
        {"type": "link", "url": "https://example.com/", "text": "here"},
        {"type": "user", "user_id": "U123"},
        {"type": "emoji", "name": "eyes"},
        {"type": "date", "timestamp": 1_800_000_000, "format": "{time}", "fallback": "14:02 UTC"},
    ),
    {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "code"}]},
            {"type": "rich_text_quote", "elements": [{"type": "text", "text": "said"}]},
            {
                "type": "rich_text_list",
                "style": "bullet",
                "indent": 1,
                "elements": [{"type": "rich_text_section", "elements": []}],
            },
        ],
    },
    {"type": "markdown", "text": "x" * 12_000},
]

BAD: dict[str, tuple[list[Block], str]] = {
    "too many blocks": ([section()] * 51, "no more than 50 items allowed [json-pointer:/blocks]"),
    "a long section": ([section("x" * 3001)], "must be less than 3001 characters [json-pointer:/blocks/0/text/text]"),
    "an empty section": ([section("")], "must be more than 0 characters"),
    "a section of nothing": ([{"type": "section"}], "missing required field: text"),
    "a long header": ([{"type": "header", "text": plain("x" * 151)}], "must be less than 151 characters"),
    "a header in mrkdwn": ([{"type": "header", "text": mrkdwn("x")}], "unsupported type: mrkdwn"),
    "a crowded context": ([{"type": "context", "elements": [mrkdwn("x")] * 11}], "no more than 10 items"),
    "crowded actions": ([actions(*[button(str(i)) for i in range(26)])], "no more than 25 items"),
    "no actions": ([actions()], "no fewer than 1 items"),
    "a long label": ([actions(button(text=plain("x" * 76)))], "must be less than 76 characters"),
    "a long value": ([actions(button(value="x" * 2001))], "must be less than 2001 characters"),
    "a long action_id": ([actions(button("x" * 256))], "must be less than 256 characters"),
    "action_id twice": ([actions(button(), button())], "action_id must be unique"),
    "a strange style": ([actions(button(style="green"))], "must be one of: primary, danger"),
    "a strange address": ([actions(button(url="javascript:alert(1)"))], "must match pattern"),
    "a disabled button": ([actions(button(disabled=True))], "invalid additional property: disabled"),
    "too many options": ([actions(chooser("static_select", 101))], "no more than 100 items"),
    "too many radio buttons": ([actions(chooser("radio_buttons", 11))], "no more than 10 items"),
    "a long option": (
        [actions({**chooser("static_select", 1), "options": options(1, text=plain("x" * 76))})],
        "must be less than 76 characters",
    ),
    "a long option's value": (
        [actions({**chooser("static_select", 1), "options": options(1, value="x" * 151)})],
        "must be less than 151 characters",
    ),
    "an initial option of its own": (
        [actions(chooser("static_select", 2, initial_option=options(3)[2]))],
        "initial option is not among the options",
    ),
    "a menu without options": ([actions({"type": "static_select", "action_id": "c"})], "one of options"),
    "an unknown block": ([{"type": "poem"}], "unsupported type: poem"),
    "an unknown element": ([actions({"type": "slider"})], "unsupported type: slider"),
    "an unknown field": ([section(colour="red")], "invalid additional property: colour"),
    "block_id twice": ([section(block_id="b"), section(block_id="b")], "block_id must be unique"),
    "a block that is no object": (["hello"], "unsupported type: None"),  # type: ignore[list-item]
    "a plan that is completed": ([plan("completed")], "must be one of: pending, in_progress, complete, error"),
    "a plan of 51": ([plan(*["pending"] * 51)], "no more than 50 items"),
    "a plan without title": ([{"type": "plan", "tasks": []}], "missing required field: title"),
    "a task twice": ([{**plan(), "tasks": plan("pending")["tasks"] * 2}], "task_id must be unique"),
    "plan and cards": ([plan(), {"type": "task_card", "task_id": "t", "title": "x"}], "do not mix"),
    "empty rich text": ([rich({"type": "text", "text": ""})], "must be more than 0 characters"),
    "bold that is a word": ([rich({"type": "text", "text": "x", "style": {"bold": "yes"}})], "must be a boolean"),
    "a strange element": ([rich({"type": "marquee", "text": "x"})], "unsupported type: marquee"),
    "a mention of nobody": ([rich({"type": "user", "user_id": "ann"})], "must match pattern"),
    "a link without address": ([rich({"type": "link", "text": "x"})], "missing required field: url"),
    "a list in a section": ([rich({"type": "rich_text_list"})], "unsupported type: rich_text_list"),
    "a mention in code": (
        [
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_preformatted", "elements": [{"type": "user", "user_id": "U1"}]}],
            }
        ],
        "unsupported type: user",
    ),
}


def why(blocks: list[Any], **more: Any) -> str:
    with pytest.raises(Refused) as caught:
        check_blocks(blocks, **more)
    return f"{caught.value.error} {caught.value.extra.get('errors', [''])}"


@pytest.mark.parametrize("block", GOOD, ids=lambda block: block["type"])
def test_good_blocks_are_taken(block: Block) -> None:
    check_blocks([block])


@pytest.mark.parametrize("name", BAD)
def test_bad_blocks_are_refused(name: str) -> None:
    blocks, message = BAD[name]
    said = why(blocks)
    assert said.startswith("invalid_blocks")
    assert message in said


def test_a_workspace_may_refuse_plans() -> None:
    assert "unsupported type: plan" in why([plan("pending")], refused={"plan"})


def test_blocks_may_not_say_too_much_together() -> None:
    assert why([section("x" * 3000)] * 5).startswith("msg_blocks_too_long")


def modal(**more: Any) -> Block:
    return {"type": "modal", "title": plain("Title"), "blocks": [section()], **more}


ENTRY = {"type": "input", "label": plain("Name"), "element": {"type": "plain_text_input", "action_id": "n"}}


def test_a_good_view_is_taken() -> None:
    check_view(modal(blocks=[ENTRY], submit=plain("Send"), private_metadata="x" * 3000, callback_id="c"))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (modal(title=plain("x" * 25)), "must be less than 25 characters"),
        (modal(private_metadata="x" * 3001), "must be less than 3001 characters"),
        (modal(blocks=[ENTRY]), "missing required field: submit"),
        (modal(blocks=[plan()]), "unsupported type: plan"),
        (modal(blocks=[section()] * 101), "no more than 100 items"),
        (modal(colour="red"), "invalid additional property: colour"),
        ({"type": "window"}, "unsupported type: window"),
    ],
)
def test_a_bad_view_is_refused(view: Block, message: str) -> None:
    with pytest.raises(Refused) as caught:
        check_view(view)
    assert caught.value.error == "invalid_arguments"
    assert message in caught.value.extra["response_metadata"]["messages"][0]
