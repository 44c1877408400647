"""What a model call used, in tokens and US dollars."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from graph.values import Usage

CHARACTERS_PER_TOKEN = 4
_MILLION = 1_000_000

# What may follow a priced name: a date or build, never a variant. "gpt-5-mini" is not "gpt-5", nor "gpt-4o" "gpt-4".
_VERSION = re.compile(r"(?:[-@:](?:\d{4}-\d{2}-\d{2}|\d{4}|\d{6}|\d{8}|latest))?")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens. `cached`: input that the provider had in its cache; None: priced as input."""

    input: float
    cached: float | None
    output: float


def price_of(prices: Mapping[str, Price], *names: str) -> Price | None:
    """The price of the first of `names` that has one: the longest key that the name begins with, but for a version."""
    for name in names:
        keys = [key for key in prices if key and name.startswith(key) and _VERSION.fullmatch(name[len(key) :])]
        if keys:
            return prices[max(keys, key=len)]
    return None


def usage_of(
    reply: AIMessage,
    sent: Sequence[BaseMessage],
    tools: Sequence[Mapping[str, Any]],
    prices: Mapping[str, Price],
    asked: str,
) -> Usage:
    """Usage of one call. `asked` is the model's name in the request; a server may answer with a fuller one."""
    counts = reply.usage_metadata
    if counts is None:
        # Servers that count nothing would otherwise be free of every limit.
        used, cached, made = _estimate(sent, tools), 0, _tokens(_length(reply))
    else:
        used, made = counts["input_tokens"], counts["output_tokens"]
        cached = counts.get("input_token_details", {}).get("cache_read", 0)
    price = price_of(prices, str(reply.response_metadata.get("model_name", "")), asked)
    usd = 0.0
    if price is not None:
        kept = price.input if price.cached is None else price.cached
        usd = ((used - cached) * price.input + cached * kept + made * price.output) / _MILLION
    return Usage(
        calls=1,
        input_tokens=used,
        cached_tokens=cached,
        output_tokens=made,
        usd=usd,
        unpriced_tokens=0 if price is not None else used + made,
        estimated=counts is None,
    )


def _estimate(sent: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]]) -> int:
    described = len(json.dumps(list(tools), default=str)) if tools else 0
    return _tokens(sum(map(_length, sent)) + described)


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _length(message: BaseMessage) -> int:
    calls = 0
    if isinstance(message, AIMessage):
        calls = sum(len(call["name"]) + len(json.dumps(call["args"], default=str)) for call in message.tool_calls)
        calls += sum(len(call["args"] or "") for call in message.invalid_tool_calls)
    return len(message.text) + calls
