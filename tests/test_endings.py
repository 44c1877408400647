"""How a turn ends a task when things come at the wrong moment. The flow alone is a stand-in; Redis is real."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_module
from office import ANN, CAT, DeskRoom

from graph.errors import SandboxFailed, Stopped
from graph.values import Brief, Commit, Final, Question, Repository, Watching
from jobs.crew import Crew
from jobs.statuses import ENDED
from jobs.sweeper import Sweeper
from jobs.tasks import Entry, Tasks
from jobs.timing import deadlines
from jobs.turn import Turn


@pytest.fixture
def room(redis: redis_module.Redis) -> DeskRoom:
    return DeskRoom(redis)


@dataclass
class StandIn:
    """A flow that stands where it is told, and notes when it is run."""

    values: dict[str, Any]
    waits: Any = None
    over: bool = False
    ran: list[str] = field(default_factory=list)
    raises: Exception | None = None
    persisted: bool = False

    @property
    def checkpointer(self) -> Any:
        return SimpleNamespace(
            thin=lambda *_: None, expire=lambda *_: None, persist=lambda *_: setattr(self, "persisted", True)
        )

    def get_state(self, config: Any) -> Any:
        interrupts = (SimpleNamespace(id="i1", value=self.waits),) if self.waits else ()
        where = {"configurable": {"checkpoint_id": "c1"}}
        return SimpleNamespace(
            values=self.values, interrupts=interrupts, tasks=() if self.over else ("x",), config=where
        )

    def stream(self, payload: Any, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        self.ran.append("a node")
        if self.raises:
            raise self.raises
        yield self.values


def brief_of(room: DeskRoom, task: str) -> Brief:
    return Brief.model_validate_json(room.tasks.record(task)["brief"])


def turn(room: DeskRoom, flow: StandIn, ports: Exception | None = None) -> None:
    """One turn. `ports`: what opening the world for saving raises, once the flow has been run."""

    @contextlib.contextmanager
    def ports_for(*_: Any) -> Iterator[Any]:
        if ports is not None and flow.ran:
            raise ports
        yield SimpleNamespace(workspaces=SimpleNamespace(changes=lambda *_: SimpleNamespace(diff="")))

    crew = Crew(room.settings, room.tasks, room.outbox, lambda _: flow, ports_for, lambda t: t, lambda: room.clock)
    task = room.tasks.newest(1)[0]
    Turn(crew).run(task)


def finals(room: DeskRoom, task: str) -> list[str]:
    said = [room.outbox.said(task, key) for key in room.outbox.keys(task) if key.startswith("final-")]
    return [reply.text for reply in said if reply]


def test_no_node_runs_after_a_stop_that_came_while_nobody_had_the_task(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    assert room.tasks.take(task)  # a worker that dies
    room.say(CAT, "stop")
    room.redis.delete(room.tasks.key(task, "lease"))
    flow = StandIn({"schema": 1, "brief": brief_of(room, task)})
    turn(room, flow)
    assert flow.ran == []
    assert room.tasks.record(task)["status"] == "stopped"


def test_a_stop_ends_as_stopped_although_nothing_can_be_saved(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    repository = Repository(name="a", url="file:///a")
    values = {"schema": 1, "brief": brief_of(room, task), "repository": repository, "head": "a" * 40}
    values["commits"] = [Commit(sha="a" * 40, title="t", step=1)]

    class Stops(StandIn):
        def stream(self, *args: Any, **more: Any) -> Iterator[dict[str, Any]]:
            room.tasks.ask_to_stop(task, "Cat")
            self.ran.append("a node")
            while not heart.is_set():
                pass
            raise Stopped(by="Cat")
            yield

    heart = _flagged(room, task)
    turn(room, Stops(values), SandboxFailed("no box"))
    assert room.tasks.record(task)["status"] == "stopped"
    [final] = finals(room, task)
    assert final.startswith("Stopped by Cat.")
    assert "on the branch" not in final


def _flagged(room: DeskRoom, task: str) -> Any:
    """Set once the heartbeat has had time to see the stop."""
    looks: list[int] = []

    class Seen:
        @staticmethod
        def is_set() -> bool:
            looks.append(1)
            return room.redis.pttl(Tasks.key(task, "lease")) < 0 or len(looks) > 20_000

    return Seen()


def test_words_that_come_while_the_last_node_runs_are_answered(room: DeskRoom) -> None:
    task = room.say(CAT, "what is this?").task
    room.say(CAT, "and add a test for it")
    done = Final(kind="answered", text="It adds.")
    turn(room, StandIn({"schema": 1, "brief": brief_of(room, task), "final": done}, over=True))
    late = [room.outbox.said(task, key) for key in room.outbox.keys(task) if key.startswith("late-")]
    assert [reply.text for reply in late if reply] == [
        f"`{task}` had ended before I read “and add a test for it”. Say it again to start a new task."
    ]
    assert finals(room, task) == ["It adds."]
    assert room.redis.llen(Tasks.key(task, "claimed")) == 0


def test_words_told_to_a_task_that_has_just_ended_wake_it_to_say_so(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    record = room.tasks.record(task)
    room.tasks.move(task, "done", at=room.clock)
    room.woken.clear()
    room.desk._to_task(room.request(CAT, "and log it"), task, record)
    assert room.woken == [task]
    turn(room, StandIn({"schema": 1, "brief": brief_of(room, task)}, over=True))
    assert any(key.startswith("late-") for key in room.outbox.keys(task))


@pytest.mark.parametrize(("status", "waits"), [("watching", "approved"), ("asking", "answer")])
def test_what_comes_between_a_turns_last_look_and_its_wait_is_taken_up(room: DeskRoom, status: Any, waits: str) -> None:
    task = room.say(CAT, "add retries").task
    question = Question(id="q1", kind="clarify", text="Which?", back="plan")
    flow = StandIn({"schema": 1, "brief": brief_of(room, task)})
    flow.waits = Watching(number=1, head="a" * 40) if status == "watching" else question
    lease = room.tasks.take(task)
    assert lease
    room.tasks.claim(lease)
    entry = Entry(id="e9", kind=waits, by=CAT.id, sha="a" * 40, question="q1")
    room.tasks.tell(task, entry, ["e9"], wakes=(status,), at=room.clock)
    room.tasks.move(task, status, at=room.clock, lease=lease)
    assert room.tasks.release(lease), "the turn looks again"

    def consume(payload: Any, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        flow.ran.append("a node")
        flow.values = {**flow.values, "taken": ["e9"]}
        yield flow.values

    flow.stream = consume  # type: ignore[method-assign]
    turn(room, flow)
    assert flow.ran == ["a node"]


def test_an_answer_given_before_the_status_says_asking_is_an_answer(room: DeskRoom) -> None:
    task = room.say(CAT, "paint it").task
    question = Question(id="q1", kind="clarify", text="Which?", back="plan")
    lease = room.tasks.take(task)
    assert lease
    room.tasks.write(lease, question=question.model_dump_json(), open="1")  # said, and then the worker died
    room.say(CAT, "the red one")
    [raw] = room.redis.lrange(Tasks.key(task, "inbox"), 0, -1)
    assert b'"answer"' in raw
    assert b'"q1"' in raw


@pytest.mark.parametrize("kind", ["budget", "plan", "protected", "stuck", "repository"])
def test_the_deadline_of_an_answered_question_answers_no_other(room: DeskRoom, kind: Any) -> None:
    task = room.say(CAT, "add retries").task
    flow = StandIn({"schema": 1, "brief": brief_of(room, task)})
    flow.waits = Question(id="q1", kind="clarify", text="Which?", back="plan")
    turn(room, flow)
    room.clock += 3_600
    room.say(CAT, "the first")
    flow.waits = Question(id="q2", kind=kind, text="Go on?", back="plan")
    turn(room, flow)
    sweeper = Sweeper(room.tasks, room.outbox, room.woken.append, every=5, now=lambda: room.clock)
    room.clock += 5 * 86_400
    sweeper.sweep()
    assert room.tasks.record(task)["status"] == "asking"
    assert not any(key.startswith("reminder") for key in room.outbox.keys(task))
    assert "park" in {what for what, _ in deadlines(flow.waits, room.clock, room.settings)}


def test_a_retry_said_while_a_turn_puts_the_work_away_is_kept(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    room.say(CAT, "cancel")
    lease = room.tasks.take(task)
    assert lease
    assert "I try" in room.say(CAT, "retry").reply
    assert room.tasks.release(lease), "the turn looks again"
    record = room.tasks.record(task)
    assert (record["status"], record["retry"]) == ("running", "1")
    assert not room.tasks.expire(task, 100), "what goes on does not expire"


def test_a_retried_task_that_only_waits_again_does_not_expire(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    flow = StandIn({"schema": 1, "brief": brief_of(room, task)}, waits=Watching(number=1, head="a" * 40))
    room.say(CAT, "cancel")
    turn(room, flow)
    assert room.redis.ttl(Tasks.key(task)) > 0
    assert not flow.persisted
    room.say(CAT, "retry")
    turn(room, flow)
    assert room.tasks.record(task)["status"] == "watching"
    assert room.redis.ttl(Tasks.key(task)) < 0
    assert flow.persisted


def test_a_stopped_tasks_work_is_put_away_even_if_the_first_worker_dies_at_it(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    room.say(CAT, "cancel")
    assert room.tasks.take(task)  # dies
    room.redis.delete(room.tasks.key(task, "lease"))
    room.woken.clear()
    sweeper = Sweeper(room.tasks, room.outbox, room.woken.append, every=5, now=lambda: room.clock)
    sweeper.sweep()
    assert room.woken == [task]
    turn(room, StandIn({"schema": 1, "brief": brief_of(room, task)}))
    assert finals(room, task) == [f"Stopped by Cat. There was nothing to keep. `retry {task}` goes on from there."]
    assert room.tasks.active() == []


def test_flags_never_make_a_record_of_a_task_that_is_gone(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    room.drainer.run_once()
    card = room.chat.keys[f"{task}:card"]
    room.redis.delete(Tasks.key(task))
    room.tasks.ask_to_stop(task, "Cat")
    room.tasks.ask_to_pause(task, "Cat")
    assert room.tasks.record(task) == {}
    assert room.say(CAT, "", kind="reaction", reaction="stop", target=card).reply == ""
    assert room.say(ANN, "list").reply
    assert room.say(CAT, "something new").started


def test_an_edited_aside_is_not_heard(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    for text, more in (("!aside never mind", {}), ("@ben lunch?", {"mentions_others": True, "addressed": False})):
        room.say(CAT, text, kind="edit", target="17.99", **more)
    assert room.redis.llen(Tasks.key(task, "inbox")) == 0


def test_the_statuses_that_end_are_the_ones_that_expire(room: DeskRoom) -> None:
    for status in sorted(ENDED):
        room.redis.flushall()
        task = room.say(CAT, "add retries").task
        assert not room.tasks.expire(task, 100)
        room.tasks.move(task, status, at=room.clock)
        assert room.tasks.expire(task, 100)
