"""What talks to the stub Slack in tests: a bolt app, a request URL; and a clock to set."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier
from slackserver import SlackServer


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def refusal(call: Callable[..., Any], **arguments: Any) -> str:
    """Slack's word for why it refused, with the first of its messages."""
    with pytest.raises(SlackApiError) as caught:
        call(**arguments)
    response = caught.value.response
    messages = response.get("response_metadata", {}).get("messages", [""])
    return f"{response['error']} {messages[0]}".strip()


@contextmanager
def bolt(stub: SlackServer) -> Iterator[tuple[App, list[dict[str, Any]]]]:
    """A bolt app on Socket Mode that keeps what it hears."""
    heard: list[dict[str, Any]] = []
    app = App(client=WebClient(base_url=stub.url, token=stub.bot_token))
    for event in ("app_mention", "message", "reaction_added", "reaction_removed"):
        app.event(event)(lambda body: heard.append(body))  # noqa: PLW0108 bolt passes by name
    handler = SocketModeHandler(app, stub.app_token, ping_interval=0.2)
    handler.connect()
    stub.wait_socket()
    try:
        yield app, heard
    finally:
        stub.wait(lambda: not stub.unacknowledged() or stub.lost())
        stub.hang_up(handler)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


class Receiver:
    """A request URL: keeps requests, checks their signature, answers what `says` says."""

    def __init__(self, secret: str) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.says: Callable[[int], int] = lambda _: 200
        self.answer = b""
        outer, verifier = self, SignatureVerifier(secret)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {key.lower(): value for key, value in self.headers.items()}
                assert verifier.is_valid_request(body, headers)
                outer.requests.append((headers, body))
                self.send_response(outer.says(len(outer.requests)))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(outer.answer)))
                self.end_headers()
                with suppress(OSError):  # who asked may have given up
                    self.wfile.write(outer.answer)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/slack/events"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
