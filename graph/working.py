"""What all nodes share: the box of the task, money and time spent, the end of a task, keeping unfinished work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage

from graph.errors import PushRefused, SandboxFailed, TreeRefused
from graph.installing import install
from graph.policies import project_of
from graph.ports import Box, Ports, Workspace
from graph.prompting import fenced
from graph.state import TaskState
from graph.values import (
    Command,
    Commit,
    Final,
    Heard,
    Installed,
    Limits,
    Outcome,
    Person,
    Question,
    Repository,
    Taken,
    Usage,
)

Update = dict[str, Any]
"""What a node returns: new values of the state."""

OWN = "task/"
"""Begins the name of what was installed for one task alone."""

END = "end"
"""In `next`: the task is over."""


def branch_of(task: str) -> str:
    return f"threadwright/{task}"


def name_of(person: Person | None) -> str:
    return " ".join((person.name or person.id).split()) if person else "Nobody"


def open_box(state: TaskState, ports: Ports) -> Box:
    """The task's box, with what was installed; a lost checkout is made anew from what was kept last.

    So is what was installed, when another machine had it. Raises SandboxFailed.
    """
    workspace, installed = workspace_of(state, ports, _newest(state)), installed_of(state)
    if installed.name:
        if not ports.installs.has(installed.name):
            _install_again(state, ports, workspace, installed)
        workspace = replace(workspace, deps=ports.installs.place(installed.name))
    return ports.sandbox.open(workspace)


def _install_again(state: TaskState, ports: Ports, workspace: Workspace, installed: Installed) -> None:
    if not installed.name.startswith(OWN):
        # What others share comes of the base alone.
        workspace = replace(workspace, commit=state["base_sha"])
    done = install(ports, workspace, installed, installed.name, seconds_for_setup(state, ports))
    if done.failed:
        raise SandboxFailed(f"What had been installed is gone from this machine: {done.failed}")


def seconds_for_setup(state: TaskState, ports: Ports) -> float:
    return project_of(state).limits.setup_timeout or ports.rules.setup_seconds


def bare_box(state: TaskState, ports: Ports) -> Box:
    """The task's box, without anything that a set-up installed."""
    return ports.sandbox.open(workspace_of(state, ports, _newest(state)))


def workspace_of(state: TaskState, ports: Ports, commit: str) -> Workspace:
    workspace = ports.workspaces.workspace(state["brief"].id, repository_of(state), commit)
    return replace(workspace, image=project_of(state).image)


def installed_of(state: TaskState) -> Installed:
    return state.get("installed") or Installed()


def _newest(state: TaskState) -> str:
    """What is kept on top of the head, if anything is; what was kept on top of an earlier head is over."""
    head, _, wip = state.get("wip", "").partition(" ")
    return wip if wip and head == state["head"] else state["head"]


def repository_of(state: TaskState) -> Repository:
    return state["repository"]


def limit_of(state: TaskState, ports: Ports) -> Callable[[Command], float]:
    """Seconds that a command of the repository may take."""
    limits, rules = project_of(state).limits, ports.rules
    test = limits.test_timeout or rules.test_seconds
    other = limits.command_timeout or rules.command_seconds
    return lambda command: test if command.kind == "test" else other


def messages_of(state: TaskState) -> list[AnyMessage]:
    return state.get("messages") or []


def commits_of(state: TaskState) -> list[Commit]:
    return state.get("commits") or []


def next_id(state: TaskState, offset: int = 0) -> str:
    """Id of the message that comes next. By its place, so that a node that runs twice does not double it."""
    return f"{state['brief'].id}:m{len(messages_of(state)) + offset}"


def announced(state: TaskState, text: str, offset: int = 0) -> HumanMessage:
    return HumanMessage(text, id=next_id(state, offset))


def taken_in(state: TaskState) -> tuple[list[HumanMessage], Update]:
    """Words that were said meanwhile, as messages; and the update that takes them out of `heard`."""
    heard = state.get("heard") or []
    if not heard:
        return [], {}
    known = {message.id for message in messages_of(state)}
    new = [_said(state, item) for item in heard if item.id not in known]
    return new, {"heard": [Taken(ids=tuple(item.id for item in heard))]}


def _said(state: TaskState, item: Heard) -> HumanMessage:
    role = " (the requester)" if item.author.id == state["brief"].requester.id else ""
    note = f", {item.note}" if item.note else ""
    return HumanMessage(f"{name_of(item.author)}{role} says{note}:\n{item.text}", id=item.id)


def spend(state: TaskState, usage: Usage) -> Usage:
    return (state.get("spent") or Usage()) + usage


def seconds(*outcomes: Outcome | None) -> Usage:
    return Usage(seconds=sum(outcome.seconds for outcome in outcomes if outcome))


def granted_of(state: TaskState) -> Limits:
    return state.get("granted") or state["brief"].limits


def note_call(ports: Ports, role: str, usage: Usage) -> None:
    ports.journal.note(
        "model",
        role=role,
        calls=usage.calls,
        input=usage.input_tokens,
        cached=usage.cached_tokens,
        output=usage.output_tokens,
        usd=round(usage.usd, 6),
        seconds=round(usage.seconds, 3),
        estimated=usage.estimated,
    )


def paid(state: TaskState, ports: Ports, role: str, usage: Usage) -> Update:
    """Model calls noted and counted, also those that gave nothing usable."""
    note_call(ports, role, usage)
    return {"spent": spend(state, usage)}


def data(state: TaskState, text: str) -> str:
    return fenced(state["brief"].id, text)


def asks(state: TaskState, ports: Ports, question: Question) -> Update:
    """Ask people, and keep the unfinished work first: nobody knows on which machine the answer is taken."""
    update: Update = {"question": question, "next": "ask"}
    if state.get("phase") != "implement":
        return update
    try:
        return {**update, "wip": f"{state['head']} {keep(state, ports, open_box(state, ports))}"}
    except TreeRefused as exc:
        ports.journal.note("not kept", reason=str(exc))
        return update


def question_id(state: TaskState) -> str:
    """A new one for each question: late answers and buttons name it."""
    return f"q{len(state.get('answered') or []) + 1}"


def over(final: Final) -> Update:
    return {"final": final, "next": END}


def save_work(state: TaskState, ports: Ports) -> str:
    """Keep what is in the checkout as a commit on the task's branch; its SHA, or "" if there is nothing to keep.

    Raises TreeRefused, PushRefused. The same work gives the same commit.
    """
    if not state.get("head"):
        return ""
    # While planning, the tree is nobody's work: what is in it is thrown away.
    planning = state.get("phase") != "implement"
    sha = state["head"] if planning else keep(state, ports, open_box(state, ports))
    if sha == state["base_sha"]:
        return ""
    ports.workspaces.push(repository_of(state), sha, branch_of(state["brief"].id))
    ports.journal.note("push", sha=sha, branch=branch_of(state["brief"].id))
    return sha


def keep(state: TaskState, ports: Ports, box: Box) -> str:
    """The checkout as a commit on top of the head, in the mirror only; the head itself if nothing differs.

    Raises TreeRefused.
    """
    title = wip_title(state)
    message = f"{title}\n\nUnfinished work.\n\nTask-Id: {state['brief'].id}\n"
    head = state["head"]
    order = len(commits_of(state)) + 1
    return ports.workspaces.take(
        state["brief"],
        repository_of(state),
        box.export(head),
        [head],
        message,
        order=order,
        protected=project_of(state).protected_paths,
    )


def wip_title(state: TaskState) -> str:
    plan, step = state.get("plan"), state.get("step", 0)
    title = plan.steps[step].title if plan and step < len(plan.steps) else "unfinished work"
    return clipped_title(f"wip: {title}")


def clipped_title(title: str) -> str:
    line = " ".join(title.split())
    return line if len(line) <= 72 else line[:71].rstrip() + "…"


def kept(state: TaskState, ports: Ports) -> tuple[str, Update]:
    """Save the work and say in a sentence what was kept; and the update that a later `retry` goes on from."""
    task = state["brief"].id
    try:
        sha = save_work(state, ports)
    except (TreeRefused, PushRefused) as exc:
        return f"The work so far could not be put on the branch: {exc}", {}
    if not sha:
        return "Nothing had been changed.", {}
    words = f"The work so far is on the branch `{branch_of(task)}` at `{sha[:7]}`."
    if sha == state["head"]:
        return words, {}
    commit = Commit(sha=sha, title=wip_title(state), step=0)
    return words, {"head": sha, "wip": "", "commits": [*commits_of(state), commit]}


def gives_up(state: TaskState, ports: Ports, reason: str) -> Update:
    """The task fails, in plain words: why, what was kept, what to do."""
    words, update = kept(state, ports)
    text = f"{reason} {words} `retry {state['brief'].id}` tries again from there."
    return {**update, **over(Final(kind="failed", text=text))}


def stops(state: TaskState, ports: Ports, by: Person | None) -> Update:
    words, update = kept(state, ports)
    who = f" for {name_of(by)}" if by else ""
    text = f"I stopped{who}. {words} `retry {state['brief'].id}` goes on from there."
    return {**update, **over(Final(kind="stopped", text=text))}
