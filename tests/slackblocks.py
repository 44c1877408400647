"""Which blocks and views Slack takes: https://docs.slack.dev/reference/block-kit/blocks, .../block-elements,
.../composition-objects. A check yields what is wrong, with Slack's JSON pointer to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from slackrules import Refused, invalid

Check = Callable[[Any, str], Iterator[str]]


def _at(what: str, path: str) -> str:
    return f"{what} [json-pointer:{path}]"


def string(most: int = 0, *, least: int = 1, one_of: Collection[str] = (), like: str = "") -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield _at("must be a string", path)
        elif len(value) < least:
            yield _at(f"must be more than {least - 1} characters", path)
        elif most and len(value) > most:
            yield _at(f"must be less than {most + 1} characters", path)
        elif one_of and value not in one_of:
            yield _at(f"must be one of: {', '.join(one_of)}", path)
        elif like and not re.fullmatch(like, value):
            yield _at("must match pattern", path)

    return check


def number(low: int, high: int) -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            yield _at(f"must be an integer from {low} to {high}", path)

    return check


def boolean(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield _at("must be a boolean", path)


def array(of: Check, most: int = 0, *, least: int = 1) -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield _at("must be an array", path)
            return
        if len(value) < least:
            yield _at(f"no fewer than {least} items allowed", path)
        if most and len(value) > most:
            yield _at(f"no more than {most} items allowed", path)
        for index, item in enumerate(value):
            yield from of(item, f"{path}/{index}")

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields and no others; `type` was looked at by who chose this check."""
    known = {**required, **(optional or {})}

    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _at("must be an object", path)
            return
        for key in sorted(set(value) - set(known) - {"type"}):
            yield _at(f"invalid additional property: {key}", path)
        for key in required:
            if key not in value:
                yield _at(f"missing required field: {key}", path)
        for key, inner in known.items():
            if key in value:
                yield from inner(value[key], f"{path}/{key}")

    return check


def by_type(kinds: Mapping[str, Check]) -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in kinds:
            yield _at(f"unsupported type: {kind}", f"{path}/type")
        else:
            yield from kinds[kind](value, path)

    return check


def also(check: Check, rule: Check) -> Check:
    def both(value: Any, path: str) -> Iterator[str]:
        first = list(check(value, path))
        yield from first or rule(value, path)

    return both


# https://docs.slack.dev/reference/block-kit/composition-objects/text-object: 1 to 3,000 characters
def plain(most: int = 3000) -> Check:
    return by_type({"plain_text": record({"text": string(most)}, {"emoji": boolean})})


def words(most: int = 3000) -> Check:
    mrkdwn = record({"text": string(most)}, {"verbatim": boolean})
    return by_type({"plain_text": record({"text": string(most)}, {"emoji": boolean}), "mrkdwn": mrkdwn})


URL = string(3000, like=r"https?://\S+|mailto:\S+|slack:\S+")
ID = string(255)
# .../composition-objects/confirmation-dialog-object
CONFIRM = record(
    {"title": plain(100), "text": words(300), "confirm": plain(30), "deny": plain(30)},
    {"style": string(one_of=("primary", "danger"))},
)


# .../composition-objects/option-object: text 75, value 150, description 75
def option(text: Check, *, url: bool = False) -> Check:
    return record({"text": text, "value": string(150)}, {"description": plain(75)} | ({"url": URL} if url else {}))


def _chosen_is_offered(value: Any, path: str) -> Iterator[str]:
    """`initial_option` must match one of the options exactly (.../block-elements/select-menu-element)."""
    offered = [o for group in value.get("option_groups", [value]) for o in group.get("options", [])]
    for key in ("initial_option", "initial_options"):
        chosen = value.get(key, [])
        for one in chosen if isinstance(chosen, list) else [chosen]:
            if one not in offered:
                yield _at("initial option is not among the options", f"{path}/{key}")
    if ("options" in value) == ("option_groups" in value) and value["type"].endswith("static_select"):
        yield _at("one of options and option_groups", path)


_MENU = {"action_id": ID, "confirm": CONFIRM, "focus_on_load": boolean, "placeholder": plain(150)}
_OPTIONS = array(option(plain(75)), 100)
_GROUPS = array(record({"label": plain(75), "options": _OPTIONS}), 100)
_TICKS = {"action_id": ID, "confirm": CONFIRM, "focus_on_load": boolean}
BUTTON = record(
    {"text": plain(75)},
    {
        "action_id": ID,
        "url": URL,
        "value": string(2000),
        "style": string(one_of=("primary", "danger")),
        "confirm": CONFIRM,
        "accessibility_label": string(75),
    },
)
INTERACTIVE: dict[str, Check] = {
    "button": BUTTON,
    "static_select": also(
        record({}, {**_MENU, "options": _OPTIONS, "option_groups": _GROUPS, "initial_option": option(plain(75))}),
        _chosen_is_offered,
    ),
    "external_select": record({}, {**_MENU, "min_query_length": number(0, 3000), "initial_option": option(plain(75))}),
    "users_select": record({}, {**_MENU, "initial_user": string()}),
    "radio_buttons": also(
        record({"options": array(option(words(75)), 10)}, {**_TICKS, "initial_option": option(words(75))}),
        _chosen_is_offered,
    ),
    "checkboxes": also(
        record({"options": array(option(words(75)), 10)}, {**_TICKS, "initial_options": array(option(words(75)))}),
        _chosen_is_offered,
    ),
    "overflow": record({"options": array(option(plain(75), url=True), 5)}, {"action_id": ID, "confirm": CONFIRM}),
}
MULTI = also(
    record(
        {},
        {
            **_MENU,
            "options": _OPTIONS,
            "option_groups": _GROUPS,
            "initial_options": array(option(plain(75))),
            "max_selected_items": number(1, 100),
        },
    ),
    _chosen_is_offered,
)
# .../block-elements/plain-text-input-element
TEXT_INPUT = record(
    {},
    {
        "action_id": ID,
        "initial_value": string(3000, least=0),
        "multiline": boolean,
        "min_length": number(0, 3000),
        "max_length": number(1, 3000),
        "focus_on_load": boolean,
        "placeholder": plain(150),
        "dispatch_action_config": record({"trigger_actions_on": array(string())}),
    },
)
_PICTURE = {"image_url": URL, "slack_file": record({}, {"id": string(), "url": URL})}
IMAGE = record({"alt_text": string(2000, least=0)}, _PICTURE)

# https://docs.slack.dev/reference/block-kit/blocks/rich-text-block
_STYLE = record({}, dict.fromkeys(("bold", "italic", "strike", "code"), boolean))
_MENTION = record({}, dict.fromkeys(("bold", "italic", "strike", "highlight", "client_highlight", "unlink"), boolean))
_TEXT = record({"text": string()}, {"style": _STYLE})
_LINK = record({"url": URL}, {"text": string(least=0), "unsafe": boolean, "style": _STYLE})
_INLINE = by_type(
    {
        "text": _TEXT,
        "link": _LINK,
        "emoji": record({"name": string(like=r"[\w+'-]+(::skin-tone-\d)?")}, {"unicode": string(), "style": _STYLE}),
        "user": record({"user_id": string(like="[UW][A-Z0-9]+")}, {"style": _MENTION}),
        "usergroup": record({"usergroup_id": string(like="S[A-Z0-9]+")}, {"style": _MENTION}),
        "channel": record({"channel_id": string(like="[CGD][A-Z0-9]+")}, {"style": _MENTION}),
        "broadcast": record({"range": string(one_of=("here", "channel", "everyone"))}, {"style": _STYLE}),
        "date": record(
            {"timestamp": number(0, 2**40), "format": string()}, {"url": URL, "fallback": string(), "style": _STYLE}
        ),
        "color": record({"value": string()}, {"style": _STYLE}),
    }
)
_SECTION = record({"elements": array(_INLINE, least=0)})
_BORDER = {"border": number(0, 1)}
RICH_TEXT = record(
    {
        "elements": array(
            by_type(
                {
                    "rich_text_section": _SECTION,
                    "rich_text_list": record(
                        {
                            "elements": array(by_type({"rich_text_section": _SECTION})),
                            "style": string(one_of=("bullet", "ordered")),
                        },
                        {"indent": number(0, 8), "offset": number(0, 10**6), **_BORDER},
                    ),
                    "rich_text_preformatted": record(
                        {"elements": array(by_type({"text": _TEXT, "link": _LINK}), least=0)}, _BORDER
                    ),
                    "rich_text_quote": record({"elements": array(_INLINE, least=0)}, _BORDER),
                }
            )
        )
    },
    {"block_id": ID},
)
# .../blocks/task-card-block, .../blocks/plan-block: at most 50 tasks, each with an id of its own
_TASK = {
    "details": by_type({"rich_text": RICH_TEXT}),
    "output": by_type({"rich_text": RICH_TEXT}),
    "sources": array(by_type({"url": record({"url": URL, "text": string()})})),
    "status": string(one_of=("pending", "in_progress", "complete", "error")),
    "block_id": ID,
}
TASK = record({"task_id": string(), "title": string()}, _TASK)


def _tasks_differ(value: Any, path: str) -> Iterator[str]:
    ids = [task["task_id"] for task in value.get("tasks", [])]
    if len(set(ids)) < len(ids):
        yield _at("task_id must be unique", f"{path}/tasks")
    for index, task in enumerate(value.get("tasks", [])):
        if task.get("type", "task_card") != "task_card":
            yield _at("unsupported type", f"{path}/tasks/{index}/type")


def _actions_differ(value: Any, path: str) -> Iterator[str]:
    ids = [element["action_id"] for element in value["elements"] if "action_id" in element]
    if len(set(ids)) < len(ids):
        yield _at("action_id must be unique in its block", f"{path}/elements")


def _says_something(value: Any, path: str) -> Iterator[str]:
    if not {"text", "fields"} & set(value):
        yield _at("missing required field: text", path)


_EVERYWHERE: dict[str, Check] = {
    "section": also(
        record(
            {},
            {
                "text": words(3000),
                "fields": array(words(2000), 10),
                "accessory": by_type({**INTERACTIVE, "multi_static_select": MULTI, "image": IMAGE}),
                "expand": boolean,
                "block_id": ID,
            },
        ),
        _says_something,
    ),
    "divider": record({}, {"block_id": ID}),
    "header": record({"text": plain(150)}, {"block_id": ID}),
    "context": record(
        {
            "elements": array(
                by_type(
                    {
                        "image": IMAGE,
                        "plain_text": record({"text": string(3000)}, {"emoji": boolean}),
                        "mrkdwn": record({"text": string(3000)}, {"verbatim": boolean}),
                    }
                ),
                10,
            )
        },
        {"block_id": ID},
    ),
    "actions": also(record({"elements": array(by_type(INTERACTIVE), 25)}, {"block_id": ID}), _actions_differ),
    "image": record({"alt_text": string(2000, least=0)}, {**_PICTURE, "title": plain(2000), "block_id": ID}),
    "rich_text": RICH_TEXT,
    "input": record(
        {
            "label": plain(2000),
            "element": by_type(
                {
                    "plain_text_input": TEXT_INPUT,
                    "multi_static_select": MULTI,
                    **{k: v for k, v in INTERACTIVE.items() if k not in ("button", "overflow")},
                }
            ),
        },
        {"dispatch_action": boolean, "hint": plain(2000), "optional": boolean, "block_id": ID},
    ),
}
MESSAGE_BLOCKS: dict[str, Check] = {
    **_EVERYWHERE,
    "markdown": record({"text": string(12_000)}, {"block_id": ID}),
    "task_card": TASK,
    "plan": also(record({"title": string()}, {"tasks": array(TASK, 50, least=0), "block_id": ID}), _tasks_differ),
}


def _ids_differ(blocks: Sequence[Mapping[str, Any]], path: str) -> Iterator[str]:
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    if len(set(ids)) < len(ids):
        yield _at("block_id must be unique", path)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from [inner] if key in ("text", "title") and isinstance(inner, str) else _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def check_blocks(blocks: list[Any], refused: Collection[str] = ()) -> None:
    """Raises Refused (`invalid_blocks`, `msg_blocks_too_long`). `refused`: types that this workspace does not take."""
    wrong = list(
        array(by_type({k: v for k, v in MESSAGE_BLOCKS.items() if k not in refused}), 50, least=0)(blocks, "/blocks")
    )
    if not wrong:
        wrong += _ids_differ(blocks, "/blocks")
        kinds = {block["type"] for block in blocks}
        # The reference does not say it, but a plan and bare task cards are refused together.
        if {"plan", "task_card"} <= kinds:
            wrong.append(_at("plan and task_card blocks do not mix", "/blocks"))
    if wrong:
        messages = [f"[ERROR] {one}" for one in wrong]
        raise Refused("invalid_blocks", errors=wrong, response_metadata={"messages": messages})
    # Measured, not documented: https://github.com/slackapi/bolt-js/issues/2509 (13,172 to 13,297 characters in all)
    if sum(map(len, _texts(blocks))) > 13_000:
        raise Refused("msg_blocks_too_long")


def check_view(view: Any) -> None:
    """https://docs.slack.dev/reference/views/modal-views: title 24, private_metadata 3,000, 100 blocks."""
    modal = record(
        {"title": plain(24), "blocks": array(by_type(_EVERYWHERE), 100, least=0)},
        {
            "submit": plain(24),
            "close": plain(24),
            "private_metadata": string(3000, least=0),
            "callback_id": string(255),
            "external_id": string(255, least=0),
            "clear_on_close": boolean,
            "notify_on_close": boolean,
            "submit_disabled": boolean,
        },
    )
    wrong = list(by_type({"modal": modal})(view, "/view"))
    if not wrong:
        wrong += _ids_differ(view["blocks"], "/view/blocks")
        if "submit" not in view and any(block["type"] == "input" for block in view["blocks"]):
            wrong.append(_at("missing required field: submit", "/view"))
    if wrong:
        raise invalid(*wrong)
