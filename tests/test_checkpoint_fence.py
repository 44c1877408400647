from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_client
from checkpointing import KEY, THREAD, Config, counter, messages, put, run, text

from graph.errors import LeaseLost
from integrations.checkpoints import Fence, RedisSaver

# ---- the fence

WRITES: dict[str, Callable[[RedisSaver, Config], Any]] = {
    "put": lambda saver, config: put(saver, {"a": messages(1, 2, 3)}, config),
    "put_writes": lambda saver, config: saver.put_writes(config, [("a", messages(4))], "task"),
    "expire": lambda saver, _: saver.expire("t", 1000),
    "persist": lambda saver, _: saver.persist("t"),
    "delete_thread": lambda saver, _: saver.delete_thread("t"),
    "copy_thread": lambda saver, _: saver.copy_thread("t", "u"),
    "delete_for_runs": lambda saver, _: saver.delete_for_runs(["r"]),
    "prune": lambda saver, _: saver.prune(["t"]),
}


def picture(client: redis_client.Redis) -> dict[bytes, Any]:
    keys = [key for key in client.scan_iter() if key != b"lease"]
    return {key: (client.hgetall(key), client.ttl(key) > 0) for key in keys}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("lease", [b"other", None], ids=["taken", "expired"])
def test_a_writer_that_lost_its_lease_writes_nothing(redis: redis_client.Redis, name: str, lease: bytes | None) -> None:
    saver = RedisSaver(redis, fence=Fence("lease", b"token"), ttl=500 if name == "persist" else None)
    redis.set("lease", b"token")
    config = put(saver, {"a": messages(1, 2)}, run_id="r")
    config = put(saver, {"a": messages(1, 2, 3)}, config, run_id="r2")
    redis.set("lease", lease) if lease else redis.delete("lease")
    before = picture(redis)
    with pytest.raises(LeaseLost):
        WRITES[name](saver, config)
    assert picture(redis) == before
    # Control: the holder's write does change the picture, so that the comparison would have seen it.
    redis.set("lease", b"token")
    WRITES[name](saver, config)
    assert picture(redis) != before


def test_a_run_that_loses_its_lease_does_not_reach_its_next_node(redis: redis_client.Redis) -> None:
    ran: list[int] = []

    def before(n: int) -> None:
        ran.append(n)
        if n == 3:
            redis.set("lease", b"other")

    redis.set("lease", b"token")
    graph = counter(RedisSaver(redis, fence=Fence("lease", b"token")), 10, before)
    with pytest.raises(LeaseLost):
        run(graph, {"messages": [], "n": 0})
    assert ran == [0, 1, 2, 3]
    assert counter(RedisSaver(redis), 10).get_state(THREAD).values["n"] == 3


def test_a_fence_without_a_token_is_no_fence() -> None:
    with pytest.raises(ValueError, match="token"):
        Fence("lease", b"")


# ---- time to live


def test_a_thread_is_one_key_so_nothing_of_it_vanishes_before_the_rest(redis: redis_client.Redis) -> None:
    graph = counter(RedisSaver(redis, ttl=1000), 40)
    run(graph, {"messages": [], "n": 0, "note": text("written once", 5000)})
    assert redis.keys() == [KEY.encode()]
    redis.expire(KEY, 5)
    run(graph, {"n": 39})
    assert redis.ttl(KEY) > 900
    assert RedisSaver(redis).get_tuple(THREAD).checkpoint["channel_values"]["note"] == text("written once", 5000)


def test_without_a_ttl_nothing_expires_until_it_is_asked_for(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    config = put(saver, {"a": 1})
    saver.put_writes(config, [("a", 2)], "task")
    assert redis.ttl(KEY) == -1
    saver.expire("t", 1000)
    assert redis.ttl(KEY) > 900
    saver.persist("t")
    assert redis.ttl(KEY) == -1


def test_a_finished_task_that_is_spoken_to_again_lives_on(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis)
    put(saver, {"a": 1})
    saver.expire("t", 1000)
    put(saver, {"a": 2})
    assert redis.ttl(KEY) == -1


def test_pending_writes_renew_the_ttl_of_the_whole_thread(redis: redis_client.Redis) -> None:
    saver = RedisSaver(redis, ttl=1000)
    config = put(saver, {"a": 1})
    redis.expire(KEY, 5)
    saver.put_writes(config, [("a", 2)], "task")
    assert redis.ttl(KEY) > 900
