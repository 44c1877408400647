"""Overhead of a step at step 10 and step 200, and what 200 steps leave in Redis beside their transcript.

Run: `python tests/benchmarks/bench_steps.py [true|cat]`. Prints tables, asserts nothing.

A step is: the model's answer has been sent, `run` is done in the box, and the next request has arrived, whole. The
floor is the same requests from a bare loop: httpx and json, no box, no LangGraph, no Redis. `true` prints nothing;
`cat` prints 2,000 bytes a step. Goals: 4 ms and the command's own time, at both steps; Redis 1.5 times the transcript.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

from rig import HEAD, Answer, ModelProcess, Rig, load, rig, row, until

STEPS = 200
AROUND = 5


def true(role: str, number: int) -> Answer:
    return _answer(role, number, f"true # {number}")


def cat(role: str, number: int) -> Answer:
    return _answer(role, number, f"head -c 1990 text; echo {number}")


def _answer(role: str, number: int, command: str) -> Answer:
    if role == "triage":
        return "Triage", {"kind": "task", "title": "Steps", "reply": ""}
    if number == 0:
        return "propose_plan", {"title": "chore: steps", "steps": [{"title": "chore: steps"}]}
    return ("run", {"command": command}) if number <= STEPS else ("step_done", {})


def floor(model: ModelProcess, body: dict[str, Any]) -> list[float]:
    """A loop that sends the same conversation; the time between two requests, step by step."""
    import httpx2

    first = next(n for n, message in enumerate(body["messages"]) if message["role"] == "assistant")
    messages, later = body["messages"][:first], body["messages"][first:]
    rest = {key: value for key, value in body.items() if key != "messages"}
    with httpx2.Client(headers={"Authorization": "Bearer k"}, timeout=30, trust_env=False) as http:
        model.trace()
        for message in [*later, {"role": "user", "content": ""}]:
            if message["role"] == "assistant":
                answer = http.post(f"{model.url}/chat/completions", json={**rest, "messages": messages})
                answer.json()
            messages.append(message)
    trace = model.trace()
    return between(trace.sent, trace.arrived)


def between(sent: list[float], arrived: list[float]) -> list[float]:
    return [after - before for before, after in zip(sent, arrived[1:], strict=False)]


def near(step: int, took: list[float]) -> list[float]:
    return took[max(0, step - AROUND) : step + AROUND]


def stored(bench: Rig, task: str) -> tuple[int, int, list[tuple[str, int, int]]]:
    """Bytes of the task's keys: in memory, as dumped, and by key."""
    redis: Any = bench.house.office.redis
    keys = [key for key in redis.scan_iter(match="tw:*", count=1000) if task.encode() in key]
    found = [(key.decode(), redis.memory_usage(key, samples=0), len(redis.dump(key))) for key in sorted(keys)]
    return sum(f[1] for f in found), sum(f[2] for f in found), found


def by_kind(bench: Rig, task: str) -> str:
    """What the fields of the thread's hash take, names included (`integrations.checkpoint_scripts` has the layout)."""
    redis: Any = bench.house.office.redis
    kinds = {"c": "checkpoints", "w": "pending writes", "o": "values and list items", "l": "lists", "h": "newest"}
    sums = dict.fromkeys(kinds, 0)
    counts = dict.fromkeys(kinds, 0)
    for name, value in redis.hgetall(f"tw:ckpt:{{{task}}}").items():
        sums[chr(name[0])] += len(name) + len(value)
        counts[chr(name[0])] += 1
    return "; ".join(f"{counts[kind]} {what} {sums[kind]:,}" for kind, what in kinds.items())


def pruned(bench: Rig, task: str) -> int:
    """Bytes in memory of the thread's hash once only the newest checkpoint is kept."""
    from integrations.checkpoints import RedisSaver

    redis: Any = bench.house.office.redis
    RedisSaver(redis).prune([task])
    return int(redis.memory_usage(f"tw:ckpt:{{{task}}}", samples=0))


def main() -> None:
    playbook = {"true": true, "cat": cat}[(sys.argv[1:] or ["true"])[0]]
    with rig(playbook, budget_calls=STEPS + 50, budget_tokens=10**9) as bench:
        room = bench.house.room({"README.md": "x\n", "text": "0123456789abcde\n" * 200})
        room.start("take two hundred steps")
        # Looked at seldom, so that looking costs the worker nothing.
        until(lambda: room.view.status not in ("queued", "running"), "end", 300, every=0.5)
        trace = bench.model.trace()
        last = trace.last
        body = json.loads(last)
        # Requests: triage, the plan, then the steps.
        took = between(trace.sent, trace.arrived)[2:]
        own = [e.data["seconds"] for _, e in room.desk.events(room.task) if e.kind == "command"]
        bare = floor(bench.model, body)[1:]
        memory, dumped, keys = stored(bench, room.task)
        kinds = by_kind(bench, room.task)
        only_newest = pruned(bench, room.task)
    print(f"`{playbook.__name__}`, {len(took)} steps; {load()}")
    print(HEAD)
    for step in (10, STEPS):
        print(row(f"step {step}: answer sent -> next request", near(step, took)))
        print(row("  the command's own time in the box (to 1 ms)", near(step, own)))
        print(row("  bare loop over httpx", near(step, bare)))
    print(f"ratio of step {STEPS} to step 10: {_mid(took, STEPS) / _mid(took, 10):.2f}")
    transcript = len(last)
    print(f"\ntranscript (last request body) {transcript:,} bytes")
    print(
        f"Redis, MEMORY USAGE {memory:,} = {memory / transcript:.2f} x; DUMP {dumped:,} = {dumped / transcript:.2f} x"
    )
    for name, used, dump in keys:
        print(f"  {name:<40} {used:>10,} {dump:>10,}")
    print(f"  fields of the first: {kinds}")
    print(f"  the first with its newest checkpoint alone: {only_newest:,} bytes in memory")


def _mid(took: list[float], step: int) -> float:
    return statistics.median(near(step, took))


if __name__ == "__main__":
    main()
