"""CPU of the model client per step of a 200-step conversation, ours beside the plain `ChatOpenAI`.

Run as a script: `PYTHONPATH=.:tests python tests/benchmarks/bench_model.py`. Prints ratios, asserts nothing.
The server runs in a process of its own, so that its CPU is not counted.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from modelserver import Request, ScriptedModelServer, call

from graph.ports import Halt
from integrations.model import ChatModel, ModelSettings, preload

STEPS = 200
AROUND = 5
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": "Does what its name says.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "line": {"type": "integer"}},
                "required": ["path"],
            },
        },
    }
    for number in range(8)
]


def serve(pipe: Connection) -> None:
    def script(request: Request) -> Any:
        return call("tool_1", path=f"file{request.answers_so_far}.py")

    with ScriptedModelServer(script) as server:
        pipe.send(server.url)
        pipe.recv()


def play(ask: Callable[[list[BaseMessage]], AIMessage]) -> list[tuple[float, float]]:
    """CPU and wall milliseconds of each step."""
    messages: list[BaseMessage] = [SystemMessage("You are careful. " * 100), HumanMessage("Fix the bug.")]
    took = []
    for _ in range(STEPS):
        cpu, wall = time.process_time(), time.perf_counter()
        reply = ask(messages)
        took.append(((time.process_time() - cpu) * 1000, (time.perf_counter() - wall) * 1000))
        messages.append(reply)
        messages.append(ToolMessage("x = 1  # a line of code\n" * 60, tool_call_id=reply.tool_calls[0]["id"]))
    return took


def show(name: str, took: list[tuple[float, float]]) -> float:
    cpu = [one[0] for one in took]

    def near(step: int, part: int) -> float:
        return statistics.median(one[part] for one in took[step - AROUND : step + AROUND])

    early, late = near(10, 0), near(STEPS - AROUND, 0)
    print(
        f"{name:<12} first {took[0][1]:6.1f} ms; step 10: {early:6.2f} ms CPU, {near(10, 1):6.2f} ms wall; "
        f"step {STEPS}: {late:6.2f} ms CPU, {near(STEPS - AROUND, 1):6.2f} ms wall; ratio {late / early:5.2f}; "
        f"all {sum(cpu) / 1000:5.2f} CPU s"
    )
    return late


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,))
    server.start()
    url = ours.recv()
    began = time.perf_counter()
    preload()
    print(f"preload {1000 * (time.perf_counter() - began):.0f} ms (imports done before)")
    with ChatModel(ModelSettings(url, "key", {"implement": "m"}), Halt()) as model:
        late = show("ours", play(lambda messages: model.answer("implement", messages, TOOLS)[0]))
    plain = ChatOpenAI(model="m", api_key="key", base_url=url, max_retries=0)
    bound = plain.bind_tools(TOOLS)
    plain_late = show("ChatOpenAI", play(bound.invoke))
    print(f"plain / ours at step {STEPS}: {plain_late / late:.1f}")
    ours.send("end")
    server.join()


if __name__ == "__main__":
    main()
