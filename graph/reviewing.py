"""The review: another role, another conversation, the real diff."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.runtime import Runtime

from graph.errors import ContextTooLong, ModelMisbehaved
from graph.planning import follow_up, one_more_step
from graph.policies import model_of
from graph.ports import Changes, Ports
from graph.prompting import clipped, render, system
from graph.receipts import line_of
from graph.state import TaskState
from graph.talking import budget_question
from graph.values import Finding, Review, Step, Usage
from graph.working import (
    Update,
    asks,
    data,
    gives_up,
    name_of,
    paid,
    repository_of,
)

DIFFS = (120_000, 30_000)
"""Characters of the diff that are shown; the second when the model says that the first is too long."""


def review(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Blockers and majors go back as one more step, so many times; what remains is listed in the pull request."""
    ports = runtime.context
    ports.halt.check()
    if state["head"] == state["base_sha"] or state.get("finishing"):
        return {"next": "prove"}
    if state.get("heard"):
        # Said during the last step: it changes what there is to review.
        return follow_up(state)
    if question := budget_question(state, back="review"):
        return asks(state, ports, question)
    changes = ports.workspaces.changes(repository_of(state), state["base_sha"], state["head"])
    try:
        found, usage = _decide(state, ports, changes)
    except (ModelMisbehaved, ContextTooLong) as exc:
        words = f"The review gave no result. {exc}"
        return {**paid(state, ports, "review", exc.usage or Usage()), **gives_up(state, ports, words)}
    said = [": ".join(filter(None, (f.severity, f.path, f.text)))[:300] for f in found.findings]
    ports.journal.note("review", findings=len(said), said=said, round=state.get("rounds", 0) + 1)
    update: Update = {"review": found, **paid(state, ports, "review", usage)}
    serious = [finding for finding in found.findings if finding.severity in ("blocker", "major")]
    rounds = state.get("rounds", 0)
    if not serious or rounds >= ports.rules.rounds:
        return {**update, "next": "prove"}
    return {**update, **_back(state, serious), "rounds": rounds + 1, "repairs": 0, "next": "implement"}


def _decide(state: TaskState, ports: Ports, changes: Changes) -> tuple[Review, Usage]:
    """The review and what it took, tries with a longer diff included; so does the `usage` of what is raised."""
    spent = Usage()
    for limit in DIFFS:
        said = [SystemMessage(system("review")), HumanMessage(_words(state, changes, limit))]
        try:
            found, usage = ports.model.decide("review", said, Review, model=model_of(state, "review"))
        except (ModelMisbehaved, ContextTooLong) as exc:
            spent = exc.usage = spent + (exc.usage or Usage())
            if isinstance(exc, ModelMisbehaved) or limit == DIFFS[-1]:
                raise
            continue
        return found, spent + usage
    raise AssertionError(DIFFS)


def _words(state: TaskState, changes: Changes, limit: int) -> str:
    brief = state["brief"]
    return render(
        "change",
        requester=name_of(brief.requester),
        text=brief.text,
        plan=state["plan"],
        answers=[f"{name_of(a.by)} answered: {a.text}" for a in state.get("answered") or () if a.by],
        round=state.get("rounds", 0) + 1,
        earlier=[_line(f) for f in (state.get("review") or Review()).findings] if state.get("rounds") else [],
        receipts=[line_of(check) for check in state.get("receipts") or ()],
        stat=f"{changes.files} files, +{changes.added} −{changes.removed}",
        diff=data(state, clipped(changes.diff, limit)),
    )


def _back(state: TaskState, serious: list[Finding]) -> Update:
    criteria = tuple(_line(finding) for finding in serious)
    return one_more_step(state, Step(title="fix: address review findings", criteria=criteria))


def _line(finding: Finding) -> str:
    place = f"{finding.path}:{finding.line}" if finding.line else finding.path
    return f"{finding.severity}, {place or 'no path'}: {finding.text}"
