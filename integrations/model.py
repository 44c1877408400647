"""The port `Model` over any server that speaks OpenAI's Chat Completions."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ValidationError

from graph.errors import ContextTooLong, Misconfigured, ModelMisbehaved, ModelUnavailable, Stopped
from graph.ports import Decision, Halt
from graph.values import Role, Usage
from integrations import modelclient
from integrations.modelanswers import refusal_in, refused
from integrations.modelclient import Wire
from integrations.modelerrors import FAILURES, Again, ForcedCallRefusedError, Refusal, Where, meaning_of
from integrations.prices import Price, usage_of

__all__ = ["ChatModel", "ModelSettings", "Price", "preload"]

_LONGEST_PAUSE = 20.0
_COMPLAINTS = 10
_WORDS = 300
_CHANCE = random.SystemRandom()


@dataclass(frozen=True)
class ModelSettings:
    """Where the models are and what they cost. Times in seconds. Raises Misconfigured for an unusable URL or key."""

    base_url: str
    api_key: str = field(repr=False)
    """Empty for a server that wants none."""
    models: Mapping[Role, str]
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By model; a key also holds for dated versions of the name."""
    connect_timeout: float = 10.0
    timeout: float = 300.0
    """For one whole answer."""
    patience: float = 120.0
    """How long tries may fail before ModelUnavailable."""
    pause: float = 0.5
    """Before the second try; doubled from try to try."""
    malformed: int = 3
    """How often in a row `decide` sends a malformed answer back."""
    model_setting: str = "MODEL"
    """Name of the setting for all roles, for errors; with `_PLAN` and so on that of one role."""
    url_setting: str = "OPENAI_BASE_URL"
    key_setting: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Misconfigured(f"{self.url_setting} must be a URL like https://api.example.com/v1.")
        if parts.username or parts.password:
            # It would show in every log line that names the URL.
            raise Misconfigured(f"{self.url_setting} must not carry a user or password. Use {self.key_setting}.")
        if any(not "!" <= character <= "~" for character in self.api_key):
            # The HTTP library would say so too, but with the key in its words.
            raise Misconfigured(f"{self.key_setting} has a space, line break or other character that no key has.")

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc


class ChatModel:
    """`graph.ports.Model`. Make it in the process that uses it, never before a fork; close it after the turn.

    One caller at a time; `abort` and `close` from any thread.
    """

    def __init__(
        self,
        settings: ModelSettings,
        halt: Halt,
        *,
        pause: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pause(seconds)` waits between tries and must return early when the turn is stopped."""
        self._settings = settings
        self._halt = halt
        self._clock = clock
        self._pause = pause or self._sleep
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._over: Future[None] = Future()
        self._unforced: set[str] = set()
        # More than one thread: a name look-up that hangs cannot be ended, only left behind.
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="model")
        halt.on_set(self.abort)

    def __enter__(self) -> ChatModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(
        self, role: Role, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]], *, model: str = ""
    ) -> tuple[AIMessage, Usage]:
        """See the port. Also raises ContextTooLong, and Misconfigured for the operator. Malformed arguments are in
        `invalid_tool_calls`; a refusal by the provider is the text."""
        options = {"tools": list(tools)} if tools else {}
        return self._call(role, self._name(role, model), messages, options)

    def decide(
        self, role: Role, messages: Sequence[BaseMessage], into: type[Decision], *, model: str = ""
    ) -> tuple[Decision, Usage]:
        """See the port. The usage is the sum of all calls that it took."""
        name, tool = self._name(role, model), _tool_of(into)
        said, spent, complaint = list(messages), Usage(), ""
        for _ in range(self._settings.malformed + 1):
            try:
                reply, usage = self._forced(role, name, said, tool)
            except (ModelUnavailable, ContextTooLong) as exc:
                exc.usage = spent
                raise
            spent += usage
            value, complaint = _read(reply, into)
            if value is not None:
                return value, spent
            if refusal := refusal_in(reply):
                # The same words would be refused again, and each time costs.
                raise _misbehaved(f'The model "{name}" would not answer: {_in_short(refusal)}', spent)
            said += _sent_back(reply, complaint)
        count = self._settings.malformed + 1
        raise _misbehaved(f'The model "{name}" gave {count} malformed answers in a row. The last: {complaint}', spent)

    def abort(self) -> None:
        """End the call in flight, if any, with Stopped; so ends every later one."""
        with self._lock:
            if not self._over.done():
                self._over.set_result(None)
            wire, self._wire = self._wire, None
        if wire is not None:
            wire.cut()

    def close(self) -> None:
        """Close the connections and let the threads go."""
        self.abort()
        self._threads.shutdown(wait=False)

    def _name(self, role: Role, model: str) -> str:
        name = model or self._settings.models.get(role, "")
        if not name:
            raise Misconfigured(f"No model is set for {role}: set {self._named_by(role, name)}.")
        return name

    def _forced(
        self, role: Role, name: str, messages: Sequence[BaseMessage], tool: dict[str, Any]
    ) -> tuple[AIMessage, Usage]:
        choice = {"type": "function", "function": {"name": tool["function"]["name"]}}
        if name not in self._unforced:
            try:
                return self._call(role, name, messages, {"tools": [tool], "tool_choice": choice})
            except ForcedCallRefusedError:
                self._unforced.add(name)
        return self._call(role, name, messages, {"tools": [tool], "tool_choice": "auto"})

    def _call(
        self, role: Role, name: str, messages: Sequence[BaseMessage], options: dict[str, Any]
    ) -> tuple[AIMessage, Usage]:
        """Try until there is an answer, the patience is used up, or trying is of no use."""
        began, tries = self._clock(), 0
        while True:
            self._check()
            try:
                reply = self._try(name, messages, options)
                break
            except FAILURES as exc:
                self._check()  # a connection that breaks because the turn is stopped is no failure
                meaning = meaning_of(exc, self._where(role, name))
                if isinstance(meaning, ForcedCallRefusedError) and options.get("tool_choice", "auto") == "auto":
                    meaning = Misconfigured(f'{self._settings.host} refused the tools for the model "{name}".')
                if isinstance(meaning, Refusal):
                    reply = refused(meaning.text)
                    break
                if isinstance(meaning, Exception):
                    raise meaning from self._clean(exc)
                seconds = self._delay(meaning, tries, self._clock() - began, exc)
            tries += 1
            self._pause(seconds)
        usage = usage_of(reply, messages, options.get("tools", ()), self._settings.prices, name)
        return reply, usage.model_copy(update={"seconds": self._clock() - began})

    def _delay(self, again: Again, tries: int, failing: float, exc: Exception) -> float:
        """Seconds until the next try; raises ModelUnavailable if that is beyond the patience."""
        seconds = min(self._settings.pause * 2.0**tries, _LONGEST_PAUSE) * _CHANCE.uniform(0.5, 1.0)
        seconds = max(seconds, again.after or 0.0)
        if failing + seconds > self._settings.patience:
            raise ModelUnavailable(
                f"No answer from the model at {self._settings.host}; the last try gave: {again.why}.", again.after
            ) from self._clean(exc)
        return seconds

    def _try(self, name: str, messages: Sequence[BaseMessage], options: dict[str, Any]) -> AIMessage:
        """One request, on a thread of its own: neither a look-up nor a server that drips may hold the turn."""
        with self._lock:
            if self._over.done():
                raise Stopped(by=self._halt.by)
            wire = self._wire
            if wire is None:
                wire = self._wire = Wire(
                    self._settings.base_url,
                    self._settings.api_key,
                    self._settings.connect_timeout,
                    self._settings.timeout,
                )
            call = self._threads.submit(wire.invoke, name, messages, options)
        ends: set[Future[Any]] = {call, self._over}
        wait(ends, timeout=self._settings.timeout, return_when=FIRST_COMPLETED)
        if call.done():
            return call.result()
        if not self._over.done():
            # The client is given up with its thread; the next try makes another.
            with self._lock:
                self._wire = None
            wire.cut()
            raise TimeoutError
        raise Stopped(by=self._halt.by)

    def _check(self) -> None:
        self._halt.check()
        if self._over.done():
            raise Stopped(by=self._halt.by)

    def _sleep(self, seconds: float) -> None:
        wait((self._over,), timeout=seconds)

    def _named_by(self, role: str, name: str) -> str:
        if name and name not in self._settings.models.values():
            return "the option model= of the task"
        return f"{self._settings.model_setting}_{role.upper()} or {self._settings.model_setting}"

    def _where(self, role: str, name: str) -> Where:
        settings = self._settings
        return Where(
            model=name,
            host=settings.host,
            secret=settings.api_key,
            model_setting=self._named_by(role, name),
            url_setting=settings.url_setting,
            key_setting=settings.key_setting,
        )

    def _clean(self, exc: Exception) -> Exception | None:
        """`exc` as a cause; None if its words carry the key, since causes are printed into logs."""
        secret = self._settings.api_key
        seen: list[BaseException] = []
        link: BaseException | None = exc
        while link is not None and link not in seen:
            seen.append(link)
            link = link.__cause__ or link.__context__
        return None if secret and any(secret in f"{link} {link!r}" for link in seen) else exc


def preload(decisions: Sequence[type[BaseModel]] = ()) -> None:
    """Import and build all that a call needs, and the schemas of `decisions`: a child forked from here has them."""
    modelclient.preload()
    for into in decisions:
        _tool_of(into)


@lru_cache(maxsize=64)
def _tool_of(into: type[BaseModel]) -> dict[str, Any]:
    tool = convert_to_openai_tool(into)
    tool["function"]["name"] = into.__name__
    return tool


def _read(reply: AIMessage, into: type[Decision]) -> tuple[Decision | None, str]:
    """The decision, or what is wrong with the answer."""
    complaint = f"Call the function {into.__name__}; there was no call of it in your answer."
    for invalid in reply.invalid_tool_calls:
        complaint = f"{invalid['error']}."
    for call in reply.tool_calls:
        if call["name"] != into.__name__:
            complaint = f"There is no function {call['name']}. Call {into.__name__}."
            continue
        try:
            return into.model_validate(call["args"]), ""
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_context=False, include_input=False)
            lines = [f"{'.'.join(map(str, error['loc'])) or 'arguments'}: {error['msg']}" for error in errors]
            complaint = "The arguments do not fit the schema. " + "; ".join(lines[:_COMPLAINTS])
    return None, complaint


def _misbehaved(words: str, spent: Usage) -> ModelMisbehaved:
    error = ModelMisbehaved(words)
    error.usage = spent
    return error


def _in_short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _WORDS else f"{words[:_WORDS]}…"


def _sent_back(reply: AIMessage, complaint: str) -> list[BaseMessage]:
    """The answer and the complaint in an order that providers accept: each call is followed by its one result."""
    ids = [call["id"] for call in (*reply.tool_calls, *reply.invalid_tool_calls)]
    if ids:
        return [reply, *(ToolMessage(complaint, tool_call_id=id_ or "") for id_ in ids)]
    # Some servers refuse an empty assistant message in the history.
    text = reply if reply.text else AIMessage("(empty answer)")
    return [text, HumanMessage(complaint)]
