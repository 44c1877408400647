from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import ormsgpack
import pytest
import redis as redis_client
from checkpointing import KEY, THREAD, Chat, counter, messages, put, run, text
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from pydantic import BaseModel

from graph import state
from integrations import redisserver
from integrations.checkpoints import Fence, RedisSaver, serializer

# ---- conformance


class SyncDriven(BaseCheckpointSaver[int]):
    """The suite drives the async face only: here every async method calls the sync one."""

    def __init__(self, inner: RedisSaver) -> None:
        super().__init__(serde=inner.serde)
        self.inner = inner

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        return self.inner.get_tuple(config)

    async def alist(self, config: Any, **given: Any) -> AsyncIterator[CheckpointTuple]:
        for item in self.inner.list(config, **given):
            yield item

    async def aput(self, *given: Any) -> Any:
        return self.inner.put(*given)

    async def aput_writes(self, *given: Any, **named: Any) -> None:
        self.inner.put_writes(*given, **named)

    async def adelete_thread(self, thread_id: str) -> None:
        self.inner.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self.inner.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.inner.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self.inner.prune(thread_ids, strategy=strategy)


@pytest.mark.parametrize("face", [lambda saver: saver, SyncDriven], ids=["async", "sync"])
@pytest.mark.parametrize("fenced", [False, True])
async def test_it_conforms_with_all_capabilities(
    redis: redis_client.Redis, face: Callable[[RedisSaver], BaseCheckpointSaver[int]], fenced: bool
) -> None:
    redis.set("lease", "token")
    fence = Fence("lease", b"token") if fenced else None

    @checkpointer_test(name="ours")
    async def ours() -> AsyncIterator[BaseCheckpointSaver[int]]:
        yield face(RedisSaver(redis, fence=fence))

    report = await validate(ours)
    assert {name: result.failures for name, result in report.results.items() if not result.passed} == {}
    assert set(report.results) == {capability.value for capability in ALL_CAPABILITIES}
    assert sum(result.tests_passed for result in report.results.values()) >= 81


# ---- what it costs


class Counting(redis_client.UnixDomainSocketConnection):
    sent = 0

    def send_packed_command(self, *given: Any, **named: Any) -> None:
        type(self).sent += 1
        super().send_packed_command(*given, **named)


def test_put_put_writes_and_get_are_one_round_trip_each(redis: redis_client.Redis, redis_url: str) -> None:
    path = redis_url.removeprefix("unix://")
    client = redis_client.Redis(connection_pool=redis_client.ConnectionPool(connection_class=Counting, path=path))
    redis.set("lease", "token")
    saver = RedisSaver(client, fence=Fence("lease", b"token"), ttl=1000)
    many = messages(*range(100))
    calls: list[Callable[[], Any]] = [
        lambda: put(saver, {"messages": many, "n": 1, "note": text("big")}),
        lambda: put(saver, {"messages": [*many, *messages("new")], "n": 2}, saver.get_tuple(THREAD).config),
        lambda: saver.put_writes(saver_config, [("messages", messages("w1", "w2")), ("n", 3)], "task", "path"),
        lambda: saver.get_tuple(THREAD),
    ]
    saver_config = put(saver, {"messages": many})
    saver.put_writes(saver_config, [("n", 0)], "warm")
    saver.get_tuple(THREAD)
    spent = []
    for call in calls:
        Counting.sent = 0
        call()
        spent.append(Counting.sent)
    assert spent == [1, 2, 1, 1]  # The second reads its parent first.


def test_two_hundred_steps_of_1500_bytes_stay_below_one_megabyte(redis: redis_client.Redis) -> None:
    sizes = {}
    for steps in (50, 200):
        redis.flushdb()
        run(counter(RedisSaver(redis), steps), {"messages": [], "n": 0})
        sizes[steps] = redis.memory_usage(KEY, samples=0)
    assert sizes[200] <= 1_000_000
    assert sizes[200] <= 1.5 * 200 * 1500
    assert sizes[200] / sizes[50] <= 4.1


def test_control_a_saver_that_stores_every_version_of_the_list_is_far_above_it() -> None:
    saver = InMemorySaver()
    run(counter(saver, 200), {"messages": [], "n": 0})
    assert sum(len(data) for _, data in saver.blobs.values()) > 20_000_000


def test_a_process_that_has_read_the_thread_sends_only_what_is_new(redis: redis_client.Redis) -> None:
    run(counter(RedisSaver(redis), 100), {"messages": [], "n": 0})
    before = redis.info("stats")["total_net_input_bytes"]
    run(counter(RedisSaver(redis), 110), {"n": 100})
    assert redis.info("stats")["total_net_input_bytes"] - before < 60_000


def test_an_item_is_stored_once_however_it_travels(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {"a": messages(1, 2, 3)})
    saver.put_writes(config, [("a", messages(2))], "task")
    put(saver, {"b": messages(3, 2, 1)}, config)
    assert len([name for name in redis.hkeys(KEY) if name.startswith(b"o")]) == 3


# ---- values


class Spy(BaseModel):
    made: int = 0
    count: ClassVar[int] = 0

    def model_post_init(self, _context: Any) -> None:
        Spy.count += 1


VALUES: list[BaseModel] = [
    state.Brief(
        id="tw-1",
        text="do it",
        requester=state.Person(id="console:local:ann", name="Ann"),
        created=datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
        repository=state.Repository(name="r", url="file:///r"),
    ),
    state.Plan(title="t", steps=(state.Step(title="s", criteria=("a", "b")),), assumptions=("x",)),
    state.CheckResult(
        command=state.Command(kind="test", command="make test", found_in="Makefile"),
        verdict="red",
        outcome=state.Outcome(command="make test", exit=2, seconds=0.5, output="é\0\x1b"),
        failing=("a",),
    ),
    state.Question(id="q", kind="clarify", text="?", choices=(state.Choice(question="?"),), back="plan"),
    state.Review(summary="s", findings=(state.Finding(severity="nit", text="f", line=None),)),
    state.PullRequest(number=1, url="u", head="h", branch="b", base="main", title="t"),
    state.Usage(calls=3, usd=0.1),
    state.Final(kind="done", text="done"),
]  # fmt: skip


def test_our_values_and_messages_come_back_as_themselves(redis: redis_client.Redis) -> None:
    serde = serializer(state.STATE_TYPES)
    said: list[AnyMessage] = [
        HumanMessage("words", id="1"),
        AIMessage("", id="2", tool_calls=[{"name": "run", "args": {"command": "ls"}, "id": "c"}]),
        ToolMessage("out", id="3", tool_call_id="c"),
    ]
    values = {"messages": said, "values": VALUES, "one": VALUES[0], "none": None, "raw": b"\0\xff", "empty": []}
    config = put(RedisSaver(redis, serde=serde), values)
    RedisSaver(redis, serde=serde).put_writes(config, [("values", VALUES), ("none", None)], "task")
    found = RedisSaver(redis, serde=serde).get_tuple(THREAD)
    assert found is not None
    assert found.checkpoint["channel_values"] == values
    assert [type(v) for v in found.checkpoint["channel_values"]["values"]] == [type(v) for v in VALUES]
    assert found.pending_writes == [("task", "values", VALUES), ("task", "none", None)]


def test_a_class_that_is_not_listed_is_never_made(redis: redis_client.Redis) -> None:
    config = put(
        RedisSaver(redis, serde=serializer([Spy])), {"one": Spy(made=1), "many": [Spy(made=n) for n in range(9)]}
    )
    Spy.count = 0
    found = RedisSaver(redis, serde=serializer(state.STATE_TYPES)).get_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"]["one"] == {"made": 1}
    assert Spy.count == 0
    listed = RedisSaver(redis, serde=serializer([Spy])).get_tuple(config)
    assert listed is not None
    assert listed.checkpoint["channel_values"]["one"] == Spy(made=1)
    assert Spy.count > 0


def test_bytes_planted_in_redis_run_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    planted = ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb(("os", "mkdir", str(mark)))))
    serializer(state.STATE_TYPES).loads_typed(("msgpack", planted))
    serializer(()).loads_typed(("msgpack", planted))
    assert not mark.exists()
    # Control: the library's own permissive mode does run it.
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(("msgpack", planted))
    assert mark.exists()


def test_a_message_that_gets_its_id_after_it_was_written_is_stored_with_it(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    said = HumanMessage(text("x"))
    config = put(saver, {"messages": []})
    saver.put_writes(config, [("messages", [said])], "task")
    said.id = "late"
    put(saver, {"messages": [said]}, config)
    said.id = "later"
    config = put(saver, {"messages": [said]})
    found = RedisSaver(redis).get_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"]["messages"][0].id == "later"


# ---- the same as LangGraph's own saver

Op = tuple[str, Any]
OPS: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("say"), st.lists(st.integers(0, 12), min_size=1, max_size=4)),
    st.tuples(st.just("edit"), st.integers(0, 12)),
    st.tuples(st.just("remove"), st.integers(0, 12)),
    st.tuples(st.just("clear"), st.none()),
    st.tuples(st.just("log"), st.lists(st.text(max_size=300), max_size=3)),
    st.tuples(st.just("note"), st.one_of(st.none(), st.binary(max_size=300), st.lists(st.text(max_size=200)))),
    st.tuples(st.just("back"), st.integers(0, 8)),
    st.tuples(st.just("restart"), st.none()),
)


def update(op: Op, known: Sequence[AnyMessage], number: int) -> Chat:
    kind, given_ = op
    ids = [message.id for message in known]
    if kind == "say":
        return {"messages": messages(*given_, size=90)}
    if kind == "edit" and ids:
        return {"messages": [HumanMessage(text(number, 120), id=ids[given_ % len(ids)])]}
    if kind == "remove" and ids:
        return {"messages": [RemoveMessage(id=str(ids[given_ % len(ids)]))]}
    if kind == "clear":
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES)]}
    return {kind: given_} if kind in ("log", "note") else {"n": number}


def story(graph: Any) -> list[tuple[Any, ...]]:
    """All checkpoints, newest first, without their ids and times."""
    history = list(graph.get_state_history(THREAD))
    ids = {item.config["configurable"]["checkpoint_id"]: n for n, item in enumerate(history)}
    parent = [item.parent_config and ids[item.parent_config["configurable"]["checkpoint_id"]] for item in history]
    return [(h.values, h.next, h.metadata, p) for h, p in zip(history, parent, strict=True)]


@settings(max_examples=60, deadline=None)
@given(ops=st.lists(OPS, min_size=1, max_size=14))
def test_it_remembers_what_langgraphs_own_saver_does(redis_url: str, ops: list[Op]) -> None:
    with redisserver.connect(redis_url) as client:
        client.flushdb()
        theirs, ours = (counter(saver, 0) for saver in (InMemorySaver(), RedisSaver(client)))
        for number, op in enumerate(ops):
            if op[0] == "restart":
                ours = counter(RedisSaver(client), 0)
                continue
            for graph in (theirs, ours):
                at = THREAD
                history = list(graph.get_state_history(THREAD))
                if op[0] == "back" and history:
                    at = history[op[1] % len(history)].config
                known = graph.get_state(at).values.get("messages", [])
                graph.update_state(at, update(op, known, number), as_node="step")
            assert ours.get_state(THREAD).values == theirs.get_state(THREAD).values
        assert story(ours) == story(theirs)
        assert story(counter(RedisSaver(client), 0)) == story(theirs)
