"""`kill -9` of a worker at every side effect and in every node: the task goes on by itself, and does nothing twice.

All tasks of this module run at once, in a house of their own; each test looks at one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults import CountingChat, Deed, Kill, Sights, Wiretap, careful, counted, once
from gitrepos import Files
from pydantic import SecretStr
from rooms import House, Room, call, done, plan

from integrations import redisserver
from integrations.scriptedmodel import Answer, Script
from jobs.wiring import Workers

FILES: Files = {
    "count.py": "count = 1\n",
    "README.md": "Read.\n",
    "tests/__init__.py": "",
    "tests/test_count.py": (
        "import unittest\nfrom count import count\n\n\n"
        "class T(unittest.TestCase):\n    def test_counts(self):\n        self.assertGreater(count, 0)\n"
    ),
    "pyproject.toml": "[project]\nname = 'count'\nversion = '1'\n",
}
TITLES = ["feat: count", "docs: tell"]
POSTS = ["card", "question", "result"]
WITHIN = 45.0
PATIENCE = 110.0
"""Seconds for all tasks of this module; they take half of it on two busy cores."""


def edit(path: str, old: str, new: str) -> Answer:
    return call("edit_file", path=path, old=old, new=new)


def read(path: str) -> Answer:
    return call("read_file", path=path)


QUESTION = {"question": "Loud or soft?", "suggestions": ["loud", "soft"], "assumption": "loud"}
# Each edit, made twice, would show: what it looks for is in what it leaves.
COUNT = Deed(edit("count.py", "count = 1", "count = 1 + 1"), read("count.py"), "1 + 1")
TOLD = Deed(call("run", command="echo told >> log.txt"), read("log.txt"), "told")
SLOW = Deed(call("run", command="echo begun >> log.txt; sleep 0.8; echo told >> log.txt"), read("log.txt"), "told")
README = Deed(edit("README.md", "Read.", "Read. Read."), read("README.md"), "Read. Read.")


def script(told: Deed = TOLD, count: Deed = COUNT) -> Script:
    deeds = [Deed(call("ask_person", questions=[QUESTION])), Deed(plan(*TITLES)), count, told, Deed(done())]
    triage = call("Triage", kind="task", title="A task", reply="")
    review = call("Review", summary="Fine.", findings=[])
    return careful([*deeds, README, Deed(done("2"))], triage=triage, review=review)


@dataclass
class Trial:
    """One task and how it is disturbed: by `kills`, or by what `sight` sees."""

    name: str
    kills: Sequence[Kill] = ()
    sight: Callable[[Trial, Sights], None] | None = None
    script: Script = field(default_factory=script)
    log: str = "told"
    count: str = "count = 1 + 1"
    room: Room = field(init=False)
    chat: CountingChat = field(init=False)
    said: set[str] = field(default_factory=set)
    due: list[str] = field(default_factory=list)
    took: float = 0.0

    def __str__(self) -> str:
        return self.name

    @property
    def task(self) -> str:
        return self.room.task

    def begin(self, house: House, tap: Wiretap, sights: Sights) -> None:
        self.room = house.room(FILES, self.script, on_approval="merge", second_person=False)
        self.chat = counted(self.room)
        self.room.start()
        tap.plans[self.task] = list(self.kills)
        if self.sight:
            self.sight(self, sights)

    def advance(self) -> bool:
        """Do what a person does, once each. True when it is over."""
        self.room.drainer.run_once()
        status = self.room.house.office.tasks.record(self.task)["status"]
        for waits, words in (("asking", "1"), ("watching", "approve")):
            if status == waits and words not in self.said:
                self.said.add(words)
                redis, whats = self.room.house.office.redis, ("answer", "remind")
                self.due += [what for what in whats if redis.zscore("tw:due", f"{self.task}|{what}")]
                self.room.say(words)
        return status in ("done", "failed", "stopped")


def _hook(name: str) -> Callable[[Trial, Sights], None]:
    """The repository's own hook sees the push, and holds it until the turn is dead."""

    def plant(trial: Trial, sights: Sights) -> None:
        seen, go = (Path(f"{trial.room.bare}.{name}.{what}") for what in ("seen", "go"))
        hook = trial.room.bare / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        wait = f"i=0; while [ ! -e '{go}' ] && [ $i -lt 500 ]; do sleep 0.01; i=$((i+1)); done"
        hook.write_text(f"#!/bin/sh\n[ -e '{seen}' ] && exit 0\n: > '{seen}'\n{wait}\n")
        hook.chmod(0o755)
        sights.kill_when(trial.name, trial.task, seen.exists, go.touch)

    return plant


def _quarantine(trial: Trial, sights: Sights) -> None:
    folder = trial.room.house.settings.threadwright_home / "quarantine" / trial.task
    sights.kill_when(trial.name, trial.task, folder.exists)


def _approved(trial: Trial, sights: Sights) -> None:
    def seen() -> bool:
        return any('"sha"' in path.read_text() for path in trial.room.pulls())

    sights.kill_when(trial.name, trial.task, seen)


def kills(*words: str) -> list[Kill]:
    """`before note push 2`: the label is what is between; the number is 1 where there is none."""
    found = []
    for line in words:
        when, _, label = line.partition(" ")
        label, _, number = label.rpartition(" ") if label[-1].isdigit() else (label, "", "1")
        found.append(Kill(label, when, int(number)))  # type: ignore[arg-type]
    return found


def worker(*words: str) -> list[Kill]:
    return [Kill(kill.label, kill.when, kill.number, "worker") for kill in kills(*words)]


TRIALS = [
    Trial("nothing is killed"),
    # Nodes, while or just after the model or the repository's commands answered
    Trial("triage, prepare, plan", kills("before note model 1", "before note command 1", "after note model 4")),
    Trial("plan, implement, review", kills("after note plan", "before note model 6", "after note review")),
    Trial("tools: an edit", kills("before begin 1", "after begin 2", "before end 1", "after end 3")),
    Trial("tools: a command", kills("after begin 2", "before end 2", "after end 3")),
    Trial(
        "tools: in the middle of a command",
        [Kill("begin", "during", 2)],
        script=script(SLOW),
        log="begun\nbegun\ntold",
    ),
    Trial("check: its commands", kills("after note command 1", "before note command 4", "after note command 6")),
    Trial("check: the commit", kills("before note commit 1", "after note commit 2", "before note commit 4")),
    Trial("check: halfway out of the sandbox", sight=_quarantine),
    Trial("publish: before the branch moves", sight=_hook("pre-receive")),
    Trial("publish: after the branch moved", sight=_hook("post-receive")),
    Trial(
        "publish: the pull request",
        kills("before note push 1", "after note push 2", "before note pull request 1", "after note pull request 2"),
    ),
    Trial("ask: the question", kills("before post question", "after post question 2", "after move asking")),
    Trial("ask: the answer", kills("after note answer", "before acknowledge 1", "after acknowledge 2")),
    Trial("ask: kept, not counted", kills("before put_writes 4", "after put_writes 5", "before put 5")),
    Trial("watch: the result", kills("before post result", "after post result 2", "before move watching")),
    Trial("watch: approving", sight=_approved),
    Trial("watch: merged", kills("before note approved", "after note event", "before amend 1", "after amend 2")),
    Trial("watch: kept, not counted", kills("after put_writes 17", "before put 16", "after put_writes 20")),
    Trial("the end", kills("before move done", "after move done 2")),
    Trial("a turn's beginning", kills("before take 1", "after take 2", "after claim 2", "before move running 2")),
    Trial("a turn's letting go", kills("before release 1", "after release 2", "after card 2", "before write 5")),
    Trial("checkpoints early", kills("before put 1", "after put 3", "before put_writes 3", "after put_writes 5")),
    Trial("checkpoints late", kills("before put_writes 9", "after put 12", "before put 18", "after put_writes 20")),
    Trial("the whole worker: at a tool call", worker("after begin 1")),
    Trial("the whole worker: at the push", worker("before note push")),
    Trial("the whole worker: at the result", worker("after post result")),
    Trial(
        "careless",
        kills("before end 1"),
        script=script(count=Deed(COUNT.answer, COUNT.answer)),
        count="count = 1 + 1 + 1",
    ),
]


@dataclass
class Ward:
    """A house whose workers are listened to."""

    house: House
    workers: int
    trials: list[Trial]

    def __post_init__(self) -> None:
        server = redisserver.running(self.house.settings.threadwright_home)
        assert server
        self.tap = Wiretap(server.socket)
        self.sights = Sights(self.tap)
        # Before there are workers: a task's kills are planned before it moves.
        for trial in self.trials:
            trial.begin(self.house, self.tap, self.sights)
        settings = self.house.settings.model_copy(update={"redis_url": SecretStr(self.tap.url)})
        self._hands = Workers(settings, self.workers)
        self._hands.start()

    def advance(self, began: float) -> bool:
        for trial in self.trials:
            if not trial.took and trial.advance():
                trial.room.settle()
                trial.took = time.monotonic() - began
        return all(trial.took for trial in self.trials)

    def close(self) -> None:
        self._hands.stop()
        self.sights.close()
        self.house.close()
        self.tap.close()


@pytest.fixture(scope="module")
def wards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ward]]:
    """One with short timings and many tasks, one with the default timings and one task, both played to their ends."""
    made: dict[str, Ward] = {}
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    wanted = [found.params["trial"] for found in calls if found]
    for name, count, trials, timings in (
        ("slow", 1, [Trial("default timings", worker("after begin 1"))], {}),
        ("quick", 3, wanted, {"lease_seconds": 1.0, "beat_seconds": 0.1, "sweep_seconds": 0.2}),
    ):
        root = tmp_path_factory.mktemp(f"kills-{name}")
        for folder in (root, root.parent, root.parent.parent):
            folder.chmod(0o755)
        defaults = {"lease_seconds": 15.0, "beat_seconds": 0.5, "sweep_seconds": 5.0}
        made[name] = Ward(House(root, workers=0, **{**defaults, **timings}), count, trials)
    began = time.monotonic()
    busy = list(made.values())
    while busy and time.monotonic() < began + PATIENCE:
        busy = [ward for ward in busy if not ward.advance(began)]
        time.sleep(0.1)
    yield made
    for ward in made.values():
        ward.close()


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_a_killed_task_goes_on_by_itself_and_does_nothing_twice(wards: dict[str, Ward], trial: Trial) -> None:
    ward = wards["quick"]
    assert_whole(trial)
    assert set(ward.tap.seen[trial.task].killed) == set(trial.kills), "not every kill happened"
    assert trial.sight is None or trial.name in ward.sights.fired
    assert ward.house.server.refused == []


def test_with_default_timings_a_killed_task_is_at_work_again_within_45_seconds(wards: dict[str, Ward]) -> None:
    [trial] = wards["slow"].trials
    assert_whole(trial)
    seen = wards["slow"].tap.seen[trial.task]
    [(_, at)] = seen.killed.items()
    again = next(when for when, label in zip(seen.times, seen.labels, strict=True) if label == "take" and when > at)
    assert again - at < WITHIN


def test_the_check_sees_what_is_there_twice() -> None:
    assert once(["card", "question", "result"], POSTS) == ""
    assert "'result': 2 times" in once(["card", "question", "result", "result"], POSTS)
    assert "'question': 0 times" in once(["card", "result"], POSTS)
    assert "'final': 1 times" in once(["card", "question", "result", "final"], POSTS)
    assert "'docs: tell': 2 times" in once([*TITLES, TITLES[1]], TITLES)


def assert_whole(trial: Trial) -> None:
    """One pull request, merged; each step once, each post once, each edit once."""
    room = trial.room
    view = room.view
    assert view.status == "done", f"{view.data['final']}\n" + "\n".join(line[:300] for line in room.log()[-25:])
    assert len(room.pulls()) == 1
    assert view.data["pull_request"]["state"] == "merged"
    assert once(room.git("log", "--format=%s", "--no-merges", "main").splitlines(), [*TITLES, "first"]) == ""
    assert once(room.git("log", "--format=%s", "--merges", "main").splitlines(), ["Add a greeting"]) == ""
    assert room.file("main", "count.py") == trial.count
    assert room.file("main", "README.md") == "Read. Read."
    assert room.file("main", "log.txt") == trial.log
    assert once(trial.chat.posts, POSTS) == ""
    assert trial.due == ["answer", "remind"], "a question without its deadlines would wait for ever"
    [cards] = trial.chat.cards.values()
    assert cards[-1].final, cards[-1].state
