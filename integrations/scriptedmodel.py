"""A scripted model, for the demo and the tests: a server on loopback that speaks OpenAI's Chat Completions.

Nothing in it thinks. A script picks each answer from the request; requests that OpenAI would refuse are refused.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from integrations.chatrules import RefusedError, check

_ROLE_MARK = "# Role:"


@dataclass(frozen=True)
class Request:
    """One request for a completion, as it came."""

    raw: bytes
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: Mapping[str, Any] = field(repr=False)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body["messages"])

    @property
    def tools(self) -> list[dict[str, Any]]:
        return list(self.body.get("tools") or [])

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def answers_so_far(self) -> int:
        """How many assistant messages the conversation holds: the same for the same request sent again."""
        return sum(message["role"] == "assistant" for message in self.messages)


class Reply:
    """What the server does with a request."""

    def send(self, to: Handler, request: Request) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Answer(Reply):
    """Text and function calls. Answers can be added up: `say("Looking.") + call("read_file", path="x")`."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    """Name and arguments, as the text that is sent."""
    usage: Mapping[str, Any] | None = field(default_factory=dict)
    """None: the server sends no usage. Empty: counted from the lengths."""
    model: str = ""
    """Name in the answer; empty: the one of the request."""

    def __add__(self, other: Answer) -> Answer:
        return replace(self, text=self.text + other.text, calls=self.calls + other.calls)

    def send(self, to: Handler, request: Request) -> None:
        if request.body.get("stream"):
            to.send_events(_chunks(self, request))
        else:
            to.send_json(200, completion(self, request))


@dataclass(frozen=True)
class Refuse(Reply):
    """An error: status, words and headers such as `Retry-After`."""

    status: int
    message: str = "scripted"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, to: Handler, request: Request) -> None:  # noqa: ARG002
        error = {"message": self.message, "type": "error", "param": None, "code": self.code}
        to.send_json(self.status, {"error": error}, self.headers)


Script = Callable[[Request], Reply]


def say(text: str) -> Answer:
    return Answer(text)


def call(function: str, /, **arguments: Any) -> Answer:
    return Answer(calls=((function, json.dumps(arguments, ensure_ascii=False)),))


def marked_role(request: Request) -> str:
    """The role on the first line of the first system message: `# Role: plan`. Empty if there is none."""
    for message in request.messages:
        if message["role"] in {"system", "developer"}:
            content = message["content"]
            text = content if isinstance(content, str) else content[0].get("text", "")
            line = text.partition("\n")[0].strip()
            return line.removeprefix(_ROLE_MARK).strip() if line.startswith(_ROLE_MARK) else ""
    return ""


def place_in_conversation(request: Request) -> int:
    return request.answers_so_far


@dataclass(frozen=True)
class ConversationScript:
    """Picks the reply by the role and the place in the conversation, both read from the request.

    So a request that is sent again, after a crash say, gets the same answer. A script that has run out refuses.
    """

    by_role: Mapping[str, Sequence[Reply]]
    role_of: Callable[[Request], str] = marked_role
    place_of: Callable[[Request], int] = place_in_conversation

    def __call__(self, request: Request) -> Reply:
        role, place = self.role_of(request), self.place_of(request)
        replies = self.by_role.get(role, ())
        if place < len(replies):
            return replies[place]
        return Refuse(
            400, f"The script for {role or 'no role'} has {len(replies)} replies; number {place + 1} is asked."
        )


def completion(answer: Answer, request: Request) -> dict[str, Any]:
    """The body of an answer that is not streamed. The same request gives the same ids."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.calls:
        message["tool_calls"] = [
            {"id": _call_id(request, number), "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(answer.calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    body = {**_head(answer, request), "object": "chat.completion", "choices": [choice]}
    usage = _usage(answer, request)
    return body if usage is None else {**body, "usage": usage}


def _chunks(answer: Answer, request: Request) -> Iterator[dict[str, Any]]:
    head = {**_head(answer, request), "object": "chat.completion.chunk"}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    if answer.text:
        yield chunk({"content": answer.text})
    for number, (name, arguments) in enumerate(answer.calls):
        function = {"name": name, "arguments": ""}
        start = {"index": number, "id": _call_id(request, number), "type": "function", "function": function}
        yield chunk({"tool_calls": [start]})
        yield chunk({"tool_calls": [{"index": number, "function": {"arguments": arguments}}]})
    yield chunk({}, _finish(answer))
    usage = _usage(answer, request)
    if usage is not None and (request.body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": usage}


def _head(answer: Answer, request: Request) -> dict[str, Any]:
    return {"id": f"chatcmpl-{request.answers_so_far}", "created": 0, "model": answer.model or request.model}


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _call_id(request: Request, number: int) -> str:
    return f"call_{request.answers_so_far}_{number}"


def _usage(answer: Answer, request: Request) -> Mapping[str, Any] | None:
    if answer.usage is None or answer.usage:
        return answer.usage
    used = len(request.raw) // 4
    made = (len(answer.text) + sum(len(name) + len(text) for name, text in answer.calls)) // 4 + 1
    return {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}


class ScriptedModelServer(ThreadingHTTPServer):
    """Serves `/v1/chat/completions` and `/v1/models` from a script until it is closed. A context manager.

    `models`: the known names; empty: any. `key`: the only accepted one; empty: any.
    """

    daemon_threads = True

    def __init__(self, script: Script, *, models: Sequence[str] = (), key: str = "", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.script = script
        self.models = tuple(models)
        self.key = key
        self.requests: list[Request] = []
        """Those that got to the script, in order."""
        self.refused: list[str] = []
        """What was wrong with the others."""
        self.received: list[bytes] = []
        """The bodies of all."""
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="scripted-model", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    def __enter__(self) -> ScriptedModelServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no news; any other error is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: ScriptedModelServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        try:
            self._authorise()
            if self.path != "/v1/models":
                raise RefusedError(f"There is no {self.path}.", status=404)
        except RefusedError as exc:
            self._refuse(exc)
            return
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "script"} for name in self.server.models]
        self.send_json(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.received.append(raw)
        try:
            self._authorise()
            request = self._request(raw)
        except RefusedError as exc:
            self._refuse(exc)
            return
        self.server.requests.append(request)
        self.server.script(request).send(self, request)

    def send_json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self.send_bytes(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send_bytes(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def send_events(self, chunks: Iterator[Mapping[str, Any]]) -> None:
        """Server-sent events, ended by closing: their length is not known ahead."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: the demo's terminal shows the conversation."""

    def _refuse(self, refused: RefusedError) -> None:
        self.server.refused.append(str(refused))
        self.send_json(refused.status, refused.body)

    def _authorise(self) -> None:
        # Reference, "Authentication": a bearer token in the Authorization header, else 401.
        scheme, _, key = (self.headers.get("Authorization") or "").partition(" ")
        if scheme != "Bearer" or not key or (self.server.key and key != self.server.key):
            raise RefusedError("Missing or wrong API key.", code="invalid_api_key", status=401)

    def _request(self, raw: bytes) -> Request:
        if self.path != "/v1/chat/completions":
            raise RefusedError(f"There is no {self.path}.", status=404)
        try:
            body = json.loads(raw)
        except ValueError as exc:
            raise RefusedError("The body is not JSON.") from exc
        check(body, self.server.models)
        return Request(raw, {name.lower(): value for name, value in self.headers.items()}, body)
