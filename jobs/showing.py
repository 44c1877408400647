"""What a turn shows of a task while it goes: facts for the verbs, the card, questions and results. All fenced."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bot.chat import Card
from graph.policies import on_approval_of, second_person_of
from graph.state import TaskState
from graph.values import CheckResult, Question, Usage
from graph.verdicts import waits_for_checks
from jobs import wording
from jobs.outbox import Outbox
from jobs.tasks import Lease, Tasks, utc
from jobs.wording import Post

DIFF_KEPT = 200_000
"""Characters of the diff that are kept for the verb."""


class Show:
    def __init__(
        self,
        tasks: Tasks,
        outbox: Outbox,
        lease: Lease,
        now: Callable[[], float],
        warning: str,
        diff: Callable[[TaskState], str],
    ) -> None:
        """`diff`: the changes of a state so far, redacted; asked for when its head has moved."""
        self._diff = diff
        self._head = ""
        self._tasks = tasks
        self._outbox = outbox
        self._lease = lease
        self._now = now
        self._warning = warning
        self._facts = ""
        self._card: Card | None = None
        self.state: TaskState = {}

    def progress(self, state: TaskState) -> None:
        """After each checkpoint. Writes only what is new."""
        self.state = state
        if not state.get("brief"):
            return
        facts = json.dumps(facts_of(state), sort_keys=True)
        if facts != self._facts:
            self._tasks.write(self._lease, view=facts)
            self._facts = facts
        self._keep_diff(state)
        for notice in state.get("notices") or ():
            self._say(wording.notice(notice, state["brief"]))
        self.card("running")

    def _keep_diff(self, state: TaskState) -> None:
        """For the verb `diff`, which works without a worker and without git."""
        head = state.get("head", "")
        if head and head != self._head and state.get("commits"):
            diff = self._diff(state)
            if diff:
                cut = diff if len(diff) <= DIFF_KEPT else diff[:DIFF_KEPT] + "\n… cut here; the branch has all of it"
                self._tasks.write(self._lease, diff=cut)
        self._head = head

    def card(self, status: str, words: str = "") -> None:
        """Edited when a step or a state changes; never for money or the clock alone."""
        if not self.state.get("brief"):
            return
        card = wording.card(self.state, status, utc(self._now()), words)
        if self._card and replace(card, since=self._card.since, spent=self._card.spent) == self._card:
            return
        self._card = card
        self._outbox.show(self._lease.task, card, lease=self._lease)

    def question(self, question: Question) -> None:
        self._say(wording.question(question, self.state["brief"]))

    def result(self, state: TaskState) -> None:
        """Say the result of this head, or bring it up to date; older results say that they were replaced."""
        post = wording.result(state, self._warning)
        if post is None:
            return
        task = self._lease.task
        for key in self._outbox.keys(task):
            if key.startswith("result-") and key != post.key:
                old = self._outbox.said(task, key)
                if old:
                    self._outbox.amend(task, Post(key, wording.replaced(old.sha, post.reply.sha)), lease=self._lease)
        if not self._say(post):
            self._outbox.amend(task, post, lease=self._lease)

    def _say(self, post: Post) -> bool:
        return self._outbox.say(self._lease.task, post, lease=self._lease)


def facts_of(state: TaskState) -> dict[str, Any]:
    """What `status --json` and the verbs read: plain data."""
    brief, plan, pull = state["brief"], state.get("plan"), state.get("pull_request")
    repository = state.get("repository") or brief.repository
    spent = state.get("spent") or Usage()
    return {
        "title": plan.title if plan else wording.title_of(brief.text),
        "repository": repository.name if repository else "",
        "step": wording.step_line(state),
        "steps": [{"title": s.title, "state": s.state} for s in wording.card_steps(state, live=True)],
        "plan": plan.model_dump(mode="json") if plan else None,
        "commits": [c.model_dump(mode="json") for c in state.get("commits") or ()],
        "head": state.get("head", ""),
        "receipts": [receipt_of(c) for c in state.get("receipts") or state.get("checks") or ()],
        "assumptions": list(state.get("assumptions") or ()),
        "pull_request": pull.model_dump(mode="json") if pull else None,
        "on_approval": on_approval_of(state),
        "second_person": second_person_of(state),
        "waits_for_checks": waits_for_checks(pull, state.get("receipts") or []),
        "approvals": [{"sha": a.sha, "by": a.by.name} for a in state.get("approvals") or ()],
        "refused": next((n.text for n in reversed(state.get("notices") or ()) if n.id.startswith("approved-")), ""),
        "spent": spent.model_dump(mode="json"),
        "cost": wording.money(spent, state.get("granted") or brief.limits),
    }


def receipt_of(check: CheckResult) -> dict[str, Any]:
    outcome = check.outcome
    return {
        "command": check.command.command,
        "kind": check.command.kind,
        "verdict": check.verdict,
        "exit": outcome.exit if outcome else None,
        "seconds": round(outcome.seconds, 2) if outcome else None,
        "reason": check.reason,
    }
