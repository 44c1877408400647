"""Warm job start to first model request: from the enqueue, and from the fork of the turn's process.

Run: `python tests/benchmarks/bench_start.py`. Prints a table, asserts nothing. Goal: 30 ms from the fork.
"""

from __future__ import annotations

import time

from rig import HEAD, Answer, load, rig, row, until

TASKS = 20
WARM_UP = 3


def playbook(role: str, number: int) -> Answer:
    return "Triage", {"kind": "question", "title": "", "reply": f"Yes, {role} {number}."}


def main() -> None:
    told, forked, accepted = [], [], []
    with rig(playbook) as bench:
        # A question that triage answers: nothing of one task runs into the next one.
        room = bench.house.room({"README.md": "x\n"})
        for number in range(WARM_UP + TASKS):
            before = len(bench.forks())
            began = time.monotonic()
            receipt = room.say(f"[repo={room.repository}] is it so? {number}")
            said = time.monotonic()
            task = receipt.task
            until(lambda task=task: (view := room.desk.task(task)) is not None and view.status == "done", "end")  # type: ignore[misc]
            arrived = bench.model.trace().arrived[0]
            if number < WARM_UP:
                continue
            told.append(arrived - began)
            accepted.append(said - began)
            forked.append(arrived - bench.forks()[before])
    print(f"{TASKS} tasks, one warm worker, one after the other; {load()}")
    print(HEAD)
    print(row("words given to the desk -> first model request", told))
    print(row("  of which the desk (stored, and enqueued with RQ)", accepted))
    print(row("fork of the turn's process -> first model request", forked))


if __name__ == "__main__":
    main()
