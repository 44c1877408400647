"""What people read, in one voice: plain, short, first person. Pure functions from a task's state to cards and replies.

Each reply has a key that follows from the state alone, so that the same state never says a thing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bot.chat import Ask, Author, Card, CardStep, Reply
from graph.policies import on_approval_of
from graph.values import (
    Brief,
    CheckResult,
    Final,
    Limits,
    Notice,
    OnApproval,
    Person,
    PullRequest,
    Question,
    Usage,
)
from graph.verdicts import fewer_tests, not_run_words, waits_for_checks

if TYPE_CHECKING:
    from graph.state import TaskState

SHORT = 7
"""Characters of a commit id that people see."""


@dataclass(frozen=True)
class Post:
    key: str
    reply: Reply


def title_of(text: str, limit: int = 72) -> str:
    """The first line of a task's words, for lists and cards."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "") or "(no words)"
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def as_author(person: Person) -> Author:
    return Author(id=person.id, name=person.name or person.id)


def money(usage: Usage, limits: Limits) -> str:
    """What was spent of the cap: in dollars where prices are known, in tokens where they are not."""
    if not usage.calls:
        return f"nothing spent yet of {dollars(limits.usd)} or {limits.tokens:,} tokens, {limits.calls} model calls"
    parts = []
    if usage.usd or not usage.unpriced_tokens:
        parts.append(f"{dollars(usage.usd)} of {dollars(limits.usd)}")
    if usage.unpriced_tokens:
        about = "about " if usage.estimated else ""
        parts.append(f"{about}{usage.unpriced_tokens:,} of {limits.tokens:,} tokens (price unknown)")
    return ", ".join(parts) + f", {usage.calls} of {limits.calls} model calls"


def dollars(amount: float) -> str:
    """Cents, and as many more digits as a small amount needs to be seen at all."""
    return f"${amount:.2f}" if amount == 0 or amount >= 0.01 else f"${amount:.2g}"


def duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def receipt(check: CheckResult) -> str:
    """One line of a receipt: from what was recorded, never from what the model said."""
    outcome = check.outcome
    if outcome is None:
        return f"- `{check.command.command}`: {check.verdict}" + (f" ({check.reason})" if check.reason else "")
    end = f"exit {outcome.exit}" if outcome.exit is not None else outcome.ended
    line = f"- `{check.command.command}`: {check.verdict}, {end}, {duration(outcome.seconds)}"
    return line + (f" ({check.reason})" if check.reason and check.verdict != "green" else "")


def receipts(checks: Sequence[CheckResult]) -> str:
    if not checks:
        return "No checks were run: I found no format, check or test command in this repository."
    lines = ["Receipts:", *(receipt(check) for check in checks)]
    if not any(check.command.kind == "test" for check in checks):
        lines.append("- no test command was found, so no tests were run")
    if now := sorted({name for check in checks for name in check.newly_passing}):
        lines.append(f"- failed before and passes now: {', '.join(now[:10])}" + (" …" if len(now) > 10 else ""))
    old = sorted({name for check in checks for name in check.old_failures})
    if old:
        lines.append(f"- failed before and fails still: {', '.join(old[:10])}" + (" …" if len(old) > 10 else ""))
    return "\n".join(lines)


def tests_told(state: TaskState, checks: Sequence[CheckResult]) -> list[str]:
    """What there is to say of checks besides their receipts: not run, only in part, fewer than before."""
    said = not_run_words(checks, state.get("pull_request"))
    if any(check.command.partial for check in checks):
        said.append("Only the tests of what was touched were run, not the whole suite.")
    return [*said, *fewer_tests(checks)]


def invitation(policy: OnApproval, pull: PullRequest, checks: Sequence[CheckResult]) -> str:
    """What ✅ will do, for exactly this commit."""
    head = pull.head[:SHORT]
    tested = any(c.command.kind == "test" and c.verdict == "green" for c in checks)
    untested = "" if tested else " (not tested)"
    if policy == "merge":
        when = " once checks are green" if pull.has_checks else ""
        return f"React ✅ to merge `{head}` into `{pull.base}`{when}{untested}."
    if policy == "review":
        return f"React ✅ to approve #{pull.number} at `{head}`{untested}."
    return f"React ✅ to mark #{pull.number} ready for review at `{head}`{untested}."


def result(state: TaskState, warning: str = "") -> Post | None:
    """The message that names one commit for ever, while it waits for approval or after."""
    pull, brief = state.get("pull_request"), state["brief"]
    if pull is None:
        return None
    plan = state.get("plan")
    checks = state.get("receipts") or state.get("checks") or []
    commits = state.get("commits") or []
    parts = [f"**{pull.title}**: [#{pull.number}]({pull.url})" + (" (draft)" if pull.draft else "")]
    if plan and plan.summary:
        parts.append(plan.summary)
    if state.get("diffstat"):
        parts.append(str(state["diffstat"]) + f" in {len(commits)} {'commit' if len(commits) == 1 else 'commits'}.")
    parts.append(receipts(checks))
    parts += tests_told(state, checks)
    if state.get("assumptions"):
        parts.append("Assumptions:\n" + "\n".join(f"- {a}" for a in state["assumptions"]))
    findings = list(state["review"].findings) if state.get("review") else []
    if findings:
        parts.append(
            "Review notes:\n" + "\n".join(f"- {f.severity}: {f.path} {f.text}".replace(":  ", ": ") for f in findings)
        )
    if state.get("finishing"):
        missing = [step.title for step in plan.steps[state.get("step", 0) :]] if plan else []
        parts.append("\n".join(["I wrapped up early, as asked. Not finished:", *(f"- {title}" for title in missing)]))
    parts.append("Cost: " + money(state.get("spent") or Usage(), state.get("granted") or brief.limits) + ".")
    if warning:
        parts.append(warning)
    parts.append(outlook(state, pull, checks))
    reply = Reply(kind="result", text="\n\n".join(parts), mentions=(as_author(brief.requester),), sha=pull.head)
    return Post(f"result-{pull.head[:12]}", reply)


def outlook(state: TaskState, pull: PullRequest, checks: Sequence[CheckResult]) -> str:
    """The last line of a result: what ✅ does, or what it has done."""
    if pull.state == "merged":
        by = next((a.by.name for a in reversed(state.get("approvals") or ()) if a.sha == pull.head), "")
        who = f", approved by {by}" if by else ""
        return f"Merged `{pull.head[:SHORT]}` into `{pull.base}` as `{pull.merge_commit[:SHORT]}`{who}."
    if pull.state == "closed":
        return f"#{pull.number} was closed without a merge."
    if not pull.draft and any(a.sha == pull.head for a in state.get("approvals") or ()):
        by = next(a.by.name for a in reversed(state["approvals"]) if a.sha == pull.head)
        return f"Approved by {by} at `{pull.head[:SHORT]}`: #{pull.number} is ready for review."
    return waits_for_checks(pull, checks) or invitation(on_approval_of(state), pull, checks)


def replaced(old_sha: str, new_sha: str) -> Reply:
    return Reply(kind="result", text=f"`{old_sha[:SHORT]}` was replaced by `{new_sha[:SHORT]}` below.", sha=old_sha)


def question(q: Question, brief: Brief, answer_hint: str = "") -> Post:
    lines = [q.text.strip()]
    for number, choice in enumerate(q.choices, 1):
        head = f"{number}. {choice.question}" if len(q.choices) > 1 else choice.question
        if head.strip() and head.strip() != q.text.strip():
            lines.append(head)
        lines += [f"   {i}. {s}" for i, s in enumerate(choice.suggestions, 1)]
        if choice.assumption:
            lines.append(f"   If nobody answers, I assume: {choice.assumption}")
    if answer_hint:
        lines.append(answer_hint)
    asks = tuple(Ask(c.question, c.suggestions, c.assumption) for c in q.choices)
    return Post(
        f"question-{q.id}",
        Reply(kind="question", text="\n".join(lines), mentions=(as_author(brief.requester),), asks=asks, question=q.id),
    )


def reminder(q: Mapping[str, Any], requester: Author) -> Post:
    text = f"I am still waiting for an answer: {title_of(str(q.get('text', '')), 200)}"
    return Post(f"reminder-{q.get('id')}", Reply(kind="notice", text=text, mentions=(requester,)))


def final(task: str, end: Final, brief: Brief | None, times: int = 0, warning: str = "") -> Post:
    """The one last message. `times`: how often the task had ended before (a retry ends anew)."""
    text = end.text
    if end.error:
        text += f"\nError id {end.error}: `logs {task}` shows the details."
    if warning and end.kind in ("done", "needs you"):
        text += f"\n\n{warning}"
    mentions = (as_author(brief.requester),) if brief else ()
    return Post(f"final-{times}", Reply(kind="final", text=text, mentions=mentions))


def notice(item: Notice, brief: Brief) -> Post:
    return Post(f"notice-{item.id}", Reply(kind="notice", text=item.text, mentions=(as_author(brief.requester),)))


def too_late(task: str, entry: str, text: str) -> Post:
    said = title_of(text, 80)
    text = f"`{task}` had ended before I read “{said}”. Say it again to start a new task."
    return Post(f"late-{entry}", Reply(kind="notice", text=text))


def model_away(since: float, every: float) -> str:
    """For the card, while a task waits for the model without a worker."""
    at = datetime.fromtimestamp(since, UTC)
    return f"The model has not answered since {at:%H:%M} UTC. I try again every {duration(every)}; nothing is lost."


def stopping(task: str, by: str) -> Final:
    """For a task that nobody works on: a worker puts what there is on the branch, and then says so."""
    who = f" by {by}" if by else ""
    text = f"Stopped{who}. What was done goes to the branch `threadwright/{task}`. `retry {task}` goes on from there."
    return Final(kind="stopped", text=text)


def stopped(task: str, by: str, kept: str) -> Final:
    """`kept`: the commit that is on the branch now; empty when there was nothing to keep."""
    who = f" by {by}" if by else ""
    branch = f"threadwright/{task}"
    work = f"The work so far is on the branch `{branch}` at `{kept[:SHORT]}`." if kept else "There was nothing to keep."
    return Final(kind="stopped", text=f"Stopped{who}. {work} `retry {task}` goes on from there.")


def failed(task: str, reason: str, error: str, kept: str = "") -> Final:
    work = f" The work so far is on the branch `threadwright/{task}` at `{kept[:SHORT]}`." if kept else ""
    text = f"I could not go on: {reason}{work} `retry {task}` tries again from the last good step."
    return Final(kind="failed", text=text, error=error)


STATE_WORDS = {
    "running": "working",
    "watching": "waiting for approval",
    "paused": "paused",
    "backing off": "waiting for the model",
    "parked": "parked: an answer wakes it",
    "stopped": "stopped",
    "failed": "failed",
    "done": "done",
}


def step_line(state: TaskState) -> str:
    plan, step = state.get("plan"), state.get("step", 0)
    if plan is None:
        return ""
    number = min(step + 1, len(plan.steps))
    return f"{number} of {len(plan.steps)}: {plan.steps[number - 1].title}"


def card_steps(state: TaskState, *, live: bool) -> tuple[CardStep, ...]:
    plan, step = state.get("plan"), state.get("step", 0)
    if plan is None:
        return ()
    marks = []
    for number, item in enumerate(plan.steps):
        if number < step:
            marks.append(CardStep(item.title, "done"))
        elif number == step and live:
            marks.append(CardStep(item.title, "running"))
        else:
            marks.append(CardStep(item.title, "waiting"))
    return tuple(marks)


def card(state: TaskState, status: str, since: datetime, words: str = "") -> Card:
    """`words`: state in words when the status alone does not say it ("asking Ann")."""
    brief = state["brief"]
    repository = state.get("repository") or brief.repository
    plan, pull = state.get("plan"), state.get("pull_request")
    notes = []
    if "commands" in state and not any(c.kind == "test" for c in state["commands"]):
        notes.append("I found no test command in this repository.")
    notes += not_run_words(state.get("baseline") or [], None)
    if pull:
        notes.append(f"Pull request #{pull.number}: {pull.url}")
    return Card(
        task=brief.id,
        title=plan.title if plan else title_of(brief.text),
        state=words or STATE_WORDS.get(status, status),
        since=since,
        requester=brief.requester.name,
        repository=repository.name if repository else "",
        base=repository.base if repository else "",
        rule=repository.rule if repository else "",
        steps=card_steps(state, live=status == "running"),
        spent=money(state.get("spent") or Usage(), state.get("granted") or brief.limits),
        notes=tuple(notes),
        final=status in ("done", "failed", "stopped"),
    )
