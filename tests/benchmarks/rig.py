"""What the benchmarks of the whole product share: a lean model server, one warm worker that stamps, and a house.

All times are `time.monotonic()` in seconds: one clock for all processes of a Linux machine.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]

from rooms import House  # noqa: E402 - found by the path above

Answer = tuple[str, dict[str, Any]]
"""A function and its arguments."""
Playbook = Callable[[str, int], Answer]
"""The answer to a role's request, by how many answers its conversation holds. Picklable: a function of a module."""

_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Trace:
    """What the server saw, request by request."""

    arrived: list[float] = field(default_factory=list)
    """The whole body had been read."""
    sent: list[float] = field(default_factory=list)
    """The whole answer had been handed to the kernel."""
    last: bytes = b""
    """Body of the newest request of a role that has tools of the talk."""


def _serve(pipe: Connection, playbook: Playbook) -> None:
    """Stamps first and decides after; checks nothing, since its own time counts as ours."""
    trace = Trace()

    class Lean(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            trace.arrived.append(time.monotonic())
            role = raw.partition(b"# Role: ")[2].partition(b"\\n")[0].decode()
            if role == "coder":
                trace.last = raw
            number = raw.count(b'"role":"assistant"')
            name, arguments = playbook(role, number)
            call = {"name": name, "arguments": json.dumps(arguments)}
            calls = [{"id": f"call_{number}", "type": "function", "function": call}]
            message = {"role": "assistant", "content": None, "tool_calls": calls}
            choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
            usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
            body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
            data = json.dumps({**body, "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
            trace.sent.append(time.monotonic())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Lean) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        pipe.send(f"http://127.0.0.1:{server.server_address[1]}/v1")
        while pipe.recv() == "trace":
            pipe.send(trace)
            trace.arrived, trace.sent = [], []


class ModelProcess:
    """The server in a process of its own. A context manager; `url` is there once it is entered."""

    def __init__(self, playbook: Playbook) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, playbook), daemon=True)
        self.url = ""

    def __enter__(self) -> ModelProcess:
        self._process.start()
        self.url = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("end")
        self._process.join(5)

    def trace(self) -> Trace:
        """What was seen since the last call of this."""
        self._pipe.send("trace")
        trace: Trace = self._pipe.recv()
        return trace


def _work(environment: dict[str, str], stamps: str) -> None:
    """The worker as it is, but for a line in the file `stamps` before each fork, and one after it in the child."""
    os.environ.update(environment)
    from jobs import settings, worker

    descriptor = os.open(stamps, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Stamped(worker.TurnWorker):
        def fork_work_horse(self, job: Any, queue: Any) -> None:
            os.write(descriptor, f"fork {time.monotonic()}\n".encode())
            super().fork_work_horse(job, queue)

        def main_work_horse(self, job: Any, queue: Any) -> None:
            os.write(descriptor, f"child {time.monotonic()}\n".encode())
            super().main_work_horse(job, queue)

    worker.TurnWorker = Stamped  # type: ignore[misc]
    worker.main(settings.load())


@dataclass
class Rig:
    house: House
    model: ModelProcess
    stamps: Path
    worker: int
    """Process id."""

    def forks(self) -> list[float]:
        """When each turn's process was forked, in order."""
        lines = self.stamps.read_text().splitlines() if self.stamps.exists() else []
        return [float(line.split()[1]) for line in lines if line.startswith("fork")]


@contextlib.contextmanager
def rig(playbook: Playbook, **settings: Any) -> Iterator[Rig]:
    """A house with one warm worker. `settings`: other than the program's own defaults."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="threadwright-bench-")))
        root.chmod(0o755)
        model = stack.enter_context(ModelProcess(playbook))
        # The product's own timings, not those that tests divide by ten.
        timings = {"lease_seconds": 15, "beat_seconds": 0.5, "sweep_seconds": 5}
        house = House(root, workers=0, **{"openai_base_url": model.url, **timings, **settings})
        stack.callback(house.close)
        stamps = root / "stamps"
        from jobs.settings import environment

        process = _SPAWN.Process(target=_work, args=(environment(house.settings), str(stamps)))
        process.start()
        stack.callback(process.join, 20)
        stack.callback(process.terminate)
        until(lambda: any(house.office.redis.scan_iter(match="tw:worker:*")), "a worker")
        yield Rig(house, model, stamps, process.pid or 0)


def until(true: Callable[[], bool], what: str, seconds: float = 120.0, every: float = 0.005) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} within {seconds:g} s")
        time.sleep(every)


def row(name: str, seconds: Sequence[float]) -> str:
    """Median, least and most in milliseconds."""
    mid, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return f"{name:<58} {mid * 1e3:8.1f} {low * 1e3:8.1f} {high * 1e3:8.1f}"


HEAD = f"{'milliseconds':<58} {'p50':>8} {'min':>8} {'max':>8}"


def load() -> str:
    return "load average {:.1f} {:.1f} {:.1f} on {} cores".format(*os.getloadavg(), os.cpu_count())
