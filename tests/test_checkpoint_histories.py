from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
import redis as redis_client
from checkpointing import KEY, THREAD, Config, counter, messages, put, run, stored, text
from langchain_core.messages import RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command as Resume
from langgraph.types import Send, interrupt
from redis.backoff import NoBackoff
from redis.retry import Retry

from graph.errors import StoreDamaged, StoreUnavailable
from integrations import redisserver
from integrations.checkpoints import RedisSaver

# ---- order


class Fan(TypedDict, total=False):
    got: Annotated[list[str], DeltaChannel(lambda old, new: [*(old or []), *(i for batch in new for i in batch)])]
    round: int


def fan(saver: BaseCheckpointSaver[Any]) -> Any:
    def spread(given: Any) -> list[Send]:
        return [Send("work", {"name": f"{given['round']}-{n}"}) for n in range(8)]

    builder = StateGraph(Fan)
    builder.add_node("start", lambda given: {"round": given.get("round", 0) + 1})
    builder.add_node("work", lambda given: {"got": [given["name"]]})
    builder.add_edge(START, "start")
    builder.add_conditional_edges("start", spread, ["work"])
    return builder.compile(checkpointer=saver)


def test_pending_writes_of_a_fan_out_come_back_in_the_order_of_their_paths(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {})
    tasks = [(f"~__pregel_push, {n:010}", f"{random.Random(n).random()}") for n in range(8)]
    shuffled = random.Random(0).sample(tasks, 8)
    assert sorted(shuffled, key=lambda task: task[1]) != tasks
    for path, task in shuffled:
        saver.put_writes(config, [("got", path), ("also", path)], task, path)
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [(task, c, path) for path, task in tasks for c in ("got", "also")]


class WrongOrder(RedisSaver):
    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        found = super().get_tuple(config)
        return found and found._replace(pending_writes=sorted(found.pending_writes or [], key=lambda write: write[0]))


@pytest.mark.parametrize(("kind", "right"), [(RedisSaver, True), (WrongOrder, False)], ids=["ours", "control"])
def test_a_delta_channel_is_rebuilt_in_the_order_of_the_run(
    redis: redis_client.Redis, kind: type[RedisSaver], right: bool
) -> None:
    same = []
    for n in range(3):
        config = {"configurable": {"thread_id": f"t{n}"}}
        live = run(fan(RedisSaver(redis)), {"round": 0}, config)["got"]
        same.append(fan(kind(redis)).get_state(config).values["got"] == live == [f"1-{n}" for n in range(8)])
    assert all(same) is right


def test_pruning_keeps_what_a_delta_channel_is_rebuilt_from(redis: redis_client.Redis) -> None:
    for n in range(3):
        live = run(fan(RedisSaver(redis)), {"round": n})["got"]
    before = redis.hlen(KEY)
    RedisSaver(redis).prune(["t"])
    assert fan(RedisSaver(redis)).get_state(THREAD).values["got"] == live
    assert redis.hlen(KEY) <= before


def test_answers_of_a_task_are_replaced_and_its_results_are_not(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {})
    for word in ("one", "two", "one"):
        saver.put_writes(config, [("a", word), ("__resume__", word)], "task")
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes is not None
    assert sorted(found.pending_writes) == [("task", "__resume__", "one"), ("task", "a", "one")]


def test_the_same_writes_again_take_no_room(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {})
    sizes = []
    for _ in range(3):
        saver.put_writes(config, [("a", messages(1, 2)), ("__resume__", "x")], "task")
        sizes.append(redis.memory_usage(KEY, samples=0))
    assert len(set(sizes)) == 1


# ---- when Redis or a thread is not there


@pytest.fixture
def away(tmp_path: Path) -> Iterator[redis_client.Redis]:
    """A client whose server held a thread and is gone."""
    server = redisserver.ensure(tmp_path / "away")
    client = redisserver.connect(server.url, retries=1)
    put(RedisSaver(client), {"a": 1})
    redisserver.stop(tmp_path / "away")
    yield client
    client.close()


async def test_when_redis_is_away_no_one_is_told_that_the_thread_does_not_exist(away: redis_client.Redis) -> None:
    saver = RedisSaver(away)
    with pytest.raises(StoreUnavailable):
        saver.get_tuple(THREAD)
    with pytest.raises(StoreUnavailable):
        await saver.aget_tuple(THREAD)
    with pytest.raises(StoreUnavailable):
        list(saver.list(THREAD))
    with pytest.raises(StoreUnavailable):
        list(saver.list(None))
    with pytest.raises(StoreUnavailable):
        counter(saver, 1).get_state(THREAD)
    with pytest.raises(StoreUnavailable):
        put(saver, {"a": 1})
    with pytest.raises(StoreUnavailable):
        run(counter(saver, 1), {"messages": [], "n": 0})


def test_control_a_thread_that_does_not_exist_is_none_when_redis_is_there(redis: redis_client.Redis) -> None:
    assert RedisSaver(redis).get_tuple(THREAD) is None
    assert list(RedisSaver(redis).list(THREAD)) == []


def test_a_damaged_thread_is_not_taken_for_a_smaller_one(redis: redis_client.Redis) -> None:
    put(RedisSaver(redis), {"a": messages(1, 2, 3)})
    redis.hdel(KEY, next(name for name in redis.hkeys(KEY) if name.startswith(b"o")))
    with pytest.raises(StoreDamaged, match="damaged"):
        RedisSaver(redis).get_tuple(THREAD)


def test_what_vanished_behind_a_writers_back_is_sent_again(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {"a": messages(*range(40)), "note": text("n")})
    RedisSaver(redis).delete_thread("t")
    put(saver, {"a": messages(*range(41)), "note": text("n")}, config)
    saver.put_writes(config, [("a", messages(1, 2))], "task")
    found = RedisSaver(redis).get_tuple(THREAD)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": messages(*range(41)), "note": text("n")}


def take_away(client: redis_client.Redis, kind: bytes) -> None:
    client.hdel(KEY, *(name for name in client.hkeys(KEY) if name.startswith(kind)))


GONE: dict[str, Callable[[RedisSaver, Config], Any]] = {
    "a value": lambda saver, _: put(saver, {"note": text("n")}),
    "items of a list": lambda saver, _: put(saver, {"b": messages(2, 1)}),
    "a pending write": lambda saver, config: saver.put_writes(
        config, [("a", messages(1, 2)), ("n", text("n"))], "task"
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_a_value_that_a_writer_wrongly_believes_to_be_stored_is_sent_again(
    redis: redis_client.Redis, name: str
) -> None:
    saver = RedisSaver(redis)
    put(saver, {"a": messages(1, 2, 3), "note": text("n")})
    config = put(saver, {"n": 1})
    take_away(redis, b"o")
    GONE[name](saver, config)
    assert RedisSaver(redis).get_tuple(THREAD) is not None


def test_an_unchanged_list_that_is_not_there_any_more_is_sent_again(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {"a": messages(1, 2, 3)})
    take_away(redis, b"l")
    put(saver, {"a": messages(1, 2, 3), "n": 1}, config, new=["n"])
    assert stored(redis) == {"a": messages(1, 2, 3), "n": 1}


def test_branches_whose_versions_count_alike_are_not_mixed_up(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    root = put(saver, {})
    left = put(saver, {"a": text("left")}, root)
    put(saver, {"a": text("right")}, root)
    child = put(saver, {"a": text("left"), "n": 1}, left, new=["n"])
    assert stored(redis, child) == {"a": text("left"), "n": 1}


def test_the_newest_checkpoint_is_the_one_with_the_highest_id(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    older = empty_checkpoint()
    newer = put(saver, {"a": 2}, run_id="r")
    config: Config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    saver.put(config, {**older, "channel_values": {"a": 1}, "channel_versions": {"a": 1}}, {}, {"a": 1})
    assert stored(redis) == {"a": 2} == stored(redis, newer)
    saver.delete_for_runs(["r"])
    assert stored(redis) == {"a": 1}


def test_pruning_keeps_the_values_of_pending_writes(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {"n": 1}, put(saver, {"n": 0}))
    saver.put_writes(config, [("a", messages(1, 2)), ("note", text("n"))], "task")
    saver.prune(["t"])
    found = RedisSaver(redis).get_tuple(THREAD)
    assert found is not None
    assert found.pending_writes == [("task", "a", messages(1, 2)), ("task", "note", text("n"))]


def test_a_copy_replaces_what_was_there_and_goes_its_own_way(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    other: Config = {"configurable": {"thread_id": "u", "checkpoint_ns": ""}}
    put(saver, {"a": "old"}, other)
    config = put(saver, {"a": messages(1, 2, 3)})
    saver.copy_thread("t", "u")
    assert len(list(saver.list(other))) == 1
    put(saver, {"a": messages(1, 2, 3, 4)}, config)
    assert stored(redis, other) == {"a": messages(1, 2, 3)}


def test_two_branches_do_not_share_their_tails(redis: redis_client.Redis) -> None:
    saver, other = RedisSaver(redis), RedisSaver(redis)
    root = put(saver, {"a": messages(*range(33))})
    other.get_tuple(root)
    first = put(saver, {"a": messages(*range(33), "left")}, root)
    second = put(other, {"a": messages(*range(33), "right", "more")}, root)
    third = put(saver, {"a": messages(*range(33), "left", "on")}, first)
    for config, tail in ((first, ["left"]), (second, ["right", "more"]), (third, ["left", "on"]), (root, [])):
        found = RedisSaver(redis).get_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"]["a"] == messages(*range(33), *tail)


def test_pruning_drops_what_only_old_checkpoints_needed_and_writing_goes_on(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    run(counter(saver, 60), {"messages": [], "n": 0, "note": text("old", 5000)})
    counter(saver, 60).update_state(THREAD, {"messages": [RemoveMessage(id=f"m{n}") for n in range(50)], "note": 1})
    values = counter(saver, 60).get_state(THREAD).values
    before = redis.memory_usage(KEY, samples=0)
    RedisSaver(redis).prune(["t"])
    assert redis.memory_usage(KEY, samples=0) < before / 3
    assert counter(RedisSaver(redis), 60).get_state(THREAD).values == values
    after = run(counter(saver, 62), {"n": 60})
    assert counter(RedisSaver(redis), 62).get_state(THREAD).values == after


def test_a_redis_without_our_scripts_is_taught_them(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    put(saver, {"a": 1})
    redis.script_flush()
    put(saver, {"a": 2})
    assert saver.get_tuple(THREAD).checkpoint["channel_values"] == {"a": 2}


class Forgetful(redis_client.UnixDomainSocketConnection):
    """Loses replies of commands that the server has carried out."""

    losing = 0

    def read_response(self, *given: Any, **named: Any) -> Any:
        found = super().read_response(*given, **named)
        if Forgetful.losing:
            Forgetful.losing -= 1
            self.disconnect()
            raise redis_client.ConnectionError("the reply was lost")
        return found


def test_a_write_whose_reply_was_lost_is_repeated_without_harm(redis: redis_client.Redis, redis_url: str) -> None:
    path = redis_url.removeprefix("unix://")
    pool = redis_client.ConnectionPool(connection_class=Forgetful, path=path, retry=Retry(NoBackoff(), 2))
    saver = RedisSaver(redis_client.Redis(connection_pool=pool))
    config = put(saver, {"a": messages(*range(31))})
    Forgetful.losing = 1
    config = put(saver, {"a": messages(*range(34))}, config)
    Forgetful.losing = 1
    saver.put_writes(config, [("a", messages(1)), ("__resume__", "x")], "task")
    assert Forgetful.losing == 0
    config = put(saver, {"a": messages(*range(35))}, config)
    found = list(RedisSaver(redis).list(THREAD))
    assert [item.checkpoint["channel_values"]["a"] for item in found] == [messages(*range(n)) for n in (35, 34, 31)]
    assert found[1].pending_writes == [("task", "__resume__", "x"), ("task", "a", messages(1))]


# ---- crashes and questions


def _run_and_die(url: str, at: int) -> None:
    client = redisserver.connect(url)

    def before(n: int) -> None:
        client.rpush("ran", n)
        if n == at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(counter(RedisSaver(client), 8, before), {"messages": [], "n": 0})


@pytest.mark.parametrize("at", [0, 3, 7])
def test_after_a_kill_only_the_running_step_runs_again(redis: redis_client.Redis, redis_url: str, at: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=_run_and_die, args=(redis_url, at))
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL
    out = run(counter(RedisSaver(redis), 8, lambda n: redis.rpush("ran", n)))
    ran = [int(n) for n in redis.lrange("ran", 0, -1)]
    assert ran == [*range(at + 1), *range(at, 8)]
    assert [message.id for message in out["messages"]] == [f"m{n}" for n in range(8)]


async def test_a_question_is_seen_and_answered_through_either_face(redis: redis_client.Redis) -> None:
    class Asked(TypedDict, total=False):
        answer: str

    def build() -> Any:
        builder = StateGraph(Asked)
        builder.add_node("ask", lambda _: {"answer": interrupt("which?")})
        builder.add_edge(START, "ask")
        return builder.compile(checkpointer=RedisSaver(redis))

    run(build(), {"answer": ""})
    seen = (await build().aget_state(THREAD)).interrupts
    assert [question.value for question in seen] == ["which?"]
    out = await build().ainvoke(Resume(resume={seen[0].id: "this"}), THREAD, durability="sync")
    assert out == {"answer": "this"} == build().get_state(THREAD).values


def test_a_thinned_history_keeps_the_newest_checkpoint_and_the_first_of_each_value(redis: redis_client.Redis) -> None:
    class State(TypedDict, total=False):
        turns: int
        commits: list[str]

    def step(state: State) -> State:
        turns = state.get("turns", 0) + 1
        commits = state.get("commits", [])
        return {"turns": turns, "commits": [*commits, f"c{turns}"]} if turns % 4 == 0 else {"turns": turns}

    graph = StateGraph(State)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda s: END if s["turns"] == 11 else "step")
    saver = RedisSaver(redis)
    flow = graph.compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}
    flow.invoke({"turns": 0}, config, durability="sync")
    whole = [s.values.get("turns") for s in flow.get_state_history(config)]
    assert len(whole) > 10
    saver.thin("t", "commits")
    assert [s.values.get("turns") for s in flow.get_state_history(config)][:3] == [11, 8, 4]
    assert flow.get_state(config).values == {"turns": 11, "commits": ["c4", "c8"]}
    assert not flow.get_state(config).next
