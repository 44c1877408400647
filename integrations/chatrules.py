"""What OpenAI's Chat Completions refuses, so that a conversation that passes here is legal there.

Source of all rules unless another is named: the API reference, "Create chat completion"
(https://platform.openai.com/docs/api-reference/chat/create).
Words of the errors are ours; status, type and code are theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MOST_TOOLS = 128

# The request body's fields in the reference. OpenAI answers 400 to any other ("unknown_parameter").
_FIELDS = {
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "metadata", "modalities", "model", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format",
    "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
}  # fmt: skip
_MESSAGE_FIELDS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "audio", "tool_calls", "function_call"},
    "tool": {"role", "content", "tool_call_id"},
}
# Content parts by role: only users send images, audio and files; only assistants refuse.
_PARTS = {
    "system": {"text"},
    "developer": {"text"},
    "user": {"text", "image_url", "input_audio", "file"},
    "assistant": {"text", "refusal"},
    "tool": {"text"},
}
_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PARTICIPANT = re.compile(r"[^\s<|\\/>]{1,64}")


class RefusedError(Exception):
    """The request is not served: `status` and the JSON error body that OpenAI would send."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code},
        }


def check(body: object, models: Sequence[str] = ()) -> None:
    """Raise RefusedError unless OpenAI would take this body. `models`: the known ones; empty: any."""
    if not isinstance(body, dict):
        raise RefusedError("The body is not a JSON object.")
    for name in body:
        if name not in _FIELDS:
            raise RefusedError(f"Unknown argument: {name}", param=name, code="unknown_parameter")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RefusedError("The argument model is missing.", param="model")
    if models and model not in models:
        # Error codes guide: an unknown model is a 404 with this code.
        raise RefusedError(f"The model {model} does not exist.", code="model_not_found", status=404)
    _check_values(body)
    _check_tools(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusedError("messages must be a list that is not empty.", param="messages")
    for number, message in enumerate(messages):
        _check_message(message, f"messages.{number}")
    _check_order(messages)


def _check_values(body: Mapping[str, Any]) -> None:
    temperature = body.get("temperature")
    if temperature is not None and not (_is_number(temperature) and 0 <= temperature <= 2):
        raise RefusedError("temperature must be a number from 0 to 2.", param="temperature")
    for name in ("stream", "store", "parallel_tool_calls"):
        if body.get(name) is not None and not isinstance(body[name], bool):
            raise RefusedError(f"{name} must be true or false.", param=name)
    for name in ("n", "max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is not None and (not _is_number(value) or isinstance(value, float) or value < 1):
            raise RefusedError(f"{name} must be a whole number above 0.", param=name)
    # Reference, stream_options: "Only set this when you set stream: true".
    if body.get("stream_options") is not None and not body.get("stream"):
        raise RefusedError("stream_options without stream.", param="stream_options")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        # Both are refused when there is nothing to choose from.
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                raise RefusedError(f"{name} without tools.", param=name)
        return
    # Reference, tools: at most 128 functions; an empty list is too short.
    if not isinstance(tools, list) or not 1 <= len(tools) <= MOST_TOOLS:
        raise RefusedError(f"tools must be a list of 1 to {MOST_TOOLS}.", param="tools")
    names = {_check_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)}
    _check_choice(body.get("tool_choice"), names)


def _check_tool(tool: object, where: str) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(function, dict):
        raise RefusedError("A tool is {type: function, function: {…}}.", param=where)
    if extra := set(tool) - {"type", "function"} | set(function) - {"name", "description", "parameters", "strict"}:
        raise RefusedError(f"Unknown field {min(extra)} of a tool.", param=where)
    name = function.get("name")
    # Reference, function.name: a-z, A-Z, 0-9, underscores and dashes, at most 64.
    if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        raise RefusedError("A function's name does not match ^[a-zA-Z0-9_-]{1,64}$.", param=f"{where}.function.name")
    if not isinstance(function.get("description", ""), str):
        raise RefusedError("A description is a string.", param=f"{where}.function.description")
    parameters = function.get("parameters", {"type": "object", "properties": {}})
    # Function calling guide: parameters are a JSON schema of an object.
    if (
        not isinstance(parameters, dict)
        or parameters.get("type") != "object"
        or not isinstance(parameters.get("properties", {}), dict)
    ):
        raise RefusedError("parameters must be the JSON schema of an object.", param=f"{where}.function.parameters")
    return name


def _check_choice(choice: object, names: set[str]) -> None:
    if choice is None or choice in ("none", "auto", "required"):
        return
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if name not in names:
        raise RefusedError(f"tool_choice names {name}, which is not in tools.", param="tool_choice")


def _check_message(message: object, where: str) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(message, dict) or role not in _MESSAGE_FIELDS:
        raise RefusedError(f"{role!r} is not a role of a message.", param=f"{where}.role")
    if extra := set(message) - _MESSAGE_FIELDS[role]:
        raise RefusedError(f"Unknown field {min(extra)} of a message.", param=where)
    name = message.get("name")
    if name is not None and not (isinstance(name, str) and _PARTICIPANT.fullmatch(name)):
        raise RefusedError("A participant's name has characters that it may not have.", param=f"{where}.name")
    calls = message.get("tool_calls")
    if calls is not None:
        _check_calls(calls, f"{where}.tool_calls")
    # Reference, assistant message: content is required unless tool_calls is given.
    if not (role == "assistant" and calls and message.get("content") is None):
        _check_content(role, message.get("content"), f"{where}.content")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise RefusedError("A tool message needs a tool_call_id.", param=f"{where}.tool_call_id")


def _check_content(role: str, content: object, where: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not content:
        raise RefusedError("content must be a string or a list of parts.", param=where)
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind not in _PARTS[role]:
            raise RefusedError(f"A message of {role} cannot hold a part of type {kind!r}.", param=where)
        if kind in {"text", "refusal"} and not isinstance(part.get(kind), str):
            raise RefusedError(f"A part of type {kind} needs its {kind}.", param=where)
        if kind == "image_url":
            image = part.get("image_url")
            if not isinstance(image, dict) or not isinstance(image.get("url"), str):
                raise RefusedError("image_url is {url, detail}.", param=where)


def _check_calls(calls: object, where: str) -> None:
    if not isinstance(calls, list) or not calls:
        raise RefusedError("tool_calls must be a list that is not empty.", param=where)
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or call.get("type") != "function" or not isinstance(function, dict):
            raise RefusedError("A call is {id, type: function, function: {name, arguments}}.", param=where)
        if not isinstance(call.get("id"), str) or not call["id"]:
            raise RefusedError("A call needs an id.", param=where)
        name = function.get("name")
        if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
            raise RefusedError("A called function's name does not match ^[a-zA-Z0-9_-]{1,64}$.", param=where)
        # Reference, tool_calls.function.arguments: a string, "in JSON format", never an object.
        if not isinstance(function.get("arguments"), str):
            raise RefusedError("The arguments of a call are a string.", param=where)


def _check_order(messages: Sequence[Mapping[str, Any]]) -> None:
    """Function calling guide: every call is answered by one tool message, right after the calls, before all else."""
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                raise RefusedError("A tool message answers no call that is open before it.", param=f"{where}.role")
            open_calls.remove(message["tool_call_id"])
            continue
        _check_answered(open_calls, where)
        ids = [call["id"] for call in message.get("tool_calls") or []]
        open_calls = set(ids)
        if len(open_calls) != len(ids):
            raise RefusedError("Two calls have the same id.", param=f"{where}.tool_calls")
    _check_answered(open_calls, f"messages.{len(messages)}")


def _check_answered(open_calls: set[str], where: str) -> None:
    if open_calls:
        raise RefusedError(f"Calls without a tool message: {', '.join(sorted(open_calls))}.", param=where)
