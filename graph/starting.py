"""The beginning of a task: what it is (triage), and everything made ready for it (prepare)."""

from __future__ import annotations

from typing import Literal, cast

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from graph import commands, comparing
from graph.errors import BadInput, ContextTooLong, ModelMisbehaved, RepositoryProblem
from graph.ports import Box, Ports
from graph.prompting import clipped, mark_of, render, system
from graph.receipts import line_of
from graph.running import run_all
from graph.state import TaskState
from graph.values import CheckResult, Choice, Command, Final, Question, Repository, Usage
from graph.working import Update, announced, asks, data, gives_up, name_of, over, paid, question_id, seconds, spend

GUIDANCE = 16_000
"""Bytes of an AGENTS.md that are read."""
CONTEXT = 20_000
"""Characters of the thread's earlier messages that are shown."""


class Triage(BaseModel):
    """What the words are."""

    kind: Literal["task", "question", "code_question", "reaction"]
    title: str = Field("", description="What is wanted, at most 60 characters.")
    reply: str = Field("", description="The answer, when the kind is question.")


def triage(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Answer, react, or take it on. No repository is touched."""
    ports, brief = runtime.context, state["brief"]
    ports.halt.check()
    context = data(state, clipped(brief.context, CONTEXT)) if brief.context else ""
    words = render("triage_task", requester=name_of(brief.requester), text=brief.text, context=context)
    begun: Update = {"granted": brief.limits, "step": 0, "malformed": 0, "repairs": 0, "rounds": 0}
    try:
        decision, usage = ports.model.decide(
            "triage", [SystemMessage(system("triage")), HumanMessage(words)], Triage, model=brief.model
        )
    except (ModelMisbehaved, ContextTooLong) as exc:
        return {**begun, **paid(state, ports, "triage", exc.usage or Usage()), **gives_up(state, ports, str(exc))}
    begun |= {**paid(state, ports, "triage", usage), "title": decision.title.strip()}
    if decision.kind == "reaction":
        return {**begun, **over(Final(kind="answered", text=""))}
    if decision.kind == "question" and decision.reply.strip():
        return {**begun, **over(Final(kind="answered", text=decision.reply.strip()))}
    intent = "code_question" if decision.kind == "code_question" else "task"
    return {**begun, "intent": intent, "next": "prepare"}


def prepare(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Choose the repository, fetch it, open the box, find the commands and see how they end before any change."""
    ports, brief = runtime.context, state["brief"]
    ports.halt.check()
    try:
        chosen = _choose(state, ports)
        if isinstance(chosen, Question):
            return asks(state, ports, chosen)
        repository, sha = ports.workspaces.fetch(chosen, brief.branch)
    except RepositoryProblem as exc:
        text = f"{exc} Nothing was changed; say it again with the right `repo=…` or `branch=…`."
        return over(Final(kind="needs you", text=text))
    box = ports.sandbox.open(ports.workspaces.workspace(brief.id, repository, sha))
    if box.changed(sha):
        # A turn that died here may have left something.
        box.reset(sha)
    found: list[Command] = []
    base: list[CheckResult] = []
    if state.get("intent") != "code_question":
        found = commands.find(box)
        base = _baseline(ports, box, found, sha)
    facts: Update = {
        "repository": repository,
        "base_sha": sha,
        "head": sha,
        "instructions": guidance_in(box, "AGENTS.md"),
        "commands": found,
        "baseline": base,
    }
    return {
        **facts,
        "commits": [],
        "phase": "plan",
        "spent": spend(state, seconds(*(check.outcome for check in base))),
        "messages": [announced(state, _task_words(cast("TaskState", {**state, **facts})))],
        "next": "plan",
    }


def _choose(state: TaskState, ports: Ports) -> Repository | Question:
    brief = state["brief"]
    if brief.repository is not None:
        return brief.repository
    problem = ""
    if name := state.get("chosen"):
        try:
            return ports.forge.find(name).model_copy(update={"rule": "named when I asked"})
        except RepositoryProblem as exc:
            problem = f"{exc} "
    known = ports.forge.repositories()
    if len(known) == 1 and not problem:
        return ports.forge.find(known[0]).model_copy(update={"rule": "the only repository"})
    text = f"{problem}Which repository is this for?"
    choice = Choice(question="Which repository is this for?", suggestions=tuple(known[:4]))
    return Question(id=question_id(state), kind="repository", text=text, choices=(choice,), back="prepare")


def _baseline(ports: Ports, box: Box, found: list[Command], sha: str) -> list[CheckResult]:
    """Checks and tests on the base. Formatters are left out: they are never fatal, and they change the tree."""
    ran = run_all(ports, box, [command for command in found if command.kind != "format"])
    if box.changed(sha):
        box.reset(sha)
    return [comparing.baseline(command, outcome) for command, outcome in ran]


def guidance_in(box: Box, path: str) -> str:
    """The text of an AGENTS.md; empty if there is none."""
    try:
        return box.read(path, limit=GUIDANCE).decode("utf-8", "replace").strip()
    except BadInput:
        return ""


def _task_words(state: TaskState) -> str:
    brief, repository = state["brief"], state["repository"]
    lines = [line_of(check) for check in state["baseline"]]
    lines += [f"`{c.command}` (never fatal)" for c in state["commands"] if c.kind == "format"]
    reds = [c for c in state["baseline"] if c.verdict == "red" and c.outcome]
    tails = [f"`{c.command.command}` on the base:\n{clipped(c.outcome.output, 3000)}" for c in reds if c.outcome]
    words = render(
        "task",
        intent=state.get("intent", "task"),
        requester=name_of(brief.requester),
        text=brief.text,
        repository=repository.name,
        base=repository.base,
        mark=mark_of(brief.id),
        context=data(state, clipped(brief.context, CONTEXT)) if brief.context else "",
        instructions=data(state, state["instructions"]) if state["instructions"] else "",
        commands=lines,
    )
    return "\n\n".join([words, *(data(state, tail) for tail in tails)])
