"""The client that speaks Chat Completions: langchain-openai's `ChatOpenAI`, with a request path of flat cost."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr, SecretStr

from integrations.modelanswers import message_of, well_formed_value

KEEP_ALIVE = 60.0
"""Seconds that an idle connection is kept: about as long as a step's commands take."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class _Made:
    """A message's dict, and the parts it was made of; holding the message keeps its `id` from being given anew."""

    message: BaseMessage
    content: Any
    calls: Any
    dict: dict[str, Any]


class FlatChatOpenAI(ChatOpenAI):
    """`ChatOpenAI` that sends the same bodies at a cost that does not grow with the conversation.

    The SDK walks the typing of every message of `messages` at each request, and langchain turns each into a dict
    anew: 85 ms at step 200. So the messages travel in `extra_body`, past that walk, and each dict is made once.
    """

    _made: dict[int, _Made] = PrivateAttr(default_factory=dict)

    def _get_request_payload(self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        # A private method of ChatOpenAI: tests compare our bodies on the wire with those of the plain class.
        payload: dict[str, Any] = super()._get_request_payload([], stop=stop, **kwargs)
        body = dict(payload.get("extra_body") or {})
        for name in ("tools", "tool_choice"):
            if name in payload:
                body[name] = payload.pop(name)
        body["messages"] = self._dicts(self._convert_input(input_).to_messages())
        return {**payload, "messages": [], "extra_body": body}

    def _dicts(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        before, now = self._made, {}
        for message in messages:
            made = before.get(id(message))
            calls = message.tool_calls if isinstance(message, AIMessage) else None
            if made is None or made.content is not message.content or made.calls is not calls:
                made = _Made(message, message.content, calls, self._dict(message))
            now[id(message)] = made
        # Only this request's messages stay: the cache is as large as the conversation, never larger.
        self._made = now
        return [now[id(message)].dict for message in messages]

    def _dict(self, message: BaseMessage) -> dict[str, Any]:
        payload = super()._get_request_payload([message])
        made: dict[str, Any] = well_formed_value(payload["messages"][0])
        if isinstance(message, AIMessage) and message.invalid_tool_calls:
            _wrap_invalid(made, {call["id"] for call in message.invalid_tool_calls})
        return made

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:  # noqa: ARG002
        body = response.model_dump(warnings=False) if isinstance(response, openai.BaseModel) else response
        return ChatResult(generations=[ChatGeneration(message=message_of(body))])


def _wrap_invalid(made: dict[str, Any], ids: set[str | None]) -> None:
    # Servers parse the arguments in the history (vLLM's chat templates do) and would refuse the whole conversation.
    for call in made.get("tool_calls", []):
        if call["id"] in ids:
            raw = call["function"]["arguments"] or ""
            call["function"]["arguments"] = json.dumps({"malformed_arguments": raw}, ensure_ascii=False)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Made once and shared by forked children: loading the certificates takes longer than a request."""
    return httpx2.create_ssl_context()


class Wire:
    """The connections of one client. `cut()` ends every wait on them at once, from any thread."""

    def __init__(self, base_url: str, api_key: str, connect_timeout: float, timeout: float) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_cut = False
        self._busy = 0
        self._chats: dict[str, FlatChatOpenAI] = {}
        self._key = api_key or "none"  # an empty one would make an illegal header; servers without keys ignore it
        self._base_url = base_url
        self._http = httpx2.Client(
            timeout=httpx2.Timeout(timeout, connect=connect_timeout),
            limits=httpx2.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=KEEP_ALIVE),
            # A redirect would carry the conversation to a host that the operator did not name.
            follow_redirects=False,
            # The operator's proxies are for what is outside this machine.
            trust_env=urlsplit(base_url).hostname not in _LOOPBACK,
            verify=_tls(),
            event_hooks={"request": [self._watch]},
        )

    def invoke(self, model: str, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> AIMessage:
        """One request. Raises what the vendor raises, and OddAnswerError."""
        with self._lock:
            if self._is_cut:
                raise httpx2.NetworkError("the connection was closed")
            chat = self._chats.get(model)
            if chat is None:
                chat = self._chats[model] = chat_over(self._http, model, self._base_url, self._key)
            self._busy += 1
        try:
            return chat.invoke(list(messages), **options)
        finally:
            with self._lock:
                self._busy -= 1
                last = self._is_cut and not self._busy
            if last:
                self._http.close()

    def cut(self) -> None:
        """Close for good. A request in flight on another thread ends with a broken connection."""
        with self._lock:
            self._is_cut = True
            idle = not self._busy
            for sock in self._sockets:
                _shut(sock)
        # Closing a descriptor under a thread that reads it is not safe: that thread closes when it has left.
        if idle:
            self._http.close()

    def _watch(self, request: httpx2.Request) -> None:
        request.extensions = {**request.extensions, "trace": self._note}

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        sock = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets = [*(known for known in self._sockets if known.fileno() >= 0), sock]
            if self._is_cut:
                _shut(sock)


def _shut(sock: socket.socket) -> None:
    # The plain socket's method also for TLS: the TLS one takes the session away from under the thread that reads.
    with contextlib.suppress(OSError):  # closed or never connected: nobody waits on it
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def chat_over(http: httpx2.Client, model: str, base_url: str, api_key: str) -> FlatChatOpenAI:
    root = openai.OpenAI(api_key=api_key, base_url=base_url, max_retries=0, http_client=http, timeout=http.timeout)
    return FlatChatOpenAI(
        model=model,
        api_key=SecretStr(api_key),
        base_url=base_url,
        max_retries=0,
        root_client=root,
        client=root.chat.completions,
        # Never used; given so that no asynchronous client is built.
        root_async_client=root,
        async_client=root.chat.completions,
        disable_streaming=True,
        use_responses_api=False,
        # Options of a client that is not built either; left out, they are tried on a socket.
        http_socket_options=(),
    )


def preload() -> None:
    """Import and build all that a call needs, so that a child forked from this process starts with it.

    One whole call is played against an answer in memory. No socket is opened and no thread is left.
    """
    _tls()
    answer = {
        "id": "preload",
        "object": "chat.completion",
        "created": 0,
        "model": "preload",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ready"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    call = {"name": "preload", "args": {}, "id": "call_preload", "type": "tool_call"}
    messages = [
        SystemMessage("preload"),
        HumanMessage("preload"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("preload", tool_call_id="call_preload"),
    ]
    parameters = {"type": "object", "properties": {}}
    tools = [{"type": "function", "function": {"name": "preload", "description": "", "parameters": parameters}}]
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))
    with httpx2.Client(transport=transport, trust_env=False, verify=_tls()) as http:
        chat_over(http, "preload", "http://preload.invalid/v1", "none").invoke(messages, tools=tools)
