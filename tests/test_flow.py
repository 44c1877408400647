"""The whole agent through `build_flow`: every way a task can go, with real git, a real forge and real tests."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fakes import ANN, BEN, START, Bench, ScriptedModel, call, calls, plan_call
from gitrepos import add_commit, git
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import Command as Resume

from graph.errors import ContextTooLong, MergeRefused, ModelMisbehaved, Stopped
from graph.flow import save_work
from graph.messages import illegal_order
from graph.ports import Rules
from graph.prompting import system
from graph.publishing import publish
from graph.state import (
    STATE_TYPES,
    Answered,
    Brief,
    CheckResult,
    Command,
    Commit,
    Event,
    Heard,
    Limits,
    Question,
    Usage,
    Watching,
)
from graph.tools import TOOLS

BROKEN = "def add(a, b):\n    return a - b\n"
TEST = "import unittest\n\nfrom calc import add\n\n\nclass AddTest(unittest.TestCase):\n"
OLD_TEST = f"{TEST}    def test_zero(self):\n        self.assertEqual(add(1, 0), 1)\n"
NEW_TEST = f"{OLD_TEST}\n    def test_two(self):\n        self.assertEqual(add(1, 2), 3)\n"
FILES: dict[str | bytes, Any] = {"calc.py": BROKEN, "test_calc.py": OLD_TEST}
# A suite that is done in a moment, for tests that are about something else.
QUICK: dict[str | bytes, Any] = {"calc.py": BROKEN, "scripts/run-tests.sh": "! grep -q 'a [*] b' calc.py\n"}

PLAN = plan_call("fix: add the numbers")
ADD_TEST = call("write_file", path="test_calc.py", content=NEW_TEST)
FIX = call("edit_file", path="calc.py", old="a - b", new="a + b")
WRONG = call("edit_file", path="calc.py", old="a - b", new="a * b")
DONE = call("step_done", summary="done")
READ = call("read_file", path="calc.py")


def bench(folder: Path, *coder: Any, **more: Any) -> Bench:
    model = {name: more.pop(name) for name in ("triage", "reviews", "usage") if name in more}
    files = more.pop("files", QUICK)
    return Bench(folder, files, ScriptedModel(list(coder), **model), **more)


def approval(head: str, id_: str = "e1", by: Any = ANN) -> Event:
    return Event(id=id_, kind="approved", by=by, sha=head)


def answer(text: str, question: Question, by: Any = ANN) -> Answered:
    return Answered(id=f"a-{question.id}", question=question.id, text=text, by=by)


def interrupt_of(task: Bench) -> str:
    (pending,) = task.flow.get_state(task.config).interrupts
    return str(pending.id)


# The whole path


def test_a_task_becomes_a_tested_pull_request_that_an_approval_merges(tmp_path: Path) -> None:
    looks = calls(("read_file", {"path": "calc.py"}), ("list_files", {}))
    task = bench(tmp_path, READ, PLAN, looks, ADD_TEST, FIX, DONE, brief={"on_approval": "merge"}, files=FILES)
    state = task.start()
    pull = state["pull_request"]
    assert pull is not None
    assert task.waits == Watching(number=1, head=state["head"])
    assert (pull.head, pull.draft, pull.base) == (state["head"], True, "main")
    assert task.log() == ["fix: add the numbers", "first"]
    assert "a + b" in task.file("calc.py")
    body = git(task.origin, "log", "-1", "--format=%b", state["head"])
    assert body.splitlines()[-3:] == ["Task-Id: tw-test", "Step: 1", "Requested-by: Ann"]
    (receipt,) = state["receipts"]
    assert (receipt.verdict, receipt.command.command) == ("green", "python3 -m unittest discover")
    assert state["diffstat"] == "2 files, +4 −1"
    assert state["spent"].calls == 8

    state = task.resume(approval(state["head"]))
    assert state["final"].kind == "done"
    assert state["pull_request"].state == "merged"
    assert "a + b" in task.file("calc.py", "main")
    assert state["taken"] == ["e1"]
    assert task.waiting_at == ()
    kinds = task.journal.kinds()
    assert kinds.count("commit") == 1
    assert {"model", "command", "push", "pull request"} <= set(kinds)


def test_every_request_has_the_same_prompt_and_the_same_tools(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE)
    task.start()
    coder = [messages for role, messages in task.model.seen if role in ("plan", "implement")]
    assert {messages[0].text for messages in coder} == {system("coder")}
    assert all(tools is TOOLS for tools in task.model.tool_lists)
    for earlier, later in pairwise(coder):
        assert [m.text for m in later[: len(earlier)]] == [m.text for m in earlier]
    assert [role for role, _ in task.model.seen] == ["triage", "plan", "implement", "implement", "review"]


def test_the_first_prompt_is_small() -> None:
    assert len(system("coder").encode()) + len(json.dumps(TOOLS)) <= 6_000


def test_two_steps_are_two_commits_in_order(tmp_path: Path) -> None:
    task = bench(tmp_path, plan_call("test: add a test", "docs: say it"), call("write_file", path="a.txt", content="a"),
                 DONE, call("write_file", path="b.txt", content="b"), DONE)  # fmt: skip
    state = task.start()
    assert task.log() == ["docs: say it", "test: add a test", "first"]
    assert [commit.step for commit in state["commits"]] == [1, 2]
    dates = git(task.origin, "log", "--format=%ct", "threadwright/tw-test").splitlines()
    assert int(dates[0]) == int(dates[1]) + 1


def test_the_values_in_the_state_are_on_the_allow_list(tmp_path: Path) -> None:
    """The bench's serialiser is strict, so that this is what Redis would give back."""
    task = bench(tmp_path, PLAN, FIX, DONE)
    state = task.start()
    names = {kind.__name__ for kind in STATE_TYPES}
    for value in (state["brief"], state["plan"], state["pull_request"], state["commits"][0], state["receipts"][0]):
        assert type(value).__name__ in names


# Without a task


def test_a_question_is_answered_without_a_repository(tmp_path: Path) -> None:
    task = bench(tmp_path, triage={"kind": "question", "reply": "Tuesday."})
    state = task.start("When is the release?")
    assert (state["final"].kind, state["final"].text) == ("answered", "Tuesday.")
    assert task.sandbox.boxes == {}


def test_thanks_end_without_words(tmp_path: Path) -> None:
    state = bench(tmp_path, triage={"kind": "reaction"}).start("Thank you")
    assert (state["final"].kind, state["final"].text) == ("answered", "")


def test_a_question_about_code_is_answered_without_a_branch(tmp_path: Path) -> None:
    task = bench(tmp_path, READ, PLAN, call("answer", text="In calc.py:2."), triage={"kind": "code_question"})
    state = task.start("Where is the sum?")
    assert (state["final"].kind, state["final"].text) == ("answered", "In calc.py:2.")
    assert task.branches() == ["main"]
    assert task.box.commands == []
    assert "nothing is to be changed" in task.model.texts("plan")


def test_nothing_changed_opens_nothing_and_says_so(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, DONE)
    state = task.start()
    assert state["final"].kind == "nothing to do"
    assert task.branches() == ["main"]


# Questions


def ask_call(*suggestions: str) -> AIMessage:
    asked = {"question": "Which sum?", "suggestions": list(suggestions), "assumption": "the plain one"}
    return call("ask_person", questions=[asked])


def test_an_answer_becomes_the_result_of_the_call_that_asked(tmp_path: Path) -> None:
    task = bench(tmp_path, ask_call("plain", "saturating"), PLAN, FIX, DONE)
    task.start()
    question = task.waits
    assert (question.kind, question.text, question.id) == ("clarify", "Which sum?", "q1")
    assert task.waiting_at == ("ask",)
    state = task.resume(answer("2", question))
    assert state["taken"] == ["a-q1"]
    result = next(m for m in state["messages"] if isinstance(m, ToolMessage))
    assert result.text == "Ann answers: saturating"
    assert state["answered"][0].by == ANN


def test_a_question_that_nobody_answers_goes_on_with_the_assumption_and_says_so(tmp_path: Path) -> None:
    task = bench(tmp_path, ask_call(), PLAN, FIX, DONE)
    task.start()
    state = task.resume(Answered(question=task.waits.id, text=""))
    assert state["assumptions"] == ["the plain one"]
    assert "the plain one" in task.forge.body


def test_a_second_answer_in_the_same_breath_is_heard_as_words(tmp_path: Path) -> None:
    task = bench(tmp_path, ask_call(), PLAN, FIX, DONE)
    task.start()
    second = Answered(id="a2", question="q1", text="no, the other", by=BEN)
    state = task.resume(answer("plain", task.waits), second)
    assert [m.text for m in state["messages"] if m.id == "a2"] == [
        "Ben says, after Ann had answered the question:\nno, the other"
    ]
    assert state["taken"] == ["a-q1", "a2"]


def test_words_said_while_a_question_is_open_leave_it_open(tmp_path: Path) -> None:
    task = bench(tmp_path, ask_call(), PLAN, FIX, DONE)
    task.start()
    question = task.waits
    task.hear(Heard(id="h1", author=BEN, text="by the way"))
    assert task.waits == question
    state = task.resume(answer("plain", question), taken=["x"])
    assert any(m.id == "h1" for m in state["messages"])
    assert state["heard"] == []
    assert set(state["taken"]) == {"h1", "a-q1", "x"}


def test_a_plan_waits_for_approval_when_the_brief_says_so(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, plan_call("fix: add them, tested"), FIX, DONE, brief={"approve_plan": True})
    task.start()
    assert (task.waits.kind, "1. fix: add the numbers" in task.waits.text) == ("plan", True)
    task.resume(answer("Add a test too", task.waits))
    assert "Ann says: Add a test too" in task.model.texts("plan")
    assert task.waits.id == "q2"
    task.resume(answer("Approve", task.waits))
    assert task.log() == ["fix: add them, tested", "first"]


def test_a_plan_can_be_stopped(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, brief={"approve_plan": True})
    task.start()
    state = task.resume(answer("stop", task.waits))
    assert (state["final"].kind, "Nothing had been changed" in state["final"].text) == ("stopped", True)


def test_the_only_repository_is_taken_without_asking(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, brief={"repository": None})
    state = task.start()
    assert (state["repository"].name, state["repository"].rule) == ("sample", "the only repository")


def test_with_two_repositories_a_person_is_asked_until_one_is_known(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, brief={"repository": None})
    git(tmp_path / "origin", "clone", "-q", "--bare", str(task.origin), "other.git")
    task.start()
    assert (task.waits.kind, task.waits.choices[0].suggestions) == ("repository", ("other", "sample"))
    task.resume(answer("nonsense", task.waits))
    assert "nonsense" in task.waits.text
    state = task.resume(answer("sample", task.waits))
    assert state["repository"].name == "sample"
    assert state["pull_request"]


def test_a_repository_that_does_not_exist_is_said_plainly(tmp_path: Path) -> None:
    task = bench(tmp_path)
    task.brief["repository"] = task.repository.model_copy(update={"url": f"file://{tmp_path}/missing.git"})
    state = task.start()
    assert state["final"].kind == "needs you"


# Red, repairs, stuck


def test_a_red_check_comes_back_with_its_output_and_is_repaired(tmp_path: Path) -> None:
    task = bench(
        tmp_path,
        PLAN,
        ADD_TEST,
        WRONG,
        DONE,
        call("edit_file", path="calc.py", old="a * b", new="a + b"),
        DONE,
        files=FILES,
    )
    state = task.start()
    results = [m.text for m in state["messages"] if isinstance(m, ToolMessage)]
    red = next(text for text in results if text.startswith("Not committed"))
    assert "AssertionError" in red
    assert any(text == f"committed {state['head'][:7]}" for text in results)
    assert state["commits"][0].title == "fix: add the numbers"


def test_old_failures_are_no_fault_of_the_change_and_are_listed(tmp_path: Path) -> None:
    broken = OLD_TEST + "\n    def test_old(self):\n        self.fail('old')\n"
    task = bench(tmp_path, PLAN, FIX, DONE, files={"calc.py": BROKEN, "test_calc.py": broken})
    state = task.start()
    assert state["baseline"][0].verdict == "red"
    assert state["receipts"][0].verdict == "green"
    assert "test_old" in task.forge.body


def test_after_three_repairs_a_person_is_asked_and_stop_keeps_the_work(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, ADD_TEST, WRONG, DONE, DONE, DONE, DONE)
    state = task.start()
    question = task.waits
    assert (question.kind, state["repairs"], len(task.model.seen)) == ("stuck", 3, 8)
    assert question.choices[0].suggestions == ("Try again", "Open a draft with what is there", "Stop")
    assert state["wip"]
    state = task.resume(answer("Stop", question))
    assert state["final"].kind == "stopped"
    assert state["head"][:7] in state["final"].text
    assert task.log()[0] == "wip: fix: add the numbers"
    assert "pull_request" not in state


def test_a_hint_grants_another_set_of_repairs(tmp_path: Path) -> None:
    mend = call("edit_file", path="calc.py", old="a * b", new="a + b")
    task = bench(tmp_path, PLAN, ADD_TEST, WRONG, DONE, DONE, DONE, DONE, mend, DONE)
    task.start()
    state = task.resume(answer("Try it with a plus, that is what it says", task.waits))
    assert "Ann says: Try it with a plus" in task.model.texts("implement")
    assert state["pull_request"]


def test_red_opens_a_draft_only_when_a_person_asks_for_it(tmp_path: Path) -> None:
    task = bench(tmp_path, plan_call("fix: add the numbers", "docs: say so"), ADD_TEST, WRONG, DONE, DONE, DONE, DONE)
    task.start()
    assert task.branches() == ["main"]
    state = task.resume(answer("2", task.waits))
    assert state["pull_request"].draft
    assert state["finishing"]
    assert [check.verdict for check in state["receipts"]] == ["red"]
    body = task.forge.body
    assert "Some checks are red" in body
    assert "docs: say so" in body


def test_tests_that_came_with_the_change_are_run(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, ADD_TEST, DONE, FIX, DONE, files={"calc.py": BROKEN})
    state = task.start()
    assert state["baseline"] == []
    assert [check.verdict for check in state["receipts"]] == ["green"]
    assert any(m.text.startswith("Not committed") for m in state["messages"])


def test_the_first_tests_of_a_repository_are_red_when_they_fail(tmp_path: Path) -> None:
    """There is a runner and nothing for it to run: the change's own tests are all that there is to judge by."""
    files = {"calc.py": BROKEN, "Makefile": "test:\n\tpython3 -m unittest discover\n"}
    task = bench(tmp_path, PLAN, ADD_TEST, DONE, FIX, DONE, files=files)
    state = task.start()
    assert [check.verdict for check in state["baseline"]] == ["not run"]
    assert any(m.text.startswith("Not committed") for m in state["messages"])
    assert [check.verdict for check in state["receipts"]] == ["green"]


def test_what_tests_leave_behind_is_not_committed(tmp_path: Path) -> None:
    files = {
        "calc.py": BROKEN,
        "Makefile": "test:\n\techo x >> log.txt; mkdir -p __pycache__; touch __pycache__/a.pyc\n",
    }
    task = bench(tmp_path, PLAN, call("run", command="make test; touch keep.txt; rm log.txt"), FIX, DONE, files=files)
    task.start()
    names = git(task.origin, "ls-tree", "-r", "--name-only", "threadwright/tw-test").splitlines()
    assert names == ["Makefile", "calc.py", "keep.txt"]


def test_a_formatter_that_fails_is_not_fatal_and_one_that_works_is_committed(tmp_path: Path) -> None:
    files = {**FILES, "Makefile": "format:\n\techo formatted > style.txt; false\n"}
    task = bench(tmp_path, PLAN, FIX, DONE, files=files)
    state = task.start()
    assert [check.verdict for check in state["receipts"]] == ["not run", "green"]
    assert task.file("style.txt") == "formatted"


def test_without_any_command_the_pull_request_says_that_nothing_was_tested(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, files={"calc.py": BROKEN})
    state = task.start()
    assert state["commands"] == []
    assert "No test command was found" in task.forge.body


# Review


MAJOR = {"summary": "Hm.", "findings": [{"severity": "major", "path": "calc.py", "line": 2, "text": "No test."}]}
NIT = {"summary": "Good.", "findings": [{"severity": "nit", "path": "calc.py", "text": "A name."}]}


def test_a_major_finding_goes_back_as_one_more_step_and_nits_are_listed(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, ADD_TEST, DONE, reviews=[MAJOR, NIT])
    state = task.start()
    assert task.log() == ["fix: address review findings", "fix: add the numbers", "first"]
    assert state["rounds"] == 1
    assert "nit: `calc.py` A name." in task.forge.body
    assert "Review round 2" in task.model.texts("review")


def test_after_three_rounds_what_remains_is_listed(tmp_path: Path) -> None:
    fixes = [step for n in range(3) for step in (call("write_file", path=f"{n}.txt", content="x"), DONE)]
    task = bench(tmp_path, PLAN, FIX, DONE, *fixes, reviews=[MAJOR] * 5)
    state = task.start()
    assert state["rounds"] == 3
    assert len(state["plan"].steps) == 4
    assert "major: `calc.py:2` No test." in task.forge.body


def costly(error: ModelMisbehaved | ContextTooLong, calls_: int) -> Any:
    error.usage = Usage(calls=calls_, usd=calls_ * 0.01)
    return error


def test_a_review_that_gives_no_result_fails_the_task_and_keeps_the_work(tmp_path: Path) -> None:
    long, wrong = costly(ContextTooLong("too long"), 2), costly(ModelMisbehaved("Four malformed answers."), 4)
    task = bench(tmp_path, PLAN, FIX, DONE, reviews=[long, wrong])
    state = task.start()
    assert state["final"].kind == "failed"
    assert task.log()[0] == "fix: add the numbers"
    # Triage, plan, two of implement, and what the review took all the same.
    assert state["spent"].calls == 4 + 6
    noted = [fields["calls"] for kind, fields in task.journal.notes if kind == "model" and fields["role"] == "review"]
    assert noted == [6]


def test_a_review_of_a_shorter_diff_counts_what_the_longer_one_took(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, reviews=[costly(ContextTooLong("too long"), 2), NIT])
    assert task.start()["spent"].calls == 4 + 2 + 1


def test_a_triage_that_gives_no_result_is_counted(tmp_path: Path) -> None:
    state = bench(tmp_path, triage=costly(ModelMisbehaved("Four malformed answers."), 4)).start()
    assert (state["final"].kind, state["spent"].calls) == ("failed", 4)


# The model's mistakes


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (AIMessage("I think so."), "no tool call"),
        (AIMessage(""), "no tool call"),
        (call("paint"), "There is no tool 'paint'"),
        (call("read_file", paht="x"), "path: Field required"),
        (calls(("read_file", {"path": "calc.py"}), ("propose_plan", PLAN.tool_calls[0]["args"])), "is called alone"),
        (DONE, "not for this phase"),
        (
            AIMessage(
                "",
                invalid_tool_calls=[
                    {"name": "run", "args": "{", "id": "call_0", "error": "not JSON", "type": "invalid_tool_call"}
                ],
            ),
            "not JSON",
        ),
    ],
)
def test_an_answer_that_cannot_be_used_goes_back_with_the_error(tmp_path: Path, bad: AIMessage, complaint: str) -> None:
    task = bench(tmp_path, bad, PLAN, FIX, DONE)
    state = task.start()
    assert state["pull_request"]
    assert state["malformed"] == 0
    assert complaint in task.model.texts("implement")


def test_the_fourth_such_answer_in_a_row_ends_the_task_in_plain_words(tmp_path: Path) -> None:
    bad = AIMessage("I think so.")
    task = bench(tmp_path, PLAN, FIX, *[bad] * 4)
    state = task.start()
    assert state["final"].kind == "failed"
    assert "4 answers in a row" in state["final"].text
    assert state["head"][:7] in state["final"].text
    assert illegal_order(state["messages"]) == ""


def test_good_answers_in_between_start_the_count_anew(tmp_path: Path) -> None:
    bad = AIMessage("Hm.")
    task = bench(tmp_path, bad, bad, bad, PLAN, bad, bad, bad, FIX, DONE)
    assert task.start()["pull_request"]


def test_a_model_in_a_loop_is_told_and_then_stopped(tmp_path: Path) -> None:
    task = bench(tmp_path, *[READ] * 12)
    state = task.start()
    assert state["final"].kind == "failed"
    results = [m.text for m in state["messages"] if isinstance(m, ToolMessage)]
    assert "same result for the 4th time" in results[3]
    assert len(results) == 8
    assert all("Not done" in text for text in results[4:])


def test_planning_cannot_write_and_leaves_the_tree_clean(tmp_path: Path) -> None:
    task = bench(tmp_path, FIX, call("run", command="echo x > junk.txt; echo y >> calc.py"), PLAN, FIX, DONE)
    task.start()
    refused = next(m.text for m in task.state["messages"] if isinstance(m, ToolMessage))
    assert "in the plan phase you only read" in refused
    assert "cleaned" in task.journal.kinds()
    names = git(task.origin, "ls-tree", "-r", "--name-only", "threadwright/tw-test").splitlines()
    assert names == ["calc.py", "scripts/run-tests.sh"]
    assert task.file("calc.py") == BROKEN.replace("-", "+").rstrip("\n")


def test_a_conversation_that_is_too_long_is_shortened_and_goes_on(tmp_path: Path) -> None:
    class Forgetful(ScriptedModel):
        def answer(self, role: Any, messages: Any, tools: Any, *, model: str = "") -> Any:
            if sum(len(m.text) for m in messages) > 45_000:
                raise ContextTooLong("too long")
            return super().answer(role, messages, tools, model=model)

    big = {f"big{n}.txt": f"{n} words\n" * 2000 for n in range(5)}
    reads = [call("read_file", path=name, lines=2000) for name in big]
    task = Bench(tmp_path, {**FILES, **big}, Forgetful([*reads, PLAN, FIX, DONE]))
    state = task.start()
    assert state["pull_request"]
    assert state["window"] == 25_000


# Budget


def test_a_spent_budget_is_asked_about_and_granted_again(tmp_path: Path) -> None:
    limits = Limits(calls=3)
    task = bench(tmp_path, READ, PLAN, FIX, DONE, brief={"limits": limits})
    task.start()
    assert (task.waits.kind, "3 of the 3 model calls" in task.waits.text) == ("budget", True)
    task.resume(answer("perhaps", task.waits))
    assert task.waits.id == "q2"
    state = task.resume(answer("1", task.waits))
    assert state["granted"].calls == 6
    assert state["pull_request"]


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (Usage(calls=1, usd=3.0), "$3.00 of the $2.00"),
        (Usage(calls=1, unpriced_tokens=2_000_000), "2,000,000 of the 2,000,000 tokens"),
        (Usage(calls=1, seconds=3_600), "60 of the 60 minutes"),
    ],
)
def test_money_tokens_and_time_are_asked_about(tmp_path: Path, usage: Usage, words: str) -> None:
    task = bench(tmp_path, usage=usage)
    task.start()
    assert words in task.waits.text


def test_a_spent_budget_can_end_with_a_draft_or_a_stop(tmp_path: Path) -> None:
    for number, (text, ending) in enumerate((("Finish with what is there", "draft"), ("stop", "stopped"))):
        task = bench(tmp_path / str(number), PLAN, FIX, brief={"limits": Limits(calls=3)})
        task.start()
        state = task.resume(answer(text, task.waits))
        if ending == "draft":
            assert state["pull_request"].draft
        else:
            assert (state["final"].kind, task.log()[0]) == ("stopped", "wip: fix: add the numbers")


# Protected paths


WORKFLOW = call("write_file", path=".github/workflows/ci.yml", content="on: push\n")


def test_a_protected_path_leaves_only_with_a_yes_for_that_tree(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, WORKFLOW, FIX, DONE)
    task.start()
    assert (task.waits.kind, ".github/workflows/ci.yml" in task.waits.text) == ("protected", True)
    assert task.branches() == ["main"]
    state = task.resume(answer("yes", task.waits))
    assert state["pull_request"]
    assert task.file(".github/workflows/ci.yml") == "on: push"


def test_a_yes_does_not_hold_for_another_tree(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, WORKFLOW, FIX, DONE)
    task.start()
    task.box.write(".github/workflows/ci.yml", b"on: something else\n")
    task.resume(answer("yes", task.waits))
    assert task.waits.kind == "protected"
    assert task.branches() == ["main"]


def test_a_no_goes_back_to_the_model(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, WORKFLOW, FIX, DONE, call("delete_file", path=".github/workflows/ci.yml"), DONE)
    task.start()
    state = task.resume(answer("no", task.waits))
    assert "Ann does not allow changes of .github/workflows/ci.yml" in task.model.texts("implement")
    assert state["pull_request"]
    assert ".github" not in git(task.origin, "ls-tree", "--name-only", "threadwright/tw-test")


# Words in between


def test_words_that_come_while_a_call_is_pending_land_after_its_result(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, calls(("read_file", {"path": "calc.py"}), ("list_files", {})), FIX, DONE)
    steps = task.steps({"schema": 1, "brief": _brief(task)})
    for state in steps:
        messages = state.get("messages") or []
        if messages and isinstance(messages[-1], ToolMessage) and state["next"] == "tools":
            break
    steps.close()
    assert illegal_order(state["messages"])  # one call of the two has no result yet
    state = task.hear(Heard(id="h1", author=BEN, text="Keep it short"), Heard(id="h2", author=ANN, text="Yes"))
    assert state["pull_request"]
    place = next(i for i, m in enumerate(state["messages"]) if m.id == "h1")
    assert isinstance(state["messages"][place - 1], ToolMessage)
    assert [m.text for m in state["messages"][place : place + 2]] == [
        "Ben says:\nKeep it short",
        "Ann (the requester) says:\nYes",
    ]
    assert illegal_order(state["messages"]) == ""


def _brief(task: Bench) -> Any:
    return Brief(id="tw-test", text="Mend it", requester=ANN, created=START, repository=task.repository)


def test_the_order_checker_sees_words_between_a_call_and_its_result() -> None:
    """The control: put there at once, as `Command(update={"messages": …})` would, they are illegal."""
    asked = calls(("read_file", {"path": "a"}), ("read_file", {"path": "b"}))
    first, second = (ToolMessage("x", tool_call_id=c["id"]) for c in asked.tool_calls)
    words = HumanMessage("stop that")
    assert illegal_order([words, asked, first, second, words]) == ""
    assert illegal_order([asked, first, words, second])
    assert illegal_order([asked, words, first, second])
    assert illegal_order([asked, first])
    assert illegal_order([first])
    assert illegal_order([asked, first, first])


def test_words_during_the_last_step_are_planned_before_the_result(tmp_path: Path) -> None:
    task = bench(
        tmp_path, PLAN, FIX, DONE, plan_call("docs: say so"), call("write_file", path="a.md", content="x"), DONE
    )
    steps = task.steps({"schema": 1, "brief": _brief(task)})
    for state in steps:
        if state.get("next") == "check":
            break
    steps.close()
    state = task.hear(Heard(id="h1", author=ANN, text="Also a.md"))
    assert task.log() == ["docs: say so", "fix: add the numbers", "first"]
    assert state["heard"] == []


def test_finish_wraps_up_with_a_draft_that_says_what_is_missing(tmp_path: Path) -> None:
    task = bench(tmp_path, plan_call("fix: add the numbers", "docs: say so"), FIX)
    steps = task.steps({"schema": 1, "brief": _brief(task)})
    for _ in steps:
        if len(task.journal.effects) == 1:
            break
    steps.close()
    state = task.send(Resume(update={"finishing": True, "heard": [Heard(id="h1", author=BEN, text="And b.md")]}))
    assert state["pull_request"].draft
    assert "Not done: fix: add the numbers; docs: say so" in task.forge.body
    assert "And b.md" in state["notices"][0].text


# After the result


def test_a_follow_up_goes_on_in_the_same_branch_and_pull_request(tmp_path: Path) -> None:
    task = bench(
        tmp_path, PLAN, FIX, DONE, plan_call("docs: say so"), call("write_file", path="a.md", content="x"), DONE
    )
    first = task.start()["head"]
    state = task.resume(Event(id="w1", kind="words", by=BEN, text="Also write a.md"))
    assert task.log() == ["docs: say so", "fix: add the numbers", "first"]
    assert state["pull_request"].number == 1
    assert state["pull_request"].title == "Mend the sum"
    assert task.waits == Watching(number=1, head=state["head"])
    assert "Ben says:\nAlso write a.md" in task.model.texts("plan")
    state = task.resume(approval(first))
    assert "not the head any more" in state["notices"][0].text
    assert state["pull_request"].draft


def test_a_question_after_the_result_is_answered_once(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, call("answer", text="Because of the sign."))
    head = task.start()["head"]
    state = task.resume(Event(id="w1", kind="words", by=BEN, text="Why?"))
    assert [notice.text for notice in state["notices"]] == ["Because of the sign."]
    assert task.waits == Watching(number=1, head=head)


def test_a_rejection_asks_why_and_goes_on_from_the_answer(tmp_path: Path) -> None:
    task = bench(
        tmp_path, PLAN, FIX, DONE, plan_call("docs: say so"), call("write_file", path="a.md", content="x"), DONE
    )
    task.start()
    task.resume(Event(id="r1", kind="rejected", by=ANN))
    assert task.waits.kind == "why"
    task.resume(answer("It lacks words", task.waits))
    assert "It lacks words" in task.model.texts("plan")
    assert task.log()[0] == "docs: say so"


def test_ready_keeps_watching_until_the_forge_says_merged(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE)
    head = task.start()["head"]
    state = task.resume(approval(head))
    assert (state["pull_request"].draft, state.get("final")) == (False, None)
    assert [a.by for a in state["approvals"]] == [ANN]
    assert task.waits == Watching(number=1, head=head)
    git(task.origin, "update-ref", "refs/heads/main", head)
    state = task.resume(Event(id="e2", kind="merged"))
    assert (state["final"].kind, state["pull_request"].state) == ("done", "merged")


def test_closing_ends_the_task(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE)
    task.start()
    task.ports.forge.close(task.repository, 1)
    state = task.resume(Event(id="e2", kind="closed"))
    assert (state["final"].kind, "closed without a merge" in state["final"].text) == ("done", True)


def test_a_merge_that_conflicts_is_told_and_can_be_tried_again(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, brief={"on_approval": "merge"})
    head = task.start()["head"]
    add_commit(task.origin, {"calc.py": "def add(a, b):\n    return 0\n"})
    state = task.resume(approval(head))
    assert "I could not merge #1" in state["notices"][0].text
    assert [a.sha for a in state["approvals"]] == [head]
    # As the forge says.
    assert not state["pull_request"].draft
    assert state["pull_request"] == task.forge.pull_request(task.repository, 1)
    assert task.waits == Watching(number=1, head=head)
    state = task.resume(Event(id="e2", kind="revoked", by=ANN, sha=head))
    assert state["approvals"] == []


def merging(folder: Path) -> tuple[Bench, str]:
    task = bench(folder, PLAN, FIX, DONE, brief={"on_approval": "merge"})
    return task, task.start()["head"]


def revoked(head: str, id_: str, by: Any = ANN) -> Event:
    return Event(id=id_, kind="revoked", by=by, sha=head)


def test_an_approval_that_was_taken_back_before_it_was_read_merges_nothing(tmp_path: Path) -> None:
    task, head = merging(tmp_path)
    # As a turn leaves it that died between the forge and its checkpoint.
    task.forge.approve(task.repository, 1, head, ANN)
    state = task.resume(approval(head), revoked(head, "e2"))
    assert (state["pull_request"].state, state["approvals"], state["taken"]) == ("open", [], ["e1", "e2"])
    assert task.waits == Watching(number=1, head=head)
    task.forge.ready(task.repository, 1)
    with pytest.raises(MergeRefused, match="not approved"):
        task.forge.merge(task.repository, 1, head, "x")


@pytest.mark.parametrize("who", ["another", "again", "another commit"])
def test_what_takes_back_something_else_leaves_an_approval_alone(tmp_path: Path, who: str) -> None:
    """The control: only the same person's later word on the same commit counts."""
    task, head = merging(tmp_path)
    batches = {
        "another": [approval(head), revoked(head, "e2", BEN)],
        "again": [approval(head), revoked(head, "e2"), approval(head, "e3")],
        "another commit": [approval(head), revoked("0" * 40, "e2")],
    }
    assert task.resume(*batches[who])["pull_request"].state == "merged"


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_rejection_in_the_same_breath_wins_over_an_approval(tmp_path: Path, first: bool) -> None:
    task, head = merging(tmp_path)
    rejection = Event(id="r1", kind="rejected", by=BEN)
    batch = [rejection, approval(head)] if first else [approval(head), rejection]
    state = task.resume(*batch)
    assert (state["pull_request"].state, task.waits.kind) == ("open", "why")
    assert state.get("approvals", []) == []
    (notice,) = state["notices"]
    assert "Ben rejected the result at the same time" in notice.text
    assert sorted(state["taken"]) == ["e1", "r1"]


def test_a_rejection_that_comes_too_late_does_not_hide_a_merge(tmp_path: Path) -> None:
    """The turn that merged died before it could say so; its approval is read again, now with a rejection."""
    task, head = merging(tmp_path)
    git(task.origin, "update-ref", "refs/heads/main", head)
    state = task.resume(approval(head), Event(id="r1", kind="rejected", by=BEN, text="no"))
    assert (state["final"].kind, state["pull_request"].state) == ("done", "merged")
    assert state["taken"] == ["e1"]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_words_in_a_batch_that_ends_the_task_are_left_for_the_turn_to_answer(tmp_path: Path, first: bool) -> None:
    task, head = merging(tmp_path)
    words = Event(id="w1", kind="words", by=BEN, text="Wait, also log it")
    state = task.resume(*([words, approval(head)] if first else [approval(head), words]))
    assert (state["final"].kind, state["pull_request"].state) == ("done", "merged")
    assert (state["taken"], state["heard"]) == (["e1"], [])


def test_words_beside_an_approval_that_ends_nothing_are_taken_in(tmp_path: Path) -> None:
    """The control: both have their effect, and both count as read."""
    task = bench(tmp_path, PLAN, FIX, DONE, call("answer", text="Because of the sign."))
    head = task.start()["head"]
    state = task.resume(Event(id="w1", kind="words", by=BEN, text="Why?"), approval(head))
    assert (state["taken"], state["pull_request"].draft) == (["w1", "e1"], False)
    assert "Because of the sign." in [notice.text for notice in state["notices"]]


def test_an_approval_that_the_forge_refuses_is_not_kept(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE, brief={"on_approval": "review"})
    head = task.start()["head"]
    task.forge.close(task.repository, 1)
    state = task.resume(approval(head))
    assert "I could not approve #1" in state["notices"][0].text
    assert state.get("approvals", []) == []


# Broken off


def test_a_stop_flies_out_and_save_work_keeps_the_tree_on_the_branch(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE)
    task.sandbox.on_run = None
    steps = task.steps({"schema": 1, "brief": _brief(task)})
    for _ in steps:
        if task.journal.effects:
            break
    steps.close()
    task.halt.set("Ann")
    with pytest.raises(Stopped):
        task.send(None)
    task.new_worker()
    sha = save_work(task.state, task.ports)
    assert sha == save_work(task.state, task.ports)
    assert task.log() == ["wip: fix: add the numbers", "first"]
    assert "a + b" in task.file("calc.py")


def test_save_work_has_nothing_to_keep_while_nothing_is_changed(tmp_path: Path) -> None:
    task = bench(tmp_path, ask_call())
    assert save_work({}, task.ports) == ""
    task.start()
    assert save_work(task.state, task.ports) == ""
    assert task.branches() == ["main"]


def test_every_node_may_run_twice(tmp_path: Path) -> None:
    """Broken off after each superstep in turn, and gone on from its checkpoint by a new worker, the end is the same."""
    mend = call("run", command="sed -i 's/[*]/+/' calc.py; echo x >> log")
    task = bench(tmp_path, READ, PLAN, ADD_TEST, WRONG, DONE, mend, DONE, reviews=[NIT])
    payload: Any = {"schema": 1, "brief": _brief(task)}
    turns = 0
    while not task.waits and turns < 100:
        steps = task.steps(payload)
        for place, _ in enumerate(steps):
            if place == 1:
                break
        steps.close()
        turns, payload = turns + 1, None
        task.new_worker()
    assert isinstance(task.waits, Watching)
    assert turns > 15
    assert task.log() == ["fix: add the numbers", "first"]
    assert task.file("log") == "x"
    assert len(task.state["commits"]) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_a_tool_call_never_does_it_twice(tmp_path: Path, when: str) -> None:
    """The worker dies inside the node; `ended` says whether the journal had the result by then."""

    class Killed(BaseException):
        pass

    task = bench(tmp_path, PLAN, call("run", command="echo x >> log.txt"), FIX, DONE)
    real_end, armed = task.journal.end, [True]

    def end(key: str, result: str) -> None:
        if when == "after":
            real_end(key, result)
        if armed:
            armed.clear()
            raise Killed
        real_end(key, result)

    task.journal.end = end  # type: ignore[method-assign]
    with pytest.raises(Killed):
        task.start()
    task.new_worker()
    state = task.send(None)
    assert task.file("log.txt") == "x"
    results = [m.text for m in state["messages"] if isinstance(m, ToolMessage)]
    assert ("outcome is unknown" in results[1]) == (when == "before")


def test_without_the_journal_the_call_would_be_done_twice(tmp_path: Path) -> None:
    """The control of the test above."""

    class Killed(BaseException):
        pass

    task = bench(tmp_path, PLAN, call("run", command="echo x >> log.txt"), FIX, DONE)
    armed = [True]

    def end(key: str, result: str) -> None:
        task.journal.effects.clear()
        if armed:
            armed.clear()
            raise Killed

    task.journal.end = end  # type: ignore[method-assign]
    with pytest.raises(Killed):
        task.start()
    task.send(None)
    assert task.file("log.txt") == "x\nx"


def test_a_lost_checkout_is_made_from_what_was_kept_when_the_question_was_asked(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, ask_call(), DONE)
    task.start()
    shutil.rmtree(tmp_path / "home" / "work")
    task.new_worker()
    state = task.resume(answer("plain", task.waits))
    assert state["pull_request"]
    assert "a + b" in task.file("calc.py")


def test_a_test_run_that_times_out_is_red_when_it_ended_on_the_base(tmp_path: Path) -> None:
    files = {"slow.sh": "exit 0\n", "Makefile": "test:\n\tbash slow.sh\n"}
    slow = call("write_file", path="slow.sh", content="sleep 30\n")
    task = bench(tmp_path, PLAN, slow, DONE, files=files, rules=Rules(limits=Limits(), repairs=0, test_seconds=0.5))
    task.start()
    assert task.waits.kind == "stuck"
    assert "time limit" in task.waits.text


HIDDEN = (
    "import importlib\nimport unittest\n\n\nclass BothTest(unittest.TestCase):\n    def test_one(self):\n"
    "        self.assertEqual(importlib.import_module('o' + 'ne').one(), 1)\n"
)
LONG: dict[str | bytes, Any] = {
    "one.py": "def one():\n    return 1\n",
    "test_both.py": HIDDEN,
    "Makefile": "test:\n\tpython3 -m unittest -v\n",
}
STEP = "[checks]\ntest = 'python3 -m unittest'\ntest_step = 'true'\n"


@pytest.mark.parametrize("more", [{}, {".threadwright.toml": STEP}], ids=["no test of a step", "test_step"])
def test_a_whole_suite_that_is_red_stays_red_when_the_model_says_done_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    monkeypatch.setattr("graph.checking.QUICK", 0.0)
    monkeypatch.setattr("graph.checking.BEARABLE", 0.0)
    wrong = call("write_file", path="one.py", content="def one():\n    return 5\n")
    rules = Rules(limits=Limits(), repairs=1)
    task = bench(tmp_path, PLAN, wrong, DONE, DONE, files={**LONG, **more}, rules=rules)
    task.start()
    assert (task.waits.kind, task.branches()) == ("stuck", ["main"])
    assert "The checks are red" in task.waits.text


def test_a_follow_up_that_changes_nothing_keeps_what_the_whole_suite_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graph.checking.QUICK", 0.0)
    monkeypatch.setattr("graph.checking.BEARABLE", 0.0)
    more = call("write_file", path="two.py", content="TWO = 2\n")
    task = bench(tmp_path, PLAN, more, DONE, PLAN, DONE, DONE, files=LONG)
    state = task.start()
    (whole,) = state["receipts"]
    assert (whole.verdict, whole.command.command) == ("green", "make test")
    state = task.resume(Event(id="w1", kind="words", by=BEN, text="Do it again"))
    assert state["receipts"] == [whole]


# Guidance


def test_the_repositorys_guidance_is_shown_as_data_and_the_nearest_once(tmp_path: Path) -> None:
    files = {**FILES, "AGENTS.md": "Use tabs.", "web/AGENTS.md": "Use spaces.", "web/a.js": "x\n", "web/b.js": "y\n"}
    reads = (call("read_file", path="web/a.js"), call("read_file", path="web/b.js"))
    task = bench(tmp_path, *reads, PLAN, FIX, DONE, files=files)
    state = task.start()
    first = state["messages"][0].text
    mark = first.partition("between <")[2].partition(">")[0]
    assert f"<{mark}>\nUse tabs.\n</{mark}>" in first
    texts = [m.text for m in state["messages"] if isinstance(m, ToolMessage)]
    assert sum("Use spaces." in text for text in texts) == 1
    assert state["shown"] == ["web"]


def test_red_that_nobody_asked_for_is_never_pushed(tmp_path: Path) -> None:
    """`check` lets nothing red pass; this is the second lock on the same door."""
    task = bench(tmp_path, PLAN, ADD_TEST, WRONG, DONE, DONE, DONE, DONE)
    state = task.start()
    work = task.workspaces.kept("tw-test", task.repository)
    task.box.reset(work)
    end = publish({**state, "head": work, "receipts": state["checks"]}, Runtime(context=task.ports))
    assert (end["question"].kind, end.get("final")) == ("stuck", None)
    assert task.branches() == ["main"]
    end = publish({**state, "head": work, "receipts": state["checks"], "finishing": True}, Runtime(context=task.ports))
    assert end["pull_request"].draft


RED = CheckResult(command=Command(kind="test", command="make test", found_in="Makefile"), verdict="red")


def red_before_the_push(folder: Path, *coder: AIMessage) -> Bench:
    """A task whose checks turn red between the last step and the push, so that `publish` must ask."""
    task = bench(folder, PLAN, FIX, DONE, *coder)
    for state in (steps := task.steps({"schema": 1, "brief": _brief(task)})):
        if state.get("next") == "publish":
            break
    steps.close()
    task.send(Resume(update={"receipts": [RED]}))
    return task


def test_red_before_the_push_is_asked_about_and_a_draft_is_opened_on_demand(tmp_path: Path) -> None:
    task = red_before_the_push(tmp_path)
    assert (task.waits.kind, task.branches()) == ("stuck", ["main"])
    assert "`make test`: red" in task.waits.text
    state = task.resume(answer("Open a draft with what is there", task.waits))
    assert state["pull_request"].draft
    assert "Some checks are red" in task.forge.body


def test_a_hint_for_red_before_the_push_is_one_more_step_and_the_same_one_again(tmp_path: Path) -> None:
    mend = call("write_file", path="a.txt", content="x")
    again = call("write_file", path="b.txt", content="x")
    task = red_before_the_push(tmp_path, mend, DONE, again, DONE)
    steps = task.steps(Resume(resume={interrupt_of(task): [answer("Write a.txt", task.waits)]}))
    for state in steps:
        if state.get("next") == "publish":
            break
    steps.close()
    words = task.model.texts("implement")
    assert "Ann says: Write a.txt" in words
    assert "`make test` is green" in words
    task.send(Resume(update={"receipts": [RED]}))
    state = task.resume(answer("Write b.txt", task.waits))
    assert [step.title for step in state["plan"].steps] == ["fix: add the numbers", "fix: make the checks green"]
    assert task.log()[:2] == ["fix: make the checks green"] * 2
    assert state["pull_request"]


def test_red_before_the_push_can_be_stopped(tmp_path: Path) -> None:
    task = red_before_the_push(tmp_path)
    state = task.resume(answer("Stop", task.waits))
    assert state["final"].kind == "stopped"
    assert state["head"][:7] in state["final"].text


def test_a_branch_that_is_not_taken_fails_in_plain_words(tmp_path: Path) -> None:
    task = bench(tmp_path, PLAN, FIX, DONE)
    add_commit(task.origin, {"x": "y"}, branch="threadwright/tw-test")
    state = task.start()
    assert state["final"].kind == "failed"
    assert "could not be pushed" in state["final"].text


def test_work_kept_on_top_of_an_earlier_head_is_not_taken_for_the_newest(tmp_path: Path) -> None:
    """A stopped task's unfinished work becomes the head; what an older question kept must not win over it."""
    task = bench(tmp_path, PLAN, FIX, ask_call(), call("write_file", path="late.txt", content="late"), DONE)
    task.start()
    steps = task.steps(Resume(resume={interrupt_of(task): [answer("a", task.waits)]}))
    for _ in steps:
        if len(task.journal.effects) == 2:
            break
    steps.close()
    saved = save_work(task.state, task.ports)
    shutil.rmtree(tmp_path / "home" / "work")
    task.new_worker()
    commit = Commit(sha=saved, title="wip: kept when stopped", step=0)
    task.send(Resume(update={"head": saved, "commits": [commit]}))
    assert task.file("late.txt") == "late"
    assert task.log() == ["wip: fix: add the numbers", "first"]
