"""One turn of the conversation that plan and implement share: call the model, check what it answered, say what next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage

from graph.errors import BadInput, ContextTooLong
from graph.messages import (
    LOOP,
    LOOP_REFUSAL,
    SMALLEST_WINDOW,
    WINDOW,
    calls_of,
    fold,
    repeats,
    result_of,
)
from graph.policies import model_of
from graph.ports import Ports
from graph.prompting import system
from graph.state import TaskState
from graph.tools import CONTROL, MODELS, TOOLS, parse
from graph.values import Choice, Limits, Question, Usage
from graph.working import Update, gives_up, granted_of, messages_of, next_id, note_call, question_id, spend, taken_in

Phase = Literal["plan", "implement"]
_PHASES: dict[str, Phase] = {"propose_plan": "plan", "answer": "plan", "step_done": "implement"}
GO_ON, FINISH, STOP = "Go on with as much again", "Finish with what is there", "Stop"
AGAIN, DRAFT = "Try again", "Open a draft with what is there"


def talk(state: TaskState, ports: Ports, phase: Phase) -> Update:
    """Take in what was said, ask the model, and route by its answer: to tools, check, the phase again, or the end."""
    heard, update = taken_in(state)
    history: list[AnyMessage] = [*messages_of(state), *heard]
    window = state.get("window") or WINDOW
    sent = [SystemMessage(system("coder")), *fold(history, window)]
    ports.halt.check()
    try:
        answer, usage = ports.model.answer(phase, sent, TOOLS, model=model_of(state, phase))
    except ContextTooLong as exc:
        if window // 2 < SMALLEST_WINDOW:
            return gives_up(state, ports, f"The conversation has outgrown the model's window. {exc}")
        return {**update, "messages": heard, "window": window // 2, "next": phase}
    note_call(ports, phase, usage)
    update = {**update, "spent": spend(state, usage)}
    answer = _sendable(answer).model_copy(update={"id": next_id(state, len(heard))})
    complaints = complaints_about(answer, history, phase)
    if not complaints:
        name = calls_of(answer)[0]["name"]
        return {
            **update,
            "messages": [*heard, answer],
            "malformed": 0,
            "next": "check" if name == "step_done" else "tools",
        }
    return _sent_back(state, ports, {**update, "messages": [*heard, answer]}, phase, answer, complaints)


def _sent_back(
    state: TaskState, ports: Ports, update: Update, phase: Phase, answer: AIMessage, complaints: Sequence[str]
) -> Update:
    count = state.get("malformed", 0) + 1
    said = update["messages"]
    calls = calls_of(answer)
    ports.journal.note("malformed", count=count, complaint=complaints[0])
    if calls:
        results = [result_of(answer, call, text) for call, text in zip(calls, complaints, strict=True)]
        update = {**update, "messages": [*said, *results]}
    else:
        update = {**update, "messages": [*said, HumanMessage(complaints[0], id=next_id(state, len(said)))]}
    if count > ports.rules.malformed:
        reason = f"The model gave {count} answers in a row that cannot be used. The last time: {complaints[0]}"
        return {**update, "malformed": count, **gives_up(state, ports, reason)}
    return {**update, "malformed": count, "next": phase}


def _sendable(answer: AIMessage) -> AIMessage:
    # Some servers refuse an empty assistant message in the history.
    return answer if answer.text or calls_of(answer) else answer.model_copy(update={"content": "(empty answer)"})


def complaints_about(answer: AIMessage, history: Sequence[AnyMessage], phase: Phase) -> list[str]:
    """Nothing when the answer can be acted upon. Else one complaint a call, or one when there is no call."""
    calls = calls_of(answer)
    if not calls:
        return ["There was no tool call in your answer. Every answer calls at least one tool."]
    found = [_complaint(call, calls, history, phase) for call in calls]
    if not any(found):
        return []
    return [text or "Not done: another call in the same answer could not be used. Call it again." for text in found]


def _complaint(
    call: dict[str, Any], calls: Sequence[dict[str, Any]], history: Sequence[AnyMessage], phase: Phase
) -> str:
    name = call["name"]
    if not isinstance(call["args"], dict):
        return f"{call.get('error') or 'The arguments could not be read'}. Call {name} again with a JSON object."
    try:
        parse(name, call["args"])
    except BadInput as exc:
        return str(exc)
    if name in CONTROL and len(calls) > 1:
        return f"{name} is called alone. Nothing of this answer was done."
    if _PHASES.get(name, phase) != phase:
        others = ", ".join(tool for tool in MODELS if tool in CONTROL and _PHASES.get(tool, phase) == phase)
        return f"{name} is not for this phase. Now there are {others} and the tools that read."
    if len(calls) == 1 and repeats(history, name, call["args"]) >= LOOP:
        return LOOP_REFUSAL
    return ""


def budget_question(state: TaskState, back: str) -> Question | None:
    """What to ask when the task has used up what it was granted; None when it has not."""
    spent, limits = state.get("spent") or Usage(), granted_of(state)
    used = _used_up(spent, limits)
    if not used or state.get("finishing"):
        return None
    text = f"This task has used {used}. Shall I go on?"
    choice = Choice(question=text, suggestions=(GO_ON, FINISH, STOP))
    return Question(id=question_id(state), kind="budget", text=text, choices=(choice,), back=back)


def _used_up(spent: Usage, limits: Limits) -> str:
    if spent.usd >= limits.usd:
        return f"${spent.usd:.2f} of the ${limits.usd:.2f} it was granted"
    if spent.unpriced_tokens >= limits.tokens:
        return f"{spent.unpriced_tokens:,} of the {limits.tokens:,} tokens it was granted"
    if spent.calls >= limits.calls:
        return f"{spent.calls} of the {limits.calls} model calls it was granted"
    if spent.seconds >= limits.minutes * 60:
        return f"{spent.seconds / 60:.0f} of the {limits.minutes:.0f} minutes of work it was granted"
    return ""
