"""The scripted model server, with the faults that only tests need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from integrations.scriptedmodel import (
    Answer,
    ConversationScript,
    Handler,
    Refuse,
    Reply,
    Request,
    Script,
    ScriptedModelServer,
    call,
    marked_role,
    say,
)

__all__ = [
    "Answer",
    "ConversationScript",
    "Cut",
    "Drip",
    "Hang",
    "Raw",
    "Refuse",
    "Reply",
    "Request",
    "Script",
    "ScriptedModelServer",
    "call",
    "in_turn",
    "marked_role",
    "say",
]


@dataclass(frozen=True)
class Hang(Reply):
    """Takes the request and says nothing for `seconds`, or until the server closes; then drops the connection."""

    seconds: float = 60.0

    def send(self, to: Handler, request: Request) -> None:
        to.server.closing.wait(self.seconds)
        to.close_connection = True


@dataclass(frozen=True)
class Drip(Reply):
    """Sends one byte of a long body every `pause` seconds: no single read ever waits long."""

    pause: float = 0.05

    def send(self, to: Handler, request: Request) -> None:
        to.close_connection = True
        to.send_response(200)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", "100000")
        to.end_headers()
        while not to.server.closing.wait(self.pause):
            to.wfile.write(b" ")
            to.wfile.flush()


@dataclass(frozen=True)
class Cut(Reply):
    """Promises a whole answer and closes in the middle of it."""

    def send(self, to: Handler, request: Request) -> None:
        to.close_connection = True
        to.send_response(200)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", "1000")
        to.end_headers()
        to.wfile.write(b'{"id": "chatcmpl-1", "choices": [')
        to.wfile.flush()


@dataclass(frozen=True)
class Raw(Reply):
    """Any bytes with any status and headers."""

    data: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    def send(self, to: Handler, request: Request) -> None:
        to.send_bytes(self.status, self.data, self.headers)


def in_turn(*replies: Reply) -> Script:
    """One reply a request, whatever it says; the last one for ever after."""
    left = list(replies)

    def script(request: Request) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    return script
