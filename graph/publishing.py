"""What leaves: the branch, the pull request, and what people decide about it (watch)."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from graph.errors import MergeRefused, PushRefused
from graph.planning import follow_up
from graph.policies import on_approval_of
from graph.ports import Ports
from graph.prompting import render
from graph.receipts import line_of
from graph.setting_up import failure_words
from graph.state import TaskState
from graph.talking import AGAIN, DRAFT, STOP
from graph.values import Approval, Choice, Event, Final, Heard, Notice, PullRequest, Question, Review, Watching
from graph.verdicts import fewer_tests, newly_passing, not_run_words, old_failures, red, waits_for_checks
from graph.working import (
    Update,
    asks,
    branch_of,
    commits_of,
    installed_of,
    name_of,
    over,
    question_id,
    repository_of,
    taken_in,
)


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
        return asks(state, ports, _red_question(state))
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


def _red_question(state: TaskState) -> Question:
    first = line_of(red(state.get("receipts") or [])[0])
    ask = "What shall I do? A hint counts as an answer too."
    text = f"The checks are red, so I pushed nothing and opened no pull request. {first}\n{ask}"
    choice = Choice(question=ask, suggestions=(AGAIN, DRAFT, STOP))
    return Question(id=question_id(state), kind="stuck", text=text, choices=(choice,), back="implement")


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
        not_run=not_run_words(checks, state.get("pull_request")),
        partial=any(check.command.partial for check in checks),
        fewer=fewer_tests(checks),
        newly_passing=newly_passing(checks)[:50],
        setup=failure_words(installed_of(state)) if installed_of(state).failed else "",
        old_failures=old_failures(checks)[:50],
        assumptions=state.get("assumptions") or [],
        findings=(state.get("review") or Review()).findings,
        warning=ports.rules.sandbox_warning,
    )


def watch(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Wait for what people and the forge say about the pull request. Approvals count for its head alone.

    Where it ends the task, `taken` lacks what had no effect: words of the same batch, and all that comes after the end.
    """
    pull = state.get("pull_request")
    if state.get("heard"):
        return follow_up(state)
    if pull is None:
        return {"next": "publish"}
    events: list[Event] = interrupt(Watching(number=pull.number, head=pull.head))
    ports = runtime.context
    now: TaskState = {**state, "notices": [], "heard": []}
    update: Update = {"next": "watch"}
    taken: list[str] = []
    for index, event in enumerate(events):
        if now.get("final"):
            break
        against = _against(events, index, pull.head)
        happened = _void(now, ports, event, against) if against else _happened(now, ports, event)
        update = {**update, **happened}
        now = {**now, **happened}  # type: ignore[typeddict-item]
        taken.append(event.id)
        ports.journal.note("event", what=event.kind, sha=event.sha, id=event.id)
    update |= {"taken": taken, "notices": now["notices"], "heard": now["heard"]}
    if update.get("final"):
        # No model will read these words: who hands out the entries sees that they are left, and says so.
        unread = {item.id for item in now["heard"]}
        return {**update, "taken": [id_ for id_ in taken if id_ not in unread], "heard": [], "question": None}
    if now["heard"]:
        # A question about the reasons is answered by these words too.
        return {**update, **follow_up(now), "question": None}
    return update


def _against(events: Sequence[Event], index: int, head: str) -> Event | None:
    """What speaks against an approval in its own batch: any rejection, or that the same person takes it back later."""
    event = events[index]
    if event.kind != "approved":
        return None
    for other in events[index + 1 :]:
        if other.kind == "revoked" and other.by and other.by == event.by and (other.sha or head) == event.sha:
            return other
    return next((other for other in events if other.kind == "rejected"), None)


def _void(state: TaskState, ports: Ports, event: Event, against: Event) -> Update:
    """An approval that does not count. A turn that died may have acted on it all the same: the forge knows."""
    update = _looked(state, ports)
    if against.kind == "revoked" or update.get("final"):
        return update
    text = f"{name_of(against.by)} rejected the result at the same time, so the approval of `{event.sha[:7]}` is void."
    return {**update, **_told(state, event, text)}


def _happened(state: TaskState, ports: Ports, event: Event) -> Update:
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
    pull, policy, repository = _pull(state), on_approval_of(state), repository_of(state)
    if event.by is None or event.sha != pull.head:
        text = f"That approval was for `{event.sha[:7]}`, which is not the head any more. It is `{pull.head[:7]}` now."
        return _told(state, event, text)
    checks = state.get("receipts") or []
    if waits_for_checks(pull, checks):
        # The forge knows how they stand now.
        pull = ports.forge.pull_request(repository, pull.number)
        if reason := waits_for_checks(pull, checks):
            return {"pull_request": pull, **_told(state, event, reason)}
    others = [a for a in state.get("approvals") or [] if (a.by.id, a.sha) != (event.by.id, event.sha)]
    update: Update = {}
    try:
        ports.forge.approve(repository, pull.number, event.sha, event.by)
        update["approvals"] = [*others, Approval(sha=event.sha, by=event.by, at=ports.now())]
        if policy != "review":
            # Also before a merge: a forge merges no draft.
            pull = update["pull_request"] = ports.forge.ready(repository, pull.number)
        if policy == "merge":
            pull = ports.forge.merge(repository, pull.number, event.sha, pull.title)
    except MergeRefused as exc:
        verb = "merge" if policy == "merge" else "approve"
        return {**update, **_told(state, event, f"I could not {verb} #{pull.number}: {exc}")}
    ports.journal.note("approved", sha=event.sha, by=event.by.id, then=policy, state=pull.state)
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
    # Also one that is not in the state: a turn that died may have given it to the forge.
    ports.forge.revoke(repository_of(state), pull.number, sha, by)
    return {"approvals": [a for a in state.get("approvals") or [] if (a.by.id, a.sha) != (by.id, sha)]}


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
