"""A small package index on loopback, as pip sees one (PEP 503, PEP 427): wheels made here, nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def wheel(name: str, version: str, modules: dict[str, str]) -> bytes:
    """A wheel of pure Python modules."""
    info = f"{name}-{version}.dist-info"
    files = {
        **{f"{module}.py": text for module, text in modules.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in files.items())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return made.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Index:
    """`http://localhost:PORT/simple/`. `asked` says what was fetched, `authorized` with which header."""

    def __init__(self) -> None:
        self.wheels: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.authorized: list[str] = []
        self.wants = ""
        """An Authorization header without which nothing is given."""
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index.asked.append(self.path)
                index.authorized.append(self.headers.get("Authorization", ""))
                if index.wants and self.headers.get("Authorization") != index.wants:
                    self._answer(401, b"who are you?", "text/plain")
                    return
                self._answer(*index._found(self.path))

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/simple"

    def add(self, name: str, version: str = "1.0", **modules: str) -> None:
        self.wheels[f"{name}-{version}-py3-none-any.whl"] = wheel(name, version, modules)

    def _found(self, path: str) -> tuple[int, bytes, str]:
        parts = path.strip("/").split("/")
        if parts[0] == "simple" and len(parts) == 2:
            links = [f'<a href="/files/{name}">{name}</a>' for name in self.wheels if name.startswith(f"{parts[1]}-")]
            if links:
                return 200, "\n".join(["<!DOCTYPE html>", *links]).encode(), "text/html"
        if parts[0] == "files" and parts[-1] in self.wheels:
            return 200, self.wheels[parts[-1]], "application/octet-stream"
        return 404, b"none of that", "text/plain"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
