"""What servers that call themselves OpenAI-compatible really send, made into one well-formed `AIMessage`."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call

WITHHELD = "(The provider withheld this answer: its content filter objected.)"

# Providers refuse a request whose history names a function otherwise, so one odd name would end the conversation.
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_LENGTH = 64
_REFUSED = "refused"


class OddAnswerError(Exception):
    """A successful status whose body is no answer: another try may bring one. The text never quotes the body."""


def well_formed(text: str) -> str:
    """`text` without lone surrogates: they cannot be sent, nor stored, and JSON escapes bring them in."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def well_formed_value(value: Any) -> Any:
    """The same for every string of a JSON value."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {well_formed_value(key): well_formed_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [well_formed_value(item) for item in value]
    return value


def message_of(body: object) -> AIMessage:
    """The first choice of a completion. Raises OddAnswerError."""
    if not isinstance(body, Mapping):
        raise OddAnswerError("something that is not a chat completion")
    if body.get("error"):
        raise OddAnswerError("an error in the place of an answer")
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise OddAnswerError("a completion without a message")
    finish = choice.get("finish_reason")
    calls, invalid = _calls(message)
    refusal = _text(message.get("refusal"))
    text = _text(message.get("content")) or refusal
    if not refusal and finish == "content_filter":
        refusal = WITHHELD
        text = text or ("" if calls or invalid else WITHHELD)
    model = body.get("model")
    return AIMessage(
        content=text,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=_usage(body.get("usage")),
        # Only what somebody reads: this is kept in every checkpoint.
        response_metadata={
            "model_name": model if isinstance(model, str) else "",
            "finish_reason": finish if isinstance(finish, str) else "",
            **({_REFUSED: refusal} if refusal else {}),
        },
    )


def refused(text: str) -> AIMessage:
    """An answer that stands for a refusal by the provider."""
    return AIMessage(text, response_metadata={_REFUSED: text})


def refusal_in(message: AIMessage) -> str:
    """What the provider, its filter or the model said against answering, whatever else is in the message; or empty."""
    return str(message.response_metadata.get(_REFUSED, ""))


def _text(content: object) -> str:
    if isinstance(content, str):
        return well_formed(content)
    if isinstance(content, list):
        return "".join(_text(part.get("text") if isinstance(part, Mapping) else part) for part in content)
    return ""


def _calls(message: Mapping[str, Any]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    raw = message.get("tool_calls")
    if not isinstance(raw, list):
        raw = [{"function": message["function_call"]}] if message.get("function_call") else []
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    seen: set[str] = set()
    for item in raw:
        item_ = item if isinstance(item, Mapping) else {}
        function = item_.get("function")
        function = function if isinstance(function, Mapping) else {}
        id_ = item_.get("id")
        # A result is tied to its call by the id alone, so it must be there, and once.
        id_ = well_formed(id_) if isinstance(id_, str) and id_ and id_ not in seen else f"call_{uuid.uuid4().hex[:24]}"
        seen.add(id_)
        name = function.get("name")
        name = _NOT_IN_A_NAME.sub("_", name)[:_NAME_LENGTH] if isinstance(name, str) and name else "nameless"
        arguments, problem = _arguments(function.get("arguments"))
        if problem:
            text = arguments if isinstance(arguments, str) else str(arguments)
            invalid.append(invalid_tool_call(name=name, args=well_formed(text), id=id_, error=problem))
        else:
            calls.append(tool_call(name=name, args=arguments, id=id_))
    return calls, invalid


def _arguments(raw: object) -> tuple[Any, str]:
    """The arguments as a dict, or as they came with what is wrong with them."""
    if raw is None or raw == "":
        return {}, ""
    value: object = raw
    if isinstance(raw, str):
        try:
            value = json.loads(raw, strict=False)
        except json.JSONDecodeError as exc:
            return raw, f"the arguments are not JSON: {exc}"
        except RecursionError:
            return raw, "the arguments are nested too deeply"
    if not isinstance(value, dict):
        return raw, "the arguments are not a JSON object"
    return well_formed_value(value), ""


def _usage(raw: object) -> UsageMetadata | None:
    """None when the server does not count, or counts nonsense: the caller then estimates."""
    if not isinstance(raw, Mapping):
        return None
    used, made = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
    if used is None or made is None or used == 0:
        return None
    details = raw.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0
    return UsageMetadata(
        input_tokens=used,
        output_tokens=made,
        total_tokens=used + made,
        input_token_details=InputTokenDetails(cache_read=min(cached or 0, used)),
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
