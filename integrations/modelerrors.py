"""What the model client's errors mean for the task: try again, wait, or a person must do something."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai

from graph.errors import ContextTooLong, Misconfigured, ModelUnavailable, ThreadwrightError
from integrations.modelanswers import OddAnswerError

FAILURES = (
    openai.OpenAIError,
    httpx2.HTTPError,
    OddAnswerError,
    TimeoutError,
    # A body that is not what its headers say reaches us as the decoder's own error.
    json.JSONDecodeError,
    UnicodeDecodeError,
    RecursionError,
)

_RETRIED = {408, 409, 425, 429}
_TOO_LONG = re.compile(
    r"context_length_exceeded|context (?:length|window|size)|prompt is too long|maximum context|too many tokens",
    re.IGNORECASE,
)
_POLICY = re.compile(r"content_policy_violation|content_filter|content management policy", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"model_not_found|\binvalid model\b|\bmodel\b.{0,120}(?:not found|does not exist|not exist|unknown|invalid)",
    re.IGNORECASE,
)
# LiteLLM without a database looks an unknown key up all the same, and says only this.
_NO_KEY = re.compile(r"no connected db", re.IGNORECASE)
_NO_MONEY = re.compile(r"insufficient_quota|billing_hard_limit|insufficient (?:funds|balance|credit)", re.IGNORECASE)
_WORDS = 300


@dataclass(frozen=True)
class Again:
    """The try failed in a way that another may not. `after`: seconds that the server asked for."""

    why: str
    after: float | None = None


@dataclass(frozen=True)
class Refusal:
    """The provider will not answer this request; `text` stands for the answer."""

    text: str


class ForcedCallRefusedError(Exception):
    """The server does not know how to force a function call."""


@dataclass(frozen=True)
class Where:
    """What an error names. `model_setting`, `url_setting`, `key_setting`: names of settings, for the operator."""

    model: str
    host: str
    secret: str
    model_setting: str
    url_setting: str
    key_setting: str


Meaning = Again | Refusal | ThreadwrightError | ForcedCallRefusedError


def meaning_of(error: Exception, where: Where) -> Meaning:
    """What one failed try means. Texts never carry the key, also where the server repeats it."""
    if isinstance(error, openai.APIStatusError):
        return _of_status(error.status_code, error.response.headers, _words(error, where), where)
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException | TimeoutError):
        return Again("no answer in time")
    if isinstance(error, openai.APIConnectionError | httpx2.HTTPError):
        return Again("a connection that failed or broke off")
    if isinstance(error, OddAnswerError):
        return Again(str(error))
    return Again("an answer that cannot be read")


def _of_status(status: int, headers: Mapping[str, str], words: str, where: Where) -> Meaning:
    said = f" The server said: {words}" if words else ""
    if status == 429 and _NO_MONEY.search(words):
        # Trying for two minutes brings no money; the task waits and is woken as for any outage.
        return ModelUnavailable(f"The account at {where.host} has no quota left.{said}", retry_after(headers))
    if status in _RETRIED or status >= 500:
        return Again(f"HTTP {status}", retry_after(headers))
    if status in {401, 403} or (status == 400 and _NO_KEY.search(words)):
        return Misconfigured(
            f"{where.host} refused the API key (HTTP {status}). Check {where.key_setting} and that the key may use "
            f'the model "{where.model}".'
        )
    if status == 413 or _TOO_LONG.search(words):
        return ContextTooLong(f'The conversation is too long for the model "{where.model}".')
    if status == 400 and "tool_choice" in words:
        return ForcedCallRefusedError(words)
    if status == 400 and _POLICY.search(words):
        return Refusal("(The provider refused this request: its content policy objected.)")
    if status == 404 or _NO_MODEL.search(words):
        return Misconfigured(
            f'{where.host} does not know the model "{where.model}" that {where.model_setting} names. '
            f"Name one that it serves, or check {where.url_setting}.{said}"
        )
    if 300 <= status < 400:
        return Misconfigured(f"{where.host} redirects elsewhere (HTTP {status}). Check {where.url_setting}.")
    return Misconfigured(f'{where.host} refused a request for the model "{where.model}" (HTTP {status}).{said}')


def _words(error: openai.APIStatusError, where: Where) -> str:
    """What the server said, on one line, cut short, without the key."""
    body: Any = error.body
    text = body if isinstance(body, str) else ""
    if isinstance(body, Mapping):
        text = " ".join(str(body[part]) for part in ("message", "detail", "error", "code", "param") if body.get(part))
    if not text and not isinstance(body, Mapping):
        text = error.response.text
    if text.lstrip().startswith("<"):
        return ""  # a page for browsers
    if where.secret:
        text = text.replace(where.secret, "[key]")
    text = " ".join(text.split())
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}…"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    raw = headers.get("retry-after")
    seconds = _number(raw)
    if seconds is not None or raw is None:
        return seconds
    try:
        date = parsedate_to_datetime(raw)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _number(raw: str | None) -> float | None:
    try:
        value = float(raw) if raw is not None else math.nan
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
