"""The HTTP side of the stub Slack: reads requests, and hands them to the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from slackserver import SlackServer


class Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, stub: SlackServer) -> None:
        self.stub = stub
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    server: Http

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/json; charset=utf-8" if not isinstance(body, bytes) else "text/html; charset=utf-8"
        for key, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        stub, path = self.server.stub, urlsplit(self.path).path
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/api/"):
            self._api(path.removeprefix("/api/"), data)
        elif path.startswith("/upload/v1/"):
            self._faulty("upload", lambda: self._upload(path.rpartition("/")[2], data))
        elif path.startswith("/respond/"):
            body = json.loads(data or b"{}")
            self._faulty("respond", lambda: self._send(*stub.respond(f"{stub.world.base}{path}", body), {}))
        else:
            self._send(404, b"no such page", {})

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/"):
            self._api(path.removeprefix("/api/"), b"")
        elif path.startswith("/files-pri/"):
            self._faulty("download", lambda: self._download(path.split("/")[2].partition("-")[2]))
        elif path == "/signin":
            self._send(200, b"<!DOCTYPE html><html><title>Sign in to Slack</title></html>", {})
        else:
            self._send(404, b"no such page", {})

    def _api(self, method: str, data: bytes) -> None:
        kind = self.headers.get_content_type()
        given: dict[str, Any] = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if kind == "application/json" and data:
            try:
                given |= json.loads(data)
            except (ValueError, TypeError):  # https://docs.slack.dev/apis/web-api/#post_bodies
                self._send(200, {"ok": False, "error": "invalid_json"}, {})
                return
        else:
            given |= dict(parse_qsl(data.decode(), keep_blank_values=True))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or given.get("token", "")
        given.pop("token", None)
        answer = self.server.stub.answer(method, token, given)
        if answer is None:
            self.close_connection = True
        else:
            self._send(*answer)

    def _faulty(self, name: str, act: Callable[[], None]) -> None:
        stub = self.server.stub
        with stub.world.lock:
            fault = stub.fault_of(name, "")
        if fault is None or (fault.done and not fault.drop and not fault.code):
            stub.closing.wait(fault.wait) if fault else None
            act()
        elif fault.drop:
            self.close_connection = True
        else:
            self._send(fault.code, fault.raw, {"Retry-After": str(fault.retry_after)} if fault.code == 429 else {})

    def _upload(self, id: str, data: bytes) -> None:  # noqa: A002
        stub = self.server.stub
        file = stub.world.files.get(id)
        if file is None or file.uploaded or len(data) != file.length:
            self._send(400, b"bad upload", {})
            return
        file.content, file.uploaded, file.mimetype = data, True, "text/plain"
        self._send(200, f"OK - {len(data)}".encode(), {})

    def _download(self, id: str) -> None:  # noqa: A002
        """With the bot's token and files:read; whoever has not gets the page to sign in, not an error."""
        stub = self.server.stub
        file = stub.world.files.get(id)
        allowed = self.headers.get("Authorization") == f"Bearer {stub.bot_token}" and not stub.revoked
        if file is None:
            self._send(404, b"no such file", {})
        elif not allowed or "files:read" not in stub.scopes:
            self._send(302, b"", {"Location": "/signin"})
        else:
            self._send(200, file.content, {"Content-Type": file.mimetype})
