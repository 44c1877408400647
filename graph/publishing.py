"""What leaves: the branch, the pull request, and what people decide about it (watch)."""

from __future__ import annotations

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from graph.errors import MergeRefused, PushRefused
from graph.planning import follow_up
from graph.ports import Ports
from graph.prompting import render
from graph.receipts import line_of, not_run, old_failures, red
from graph.state import TaskState
from graph.values import Approval, Choice, Event, Final, Heard, Notice, PullRequest, Question, Review, Watching
from graph.working import Update, branch_of, commits_of, over, question_id, repository_of, taken_in


def publish(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Push the branch, find or open the pull request, fill its template. Every part may run twice."""
    ports = runtime.context
    ports.halt.check()
    if state.get("heard") and not state.get("finishing"):
        return follow_up(state)
    unread = _unread(state)
    if state["head"] == state["base_sha"]:
        return {
            **unread,
            **over(Final(kind="nothing to do", text="There was nothing to change, so I opened no pull request.")),
        }
    checks = state.get("receipts") or []
    branch = branch_of(state["brief"].id)
    if red(checks) and not state.get("finishing"):
        text = f"The checks are red, so I opened no pull request. `{branch}` was not pushed. `finish` opens a draft."
        return over(Final(kind="needs you", text=text))
    repository = repository_of(state)
    try:
        ports.workspaces.push(repository, state["head"], branch)
    except PushRefused as exc:
        text = f"The branch `{branch}` could not be pushed: {exc} The commits are kept here; `retry` tries again."
        return over(Final(kind="failed", text=text))
    ports.journal.note("push", sha=state["head"], branch=branch)
    old = state.get("pull_request")
    title = old.title if old else state["plan"].title
    pull = ports.forge.propose(
        repository, branch, state["head"], repository.base, title, _body(state, ports), draft=old.draft if old else True
    )
    ports.journal.note("pull request", number=pull.number, head=pull.head, url=pull.url)
    changes = ports.workspaces.changes(repository, state["base_sha"], state["head"])
    stat = f"{changes.files} {'file' if changes.files == 1 else 'files'}, +{changes.added} −{changes.removed}"
    return {**unread, "pull_request": pull, "diffstat": stat, "next": "watch"}


def _unread(state: TaskState) -> Update:
    """Who asked to wrap up does not want the words before that to start new work; but they are not swallowed."""
    said, update = taken_in(state)
    notices = [
        Notice(
            id=f"unread-{item.id}",
            text=f"I wrapped up before I read this, so say it again if it still holds: {item.text}",
        )
        for item in state.get("heard") or []
    ]
    return {**update, "messages": said, "notices": notices}


def _body(state: TaskState, ports: Ports) -> str:
    checks, plan = state.get("receipts") or [], state["plan"]
    missing = [step.title for step in plan.steps[state.get("step", 0) :]] if state.get("finishing") else []
    return render(
        "pull_request",
        task=state["brief"].id,
        plan=plan,
        missing=missing,
        red=bool(red(checks)),
        commits=commits_of(state),
        receipts=[line_of(check) for check in checks],
        has_tests=any(check.command.kind == "test" for check in checks),
        not_run=not_run(checks),
        old_failures=old_failures(checks)[:50],
        assumptions=state.get("assumptions") or [],
        findings=(state.get("review") or Review()).findings,
        warning=ports.rules.sandbox_warning,
    )


def watch(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Wait for what people and the forge say about the pull request. Approvals count for its head alone."""
    pull = state.get("pull_request")
    if state.get("heard"):
        return follow_up(state)
    if pull is None:
        return {"next": "publish"}
    events: list[Event] = interrupt(Watching(number=pull.number, head=pull.head))
    ports = runtime.context
    now: TaskState = {**state, "notices": [], "heard": []}
    update: Update = {"next": "watch"}
    for event in events:
        happened = _happened(now, ports, event)
        update = {**update, **happened}
        now = {**now, **happened}  # type: ignore[typeddict-item]
        ports.journal.note("event", what=event.kind, sha=event.sha, id=event.id)
    update |= {"taken": [event.id for event in events], "notices": now["notices"], "heard": now["heard"]}
    if update.get("final"):
        return update
    if now["heard"]:
        # A question about the reasons is answered by these words too.
        return {**update, **follow_up(now), "question": None}
    return update


def _happened(state: TaskState, ports: Ports, event: Event) -> Update:
    if state.get("final"):
        return {}
    match event.kind:
        case "approved":
            return _approved(state, ports, event)
        case "revoked":
            return _revoked(state, ports, event)
        case "rejected" if not event.text.strip():
            return _why(state)
        case "rejected" | "words":
            return _words(state, event)
        case "merged" | "closed" | "timer":
            return _looked(state, ports)
        case "finish":
            return _told(state, event, "There is nothing to wrap up: the pull request is open already.")
    return {}


def _told(state: TaskState, event: Event, text: str) -> Update:
    return {"notices": [*state["notices"], Notice(id=f"{event.kind}-{event.id}", text=text)]}


def _pull(state: TaskState) -> PullRequest:
    pull = state["pull_request"]
    if pull is None:
        raise AssertionError("watch without a pull request")
    return pull


def _approved(state: TaskState, ports: Ports, event: Event) -> Update:
    """Who may was decided before; here the commit decides."""
    pull, brief, repository = _pull(state), state["brief"], repository_of(state)
    if event.by is None or event.sha != pull.head:
        text = f"That approval was for `{event.sha[:7]}`, which is not the head any more. It is `{pull.head[:7]}` now."
        return _told(state, event, text)
    approvals = [a for a in state.get("approvals") or [] if (a.by.id, a.sha) != (event.by.id, event.sha)]
    approvals.append(Approval(sha=event.sha, by=event.by, at=ports.now()))
    update: Update = {"approvals": approvals}
    try:
        ports.forge.approve(repository, pull.number, event.sha, event.by)
        if brief.on_approval == "ready":
            pull = ports.forge.ready(repository, pull.number)
        elif brief.on_approval == "merge":
            # A forge merges no draft.
            ports.forge.ready(repository, pull.number)
            pull = ports.forge.merge(repository, pull.number, event.sha, pull.title)
    except MergeRefused as exc:
        verb = "merge" if brief.on_approval == "merge" else "approve"
        return {**update, **_told(state, event, f"I could not {verb} #{pull.number}: {exc}")}
    ports.journal.note("approved", sha=event.sha, by=event.by.id, then=brief.on_approval, state=pull.state)
    return {**update, "pull_request": pull, **_over_if_settled(pull)}


def _over_if_settled(pull: PullRequest) -> Update:
    if pull.state == "merged":
        text = f"Merged #{pull.number} at `{pull.head[:7]}` into `{pull.base}` as `{pull.merge_commit[:7]}`."
        return over(Final(kind="done", text=text))
    if pull.state == "closed":
        return over(Final(kind="done", text=f"#{pull.number} was closed without a merge. The branch is kept."))
    return {}


def _revoked(state: TaskState, ports: Ports, event: Event) -> Update:
    pull = _pull(state)
    if event.by is None:
        return {}
    by, sha = event.by, event.sha or pull.head
    kept = [a for a in state.get("approvals") or [] if (a.by.id, a.sha) != (by.id, sha)]
    if len(kept) == len(state.get("approvals") or []):
        return {}
    ports.forge.revoke(repository_of(state), pull.number, sha, by)
    return {"approvals": kept}


def _why(state: TaskState) -> Update:
    text = "What is wrong with it? I go on from your answer, on the same branch."
    question = Question(id=question_id(state), kind="why", text=text, choices=(Choice(question=text),), back="plan")
    return {"question": question, "next": "ask"}


def _words(state: TaskState, event: Event) -> Update:
    if event.by is None or not event.text.strip():
        return {}
    note = "rejecting the result" if event.kind == "rejected" else ""
    return {"heard": [*state["heard"], Heard(id=event.id, author=event.by, text=event.text, note=note)]}


def _looked(state: TaskState, ports: Ports) -> Update:
    """The forge knows best: a person may have merged or closed it there, or pushed."""
    pull = ports.forge.pull_request(repository_of(state), _pull(state).number)
    return {"pull_request": pull, **_over_if_settled(pull)}
