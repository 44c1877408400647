"""Many at once: the same request again and again, and two hundred words from twenty people into one thread."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from greetings import LOUD, TESTED, TITLE, louder, pull_of, until
from rooms import OPERATOR, House, Room, call, done, plan, write

from bot.chat import Author, ChatRequest, Receipt
from integrations import redisserver
from integrations.scriptedmodel import Reply, Request, marked_role
from jobs.settings import Settings, environment
from jobs.tasks import Tasks

WRITERS, EACH = 20, 10
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with two workers, so that two turns of one task would be possible."""
    root = tmp_path_factory.mktemp("busy")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    house = House(root, workers=2)
    yield house
    house.close()


def request_of(room: Room, number: int, text: str, author: Author = OPERATOR) -> ChatRequest:
    return ChatRequest(f"{room.workspace}-x{number}", f"x{number}", room.place, author, text=text)


def all_at_once(actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Each in a thread of its own, begun together."""
    gate = threading.Barrier(len(actions))

    def act(action: Callable[[], Any]) -> Any:
        gate.wait(10)
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(act, actions))


# ---- the same request five times


def test_a_request_that_is_delivered_five_times_at_once_is_one_task(busy: House) -> None:
    room = busy.room(TESTED, louder())
    request = request_of(room, 1, f"[repo={room.repository}] greet louder ({room.marker})")
    # One mention may come as two events with ids of their own.
    twins = [replace(request, id=f"{request.id}{'ab'[n % 2]}") for n in range(5)]
    receipts = all_at_once([lambda twin=twin: room.desk.submit(twin) for twin in twins])  # type: ignore[misc]
    assert [receipt.started for receipt in receipts].count(True) == 1
    [room.task] = {receipt.task for receipt in receipts}
    room.until("watching")
    assert [room.desk.submit(twin).started for twin in twins] == [False] * 5
    assert [view.id for view in room.desk.tasks(room.place)] == [room.task]
    assert len(room.pulls()) == 1
    assert room.view.status == "watching"


DELIVER = """
import json, sys
from bot.chat import Author, ChatRequest, Place
from jobs.settings import load
from jobs.wiring import open_office
with open_office(load()) as office:
    print("ready", flush=True)
    for line in sys.stdin:
        said = json.loads(line)
        place, author = Place(*said.pop("place")), Author(*said.pop("author"))
        receipt = office.desk.submit(ChatRequest(place=place, author=author, **said))
        print(json.dumps([receipt.task, receipt.started]), flush=True)
"""


def listener(settings: Settings) -> subprocess.Popen[str]:
    """Another process of the house that listens; it delivers what it is handed, a line of JSON each."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment(settings)}
    return subprocess.Popen(
        [sys.executable, "-c", DELIVER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_several_processes_that_hear_the_same_request_make_one_task(busy: House) -> None:
    room = busy.room(TESTED, louder())
    place = ["room", room.workspace, "general", "1"]
    author = [OPERATOR.id, OPERATOR.name, OPERATOR.standing]
    said = {"id": f"{room.workspace}-p", "message": "p", "place": place, "author": author}
    line = json.dumps({**said, "text": f"[repo={room.repository}] greet louder ({room.marker})"}) + "\n"
    listeners = [listener(busy.settings) for _ in range(3)]
    try:
        for process in listeners:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for _ in range(2):
            for process in listeners:
                assert process.stdin is not None
                process.stdin.write(line)
                process.stdin.flush()
        found = [json.loads(process.stdout.readline()) for process in listeners * 2 if process.stdout]
    finally:
        for process in listeners:
            process.communicate(timeout=20)
    assert [started for _, started in found].count(True) == 1
    [room.task] = {task for task, _ in found}
    room.until("watching")
    assert len(room.pulls()) == 1
    assert len(room.desk.tasks(room.place)) == 1


# ---- two hundred words


class Arrivals(threading.Thread):
    """The order in which words reach a place, as Redis itself tells it; and who held the task when."""

    def __init__(self, house: House) -> None:
        super().__init__(daemon=True)
        self._url = redisserver.ensure(house.settings.threadwright_home).url
        self._client = redisserver.connect(self._url)
        self._over = threading.Event()
        self.ready = threading.Event()
        self.commands: list[tuple[float, str]] = []

    def run(self) -> None:
        # A thread of its own reads at once: a slow reader would be cut off.
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self.ready.set()
            for command in monitor.listen():
                if command["client_type"] == "lua":
                    self.commands.append((command["time"], command["command"]))
                if self._over.is_set():
                    return

    def stop(self) -> None:
        self._over.set()
        with redisserver.connect(self._url) as client:
            while self.is_alive():
                client.eval("return redis.call('PING')", 0)
        self._client.close()

    def words(self, task: str, pattern: str) -> list[str]:
        inbox = f"RPUSH {Tasks.key(task, 'inbox')} "
        return [found[0] for _, c in self.commands if c.startswith(inbox) and (found := re.findall(pattern, c))]


class Overlaps:
    """A script that says, beside its answers, whether two requests of one task were ever under way together."""

    def __init__(self, script: Callable[[Request], Reply]) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, request: Request) -> Reply:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            # As long as a fast model takes: a second turn would have time to show.
            threading.Event().wait(0.02)
            return self._script(request)
        finally:
            with self._lock:
                self._now -= 1


LOOK = "mkdir .turn-{0} && sleep 0.03 && rmdir .turn-{0} || echo TWO TURNS AT ONCE; echo look {1}"
"""Two turns in one workspace would meet in that folder."""


def hears(
    words: set[str], pattern: str, *, name: str, then: Sequence[Reply], looking: threading.Event | None = None
) -> Callable[[Request], Reply]:
    """Plans, looks around until it has heard all `words`, and then does `then`."""
    heard_at: list[int] = []

    def script(request: Request) -> Reply:
        role = marked_role(request)
        if role == "triage":
            return call("Triage", kind="task", title="A task", reply="")
        if role == "review":
            return call("Review", summary="Fine.", findings=[])
        place = request.answers_so_far
        if place == 0:
            return plan(TITLE)
        if not words <= set(re.findall(pattern, str(request.messages))):
            if looking and place > 1:
                looking.set()
            return call("run", command=LOOK.format(name, place))
        heard_at[:] = heard_at or [place]
        return then[place - heard_at[0]]

    return script


def conversation(room: Room) -> list[dict[str, Any]]:
    """The messages of the room's longest request."""
    requests = [r for r in room.house.server.requests if room.marker in str(r.messages) and marked_role(r) == "coder"]
    return max((r.messages for r in requests), key=len)


def test_two_hundred_requests_of_twenty_writers_are_all_heard_once_in_order_and_never_by_two_turns(
    busy: House,
) -> None:
    pattern = r"word-\d+-\d+;"
    texts = {(w, n): f"word-{w}-{n};" for w in range(WRITERS) for n in range(EACH)}
    looking = threading.Event()
    then = [write("greet.py", LOUD), done()]
    script = Overlaps(hears(set(texts.values()), pattern, name="words", then=then, looking=looking))
    room = busy.room(TESTED, script, name="acme/words", default_repository="acme/words")
    arrivals = Arrivals(busy)
    arrivals.start()
    assert arrivals.ready.wait(10)

    def write_all(writer: int) -> list[Receipt]:
        author = Author(f"room:{room.workspace}:w{writer}", f"W{writer}")
        said = []
        for number in range(EACH):
            text = f"{texts[writer, number]} please ({room.marker})"
            said.append(room.desk.submit(request_of(room, writer * EACH + number, text, author)))
            # More wake-ups than are needed: two workers are pushed towards the same task.
            busy.office.wakeups.wake(said[-1].task)
            # The first words race for the new task, the others pour into a turn that works.
            assert looking.wait(20)
        return said

    said = all_at_once([lambda w=w: write_all(w) for w in range(WRITERS)])  # type: ignore[misc]
    receipts: list[Receipt] = list(itertools.chain(*said))
    assert [receipt.started for receipt in receipts].count(True) == 1
    [room.task] = {receipt.task for receipt in receipts}
    assert all(receipt.seen for receipt in receipts)
    room.until("watching")
    boxes = [Tasks.key(room.task, part) for part in ("inbox", "claimed")]
    until(lambda: not any(busy.office.redis.llen(box) for box in boxes), "all taken")
    arrivals.stop()

    messages = conversation(room)
    humans = [re.findall(pattern, str(m["content"])) for m in messages if m["role"] == "user"]
    heard = [word for found in humans for word in found]
    assert sorted(heard) == sorted(texts.values())
    first, arrived = heard[0], arrivals.words(room.task, pattern)
    assert len(arrived) == WRITERS * EACH - 1
    assert heard == [first, *arrived]
    assert script.most == 1
    assert "TWO TURNS" not in str([m["content"] for m in messages if m["role"] == "tool"])
    assert room.commits() == [TITLE]
    assert len(room.pulls()) == 1
    assert len(room.said("result")) == 1


def test_the_looks_for_two_turns_would_see_them(tmp_path: Path) -> None:
    command = ["sh", "-c", LOOK.format("twice", 1)]
    runs = all_at_once([lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)] * 4)
    assert b"TWO TURNS" in b"".join(run.stdout for run in runs)
    script = Overlaps(lambda _: done())
    all_at_once([lambda: script(Request(b"", {}, {}))] * 2)
    assert script.most == 2


def test_words_that_come_while_the_result_waits_are_heard_once_too(busy: House) -> None:
    pattern = r"more-\d+-\d+;"
    texts = [[f"more-{w}-{n};" for n in range(5)] for w in range(8)]
    everything = {text for each in texts for text in each}
    first = louder()
    later = hears(everything, pattern, name="more", then=[call("answer", text="All heard.")])

    def script(request: Request) -> Reply:
        return later(request) if "more-" in str(request.messages) else first(request)

    room = busy.room(TESTED, Overlaps(script))
    room.start()
    room.until("watching")

    def write_all(writer: int) -> None:
        author = Author(f"room:{room.workspace}:w{writer}", f"W{writer}")
        for number, text in enumerate(texts[writer]):
            room.desk.submit(request_of(room, 1000 + writer * 10 + number, text, author))

    all_at_once([lambda w=w: write_all(w) for w in range(8)])  # type: ignore[misc]
    room.when(lambda v: v.status == "watching" and "All heard." in room.said("notice"), "answered")
    heard = re.findall(pattern, str([m["content"] for m in conversation(room) if m["role"] == "user"]))
    assert sorted(heard) == sorted(everything)
    for each in texts:
        assert [word for word in heard if word in each] == each
    assert pull_of(room)["number"] == 1
