"""The ASGI app and its server. What is dispatched is sync and runs in worker threads, off the event loop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

MOST_BYTES = 2 << 20
"""A body that is longer is refused unread. Slack's largest payloads are a tenth of it."""


class TooLong(Exception):
    """The body has more than MOST_BYTES."""


async def body_of(request: Request) -> bytes:
    """The raw bytes, as they were signed. Raises TooLong."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise TooLong
        parts.append(part)
    return b"".join(parts)


def application(routes: Sequence[BaseRoute], problems: Callable[[], Sequence[str]]) -> Starlette:
    """`problems`: what does not work now, in words; `/health` answers 200 only when there is nothing."""

    async def health(request: Request) -> Response:  # noqa: ARG001 - Starlette's signature
        found = list(await run_in_threadpool(problems))
        return JSONResponse({"ok": not found, "problems": found}, status_code=503 if found else 200)

    return Starlette(routes=[Route("/health", health), *routes])


@contextmanager
def served(app: Starlette, host: str, port: int) -> Iterator[int]:
    """Serve in a thread; gives the port. Raises OSError when the address is taken."""
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="http", daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
