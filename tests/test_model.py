from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal

import httpx2
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import invalid_tool_call
from langchain_openai import ChatOpenAI
from modelserver import (
    Answer,
    ConversationScript,
    Cut,
    Drip,
    Hang,
    Raw,
    Refuse,
    Reply,
    ScriptedModelServer,
    call,
    in_turn,
    say,
)
from pydantic import BaseModel, Field

from graph.errors import (
    ContextTooLong,
    Misconfigured,
    ModelMisbehaved,
    ModelUnavailable,
    Stopped,
    ThreadwrightError,
)
from graph.ports import Halt
from graph.state import Usage
from integrations.chatrules import RefusedError, check
from integrations.model import ChatModel, ModelSettings, Price
from integrations.modelanswers import OddAnswerError
from integrations.modelclient import FlatChatOpenAI, chat_over
from integrations.modelerrors import retry_after
from integrations.prices import price_of

KEY = "sk-test-0123456789abcdef"
ASK: list[BaseMessage] = [SystemMessage("You help."), HumanMessage("Hello")]
READ = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}
TINY_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="


class Sort(BaseModel):
    """Say what the message is."""

    kind: Literal["task", "question"]
    parts: list[str] = Field(max_length=2)


class Bench:
    """A server, a model that talks to it, and a record of the pauses between tries (none of which is slept)."""

    def __init__(self, script: Any, **settings: Any) -> None:
        server = {name: settings.pop(name) for name in ("models", "key") if name in settings}
        self.server = ScriptedModelServer(script, **server)
        self.halt = Halt()
        self.pauses: list[float] = []
        self.now = 0.0
        roles = dict.fromkeys(("triage", "plan", "implement", "review"), "gpt-5")
        values = {"base_url": self.server.url, "api_key": KEY, "models": roles, "timeout": 5.0, **settings}
        self.model = ChatModel(ModelSettings(**values), self.halt, pause=self._pause, clock=lambda: self.now)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def answer(self, messages: Sequence[BaseMessage] = ASK, tools: Sequence[dict[str, Any]] = ()) -> AIMessage:
        return self.model.answer("implement", messages, tools)[0]

    def usage(self) -> Usage:
        return self.model.answer("implement", ASK, [])[1]

    def decide(self) -> tuple[Sort, Usage]:
        return self.model.decide("triage", ASK, Sort)


@pytest.fixture
def bench() -> Iterator[Any]:
    made: list[Bench] = []

    def make(*replies: Reply, script: Any = None, **settings: Any) -> Bench:
        made.append(Bench(script or in_turn(*replies), **settings))
        return made[-1]

    yield make
    for one in made:
        one.model.close()
        one.server.close()


def completion(**message: Any) -> Raw:
    body = {"model": "gpt-5", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Raw(json.dumps(body).encode())


def with_calls(*calls: Any) -> Raw:
    return completion(role="assistant", content=None, tool_calls=list(calls))


# What a call gives


def test_text_and_calls_come_back_as_one_message(bench: Any) -> None:
    reply = bench(say("Looking.") + call("read_file", path="a b.py")).answer(tools=[READ])
    assert reply.text == "Looking."
    assert [(one["name"], one["args"]) for one in reply.tool_calls] == [("read_file", {"path": "a b.py"})]


def test_each_role_has_its_model_and_a_person_may_name_another(bench: Any) -> None:
    one = bench(say("x"), models=())
    one.model.answer("plan", ASK, [], model="other")
    one.answer()
    assert [request.model for request in one.server.requests] == ["other", "gpt-5"]


def test_a_role_without_a_model_is_a_wrong_setting() -> None:
    settings = ModelSettings("http://127.0.0.1:9/v1", KEY, {})
    with ChatModel(settings, Halt()) as model, pytest.raises(Misconfigured, match="plan"):
        model.answer("plan", ASK, [])


def test_usage_counts_cached_tokens_and_costs_what_the_price_says(bench: Any) -> None:
    counted = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400}}
    reply = Answer("x", usage=counted, model="gpt-5-2025-08-07")
    usage = bench(reply, prices={"gpt-5": Price(1.0, 0.1, 10.0)}).usage()
    assert usage.usd == pytest.approx((600 * 1.0 + 400 * 0.1 + 10 * 10.0) / 1e6)
    assert usage.model_dump(exclude={"usd"}) == Usage(
        calls=1, input_tokens=1000, cached_tokens=400, output_tokens=10
    ).model_dump(exclude={"usd"})


def test_without_a_price_tokens_are_counted_as_unpriced(bench: Any) -> None:
    usage = bench(Answer("x", usage={"prompt_tokens": 7, "completion_tokens": 3})).usage()
    assert (usage.usd, usage.unpriced_tokens, usage.estimated) == (0.0, 10, False)


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0}, {"prompt_tokens": "12", "completion_tokens": 1}])
def test_without_usable_usage_tokens_are_estimated_from_the_text(bench: Any, usage: Any) -> None:
    got = bench(Answer("y" * 40, usage=usage)).usage()
    assert got.estimated
    assert (got.input_tokens, got.output_tokens) == (4, 10)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gpt-5", "gpt-5"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-5-nano", None),
        ("gpt-4o", None),
        ("", None),
    ],
)
def test_a_price_is_found_by_the_longest_name_and_never_for_another_variant(name: str, key: str | None) -> None:
    prices = {one: Price(i, 0, 0) for i, one in enumerate(["gpt-5", "gpt-5-mini", "gpt-4"])}
    assert price_of(prices, name) == (prices[key] if key else None)


# Odd servers


@pytest.mark.parametrize(
    "odd",
    [
        Raw(b"<html><body>Bad gateway</body></html>", headers={"Content-Type": "text/html"}),
        Raw(b"<html>", headers={"Content-Type": "application/json"}),
        Raw(b""),
        Raw(b"null"),
        Raw(b"[]"),
        Raw(b'"text"'),
        Raw(b"\xff\xfe\x00"),
        Raw(b"[" * 100_000),
        Raw(b'{"choices": [{"message": {"role": "assist'),
        Raw(b'{"choices": []}'),
        Raw(b'{"choices": null}'),
        Raw(b'{"choices": [null]}'),
        Raw(b'{"choices": [{"message": null}]}'),
        Raw(b'{"choices": [{"message": "text"}]}'),
        Raw(b'{"choices": "text"}'),
        Raw(b'{"error": {"message": "overloaded", "code": 529}}'),
        Raw(b"not gzip", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}),
        Cut(),
        *(Refuse(status) for status in (408, 409, 429, 500, 502, 503, 504, 529)),
    ],
    ids=lambda reply: repr(reply)[:60],
)
def test_garbage_and_failures_are_tried_again(bench: Any, odd: Reply) -> None:
    one = bench(odd, odd, say("at last"))
    assert one.answer().text == "at last"
    assert len(one.pauses) == 2
    assert 0.25 <= one.pauses[0] <= 0.5 <= one.pauses[1] <= 1.0


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (completion(role="assistant", content=None), ""),
        (completion(role="assistant"), ""),
        (completion(content=[{"type": "thinking", "thinking": 1}, {"type": "text", "text": "a"}, "b", 3]), "ab"),
        (completion(role="assistant", content={"text": "x"}), ""),
        (completion(role="assistant", content=None, refusal="I will not."), "I will not."),
        (completion(role="assistant", content="\ud83d \ud83d\ude00"), "\ufffd \U0001f600"),
        (Raw(b'{"choices": [{"message": {"content": "x"}}], "usage": "none", "model": 7}'), "x"),
        (Raw(b'{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}'), "withheld"),
        (Refuse(400, "blocked", code="content_policy_violation"), "refused"),
    ],
)
def test_odd_but_usable_answers_become_text(bench: Any, odd: Reply, text: str) -> None:
    reply = bench(odd).answer()
    assert isinstance(reply.content, str)
    assert text in reply.text
    assert text or not reply.text
    assert not reply.tool_calls


def test_malformed_calls_are_kept_apart_and_can_be_sent_back(bench: Any) -> None:
    odd = with_calls(
        {"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": '}},
        {"id": "c2", "type": "function", "function": {"name": "read_file", "arguments": "[1]"}},
        {"id": "c2", "type": "function", "function": {"name": "fs.read file" + "x" * 80, "arguments": {"path": "a"}}},
        {"function": {"name": None, "arguments": ""}},
        {"id": 7, "function": None},
        "nonsense",
        {"id": "c3", "function": {"name": "read_file", "arguments": r'{"path": "\ud800"}'}},
        {"id": "c4", "function": {"name": "read_file", "arguments": "[" * 50_000}},
    )
    one = bench(odd, say("fine"))
    reply = one.answer(tools=[READ])
    assert [bad["id"] for bad in reply.invalid_tool_calls] == ["c1", "c2", "c4"]
    assert [good["args"] for good in reply.tool_calls] == [{"path": "a"}, {}, {}, {}, {"path": "\ufffd"}]
    ids = [made["id"] for made in (*reply.tool_calls, *reply.invalid_tool_calls)]
    assert len(set(ids)) == len(ids)
    results = [ToolMessage("no \ud800", tool_call_id=id_ or "") for id_ in ids]
    assert one.answer([*ASK, reply, *results], [READ]).text == "fine"
    assert one.server.refused == []
    history = one.server.requests[-1].messages[2]["tool_calls"]
    assert all(isinstance(json.loads(sent["function"]["arguments"]), dict) for sent in history)


WHOLE = {
    "id": "chatcmpl-1",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {
                "role": "assistant",
                "content": "hi",
                "refusal": None,
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
}
ODD = ["null", "0", "-1", "1.5", '""', '"x"', "[]", "{}", "[null]", '["a"]', '{"a": 1}', "true", '"\\ud800"', "1" * 40]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(value[key], (*at, key))


def test_no_value_in_any_place_of_an_answer_gets_past_as_an_error_of_a_vendor() -> None:
    bodies: list[bytes] = []
    for place in places(WHOLE):
        for odd in ODD:
            body = copy.deepcopy(WHOLE)
            holder: Any = body
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = json.loads(odd)
            bodies.append(json.dumps(body).encode())
    answers = iter(bodies)
    json_type = {"Content-Type": "application/json"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=next(answers), headers=json_type))
    chat = chat_over(httpx2.Client(transport=transport), "m", "http://model.invalid/v1", KEY)
    for _ in bodies:
        try:
            reply = chat.invoke(ASK)
        except OddAnswerError:
            continue
        check(json.loads(json.dumps({"model": "m", **sendable(chat, reply)}).encode()))
    assert len(bodies) > 200


def sendable(chat: FlatChatOpenAI, reply: AIMessage) -> dict[str, Any]:
    results = [ToolMessage("", tool_call_id=bad["id"] or "") for bad in (*reply.tool_calls, *reply.invalid_tool_calls)]
    body = chat._get_request_payload([*ASK, reply, *results])["extra_body"]
    json.dumps(body, ensure_ascii=False).encode()
    return dict(body)


# Failing, waiting, giving up


def test_retry_after_is_obeyed(bench: Any) -> None:
    one = bench(Refuse(429, headers={"Retry-After": "7"}), Refuse(503, headers={"retry-after-ms": "9000"}), say("x"))
    one.answer()
    assert one.pauses == [7.0, 9.0]


@pytest.mark.parametrize("seconds", ["121", "3600"])
def test_a_retry_after_beyond_the_patience_gives_up_at_once(bench: Any, seconds: str) -> None:
    one = bench(Refuse(429, headers={"Retry-After": seconds}))
    with pytest.raises(ModelUnavailable) as caught:
        one.answer()
    assert caught.value.retry_after == float(seconds)
    assert (one.pauses, len(one.server.requests)) == ([], 1)


def test_retry_after_may_be_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    date = format_datetime(now.replace(minute=3), usegmt=True)
    assert retry_after({"retry-after": date}, now) == 180.0
    assert retry_after({"retry-after": format_datetime(now.replace(year=2020), usegmt=True)}, now) == 0.0
    assert [retry_after({"retry-after": text}, now) for text in ("soon", "nan", "inf", "-3")] == [None, None, None, 0.0]


def test_two_minutes_of_failures_are_the_end_of_patience(bench: Any) -> None:
    one = bench(Refuse(500))
    with pytest.raises(ModelUnavailable, match="HTTP 500"):
        one.answer()
    assert 90 < sum(one.pauses) <= 120
    assert len(one.server.requests) < 20


def test_nobody_there_is_unavailable(bench: Any) -> None:
    one = bench(say("x"))
    one.server.close()
    with pytest.raises(ModelUnavailable, match="connection"):
        one.answer()


def test_an_account_without_money_is_not_tried_for_two_minutes(bench: Any) -> None:
    one = bench(Refuse(429, "You are out.", code="insufficient_quota"))
    with pytest.raises(ModelUnavailable, match="quota"):
        one.answer()
    assert one.pauses == []


@pytest.mark.parametrize("slow", [Hang(), Drip()])
def test_a_hung_connection_ends_by_the_time_limit_and_is_tried_again(bench: Any, slow: Reply) -> None:
    one = bench(slow, say("awake"), timeout=0.3)
    began = time.monotonic()
    assert one.answer().text == "awake"
    assert 0.3 <= time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Refuse(401), Misconfigured, "OPENAI_API_KEY"),
        (Refuse(403), Misconfigured, "OPENAI_API_KEY"),
        (Refuse(404, "no such"), Misconfigured, '"gpt-5" that MODEL_IMPLEMENT or MODEL names'),
        (Refuse(400, "The model `gpt-5` does not exist"), Misconfigured, "does not know the model"),
        (Refuse(400, "x", code="model_not_found"), Misconfigured, "does not know the model"),
        (Refuse(400, "no such field"), Misconfigured, "no such field"),
        (Refuse(405), Misconfigured, "HTTP 405"),
        (Refuse(307, headers={"Location": "http://127.0.0.1:9/"}), Misconfigured, "redirects"),
        (Refuse(400, "x", code="context_length_exceeded"), ContextTooLong, "too long"),
        (Refuse(400, "This model's maximum context length is 8192 tokens"), ContextTooLong, "gpt-5"),
        (Refuse(413), ContextTooLong, "too long"),
    ],
)
def test_what_trying_again_cannot_cure_is_said_at_once(bench: Any, reply: Reply, kind: type, words: str) -> None:
    one = bench(reply)
    with pytest.raises(kind, match=words):
        one.answer()
    assert (one.pauses, len(one.server.requests)) == ([], 1)


def test_a_model_that_a_person_named_is_blamed_on_the_option_and_not_on_a_setting(bench: Any) -> None:
    one = bench(say("x"), models=("gpt-5",))
    with pytest.raises(Misconfigured, match="the option model= of the task"):
        one.model.answer("plan", ASK, [], model="gtp-5")
    assert one.answer().text == "x"


def test_the_strict_server_and_the_model_agree_about_keys_and_names(bench: Any) -> None:
    with pytest.raises(Misconfigured, match="API key"):
        bench(say("x"), key="another").answer()
    assert bench(say("x"), key=KEY).answer().text == "x"


def echoing(status: int) -> Refuse:
    return Refuse(status, f"Incorrect API key provided: {KEY}.", headers={"Retry-After": "999"})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 500])
def test_the_key_is_in_no_error_no_repr_and_no_log(bench: Any, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    one = bench(echoing(status))
    with pytest.raises(ThreadwrightError) as caught:
        one.answer()
    texts = [*traceback.format_exception(caught.value), repr(caught.value), repr(one.model), caplog.text]
    assert not [text for text in texts if KEY in text]


def test_the_control_of_the_key_test_does_leak_with_the_plain_client(bench: Any) -> None:
    one = bench(echoing(400))
    with pytest.raises(Exception) as caught:
        ChatOpenAI(model="m", api_key=KEY, base_url=one.server.url, max_retries=0).invoke("x")
    assert KEY in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "values",
    [
        {"api_key": f"{KEY}\n"},
        {"api_key": f"{KEY} x"},
        {"api_key": f"{KEY}é"},
        {"base_url": "localhost:8000/v1"},
        {"base_url": "ftp://example.com"},
        {"base_url": f"http://user:{KEY}@example.com/v1"},
    ],
)
def test_an_unusable_key_or_url_is_refused_without_showing_the_key(values: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as caught:
        ModelSettings(**{"base_url": "http://example.com/v1", "api_key": KEY, "models": {}, **values})  # type: ignore[arg-type]
    assert KEY not in str(caught.value)
    assert KEY not in repr(ModelSettings("http://example.com/v1", KEY, {}))


# Stopping


def in_flight(one: Bench) -> tuple[threading.Thread, list[Exception]]:
    """A call that hangs on another thread, and where its error will be."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            one.answer()
        except ThreadwrightError as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 5
    while not one.server.requests and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    assert one.server.requests
    return thread, errors


@pytest.mark.parametrize("slow", [Hang(), Drip()])
def test_a_stop_ends_a_call_in_flight_within_a_second(bench: Any, slow: Reply) -> None:
    one = bench(slow, timeout=60.0)
    thread, errors = in_flight(one)
    began = time.monotonic()
    one.halt.set(by="Ann")
    thread.join(5)
    assert time.monotonic() - began < 1
    assert [(type(error), error.by) for error in errors] == [(Stopped, "Ann")]  # type: ignore[attr-defined]
    with pytest.raises(Stopped):
        one.answer()


def test_after_a_stop_the_connection_is_gone_and_so_is_its_thread(bench: Any) -> None:
    one = bench(Hang(), timeout=60.0)
    thread, _ = in_flight(one)
    one.model.close()
    thread.join(5)
    deadline = time.monotonic() + 5
    while [t for t in threading.enumerate() if t.name.startswith("model")] and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    assert [t.name for t in threading.enumerate() if t.name.startswith("model")] == []


def test_a_stop_during_the_pause_between_tries_ends_it() -> None:
    with ScriptedModelServer(in_turn(Refuse(500))) as server:
        halt = Halt()
        settings = ModelSettings(server.url, KEY, {"plan": "m"}, pause=60.0)
        with ChatModel(settings, halt) as model:
            timer = threading.Timer(0.1, halt.set)
            timer.start()
            began = time.monotonic()
            with pytest.raises(Stopped):
                model.answer("plan", ASK, [])
            assert time.monotonic() - began < 5
            timer.join()


def test_a_turn_that_is_stopped_already_sends_nothing(bench: Any) -> None:
    one = bench(say("x"))
    one.halt.set()
    with pytest.raises(Stopped):
        one.answer()
    assert one.server.received == []


# Decisions


GOOD = call("Sort", kind="task", parts=["a"])


def test_a_decision_is_one_forced_call_named_after_the_schema(bench: Any) -> None:
    one = bench(GOOD)
    value, usage = one.decide()
    assert value == Sort(kind="task", parts=["a"])
    assert usage.calls == 1
    body = one.server.requests[0].body
    assert body["tool_choice"] == {"type": "function", "function": {"name": "Sort"}}
    assert [tool["function"]["name"] for tool in body["tools"]] == ["Sort"]


MALFORMED = {
    "text": say("It is a task."),
    "empty": say(""),
    "wrong name": call("Other", kind="task", parts=[]),
    "not JSON": Answer(calls=(("Sort", '{"kind": '),)),
    "not an object": Answer(calls=(("Sort", '["task"]'),)),
    "does not validate": call("Sort", kind="poem", parts=["a", "b", "c"]),
    "two wrong ones": call("Sort", kind="poem", parts=[]) + call("Other"),
}


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_decision_goes_back_in_a_legal_order_and_usage_adds_up(bench: Any, bad: Reply) -> None:
    one = bench(bad, bad, bad, GOOD)
    value, usage = one.decide()
    assert value.kind == "task"
    assert usage.calls == 4
    assert one.server.refused == []
    assert one.server.requests[-1].answers_so_far == 3


def test_the_complaint_says_what_is_wrong(bench: Any) -> None:
    one = bench(MALFORMED["does not validate"], GOOD)
    one.decide()
    complaint = one.server.requests[1].messages[-1]
    assert complaint["role"] == "tool"
    assert "kind: " in complaint["content"]
    assert "parts: " in complaint["content"]


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED.keys())
def test_the_fourth_malformed_decision_in_a_row_is_misbehaviour(bench: Any, bad: Reply) -> None:
    one = bench(bad)
    with pytest.raises(ModelMisbehaved, match="4 malformed answers") as caught:
        one.decide()
    assert len(one.server.requests) == 4
    assert caught.value.usage.calls == 4
    assert caught.value.usage.output_tokens > 0


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (Refuse(429, "no money", code="insufficient_quota"), ModelUnavailable),
        (Refuse(503), ModelUnavailable),
        (Refuse(400, "too many tokens", code="context_length_exceeded"), ContextTooLong),
    ],
)
def test_a_decision_that_breaks_off_says_what_the_answers_before_took(bench: Any, last: Reply, kind: type) -> None:
    one = bench(MALFORMED["text"], MALFORMED["empty"], last)
    with pytest.raises(kind) as caught:
        one.decide()
    assert caught.value.usage.calls == 2
    fresh = bench(last)
    with pytest.raises(kind) as caught:
        fresh.decide()
    assert caught.value.usage == Usage()


def filtered(**message: Any) -> Raw:
    return Raw(json.dumps({"choices": [{"message": message, "finish_reason": "content_filter"}]}).encode())


HALF_A_CALL = {"id": "c1", "type": "function", "function": {"name": "Sort", "arguments": '{"kind": '}}


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (completion(role="assistant", content=None, refusal="I will\nnot. " + "x" * 1000), "I will not. x"),
        (filtered(content=None), "content filter objected"),
        (filtered(content="It is"), "content filter objected"),
        (filtered(content=None, tool_calls=[HALF_A_CALL]), "content filter objected"),
        (Refuse(400, "blocked", code="content_policy_violation"), "content policy objected"),
    ],
)
def test_a_refusal_ends_a_decision_at_once_in_words_that_say_so(bench: Any, refusal: Reply, words: str) -> None:
    one = bench(refusal)
    with pytest.raises(ModelMisbehaved, match='The model "gpt-5" would not answer: ') as caught:
        one.decide()
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400
    assert (len(one.server.requests), caught.value.usage.calls) == (1, 1)


def test_a_decision_beside_a_refusal_counts(bench: Any) -> None:
    """The control: what can be read is taken, whatever else the answer says."""
    whole = {**HALF_A_CALL, "function": {"name": "Sort", "arguments": '{"kind": "task", "parts": []}'}}
    assert bench(filtered(content=None, tool_calls=[whole])).decide()[0].kind == "task"


def test_a_server_that_cannot_force_a_call_is_asked_without_and_remembered(bench: Any) -> None:
    def script(request: Any) -> Reply:
        return GOOD if request.body["tool_choice"] == "auto" else Refuse(400, "tool_choice: only auto is supported")

    one = bench(script=script)
    one.decide()
    one.decide()
    choices = [request.body["tool_choice"] for request in one.server.requests]
    assert [choice == "auto" for choice in choices] == [False, True, True]


def test_a_server_that_refuses_tools_altogether_is_a_wrong_setting(bench: Any) -> None:
    with pytest.raises(Misconfigured, match="refused the tools"):
        bench(Refuse(400, "tool_choice is unknown here")).decide()


# The bodies on the wire


def conversation(steps: int) -> list[BaseMessage]:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TINY_PNG}"}}
    said: list[BaseMessage] = [
        SystemMessage("# Role: implement\nYou are careful."),
        HumanMessage([{"type": "text", "text": "Fix this — naïve"}, image], name="ann"),
    ]
    for step in range(steps):
        calls = [
            {
                "name": "read_file",
                "args": {"path": f"ä{step}.py", "n": [1, None]},
                "id": f"c{step}a",
                "type": "tool_call",
            },
            {"name": "read_file", "args": {}, "id": f"c{step}b", "type": "tool_call"},
        ]
        said.append(AIMessage("" if step % 2 else "I look.", tool_calls=calls))
        said.append(ToolMessage("line\n" * 3, tool_call_id=f"c{step}a", name="read_file"))
        said.append(ToolMessage([{"type": "text", "text": "part"}], tool_call_id=f"c{step}b", status="error"))
    return [*said, AIMessage("Done."), HumanMessage("Thanks. And now?")]


@pytest.mark.parametrize("name", ["gpt-5", "o3", "local-model"])
def test_the_bodies_are_those_of_the_plain_client(bench: Any, name: str) -> None:
    one = bench(say("x"), models=())
    plain = ChatOpenAI(model=name, api_key=KEY, base_url=one.server.url, max_retries=0, use_responses_api=False)
    said = conversation(3)
    choice = {"type": "function", "function": {"name": "read_file"}}
    for messages in (said[:2], said[:5], said, list(said)):
        one.model.answer("implement", messages, [READ], model=name)
        plain.invoke(messages, tools=[READ])
    with ChatModel(ModelSettings(one.server.url, KEY, {"plan": name}), Halt()) as model:
        model._call("plan", name, said, {"tools": [READ], "tool_choice": choice})
    plain.invoke(said, tools=[READ], tool_choice=choice)
    bodies = [json.loads(raw) for raw in one.server.received]
    assert one.server.refused == []
    assert bodies[0::2] == bodies[1::2]
    assert len(bodies) == 10


def test_a_message_that_was_changed_in_place_is_sent_as_it_is_now(bench: Any) -> None:
    one = bench(say("x"))
    said = [SystemMessage("s"), HumanMessage("before")]
    one.answer(said)
    said[1].content = "after"
    one.answer(said)
    assert [request.messages[1]["content"] for request in one.server.requests] == ["before", "after"]


class Counting(FlatChatOpenAI):
    made: int = 0

    def _dict(self, message: BaseMessage) -> dict[str, Any]:
        self.made += 1
        return super()._dict(message)


def test_each_message_is_made_into_a_dict_once_and_kept_only_while_it_is_sent() -> None:
    chat = Counting(model="m", api_key=KEY, base_url="http://127.0.0.1:9/v1")
    said = conversation(10)
    for end in range(1, len(said) + 1):
        chat._get_request_payload(said[:end])
    assert chat.made == len(said)
    chat._get_request_payload(said[:3])
    assert len(chat._made) == 3


def test_equal_prefixes_are_byte_identical(bench: Any) -> None:
    one = bench(say("x"))
    said = conversation(3)
    one.answer(said[:5], [READ])
    one.answer(said, [READ])
    first, second = one.server.received
    end = first.index(b'],"tools"')
    assert first[: first.index(b'"messages"')] == second[: second.index(b'"messages"')]
    assert second.startswith(first[:end])


# Before the fork


PRELOAD = """
import gc, socket, sys, threading
from integrations.model import preload  # on the way urllib3 looks whether there is IPv6, with a socket of its own
spoken = []
sys.addaudithook(lambda event, args: spoken.append(event) if event.startswith("socket.") else None)
def show():
    kept = [one for one in gc.get_objects() if type(one) is socket.socket and one.fileno() >= 0]
    print(spoken, len(kept), threading.active_count())
preload()
show()
control = socket.socket()
control.bind(("127.0.0.1", 0))
threading.Timer(0.3, int).start()
show()
"""


def test_preload_speaks_to_nobody_and_leaves_no_socket_and_no_thread() -> None:
    done = subprocess.run([sys.executable, "-c", PRELOAD], check=True, capture_output=True, text=True)
    after, control = done.stdout.splitlines()
    assert after == "[] 0 1"
    assert control == "['socket.__new__', 'socket.bind'] 1 2"


def test_a_model_made_in_a_forked_child_works_and_shares_no_connection() -> None:
    with ScriptedModelServer(in_turn(say("from the child"))) as server:
        done = subprocess.run([sys.executable, "-c", FORKED, server.url], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0", "from", "the", "child"]


FORKED = """
import os, sys
from integrations.model import ChatModel, ModelSettings, preload
from graph.ports import Halt
from langchain_core.messages import HumanMessage
preload()
settings = ModelSettings(sys.argv[1], "k", {"plan": "m"})
def child():
    with ChatModel(settings, Halt()) as model:
        return model.answer("plan", [HumanMessage("x")], [])[0].text
for _ in range(2):
    if not (pid := os.fork()):
        os._exit(child() != "from the child")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(child())
"""


# The strict server


def user(content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def calling(*ids: str, **function: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}", **function}
    calls = [{"id": id_, "type": "function", "function": function} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id_: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": "ok"}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages) or [user()], **fields}


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, **function}}


LEGAL = {
    "plain": body(),
    "all roles": body({"role": "system", "content": "s"}, {"role": "developer", "content": "d"}, user(name="ann")),
    "calls and results": body(user(), calling("a", "b"), result("b"), result("a"), user()),
    "ids used again later": body(user(), calling("a"), result("a"), calling("a"), result("a")),
    "image": body(user([{"type": "image_url", "image_url": {"url": "data:x"}}, {"type": "text", "text": "t"}])),
    "tools": body(tools=[tool()], tool_choice={"type": "function", "function": {"name": "f"}}),
    "required": body(tools=[tool()], tool_choice="required", parallel_tool_calls=False),
    "stream": body(stream=True, stream_options={"include_usage": True}),
}
ILLEGAL = {
    "no object": [],
    "no model": {"messages": [user()]},
    "no messages": body(messages=[]),
    "unknown field": body(prompt="x"),
    "call without result": body(user(), calling("a")),
    "one of two results": body(user(), calling("a", "b"), result("a"), user()),
    "user between": body(user(), calling("a"), user(), result("a")),
    "assistant between": body(user(), calling("a"), {"role": "assistant", "content": "x"}, result("a")),
    "result without call": body(user(), result("a")),
    "result twice": body(user(), calling("a"), result("a"), result("a")),
    "result of another": body(user(), calling("a"), result("b")),
    "result before call": body(user(), result("a"), calling("a")),
    "same id twice": body(user(), calling("a", "a"), result("a")),
    "no calls in the list": body(user(), {"role": "assistant", "content": "x", "tool_calls": []}),
    "arguments an object": body(user(), calling("a", arguments={}), result("a")),
    "name with a dot": body(user(), calling("a", name="fs.read"), result("a")),
    "calls by a user": body({**calling("a"), "role": "user", "content": "x"}, result("a")),
    "unknown role": body({"role": "human", "content": "x"}),
    "no content": body({"role": "user"}),
    "empty list": body(user([])),
    "assistant with nothing": body(user(), {"role": "assistant", "content": None}),
    "image by a tool": body(user(), calling("a"), {**result("a"), "content": [{"type": "image_url"}]}),
    "unknown part": body(user([{"type": "thinking", "text": "x"}])),
    "text part without text": body(user([{"type": "text"}])),
    "image as a string": body(user([{"type": "image_url", "image_url": "data:x"}])),
    "unknown message field": body(user(id="7")),
    "name with a space": body(user(name="Ann B")),
    "no tools in the list": body(tools=[]),
    "129 tools": body(tools=[tool(name=f"f{i}") for i in range(129)]),
    "long tool name": body(tools=[tool(name="f" * 65)]),
    "bare function": body(tools=[tool()["function"]]),
    "schema of an array": body(tools=[tool(parameters={"type": "array"})]),
    "unknown tool field": body(tools=[{**tool(), "extra": 1}]),
    "choice of an unknown tool": body(tools=[tool()], tool_choice={"type": "function", "function": {"name": "g"}}),
    "choice any": body(tools=[tool()], tool_choice="any"),
    "choice without tools": body(tool_choice="auto"),
    "hot": body(temperature=3),
    "stream options alone": body(stream_options={"include_usage": True}),
}


@pytest.mark.parametrize("legal", LEGAL.values(), ids=LEGAL.keys())
def test_the_strict_server_takes_what_is_legal(legal: Any) -> None:
    check(legal)


@pytest.mark.parametrize("illegal", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_the_strict_server_refuses_what_openai_refuses(illegal: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        check(illegal)
    assert caught.value.status == 400


def post(server: ScriptedModelServer, path: str, data: bytes | None, key: str | None = KEY) -> tuple[int, Any]:
    request = urllib.request.Request(f"{server.url}{path}", data)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as exc:
        return exc.code, json.loads(exc.read())


def test_refusals_have_the_right_status_and_an_error_body_on_the_wire() -> None:
    with ScriptedModelServer(in_turn(say("x")), models=("m",)) as server:
        data = json.dumps(body()).encode()
        assert post(server, "/chat/completions", data)[0] == 200
        assert post(server, "/models", None)[1]["data"][0]["id"] == "m"
        status, error = post(server, "/chat/completions", data, key=None)
        assert (status, error["error"]["code"]) == (401, "invalid_api_key")
        status, error = post(server, "/chat/completions", json.dumps({**body(), "model": "z"}).encode())
        assert (status, error["error"]["code"]) == (404, "model_not_found")
        assert post(server, "/chat/completions", b"{")[0] == 400
        assert post(server, "/nothing", data)[0] == 404
        assert len(server.requests) == 1
        assert len(server.refused) == 4
        assert server.received[0] == data


def test_the_server_streams_to_a_client_that_asks_for_it() -> None:
    with ScriptedModelServer(in_turn(say("Hello.") + call("read_file", path="é"))) as server:
        plain = ChatOpenAI(model="m", api_key=KEY, base_url=server.url, stream_usage=True)
        whole = None
        for chunk in plain.stream("x"):
            whole = chunk if whole is None else whole + chunk
        assert isinstance(whole, AIMessage)
        assert whole.text == "Hello."
        assert whole.tool_calls[0]["args"] == {"path": "é"}
        assert whole.usage_metadata


def test_a_conversation_script_gives_the_same_answer_to_the_same_request(bench: Any) -> None:
    script = ConversationScript({"plan": [say("one"), say("two")], "review": [say("fine")]})
    one = bench(script=script)
    plan: list[BaseMessage] = [SystemMessage("# Role: plan\nPlan it."), HumanMessage("go")]
    assert [one.answer(plan).text, one.answer(plan).text] == ["one", "one"]
    assert one.answer([*plan, AIMessage("one"), HumanMessage("on")]).text == "two"
    assert one.answer([SystemMessage("# Role: review"), HumanMessage("go")]).text == "fine"
    with pytest.raises(Misconfigured, match="script for no role has 0 replies"):
        one.answer(ASK)


def test_an_invalid_call_from_an_old_checkpoint_is_sent_as_json(bench: Any) -> None:
    one = bench(say("x"))
    bad = AIMessage("", invalid_tool_calls=[invalid_tool_call(name="read_file", args="{", id="c1", error="no")])
    one.answer([*ASK, bad, ToolMessage("not JSON", tool_call_id="c1")], [READ])
    sent = one.server.requests[0].messages[2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"malformed_arguments": "{"}
