"""Implementing a step: one answer of the model, then its calls one by one."""

from __future__ import annotations

import json
import posixpath
from typing import Any

from langgraph.runtime import Runtime

from graph.errors import BadInput
from graph.messages import LOOP, LOOP_HINT, pending, repeats, result_of
from graph.planning import answered, asked, proposed
from graph.policies import project_of
from graph.ports import Box, Ports
from graph.project import Timeouts
from graph.receipts import note_command
from graph.serving import serve
from graph.setting_up import again
from graph.starting import guidance_in
from graph.state import TaskState
from graph.talking import budget_question, talk
from graph.tools import (
    ONCE,
    WRITING,
    Answer,
    Arguments,
    AskPerson,
    ProposePlan,
    ReadFile,
    Run,
    SetUp,
    StepDone,
    act,
    parse,
)
from graph.values import Outcome
from graph.working import Update, asks, data, messages_of, open_box, seconds, spend

UNKNOWN = (
    "Interrupted: it was begun and the outcome is unknown. It is not done again. "
    "Look first (read the file, list what is there), then decide."
)


def implement(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """One answer of the implementing model."""
    ports = runtime.context
    ports.halt.check()
    if waiting := pending(messages_of(state)):
        return {"next": "check" if waiting[1][0]["name"] == "step_done" else "tools"}
    if state.get("phase") != "implement" or not state.get("plan"):
        return {"next": "plan"}
    if state.get("step", 0) >= len(state["plan"].steps):
        return {"next": "review"}
    if state.get("finishing"):
        return {"next": "check"}
    if question := budget_question(state, back="implement"):
        return asks(state, ports, question)
    return talk(state, ports, "implement")


def tools(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Do the first call that has no result yet: one a superstep, so that a crash repeats no other."""
    ports = runtime.context
    ports.halt.check()
    phase = state.get("phase", "plan")
    waiting = pending(messages_of(state))
    if waiting is None:
        return {"next": phase}
    message, calls = waiting
    call = calls[0]
    try:
        said = parse(call["name"], call["args"])
    except BadInput as exc:
        # Checked when it was answered; only an older release can have let it pass.
        return {"messages": [result_of(message, call, str(exc))], "next": "tools" if len(calls) > 1 else phase}
    match said:
        case ProposePlan():
            return proposed(state, ports, message, call, said)
        case AskPerson():
            return asked(state, ports, call, said)
        case Answer():
            return answered(state, message, call, said)
        case StepDone():
            return {"next": "check"}
    text, update = _do(state, ports, f"{message.id}:{call['id']}", call, said)
    earlier = messages_of(state)[: messages_of(state).index(message)]
    result = result_of(message, call, text)
    alone = [*earlier, message, result]
    if repeats(alone, call["name"], call["args"]) == LOOP:
        result = result_of(message, call, text + LOOP_HINT)
    return {**update, "messages": [result], "next": "tools" if len(calls) > 1 else phase}


def _do(state: TaskState, ports: Ports, key: str, call: dict[str, Any], said: Arguments) -> tuple[str, Update]:
    name = call["name"]
    if name in WRITING and state.get("phase") != "implement":
        return f"{name} is refused: in the plan phase you only read. Call propose_plan first.", {}
    if isinstance(said, SetUp):
        if state.get("phase") != "implement":
            return "setup is refused: in the plan phase nothing has changed yet. Call propose_plan first.", {}
        text, update = again(state, ports)
        return data(state, text), update
    if name not in ONCE:
        return _look(state, ports, said)
    what = f"{name} {json.dumps(call['args'], ensure_ascii=False)[:500]}"
    before = ports.journal.begin(key, what)
    if before is not None:
        return before or UNKNOWN, {}
    box = open_box(state, ports)
    problem = serve(ports, box, project_of(state).services) if isinstance(said, Run) else ""
    text, outcome = _tried(said, box, ports, project_of(state).limits)
    if problem:
        text = f"Note: {problem}\n{text}"
    if outcome is None:
        ports.journal.note("edit", tool=name, path=call["args"].get("path", ""), result=text.partition("\n")[0][:200])
    else:
        note_command(ports, outcome)
        if outcome.ended == "stopped":
            ports.halt.check()
    text = data(state, text)
    ports.journal.end(key, text)
    return text, {"spent": spend(state, seconds(outcome))} if outcome else {}


def _tried(said: Arguments, box: Box, ports: Ports, limits: Timeouts | None = None) -> tuple[str, Outcome | None]:
    try:
        return act(said, box, ports.rules, limits)
    except BadInput as exc:
        return f"Error: {exc}", None


def _look(state: TaskState, ports: Ports, said: Arguments) -> tuple[str, Update]:
    """Reads repeat freely. The nearest AGENTS.md comes with the first file that is read below it."""
    box = open_box(state, ports)
    text = data(state, _tried(said, box, ports)[0])
    if not isinstance(said, ReadFile) or said.path.startswith("/"):
        return text, {}
    folder = posixpath.dirname(posixpath.normpath(said.path))
    seen = state.get("shown") or []
    while folder and not folder.startswith(".."):
        if folder in seen:
            break
        if guidance := guidance_in(box, f"{folder}/AGENTS.md"):
            near = data(state, guidance)
            return f"{text}\nThe guidance of {folder}/AGENTS.md goes before the root's:\n{near}", {"shown": [folder]}
        folder = posixpath.dirname(folder)
    return text, {}
