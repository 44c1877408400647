"""What people say to a task that works or waits: each verb does what was promised, once, and loses no work."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

from greetings import LOUD, TESTED, TITLE, alive, louder, pull_of, tool_results, until
from rooms import House, Room, by_role, call, done, plan, write

from bot.chat import Author
from integrations.scriptedmodel import Refuse, Reply, Request, Script, marked_role

BEN = Author("room:any:ben", "Ben")
EVE = Author("room:any:eve", "Eve")
WORKFLOW = ".github/workflows/ci.yml"


@dataclass
class Held:
    """A script that holds back one answer of the coder until it is let go."""

    script: Script
    place: int
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, request: Request) -> Reply:
        if marked_role(request) == "coder" and request.answers_so_far == self.place:
            self.reached.set()
            self.go.wait(20)
        return self.script(request)


def two_steps() -> Script:
    return by_role(
        [plan(TITLE, "docs: say how"), write("greet.py", LOUD), done(), write("README.md", "greet()\n"), done()]
    )


def let_go(script: Held, house: House) -> None:
    """Once the worker's heartbeat has seen what was said meanwhile."""
    threading.Event().wait(house.settings.beat_seconds * 6)
    script.go.set()


def result_key(room: Room) -> str:
    return [key for key in room.chat.order if ":result-" in key][-1].partition(":")[2]


# ---- stop


SLOW_TEST = (
    "import os, subprocess, unittest\n\n\nclass Slow(unittest.TestCase):\n    def test_slow_once(self):\n"
    "        if os.path.exists('slow') and not os.path.exists('slow.seen'):\n"
    "            open('slow.seen', 'w').close()\n"
    "            subprocess.Popen(['sleep', '{0}'], start_new_session=True)\n"
    "            subprocess.Popen(['sh', '-c', 'trap \"\" TERM INT HUP; sleep {0} & sleep {0}; sleep {0}'])\n"
    "            subprocess.run(['sleep', '{0}'])\n"
)


def test_cancel_while_a_test_runs_kills_it_all_keeps_the_work_and_retry_goes_on_from_there(house: House) -> None:
    marker = f"60.0{os.getpid()}"
    files = {**TESTED, "tests/test_slow.py": SLOW_TEST.format(marker), ".gitignore": "slow.seen\n"}
    room = house.room(files, louder(write("slow", "yes\n")))
    room.start()
    until(lambda: len(alive(marker)) >= 5, "in the slow test")
    room.say("cancel")
    assert until(lambda: not alive(marker), "rid of the test and its children", 5) < 5
    room.until("stopped", patience=10)
    branch = f"threadwright/{room.task}"
    assert room.file(branch, "greet.py") == LOUD.rstrip("\n")
    assert room.file(branch, "slow") == "yes"
    [last] = room.said("final")
    assert f"is on the branch `{branch}` at `{room.git('rev-parse', branch)[:7]}`" in last
    assert room.pulls() == []
    kept = room.git("rev-parse", branch)

    room.say("retry")
    room.until("watching")
    assert pull_of(room)["branch"] == branch
    assert room.file(branch, "greet.py") == LOUD.rstrip("\n")
    assert kept in room.git("log", "--format=%H", branch).splitlines()
    assert len(room.said("final")) == 1
    assert len(room.said("result")) == 1


def test_stop_while_a_question_is_open_ends_the_task_once_with_its_unfinished_work(house: House) -> None:
    question = call("ask_person", questions=[{"question": "Loud or soft?", "assumption": "loud"}])
    room = house.room(TESTED, by_role([plan(TITLE), write("greet.py", LOUD), question]))
    room.start()
    room.until("asking")
    room.say("stop")
    room.until("stopped")
    branch = f"threadwright/{room.task}"
    until(lambda: branch in room.git("for-each-ref", "--format=%(refname)"), "pushed")
    assert room.file(branch, "greet.py") == LOUD.rstrip("\n")
    threading.Event().wait(house.settings.sweep_seconds * 2)
    room.settle()
    assert room.view.status == "stopped"
    assert len(room.said("final")) == 1
    assert room.pulls() == []


# ---- pause, finish, retry, move, new


def test_pause_waits_at_the_next_step_and_resume_goes_on(house: House) -> None:
    script = Held(two_steps(), 2)
    room = house.room(TESTED, script)
    room.start()
    assert script.reached.wait(20)
    assert "pause" in room.say("pause").reply
    let_go(script, house)
    room.until("paused")
    assert [line.partition(" ")[0] for line in room.log()].count("commit") == 1
    asked = len(house.server.requests)
    threading.Event().wait(house.settings.sweep_seconds * 2)
    assert room.view.status == "paused"
    assert len(house.server.requests) == asked
    assert "goes on" in room.say("resume").reply
    room.until("watching")
    assert room.commits() == [TITLE, "docs: say how"]


def test_finish_opens_a_draft_with_what_is_there_and_says_what_is_missing(house: House) -> None:
    script = Held(two_steps(), 3)
    room = house.room(TESTED, script)
    room.start()
    assert script.reached.wait(20)
    room.say("finish")
    let_go(script, house)
    room.until("watching")
    assert room.file(f"threadwright/{room.task}", "greet.py") == LOUD.rstrip("\n")
    pull = pull_of(room)
    assert pull["draft"]
    assert "docs: say how" in pull["body"]
    assert "missing" in pull["body"].lower() or "not done" in pull["body"].lower()
    [result] = room.said("result")
    assert "docs: say how" in result


def test_retry_after_a_failure_goes_on_from_the_last_good_step(house: House) -> None:
    good, broken = two_steps(), threading.Event()
    broken.set()

    def script(request: Request) -> Reply:
        if broken.is_set() and marked_role(request) == "coder" and request.answers_so_far == 3:
            return Refuse(400, "no such thing")
        return good(request)

    room = house.room(TESTED, script)
    room.start()
    room.until("failed")
    [last] = room.said("final")
    assert "Error id e-" in last
    broken.clear()
    room.say("retry")
    room.until("watching")
    assert room.commits() == [TITLE, "docs: say how"]
    assert len(room.pulls()) == 1
    assert len(room.said("final")) == 1


def test_move_does_the_same_in_the_other_repository_and_closes_the_old_draft(house: House) -> None:
    room = house.room(TESTED, louder())
    other = house.room(TESTED)
    room.start()
    room.until("watching")
    old = room.task
    receipt = room.say(f"move {other.repository}")
    assert receipt.started
    room.task = receipt.task
    room.until("watching")
    assert other.git("log", "--format=%s", f"main..threadwright/{room.task}").splitlines() == [TITLE]
    view = room.desk.task(old)
    assert view is not None
    assert view.status == "stopped"
    until(lambda: pull_of(room)["state"] == "closed", "the old draft closed")


def test_new_starts_afresh_beside_the_open_task(house: House) -> None:
    room = house.room(TESTED, louder())
    first = room.start()
    room.until("watching")
    room.say("new")
    second = room.start("greet again")
    assert second != first
    room.until("watching")
    before = room.desk.task(first)
    assert before is not None
    assert before.status == "watching"
    assert len(room.pulls()) == 2


# ---- questions


def ask(*questions: str, suggestions: tuple[str, ...] = ()) -> Reply:
    asked = [{"question": q, "suggestions": list(suggestions), "assumption": "the first"} for q in questions]
    return call("ask_person", questions=asked)


def test_numbers_answer_several_questions_at_once(house: House) -> None:
    coder = [ask("Which colour?", "Which size?", suggestions=("one", "two")), plan(TITLE), write("greet.py", LOUD)]
    room = house.room(TESTED, by_role([*coder, done()]))
    room.start()
    room.until("asking")
    room.say("1: 2; 2: 1")
    room.until("watching")
    assert "Which colour? two" in tool_results(room)[0]
    assert "Which size? one" in tool_results(room)[0]


def test_a_second_answer_is_heard_as_a_late_one_and_the_first_counts(house: House) -> None:
    script = Held(by_role([ask("Loud or soft?"), plan(TITLE), write("greet.py", LOUD), done()]), 1)
    room = house.room(TESTED, script)
    room.start()
    room.until("asking")
    room.say("loud")
    assert script.reached.wait(20)
    room.say("soft after all")
    script.go.set()
    room.until("watching")
    assert "answers: loud" in tool_results(room)[0]
    said = [r for r in house.server.requests if room.marker in str(r.messages) and marked_role(r) == "coder"][-1]
    assert sum("soft after all" in str(m["content"]) for m in said.messages if m["role"] == "user") == 1


def test_a_plan_that_was_asked_for_is_carried_out_only_once_it_is_approved(house: House) -> None:
    for answer in ("approve", "1", "yes"):
        room = house.room(TESTED, louder())
        room.start(options=" plan=ask")
        view = room.until("asking")
        assert view.data["question"]["kind"] == "plan"
        assert TITLE in room.said("question")[0]
        assert room.commits("main") == []
        room.say(answer)
        room.until("watching")
        assert room.commits() == [TITLE]


def test_a_plan_that_is_not_approved_is_made_anew(house: House) -> None:
    script = by_role([plan("feat: shout"), plan(TITLE), write("greet.py", LOUD), done()])
    room = house.room(TESTED, script)
    room.start(options=" plan=ask")
    room.until("asking")
    room.say("do not shout, greet louder")
    room.when(lambda v: v.status == "asking" and len(room.said("question")) == 2, "asking again")
    assert TITLE in room.said("question")[1]
    room.say("reject")
    room.settle()
    assert room.view.status == "asking"
    room.say("go on")
    room.until("watching")
    assert "do not shout" in tool_results(room)[0]


# ---- protected paths


def protected(house: House, *more: Reply, **changed: Any) -> Room:
    coder = [plan(TITLE), write("greet.py", LOUD), write(WORKFLOW, "on: push\n"), done(), *more]
    room = house.room(TESTED, by_role(coder), **changed)
    room.start()
    view = room.until("asking")
    assert view.data["question"]["kind"] == "protected"
    assert WORKFLOW in room.said("question")[0]
    return room


def test_a_protected_path_leaves_after_an_approver_said_yes_and_nobody_else_may(house: House) -> None:
    room = protected(house, approvers=(BEN.id,))
    assert "Only approvers" in room.say("yes", EVE).whisper
    room.settle()
    assert room.view.status == "asking"
    room.say("yes", BEN)
    room.until("watching")
    assert room.file(f"threadwright/{room.task}", WORKFLOW) == "on: push"


def test_a_protected_path_that_was_refused_stays_here(house: House) -> None:
    room = protected(house, call("delete_file", path=WORKFLOW), done())
    room.say("no")
    room.until("watching")
    assert room.git("diff", "--name-only", "main", f"threadwright/{room.task}") == "greet.py"
    assert any("does not allow" in text for text in tool_results(room))


# ---- approving


def test_reject_asks_why_and_the_answer_becomes_a_commit_on_the_same_pull_request(house: House) -> None:
    more = [plan("fix: greet you", title="Greet you"), write("greet.py", LOUD.replace("there", "you")), done()]
    room = house.room(TESTED, by_role([plan(TITLE), write("greet.py", LOUD), done(), *more]))
    room.start()
    room.until("watching")
    room.react("reject", result_key(room))
    view = room.until("asking")
    assert view.data["question"]["kind"] == "why"
    room.say("say you, not there")
    room.when(lambda v: v.status == "watching" and len(room.said("result")) == 2, "a second result")
    assert room.commits() == [TITLE, "fix: greet you"]
    assert len(room.pulls()) == 1
    said = [r for r in house.server.requests if room.marker in str(r.messages) and marked_role(r) == "coder"][-1]
    assert str(said.messages).count("say you, not there") == 1


def test_an_approval_that_is_taken_away_is_revoked_at_the_forge(house: House) -> None:
    room = house.room(TESTED, louder())
    room.start()
    room.until("watching")
    key = result_key(room)
    room.react("approve", key)
    room.when(lambda v: bool(v.data["approvals"]), "approved")
    room.react("approve", key, kind="unreaction")
    room.when(lambda v: not v.data["approvals"], "revoked")
    [approval] = pull_of(room)["approvals"]
    assert approval["revoked"]
    room.until("watching")


def test_a_second_person_must_approve_where_the_policy_says_so(house: House) -> None:
    room = house.room(TESTED, louder(), on_approval="merge", approvers=(BEN.id,))
    room.start()
    room.until("watching")
    for receipt in (room.say("approve"), room.react("approve", result_key(room))):
        assert "somebody else must approve" in receipt.whisper
    room.settle()
    assert room.view.status == "watching"
    assert room.git("log", "--format=%s", "main") == "first"
    room.react("approve", result_key(room), BEN)
    view = room.until("done")
    assert view.data["pull_request"]["state"] == "merged"
    assert "approved by Ben" in room.said("result")[0]
