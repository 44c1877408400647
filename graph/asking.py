"""Questions that wait for a person, and what each answer does."""

from __future__ import annotations

import re

from langchain_core.messages import ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from graph.messages import pending, result_of
from graph.planning import accepted, follow_up, one_more_step
from graph.ports import Ports
from graph.receipts import report
from graph.state import TaskState
from graph.talking import AGAIN, DRAFT, FINISH, GO_ON, STOP
from graph.values import Answered, Final, Heard, Limits, Question, Step
from graph.verdicts import red
from graph.working import Update, asks, data, granted_of, messages_of, name_of, over, question_id, stops

_YES = frozenset({"approve", "approved", "yes", "y", "ok", "okay", "go", "go on", "go ahead"})
_NO = frozenset({"no", "n", "stop", "cancel"})


def ask(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """Wait for an answer. Nothing with an effect comes before `interrupt`: the node runs again from its first line."""
    question = state["question"]
    if question is None:
        return {"next": state.get("phase", "plan")}
    answers: list[Answered] = interrupt(question)
    first, ports = answers[0], runtime.context
    now: TaskState = {**state, "answered": [*(state.get("answered") or []), first]}
    ports.journal.note("answer", question=question.id, asked=question.kind, by=name_of(first.by))
    note = f"after {name_of(first.by)} had answered the question"
    late = [Heard(id=a.id, author=a.by, text=a.text, note=note) for a in answers[1:] if a.by and a.id]
    update: Update = {
        "question": None,
        "answered": now["answered"],
        "taken": [answer.id for answer in answers if answer.id],
    }
    acted = _act(now, ports, question, first)
    return {**update, **acted, "heard": [*acted.get("heard", []), *late]}


def _act(state: TaskState, ports: Ports, question: Question, answer: Answered) -> Update:
    if _plain(answer.text) == _plain(FINISH):
        return _finish(state, question)
    match question.kind:
        case "budget":
            return _budget(state, ports, question, answer)
        case "stuck":
            return _stuck(state, ports, question, answer)
        case "plan":
            return _plan(state, ports, answer)
        case "protected":
            return _protected(state, ports, question, answer)
        case "repository":
            return {"chosen": picked(answer.text, _options(question)) or answer.text.strip(), "next": question.back}
        case "why":
            return _why(state, answer)
    return _clarify(state, question, answer)


def picked(text: str, options: tuple[str, ...]) -> str:
    """Which of the suggestions a person means: its number, its text, or a few words that begin like one; else ""."""
    said = _plain(text)
    if said.isascii() and said.isdigit():
        return options[int(said) - 1] if 0 < int(said) <= len(options) else ""
    for option in options:
        if said == _plain(option):
            return option
    words = said.split()
    like = [option for option in options if words and _plain(option).split()[0] == words[0]]
    # Longer words are a hint ("try it with the old parser"), not a choice.
    return like[0] if len(like) == 1 and len(words) <= 3 else ""


def _plain(text: str) -> str:
    return re.sub(r"[^\w\s]+", "", text).strip().lower()


def _options(question: Question) -> tuple[str, ...]:
    return question.choices[0].suggestions if len(question.choices) == 1 else ()


def _results(state: TaskState, text: str) -> list[ToolMessage]:
    """The answer as the result of the call that waits for it."""
    waiting = pending(messages_of(state))
    return [result_of(waiting[0], call, text) for call in waiting[1]] if waiting else []


def _finish(state: TaskState, question: Question) -> Update:
    if not state.get("head"):
        return over(Final(kind="nothing to do", text="I wrapped up, as asked. Nothing had been changed."))
    update: Update = {"finishing": True, "messages": _results(state, "A person asked to wrap up with what is there.")}
    if question.kind == "why":
        return {"next": "watch"}
    return {**update, "next": "implement" if state.get("phase") == "implement" else "publish"}


def _budget(state: TaskState, ports: Ports, question: Question, answer: Answered) -> Update:
    choice = picked(answer.text, _options(question))
    if choice == STOP:
        return stops(state, ports, answer.by)
    if choice == FINISH:
        return _finish(state, question)
    if choice == GO_ON or _plain(answer.text) in _YES:
        more, now = state["brief"].limits, granted_of(state)
        sums = Limits(
            usd=now.usd + more.usd,
            tokens=now.tokens + more.tokens,
            calls=now.calls + more.calls,
            minutes=now.minutes + more.minutes,
        )
        return {"granted": sums, "next": question.back}
    return _again(state, ports, question)


def _again(state: TaskState, ports: Ports, question: Question) -> Update:
    text = f"I did not understand that answer. {question.text.removeprefix('I did not understand that answer. ')}"
    return asks(state, ports, question.model_copy(update={"id": question_id(state), "text": text}))


def _stuck(state: TaskState, ports: Ports, question: Question, answer: Answered) -> Update:
    choice = picked(answer.text, _options(question))
    if choice == STOP:
        return stops(state, ports, answer.by)
    if choice == DRAFT:
        return _finish(state, question)
    hint = "Try again." if choice == AGAIN else answer.text.strip()
    text = f"{name_of(answer.by)} says: {hint}\n\nStill red:\n{data(state, report(state.get('checks') or []))}"
    results = _results(state, text)
    return {"messages": results, "repairs": 0, "next": "implement"} if results else _repair_step(state, text)


def _repair_step(state: TaskState, said: str) -> Update:
    """Asked before the push, where no call waits for the answer: the repair is one more step, always the same."""
    bad = red(state.get("receipts") or [])
    step = Step(title="fix: make the checks green", criteria=tuple(f"`{c.command.command}` is green" for c in bad))
    plan = state["plan"]
    if plan.steps[-1].title == step.title:
        plan = plan.model_copy(update={"steps": plan.steps[:-1]})
    update = one_more_step({**state, "plan": plan}, step, said)
    return {**update, "phase": "implement", "repairs": 0, "next": "implement"}


def _plan(state: TaskState, ports: Ports, answer: Answered) -> Update:
    said = _plain(answer.text)
    if said in _YES:
        return accepted(state, f"{name_of(answer.by)} approves the plan.")
    if said in _NO:
        return stops(state, ports, answer.by)
    text = f"The plan is not accepted. {name_of(answer.by)} says: {answer.text.strip()}\nPropose a better one."
    return {"messages": _results(state, text), "next": "plan"}


def _protected(state: TaskState, ports: Ports, question: Question, answer: Answered) -> Update:
    choice = picked(answer.text, _options(question))
    if choice == "Yes" or _plain(answer.text) in _YES:
        return {"allowed_tree": state["allowed_tree"].removeprefix("?"), "next": question.back}
    if choice == "No" or _plain(answer.text) in _NO:
        paths = ", ".join(state["allowed"])
        text = f"{name_of(answer.by)} does not allow changes of {paths}. Undo those, then call step_done again."
        return {"allowed": [], "allowed_tree": "", "messages": _results(state, text), "next": "implement"}
    return _again(state, ports, question)


def _why(state: TaskState, answer: Answered) -> Update:
    if answer.by is None:
        return {"next": "watch"}
    name = answer.id or f"why-{answer.question}"
    said = Heard(id=name, author=answer.by, text=answer.text, note="rejecting the result")
    return {**follow_up(state), "heard": [said], "next": "plan"}


def _clarify(state: TaskState, question: Question, answer: Answered) -> Update:
    if answer.by is None:
        assumed = [choice.assumption for choice in question.choices if choice.assumption]
        text = f"Nobody answered; go on with your assumptions: {'; '.join(assumed)}"
        known = state.get("assumptions") or []
        more = [item for item in assumed if item not in known]
        return {"messages": _results(state, text), "assumptions": [*known, *more], "next": question.back}
    options = _options(question)
    said = _plain(answer.text)
    chosen = options[int(said) - 1] if said.isdecimal() and 0 < int(said) <= len(options) else answer.text.strip()
    return {"messages": _results(state, f"{name_of(answer.by)} answers: {chosen}"), "next": question.back}
