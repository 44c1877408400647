"""A task as the verbs show it: read from its record in Redis alone, so that it works while everything else is down."""

from __future__ import annotations

import json
from typing import Any

from bot.chat import TaskView
from jobs.statuses import ENDED, WAITING
from jobs.tasks import Tasks, utc


def view_of(tasks: Tasks, task: str) -> TaskView | None:
    """None when there is no such task."""
    record = tasks.record(task)
    if not record:
        return None
    facts: dict[str, Any] = json.loads(record.get("view", "{}"))
    status = record["status"]
    place = 0
    if status == "running" and not tasks.held(task):
        place = queue_place(tasks, task)
    question = json.loads(record["question"]) if record.get("question") and status in ("asking", "parked") else None
    pull = facts.get("pull_request") or {}
    data = {
        "id": task,
        "status": status,
        "title": facts.get("title") or record.get("title", ""),
        "since": utc(record["since"]).isoformat(),
        "created": utc(record["created"]).isoformat(),
        "requester": {"id": record.get("requester", ""), "name": record.get("requester_name", "")},
        "repository": facts.get("repository") or record.get("repository", ""),
        "places": json.loads(record.get("places", "[]")),
        "question": question,
        "pull_request": pull or None,
        "final": json.loads(record["final"]) if record.get("final") and status in ENDED else None,
        **{
            key: facts.get(key)
            for key in (
                "plan",
                "step",
                "steps",
                "commits",
                "receipts",
                "spent",
                "assumptions",
                "on_approval",
                "waits_for_checks",
                "approvals",
                "refused",
            )
        },
        "cost": facts.get("cost", ""),
        "queue_place": place,
        "waits_for": waits_for(record, status, place),
        "undeliverable": record.get("undeliverable", ""),
    }
    return TaskView(
        id=task,
        title=data["title"],
        status=status,
        state=state_words(record, status, place),
        since=utc(record["since"]),
        requester=record.get("requester_name", ""),
        repository=data["repository"],
        step=facts.get("step", ""),
        spent=facts.get("cost", ""),
        waits_for=data["waits_for"],
        queue_place=place,
        pull_request=pull.get("url", ""),
        question=question["text"] if question else "",
        data=data,
    )


def queue_place(tasks: Tasks, task: str) -> int:
    """1 for the task that a free worker takes next; counted by how long each has waited."""
    waiting = []
    for other in tasks.active():
        record = tasks.record(other)
        if record.get("status") == "running" and not tasks.held(other):
            waiting.append((float(record["since"]), other))
    order = [name for _, name in sorted(waiting)]
    return order.index(task) + 1 if task in order else 0


def waits_for(record: dict[str, str], status: str, place: int) -> str:
    if status in ("asking", "parked"):
        return record.get("requester_name", "somebody")
    if status == "watching":
        return "an approver"
    if status == "backing off":
        return "the model"
    if status == "paused":
        return record.get("paused_by") or "somebody to resume it"
    return f"a worker (place {place} in the queue)" if place else ""


def state_words(record: dict[str, str], status: str, place: int) -> str:
    if status == "asking":
        return f"asking {record.get('requester_name', '')}".strip()
    if status == "running" and record.get("stop"):
        return f"stopping for {record['stop']}"
    if status == "running" and place:
        return f"queued, place {place}"
    words = {"running": "working", "watching": "waiting for approval", "backing off": "waiting for the model"}
    return words.get(status, status)


def status_text(view: TaskView) -> str:
    lines = [f"**{view.id}** {view.title}", f"{view.state}, since {view.since:%Y-%m-%d %H:%M} UTC"]
    if view.repository:
        lines.append(f"Repository: {view.repository}")
    if view.step:
        lines.append(f"Step {view.step}")
    if view.waits_for:
        lines.append(f"Waits for {view.waits_for}")
    if view.question:
        lines.append(f"Question: {view.question}")
    if view.pull_request:
        lines.append(f"Pull request: {view.pull_request}")
    if view.spent:
        lines.append(f"Cost: {view.spent}")
    if view.data["final"]:
        lines.append(view.data["final"]["text"])
    if view.data["undeliverable"]:
        lines.append(f"I could not post here: {view.data['undeliverable']}")
    return "\n".join(lines)


def list_text(views: list[TaskView]) -> str:
    if not views:
        return "There are no tasks here."
    return "\n".join(f"- `{v.id}` {v.state}: {v.title}" for v in views)


def is_open(status: str) -> bool:
    return status == "running" or status in WAITING
