"""The check of a step: the repository's own commands decide, not the model; green becomes one commit."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from langchain_core.messages import ToolMessage
from langgraph.runtime import Runtime

from graph import commands, comparing
from graph.errors import TreeRefused
from graph.messages import pending, result_of
from graph.planning import one_more_step, step_words
from graph.policies import project_of
from graph.ports import Box, Ports
from graph.receipts import report, slim
from graph.running import run_all
from graph.serving import serve
from graph.state import TaskState
from graph.talking import AGAIN, DRAFT, STOP
from graph.touching import step_command
from graph.values import CheckResult, Choice, Command, Commit, Notice, Outcome, Question, Step, Verdict
from graph.verdicts import red
from graph.working import (
    Update,
    announced,
    asks,
    clipped_title,
    commits_of,
    data,
    installed_of,
    limit_of,
    messages_of,
    name_of,
    open_box,
    question_id,
    repository_of,
    seconds,
    spend,
)

QUICK = 10.0
"""Seconds: a suite that takes no longer is run whole at every step."""
BEARABLE = 120.0
"""Seconds: one that takes no longer is, where nobody can say which of its tests belong to a step."""

_DROPPINGS = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"})


def check(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Format, check and test what is there; commit it when it is green (or wanted as it is), else send it back."""
    ports = runtime.context
    ports.halt.check()
    box, head = open_box(state, ports), state["head"]
    if not box.changed(head) and head == state["base_sha"]:
        return _went_on(state, "Nothing has changed, so there was nothing to check and nothing to commit.", {})
    found = _commands(state, box)
    formats = run_all(ports, box, [c for c in found if c.kind == "format"], limit_of(state, ports))
    results = [_formatted(ran.command, ran.outcome) for ran in formats]
    _tidy(box, head, None)
    try:
        # Before the tests run: what they leave lying about is no part of the change.
        tree = box.export(head)
    except TreeRefused as exc:
        return _refused(state, ports, {}, "", exc)
    results = [slim(result) for result in (*results, *_verdicts(state, ports, box, found, _for_step(state, box)))]
    spent = spend(state, seconds(*(result.outcome for result in results)))
    update: Update = {"commands": found, "checks": results, "spent": spent}
    if red(results) and not state.get("finishing"):
        return _sent_back(state, ports, update, report(results))
    allow = state.get("allowed") or [] if state.get("allowed_tree") == tree.tree else []
    title = _title(state, results)
    order = len(commits_of(state)) + 1
    try:
        sha = ports.workspaces.take(
            state["brief"],
            repository_of(state),
            tree,
            [head],
            _message(state, title),
            order=order,
            allow=allow,
            protected=project_of(state).protected_paths,
        )
    except TreeRefused as exc:
        return _refused(state, ports, update, tree.tree, exc)
    box.reset(sha)
    if all(not result.command.partial for result in results) and len(results) == len(found) and not red(results):
        update["proved"] = sha
    kept = _kept(state, results) if sha == state["head"] else []
    return _committed(state, ports, {**update, "receipts": [*results, *kept]}, sha, title)


def _kept(state: TaskState, results: Sequence[CheckResult]) -> list[CheckResult]:
    """What is known of the same tree by commands that were not run this time: a red suite stays red until it ran."""
    ran = {result.command.command for result in results}
    return [result for result in state.get("receipts") or [] if result.command.command not in ran]


def _commands(state: TaskState, box: Box) -> list[Command]:
    """Those found on the base; tests that came with the change count when the base had none."""
    found = list(state.get("commands") or [])
    if any(command.kind == "test" for command in found):
        return found
    kinds = {command.kind for command in found}
    said = project_of(state).checks
    return [*found, *(command for command in commands.find(box, said) if command.kind not in kinds)]


def _formatted(command: Command, outcome: Outcome) -> CheckResult:
    """A formatter is never fatal: it has done its work, or it was not run."""
    if outcome.exit == 0:
        return CheckResult(command=command, verdict="green", outcome=outcome)
    return CheckResult(command=command, verdict="not run", outcome=outcome, reason="the formatter failed: not fatal")


def _for_step(state: TaskState, box: Box) -> Callable[[Command], Command | None]:
    """What stands for a command in a step: of a suite that takes long, the tests of what the step touched.

    None: nothing does, and the whole suite has the word before anything is published. A suite that was quick on the
    base is run whole: that finds more.
    """
    changed = box.changed(state["head"])
    template = project_of(state).checks.test_step or ""
    base = {result.command.command: result.outcome for result in state.get("baseline") or []}

    def chosen(command: Command) -> Command | None:
        outcome = base.get(command.command)
        took = outcome.seconds if outcome else 0.0
        if command.kind != "test" or (not template and took <= QUICK):
            return command
        narrowed = step_command(box, command, template, changed)
        return narrowed or (command if took <= BEARABLE else None)

    return chosen


def _verdicts(
    state: TaskState,
    ports: Ports,
    box: Box,
    found: Sequence[Command],
    chosen: Callable[[Command], Command | None] = lambda command: command,
) -> list[CheckResult]:
    """How checks and tests end with the change, against the base; `chosen` says what is run for a command."""
    base = {result.command.command: result for result in state.get("baseline") or []}
    before = box.changed(state["head"])
    wanted = [(command, now) for command in found if command.kind != "format" and (now := chosen(command)) is not None]
    tests = any(command.kind == "test" for command, _ in wanted)
    problem = serve(ports, box, project_of(state).services) if tests else ""
    installed, results = installed_of(state), []
    bare = bool(installed.failed or installed.skipped)
    for command, now in wanted:
        known = base.get(command.command)
        if problem and command.kind == "test":
            results.append(_unserved(now, known, problem))
        else:
            results += [
                comparing.judge(ran.command, known, ran.outcome, ran.reading, bare=bare)
                for ran in run_all(ports, box, [now], limit_of(state, ports))
            ]
    _tidy(box, state["head"], before)
    return results


def _unserved(command: Command, base: CheckResult | None, problem: str) -> CheckResult:
    """A service that started on the base and does not with the change is the change's doing."""
    verdict: Verdict = "not run" if base is None or base.verdict == "not run" else "red"
    return CheckResult(command=command, verdict=verdict, reason=problem)


def prove(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """The whole suite once, on the head that is about to leave, where steps ran only a part of it."""
    ports = runtime.context
    ports.halt.check()
    head = state["head"]
    suites = [command for command in state.get("commands") or [] if command.kind == "test"]
    if not suites or head == state["base_sha"] or state.get("proved") == head or state.get("finishing"):
        return {"next": "publish"}
    box = open_box(state, ports)
    results = [slim(result) for result in _verdicts(state, ports, box, suites)]
    if box.changed(head):
        box.reset(head)
    others = [result for result in state.get("receipts") or [] if result.command.kind != "test"]
    spent = spend(state, seconds(*(result.outcome for result in results)))
    update: Update = {"receipts": [*others, *results], "checks": [*others, *results], "spent": spent}
    proofs = state.get("proofs", 0)
    if not red(results):
        return {**update, "proved": head, "proofs": 0, "next": "publish"}
    if proofs >= ports.rules.repairs:
        return {**update, "proofs": 0, "next": "publish"}
    step = Step(title="fix: make the whole suite green", criteria=("the whole test suite is green",))
    said = f"The whole suite was run, and it is red:\n{data(state, report(results))}"
    back = one_more_step(state, step, said)
    return {**update, **back, "proofs": proofs + 1, "phase": "implement", "repairs": 0, "next": "implement"}


def _tidy(box: Box, head: str, before: Sequence[str] | None) -> None:
    """Take away what tests and interpreters left: caches that are not ignored, and what was not there `before`."""
    left = [
        path
        for path in box.changed(head)
        if _DROPPINGS & set(path.split("/")) or (before is not None and path not in before)
    ]
    for start in range(0, len(left), 200):
        names = " ".join(shlex.quote(f"./{path}") for path in left[start : start + 200])
        script = f'for p in {names}; do git checkout -q {head} -- "$p" 2>/dev/null || rm -rf -- "$p"; done'
        box.run(script)


def _title(state: TaskState, results: Sequence[CheckResult]) -> str:
    plan, step = state["plan"], state.get("step", 0)
    title = plan.steps[step].title if step < len(plan.steps) else plan.title
    return clipped_title(f"wip: {title}" if red(results) else title)


def _message(state: TaskState, title: str) -> str:
    """A conventional title, what the step is about, and trailers that lead back to the task."""
    plan, step = state["plan"], state.get("step", 0)
    detail = plan.steps[step].detail.strip() if step < len(plan.steps) else ""
    trailers = [
        f"Task-Id: {state['brief'].id}",
        f"Step: {step + 1}",
        f"Requested-by: {name_of(state['brief'].requester)}",
    ]
    return "\n\n".join(part for part in (title, detail, "\n".join(trailers)) if part) + "\n"


def _results(state: TaskState, text: str) -> list[ToolMessage]:
    waiting = pending(messages_of(state))
    return [result_of(waiting[0], call, text) for call in waiting[1]] if waiting else []


def _sent_back(state: TaskState, ports: Ports, update: Update, problem: str) -> Update:
    """Red: the model repairs it, so many times; then a person is asked."""
    repairs = state.get("repairs", 0)
    if repairs < ports.rules.repairs:
        text = f"Not committed. Repair the cause, then call step_done again.\n{data(state, problem)}"
        return {**update, "messages": _results(state, text), "repairs": repairs + 1, "next": "implement"}
    plan, step = state["plan"], state.get("step", 0)
    title = plan.steps[step].title if step < len(plan.steps) else plan.title
    first = problem.partition("\n")[0]
    text = f"I am stuck at step {step + 1} ({title}): still red after {repairs} repairs. {first}"
    ask = "What shall I do? A hint counts as an answer too."
    choice = Choice(question=ask, suggestions=(AGAIN, DRAFT, STOP))
    question = Question(id=question_id(state), kind="stuck", text=f"{text}\n{ask}", choices=(choice,), back="implement")
    return {**update, **asks(state, ports, question)}


def _refused(state: TaskState, ports: Ports, update: Update, tree: str, exc: TreeRefused) -> Update:
    """The tree may not become a commit: a person allows protected paths, for this tree; all else is to be mended."""
    ports.journal.note("refused", reason=str(exc))
    if state.get("finishing"):
        notice = Notice(id=f"refused-{tree or state['head']}", text=f"I left out what was not committed yet: {exc}")
        return _went_on(state, f"Left out: {exc}", {**update, "notices": [notice]})
    if not exc.protected:
        return _sent_back(state, ports, update, str(exc))
    paths = ", ".join(f"`{path}`" for path in exc.paths)
    text = f"The change touches protected paths: {paths}. May it?"
    choice = Choice(question="May these files change?", suggestions=("Yes", "No"))
    question = Question(id=question_id(state), kind="protected", text=text, choices=(choice,), back="check")
    # The question mark: nobody has said yes yet.
    asked: Update = {"allowed": list(exc.paths), "allowed_tree": f"?{tree}"}
    return {**update, **asked, **asks(state, ports, question)}


def _committed(state: TaskState, ports: Ports, update: Update, sha: str, title: str) -> Update:
    done: Update = {**update, "head": sha, "wip": "", "allowed": [], "allowed_tree": ""}
    if sha == state["head"]:
        return _went_on(state, "The checks are green; nothing new to commit.", done)
    step = state.get("step", 0) + 1
    commit = Commit(sha=sha, title=title, step=step)
    ports.journal.note("commit", sha=sha, title=title, step=step)
    return _went_on(state, f"committed {sha[:7]}", {**done, "commits": [*commits_of(state), commit]})


def _went_on(state: TaskState, text: str, update: Update) -> Update:
    """The step is over: the next one, or the review; or the end, when a person asked to wrap up."""
    results = _results(state, text)
    if state.get("finishing"):
        return {**update, "messages": results, "next": "publish"}
    step, steps = state.get("step", 0) + 1, len(state["plan"].steps)
    on: Update = {**update, "step": step, "repairs": 0}
    if step >= steps:
        return {**on, "messages": results, "next": "review"}
    words = announced(state, step_words(state["plan"], step), len(results))
    return {**on, "messages": [*results, words], "next": "implement"}
