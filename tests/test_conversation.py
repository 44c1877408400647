"""The conversation in a terminal: what a line becomes, a task followed to its end, a pipe, a keyboard."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes_desk import Talk
from greetings import until

from bot.chat import DeskClosed
from bot.cli import (
    NOTHING,
    OK,
    QUESTION,
    CannotGoOn,
    question_text,
)
from bot.hands import Hands, watched
from bot.session import follow, reaction_of, read_pipe, waits_first

ROOT = Path(__file__).parents[1]


# ---- a conversation


CHOICE = ("How many?", ("three", "five"), "three")


def test_the_first_words_start_a_task_with_the_options_of_the_command_line() -> None:
    talk = Talk(repo="/srv/my repo", budget="2")
    assert talk.session.line("add retries")
    assert talk.desk.requests[-1].text == '[repo="/srv/my repo" budget="2"] add retries'
    assert talk.desk.requests[-1].local
    assert talk.desk.requests[-1].author.standing == "operator"
    assert talk.desk.jobs[talk.task].text == "add retries"
    assert "👀" in talk.shown


def test_later_words_go_to_the_open_task_as_they_are() -> None:
    talk = Talk(repo="/srv/repo")
    talk.session.line("add retries")
    first = talk.task
    talk.session.line("and log them")
    assert (talk.task, talk.desk.jobs[first].heard) == (first, ["and log them"])
    talk.desk.end(first, "done")
    talk.session.line("now the docs")
    assert talk.task != first
    assert talk.desk.requests[-1].text == '[repo="/srv/repo"] now the docs'


def test_words_that_name_their_own_repository_keep_it() -> None:
    talk = Talk(repo="/srv/repo", budget="2")
    talk.session.line("[repo=acme/api] add retries")
    assert talk.desk.requests[-1].text == '[budget="2"] [repo=acme/api] add retries'


def test_a_number_answers_the_open_question() -> None:
    talk = Talk()
    talk.session.line("add retries")
    talk.desk.ask(talk.task, "How many?", CHOICE)
    talk.session.line("2")
    assert talk.desk.requests[-1].replies_to_question
    assert talk.desk.jobs[talk.task].answers == ["five"]


@pytest.mark.parametrize(
    ("said", "reaction"),
    [
        ("/react ✅", "approve"),
        ("/react", "approve"),
        ("/react ❌", "reject"),
        ("/react stop", "stop"),
        ("/react :tada:", "tada"),
    ],
)
def test_reactions_reach_the_desk(said: str, reaction: str) -> None:
    talk = Talk()
    talk.session.line("add retries")
    talk.result()
    talk.outbox.run_once()
    talk.session.chat.card = "m-card"
    talk.session.line(said)
    asked = talk.desk.requests[-1]
    assert (asked.kind, asked.reaction) == ("reaction", reaction)
    assert asked.target == ("m-card" if reaction == "stop" else talk.session.chat.result)


def test_a_reaction_on_a_result_that_another_process_posted_is_the_verb() -> None:
    talk = Talk()
    talk.session.line("add retries")
    talk.desk.publish(talk.task)
    talk.session.line("/react ✅")
    assert (talk.desk.requests[-1].kind, talk.desk.requests[-1].text) == ("command", f"approve {talk.task}")


def test_verbs_work_with_and_without_a_slash_and_paths_are_words() -> None:
    talk = Talk()
    talk.session.line("status")
    talk.session.line("/status")
    assert [r.kind for r in talk.desk.requests] == ["command", "command"]
    talk.session.line("/health answers 500")
    assert talk.desk.requests[-1].kind == "message"
    talk.session.line("/nonsense")
    assert len(talk.desk.requests) == 3
    assert "I know no /nonsense" in talk.shown.replace("`", "")


def test_a_bad_option_is_explained_and_nothing_starts() -> None:
    talk = Talk()
    talk.session.line("[colour=red] paint it")
    assert not talk.desk.jobs
    assert "I know no option `colour`" in talk.shown


def test_asides_and_empty_lines_are_not_read_and_quit_leaves() -> None:
    talk = Talk()
    assert talk.session.line("!aside between us")
    assert talk.session.line("  ")
    assert not talk.session.line("/quit")
    assert not talk.desk.requests


def test_what_was_said_before_comes_along_as_context() -> None:
    talk = Talk()
    talk.session.line("add retries")
    talk.desk.end(talk.task, "done")
    talk.session.line("now the docs")
    assert [said.text for said in talk.desk.requests[-1].context] == ["add retries"]


def test_a_desk_that_cannot_store_is_not_taken_for_one_that_did() -> None:
    talk = Talk()
    talk.desk.closed = True
    with pytest.raises(DeskClosed):
        talk.session.line("add retries")


# ---- code blocks

DIFF = "--- a/README.md\n+++ b/README.md\n@@ -1,2 +1,2 @@\n ```\n-**old**\n+**new**\n ```"


def test_a_diff_is_shown_as_it_is_without_the_lines_of_its_fence() -> None:
    talk = Talk()
    talk.session.chat.say(f"Changes of `tw-k3f9m`:\n```diff\n{DIFF}\n```")
    assert talk.shown == f"Changes of `tw-k3f9m`:\n{DIFF}\n"
    talk = Talk()
    talk.session.chat.file("tw-k3f9m.diff", f"```diff\n{DIFF}\n```")
    assert talk.shown == f"--- tw-k3f9m.diff ---\n{DIFF}\n"


@pytest.mark.parametrize(
    "text", ["Run\n```\na\n```\nthen\n```\nb\n```", "Run\n```\na\n```\nthen b", "```\nopen", "`a` and ```b```", ""]
)
def test_other_text_keeps_its_fences(text: str) -> None:
    talk = Talk()
    talk.session.chat.say(text)
    assert talk.shown == f"{text}\n"


# ---- following a task


def steps(*acts: Callable[[], None]) -> Callable[[], None]:
    """A `wait` that plays the worker: one act a look."""
    left = iter(acts)

    def wait() -> None:
        next(left)()

    return wait


def test_a_run_answers_in_order_and_ends_with_the_pull_request() -> None:
    talk = Talk()
    talk.session.line("add retries")
    job = talk.desk.jobs[talk.task]
    wait = steps(
        lambda: talk.desk.ask(talk.task, "How many?", CHOICE),
        lambda: talk.desk.ask(talk.task, "Log it?", name="q2"),
        talk.result,
    )
    assert follow(talk.session, answers=["2", "yes"], approve=False, drain=talk.outbox.run_once, wait=wait) == OK
    assert job.answers == ["five", "yes"]
    assert "PR #1" in talk.shown


def test_a_run_without_an_answer_stops_at_the_question() -> None:
    talk = Talk()
    talk.session.line("add retries")
    wait = steps(lambda: talk.desk.ask(talk.task, "How many?", CHOICE))
    assert follow(talk.session, answers=[], approve=False, drain=talk.outbox.run_once, wait=wait) == QUESTION
    view = talk.session.view()
    assert view is not None
    assert f'threadwright answer {talk.task} "…"' in question_text(view)


def test_an_answer_is_given_once_while_it_is_not_read_yet() -> None:
    talk = Talk()
    talk.session.line("add retries")
    job = talk.desk.jobs[talk.task]

    def still_asking() -> None:
        talk.desk.ask(talk.task, "How many?", CHOICE)

    wait = steps(still_asking, still_asking, lambda: talk.desk.end(talk.task, "nothing to do"))
    assert follow(talk.session, answers=["1", "2"], approve=False, drain=talk.outbox.run_once, wait=wait) == NOTHING
    assert job.answers == ["three"]


def test_approval_is_given_once_a_commit_and_waits_for_what_it_promises() -> None:
    talk = Talk()
    talk.session.line("add retries")
    job = talk.desk.jobs[talk.task]

    def nothing() -> None:
        pass

    wait = steps(
        talk.result,
        nothing,
        nothing,
        lambda: talk.desk.publish(talk.task, "def5678"),
        lambda: talk.desk.end(talk.task, "done"),
    )
    job.data["on_approval"] = "merge"
    assert follow(talk.session, answers=[], approve=True, drain=talk.outbox.run_once, wait=wait) == OK
    assert job.reactions == ["approve", "approve"]


def test_a_task_that_is_gone_ends_the_run() -> None:
    talk = Talk()
    talk.session.task = "tw-gone"
    with pytest.raises(CannotGoOn, match="tw-gone"):
        follow(talk.session, answers=[], approve=False, drain=int, wait=steps())


def test_a_piped_conversation_waits_with_its_answers_and_not_with_its_verbs() -> None:
    talk = Talk()
    wait = steps(
        lambda: talk.desk.ask(talk.task, "How many?", CHOICE), talk.result, lambda: talk.desk.end(talk.task, "done")
    )

    lines = ["add retries\n", "status\n", "2\n", "/react ✅\n"]
    reacted: list[str] = []

    def drain() -> int:
        done = talk.outbox.run_once()
        job = talk.desk.jobs.get(talk.task)
        if job and job.reactions[-1:] == ["approve"] and not reacted:
            reacted.append("approve")
            job.data["status"] = "running"
        return done

    read_pipe(talk.session, lines, drain=drain, wait=wait)
    job = talk.desk.jobs[talk.task]
    assert job.answers == ["five"]
    assert job.reactions == ["status", "approve"]


@pytest.mark.parametrize(
    ("line", "waits"),
    [("fix it", True), ("2", True), ("/react ✅", True), ("approve", True), ("/approve", True), ("status", False),
     ("cancel", False), ("/react stop", False), ("[x=1] y", False)],
)  # fmt: skip
def test_which_lines_of_a_pipe_wait(line: str, waits: bool) -> None:
    assert waits_first(line) is waits


# ---- who works


class Yard:
    """Workers that come and go as a test says, and a clock that it moves."""

    def __init__(self, alive: bool) -> None:
        self.alive = alive
        self.started = 0
        self.looks = 0
        self.now = 0.0
        self.hands = Hands(self._alive, self._start, log="x.log", within=30, clock=lambda: self.now)

    def _alive(self) -> bool:
        self.looks += 1
        return self.alive

    def _start(self) -> None:
        self.started += 1

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.hands.wait()


def test_while_others_work_no_worker_is_started() -> None:
    yard = Yard(alive=True)
    yard.hands.look()
    for _ in range(3):
        yard.later(60)
    assert (yard.started, yard.hands.others) == (0, True)


def test_one_worker_is_started_where_none_lives_and_when_the_others_have_gone() -> None:
    for gone in (False, True):
        yard = Yard(alive=gone)
        yard.hands.look()
        yard.alive = False
        yard.later(1)
        yard.later(5)
        assert (yard.started, yard.hands.others) == (1, False)
        yard.alive = True
        yard.later(10)
        yard.alive = False
        yard.later(60)
        assert yard.started == 1, "it is restarted by whoever supervises it"


def test_a_worker_of_our_own_that_does_not_come_up_is_noticed() -> None:
    yard = Yard(alive=False)
    yard.hands.look()
    yard.later(29)
    with pytest.raises(CannotGoOn, match="doctor"):
        yard.later(2)


def test_beside_a_person_who_types_it_is_looked_at_too_and_a_problem_is_said_once() -> None:
    yard = Yard(alive=True)
    said: list[str] = []
    with watched(yard.hands, (CannotGoOn,), said.append):
        yard.alive = False
        until(lambda: yard.started == 1, "started")
        yard.now = 31
        until(lambda: bool(said), "said")
        looks = yard.looks
        until(lambda: yard.looks > looks, "looked again")
    assert len(said) == 1


@pytest.mark.parametrize(("text", "reaction"), [("✅", "approve"), ("✔️", "approve"), ("❌", "reject"), ("🛑", "stop"),
                                                ("Reject", "reject"), (":eyes:", "eyes"), ("", "approve")])  # fmt: skip
def test_reactions_have_names(text: str, reaction: str) -> None:
    assert reaction_of(text) == reaction


# ---- a keyboard

TYPE = """
import fcntl, termios
import bot.session
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
keyboard = bot.session.Keyboard(print)
while (line := keyboard.line()) is not None:
    print("read", repr(line), flush=True)
print("left", flush=True)
"""


class Typist:
    """Types at a program on a terminal of its own."""

    def __init__(self, code: str) -> None:
        self.fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
            env={"TERM": "xterm"}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def until(self, text: str, within: float = 20) -> None:
        """Wait until `text` is on the screen; then forget what was there."""
        end = time.monotonic() + within
        while text not in self.seen:
            ready = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, f"{text!r} never came: {self.seen!r}"
            self.seen += os.read(self.fd, 4096).decode()
        self.seen = self.seen.partition(text)[2]

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def interrupt(self, expect: str) -> None:
        """Press Ctrl-C until it is noticed: Python misses one that comes just before its readline begins to wait."""
        for _ in range(4):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                self.until(expect, within=5)
                return
        raise AssertionError(f"Ctrl-C was not noticed: {self.seen!r}")


def test_ctrl_c_asks_once_and_then_leaves() -> None:
    typist = Typist(TYPE)
    try:
        typist.until("> ")
        typist.interrupt("Ctrl-C again")
        typist.until("> ")
        typist.type("add retries\n")
        typist.until("read 'add retries'")
        typist.until("> ")
        typist.interrupt("Ctrl-C again")
        typist.until("> ")
        typist.interrupt("left")
        assert typist.process.wait(10) == 0
    finally:
        typist.process.kill()
        typist.process.wait(10)
        os.close(typist.fd)


def test_the_end_of_input_leaves() -> None:
    typist = Typist(TYPE)
    try:
        typist.until("> ")
        typist.type("\x04")
        typist.until("left")
        assert typist.process.wait(10) == 0
    finally:
        typist.process.kill()
        typist.process.wait(10)
        os.close(typist.fd)
