"""Planning: the talk that only reads, and the calls that end it (a plan, a question to people, an answer)."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime

from graph.messages import pending, result_of
from graph.policies import plan_is_asked
from graph.ports import Ports
from graph.prompting import render
from graph.state import TaskState
from graph.talking import budget_question, talk
from graph.tools import Answer, AskPerson, ProposePlan
from graph.values import Choice, Final, Notice, Plan, Question, Step
from graph.working import (
    Update,
    announced,
    asks,
    messages_of,
    open_box,
    over,
    question_id,
)


def plan(state: TaskState, runtime: Runtime[Ports]) -> Update:
    """One answer of the planning model."""
    ports = runtime.context
    ports.halt.check()
    if pending(messages_of(state)):
        return {"next": "tools"}
    if state.get("finishing"):
        return {"next": "publish"}
    if question := budget_question(state, back="plan"):
        return asks(state, ports, question)
    return talk(state, ports, "plan")


def proposed(state: TaskState, ports: Ports, message: AIMessage, call: dict[str, Any], said: ProposePlan) -> Update:
    """The plan becomes the task's, once the tree is proven clean; a person sees it first if the brief says so."""
    if state.get("intent") == "code_question" and not state.get("commits"):
        text = "This is a question about the code: nothing is to be changed. Call answer."
        return {"messages": [result_of(message, call, text)], "next": "plan"}
    box = open_box(state, ports)
    if changed := box.changed(state["head"]):
        ports.journal.note("cleaned", paths=len(changed), first=changed[0])
        box.reset(state["head"])
    made = said.plan()
    known = state.get("assumptions") or []
    now: TaskState = {**state, "plan": made}
    update: Update = {
        "plan": made,
        "step": 0,
        "repairs": 0,
        "wip": "",
        "assumptions": [*known, *(item for item in made.assumptions if item not in known)],
    }
    ports.journal.note("plan", title=made.title, steps=len(made.steps))
    if plan_is_asked(state):
        return {**update, **asks(now, ports, _plan_question(now, made))}
    return {**update, **accepted(now, "The plan is accepted.")}


def _plan_question(state: TaskState, made: Plan) -> Question:
    lines = [f"{number}. {step.title}" for number, step in enumerate(made.steps, 1)]
    text = "\n".join([f"My plan for: {made.title}", *lines, "Shall I go on? Anything else you say changes the plan."])
    choice = Choice(question="Shall I go on?", suggestions=("Approve", "Stop"))
    return Question(id=question_id(state), kind="plan", text=text, choices=(choice,), back="plan")


def accepted(state: TaskState, text: str) -> Update:
    """The result of propose_plan, and the first step announced."""
    waiting = pending(messages_of(state))
    results = [result_of(waiting[0], call, text) for call in waiting[1]] if waiting else []
    first = announced(state, step_words(state["plan"], 0), len(results))
    return {"messages": [*results, first], "phase": "implement", "step": 0, "next": "implement"}


def step_words(plan_: Plan, step: int) -> str:
    return render("step", number=step + 1, total=len(plan_.steps), step=plan_.steps[step])


def one_more_step(state: TaskState, step: Step, said: str = "") -> Update:
    """A step after the planned ones, announced, after what was `said` about it."""
    plan = state["plan"]
    longer = Plan(title=plan.title, summary=plan.summary, steps=(*plan.steps, step), assumptions=plan.assumptions)
    words = "\n\n".join(filter(None, (said, step_words(longer, len(plan.steps)))))
    return {"plan": longer, "step": len(plan.steps), "messages": [announced(state, words)]}


def asked(state: TaskState, ports: Ports, call: dict[str, Any], said: AskPerson) -> Update:
    choices = tuple(
        Choice(question=q.question, suggestions=tuple(q.suggestions), assumption=q.assumption) for q in said.questions
    )
    question = Question(
        id=question_id(state),
        kind="clarify",
        text="\n".join(choice.question for choice in choices),
        choices=choices,
        back=state.get("phase", "plan"),
        call=str(call["id"]),
    )
    return asks(state, ports, question)


def answered(state: TaskState, message: AIMessage, call: dict[str, Any], said: Answer) -> Update:
    """Nothing is to be changed. The task ends with the answer, unless it has work of its own to go back to."""
    text = said.text.strip()
    result = {"messages": [result_of(message, call, "Said.")]}
    pull = state.get("pull_request")
    if state["head"] == state["base_sha"] and pull is None:
        return {**result, **over(Final(kind="answered", text=text))}
    notice = Notice(id=f"answer-{message.id}", text=text)
    settled = pull is not None and pull.head == state["head"]
    return {**result, "notices": [notice], "next": "watch" if settled else "publish"}


def follow_up(state: TaskState) -> Update:
    """More is asked for after the work was done: planned anew on top of the head. The words themselves are heard."""
    pull = state.get("pull_request")
    text = render("follow_up", number=pull.number if pull else 0, head=state["head"][:7])
    return {"phase": "plan", "finishing": False, "rounds": 0, "messages": [announced(state, text)], "next": "plan"}
