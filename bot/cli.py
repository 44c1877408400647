"""What the command line knows of tasks: exit codes, which task is meant, and what is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bot.chat import Ask, Desk, Place, Receipt, TaskView
from bot.commands import OPTIONS, TASK, Verb, VerbHelp, help_text, parse, with_options
from bot.text import neutralise, one_line

OK, FAILED, USAGE, QUESTION, NOTHING = 0, 1, 2, 3, 4
"""Exit codes: as promised; failed or stopped; bad usage; stopped at a question; there was nothing to change."""

ENDED = frozenset({"stopped", "failed", "done"})
LOOKING = frozenset({"status", "plan", "diff", "logs", "cost"})
"""Verbs that may mean a task that has ended."""

_OF_FINAL = {"done": OK, "answered": OK, "nothing to do": NOTHING}
"""Of a task that is done. One whose last words are "needs you" has failed: it can be retried."""
_OF_STATUS = {"stopped": FAILED, "failed": FAILED, "done": OK, "asking": QUESTION, "parked": QUESTION}


NO_WORKER = "No worker is running. It is stored, and happens once a worker runs: `threadwright up` starts them."


class BadUsage(Exception):
    """The command line cannot be obeyed as it stands. `str` is the sentence."""


class CannotGoOn(Exception):
    """What was asked for cannot be waited for any longer. `str` is the sentence."""


def exit_code(data: Mapping[str, Any], approve: bool) -> int | None:
    """The exit code that a task's `TaskView.data` stands for now; None while there is something to wait for.

    Without `approve` an open pull request is enough; with it, what the policy (`on_approval`) promises has to happen.
    """
    status = data.get("status")
    if status in ENDED:
        # A retry leaves the old end in the record: it counts only together with the status.
        final = data.get("final") or {}
        return _OF_FINAL.get(final.get("kind", ""), FAILED) if final and status == "done" else _OF_STATUS[str(status)]
    pull = data.get("pull_request") or {}
    if status == "watching" and pull:
        if pull.get("state") == "closed":
            return FAILED
        return OK if not approve or _promise_kept(data, pull) else None
    return _OF_STATUS.get(str(status))


def _promise_kept(data: Mapping[str, Any], pull: Mapping[str, Any]) -> bool:
    if pull.get("state") == "merged":
        return True
    match data.get("on_approval", "ready"):
        case "merge":
            return False
        case "review":
            return any(approval.get("sha") == pull.get("head") for approval in data.get("approvals") or ())
    return not pull.get("draft", True)


def status_of(view: TaskView | None) -> str:
    return view.status if view else ""


def asks_of(data: Mapping[str, Any]) -> tuple[Ask, ...]:
    """The open question's parts."""
    choices = (data.get("question") or {}).get("choices") or ()
    return tuple(Ask(c["question"], tuple(c.get("suggestions") or ()), c.get("assumption") or "") for c in choices)


def places_of(data: Mapping[str, Any]) -> tuple[Place, ...]:
    """The places of a task: written as keys (`platform/workspace/channel/thread`)."""
    return tuple(Place(*(str(key).split("/", 3) + [""] * 4)[:4]) for key in data.get("places") or ())


def pick_task(desk: Desk, given: str, verb: str = "") -> TaskView:
    """The task that is meant: the one named, else the only open one. Raises BadUsage."""
    if given:
        found = desk.task(given.lower()) if TASK.fullmatch(given) else None
        if found is None:
            raise BadUsage(f"I know no task {one_line(given, 40)}. `threadwright list` shows them.")
        return found
    views = list(desk.tasks())
    wanted = [v for v in views if (v.status in ("failed", "stopped") if verb == "retry" else v.status not in ENDED)]
    if not wanted and verb in LOOKING:
        wanted = views[:1]
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        kind = "failed or stopped" if verb == "retry" else "open"
        raise BadUsage(f"There is no {kind} task. Name one, as in `threadwright {verb or 'status'} tw-k3f9m`.")
    raise BadUsage(f"Which task do you mean? {', '.join(v.id for v in wanted[:10])}")


def repository(text: str) -> str:
    """A path becomes absolute, for the worker runs elsewhere; names and URLs stay."""
    if text.startswith(("/", "./", "../", "~")) or text in (".", "..") or (text and Path(text).is_dir()):
        return str(Path(text).expanduser().absolute())
    return text


def options(repo: str, branch: str, model: str, plan: str, budget: str, minutes: str) -> dict[str, str]:
    """Options of the command line as those of a message. Raises BadOption."""
    values = (repository(repo), branch, model, plan, budget, minutes)
    given = {option.name: value for option, value in zip(OPTIONS, values, strict=True) if value}
    parse(with_options("a task", given), local=True)
    return given


@dataclass(frozen=True)
class Order:
    """A verb of the command line: its own arguments, and the task that is named."""

    verb: VerbHelp
    arguments: tuple[str, ...]
    task: str

    @property
    def needs_task(self) -> bool:
        """Whether it means the only open task when none is named. What is about a place means that task's place."""
        return self.verb.name not in ("list", "settings") and (self.verb.name != "repo" or bool(self.arguments))

    def text(self, task: str) -> str:
        """The verb as a message, about `task` where it takes one."""
        return " ".join((self.verb.name, *self.arguments, *((task,) if task and self.verb.about_task else ())))


def arguments_of(verb: VerbHelp) -> str:
    """What a verb takes on the command line: there, also those about a place take a task, and mean its place."""
    if verb.name == "help":
        return ""
    return " ".join(filter(None, (verb.arguments.replace("[task]", ""), "" if verb.name == "list" else "[TASK]")))


def read_order(verb: VerbHelp, words: Sequence[str]) -> Order:
    """Raises BadUsage."""
    named = next((word for word in words if TASK.fullmatch(word)), "")
    rest = [word for word in words if word != named]
    if "owner/name" in verb.arguments:
        rest = [repository(word) for word in rest]
    order = Order(verb, tuple(rest), named.lower())
    if not isinstance(parse(order.text(""), local=True), Verb):
        raise BadUsage(f"Usage: threadwright {verb.name} {arguments_of(verb)}".strip())
    return order


# What the verbs print


def said(verb: str, task: str, receipt: Receipt) -> dict[str, Any]:
    """A verb's answer for `--json`."""
    name, content = receipt.file or ("", "")
    text = receipt.reply or receipt.whisper
    return {"verb": verb, "task": receipt.task or task, "text": text, "file": name, "content": content}


class Part(Protocol):
    """One part of the machine, as `doctor` found it."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def detail(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def needed(self) -> bool: ...


@dataclass(frozen=True)
class Found:
    """A `Part` that this side found itself."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True


def question_text(view: TaskView) -> str:
    """How to answer a task that stopped at a question."""
    lines = [f"{view.id} waits for an answer. Give it with:", f'  threadwright answer {view.id} "…"']
    if any(ask.suggestions for ask in asks_of(view.data)):
        lines.append("The number of a suggestion is an answer.")
    return "\n".join(lines)


def leaving_text(view: TaskView | None, *, workers: bool) -> str:
    """What is said when the person leaves the conversation. `workers`: somebody goes on working."""
    if view is None or view.status in ENDED:
        return ""
    if view.status == "running":
        now = "goes on" if workers else "waits as it is, since no worker is left; `threadwright up` lets it go on"
    else:
        now = f"stays as it is ({one_line(view.state, 80)})"
    return f"{view.id} {now}. Come back with `threadwright chat --task {view.id}`."


def doctor_text(parts: Sequence[Part]) -> str:
    """A line for each part; what to do under those that do not work."""
    lines = []
    for part in parts:
        mark = "ok" if part.ok else "FAILS" if part.needed else "off"
        lines.append(f"{mark:<6} {one_line(part.name, 40)}: {one_line(part.detail, 500)}")
        if not part.ok and part.remedy:
            lines.append(textwrap.indent(neutralise(part.remedy), " " * 7))
    return "\n".join(lines)


def cli_help() -> str:
    """The verb `help` in the terminal."""
    return (
        f"{help_text()}\n\n"
        "In the terminal each verb is a command too, as in `threadwright status tw-k3f9m`; "
        "`threadwright answer tw-k3f9m 2` answers a question. "
        "In `threadwright chat` there are also `/react ✅`, `/react ❌`, `/react 🛑` and `/quit`, "
        "and `2` picks the second suggested answer; where several questions are asked, `1: 2; 2: 1`."
    )
