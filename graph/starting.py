"""The beginning of a task: what it is (triage), where (prepare), and how its checks end before any change."""

from __future__ import annotations

from typing import Literal, cast

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from graph import commands, comparing
from graph.errors import BadInput, ContextTooLong, ModelMisbehaved, RepositoryProblem
from graph.policies import project_of
from graph.ports import Box, Ports
from graph.project import Project
from graph.projectfile import parse
from graph.prompting import clipped, mark_of, render, system
from graph.receipts import line_of, slim
from graph.running import run_all
from graph.serving import serve
from graph.state import TaskState
from graph.tomlplaces import NAME
from graph.values import CheckResult, Choice, Command, Final, Question, Repository, Usage
from graph.working import (
    Update,
    announced,
    asks,
    bare_box,
    data,
    gives_up,
    installed_of,
    limit_of,
    name_of,
    open_box,
    over,
    paid,
    question_id,
    repository_of,
    seconds,
    spend,
)

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
    """Choose the repository, fetch it, open the box, read what the repository says of itself, find its commands."""
    ports, brief = runtime.context, state["brief"]
    ports.halt.check()
    try:
        chosen = _choose(state, ports)
        if isinstance(chosen, Question):
            return asks(state, ports, chosen)
        repository, sha = ports.workspaces.fetch(chosen, brief.branch)
        project = said_by(ports, repository)
    except RepositoryProblem as exc:
        text = f"{exc} Nothing was changed; say it again with the right `repo=…` or `branch=…`."
        return over(Final(kind="needs you", text=text))
    except BadInput as exc:
        text = f"{exc}\nNothing was changed. Correct the file on the default branch, then say it again."
        return over(Final(kind="needs you", text=text))
    facts: Update = {"repository": repository, "base_sha": sha, "head": sha, "project": project, "baseline": []}
    box = bare_box(cast("TaskState", {**state, **facts}), ports)
    if box.changed(sha):
        # A turn that died here may have left something.
        box.reset(sha)
    looking = state.get("intent") == "code_question"
    return {
        **facts,
        "instructions": guidance_in(box, "AGENTS.md"),
        "commands": [] if looking else commands.find(box, project.checks),
        "commits": [],
        "phase": "plan",
        "next": "baseline" if looking else "setup",
    }


def said_by(ports: Ports, repository: Repository) -> Project:
    """What `.threadwright.toml` of the default branch says. Raises BadInput, which names file and lines."""
    text = ports.workspaces.text(repository, NAME)
    return parse(text) if text is not None else Project()


def baseline(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """See how the commands end before any change, and begin the conversation with that."""
    ports = runtime.context
    ports.halt.check()
    results = base_results(state, ports)
    ran = [result.outcome for result in results if not result.reused]
    told: TaskState = {**state, "baseline": results}
    return {
        "baseline": results,
        "spent": spend(state, seconds(*ran)),
        "messages": [announced(state, _task_words(told))],
        "next": "plan",
    }


def base_results(state: TaskState, ports: Ports) -> list[CheckResult]:
    """Checks and tests on the base. Formatters are left out: they are never fatal, and they change the tree."""
    found = [command for command in state.get("commands") or [] if command.kind != "format"]
    if failed := installed_of(state).failed:
        # Without its packages all of it would be red, and every later failure would look like an old one.
        return [not_run(command, f"set-up failed: {failed}") for command in found]
    keys = {command.command: _key(state, ports, command) for command in found}
    known = {line: result for line, key in keys.items() if (result := ports.baselines.find(key)) is not None}
    fresh = [command for command in found if command.command not in known]
    ran = {result.command.command: result for result in _run_on_base(state, ports, fresh)} if fresh else {}
    for line, result in ran.items():
        if result.verdict != "not run" or (result.outcome and result.outcome.ended == "timeout"):
            ports.baselines.keep(keys[line], result)
    kept = {line: result.model_copy(update={"reused": True}) for line, result in known.items()}
    return [{**kept, **ran}[command.command] for command in found]


def _key(state: TaskState, ports: Ports, command: Command) -> str:
    """Base commit, command and set-up decide how it ends; so do services, image and the time it gets."""
    project = project_of(state)
    more = [service.model_dump_json() for service in project.services]
    facts = [state["base_sha"], command.command, str(limit_of(state, ports)(command)), installed_of(state).key, *more]
    return ports.installs.digest(repository_of(state), "\n".join([*facts, project.image, installed_of(state).skipped]))


def _run_on_base(state: TaskState, ports: Ports, found: list[Command]) -> list[CheckResult]:
    box = open_box(state, ports)
    results = []
    problem = serve(ports, box, project_of(state).services) if any(c.kind == "test" for c in found) else ""
    for command in found:
        if problem and command.kind == "test":
            results.append(not_run(command, problem))
        else:
            results += [comparing.baseline(*ran) for ran in run_all(ports, box, [command], limit_of(state, ports))]
    if box.changed(state["base_sha"]):
        box.reset(state["base_sha"])
    return [slim(result) for result in results]


def not_run(command: Command, reason: str) -> CheckResult:
    return CheckResult(command=command, verdict="not run", reason=reason)


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
        setup=_setup_words(state),
        services=[service.name for service in project_of(state).services],
    )
    return "\n\n".join([words, *(data(state, tail) for tail in tails)])


def _setup_words(state: TaskState) -> str:
    installed = installed_of(state)
    if installed.failed:
        return f"failed: {installed.failed}\n{data(state, installed.log)}" if installed.log else installed.failed
    if installed.skipped:
        return f"not done: {installed.skipped}"
    return f"done ({installed.found_in})" if installed.name else ""
