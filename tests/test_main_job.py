"""The main job, end to end: a task in a thread becomes a tested pull request. Only the model is scripted."""

from __future__ import annotations

from rooms import OPERATOR, House, by_role, call, done, plan, write

from bot.chat import Author

TESTED = {
    "greet.py": "def greet():\n    return 'hello'\n",
    "tests/__init__.py": "",
    "tests/test_greet.py": (
        "import unittest\nfrom greet import greet\n\n\n"
        "class T(unittest.TestCase):\n    def test_greets(self):\n        self.assertIn('hello', greet())\n"
    ),
    "pyproject.toml": "[project]\nname = 'greet'\nversion = '1'\n",
}
LOUD = "def greet():\n    return 'hello there'\n"
BROKEN = "def greet():\n    return 'bye'\n"


def test_a_task_becomes_a_tested_pull_request_and_approval_marks_it_ready(house: House) -> None:
    script = by_role([call("read_file", path="greet.py"), plan("feat: greet louder"), write("greet.py", LOUD), done()])
    room = house.room(TESTED, script)
    room.start("greet louder")
    view = room.until("watching")
    assert room.commits() == ["feat: greet louder"]
    assert room.file(f"threadwright/{room.task}", "greet.py") == LOUD.rstrip("\n")
    [result] = room.said("result")
    assert "unittest" in result
    assert "green, exit 0" in result
    assert f"`{view.data['pull_request']['head'][:7]}`" in result
    assert "+    return 'hello there'" in room.say("diff").reply
    room.say("approve")
    room.when(lambda v: not v.data["pull_request"]["draft"], "ready")
    assert len(room.said("result")) == 1
    assert "ready for review" in room.said("result")[0]


def test_three_posts_when_nothing_goes_wrong(house: House) -> None:
    question = {"question": "Loud or soft?", "suggestions": ["loud", "soft"], "assumption": "loud"}
    script = by_role(
        [call("ask_person", questions=[question]), plan("feat: greet louder"), write("greet.py", LOUD), done()]
    )
    room = house.room(TESTED, script)
    room.start("greet better")
    room.until("asking")
    assert "Loud or soft?" in room.said("question")[0]
    room.say("1")
    room.until("watching")
    assert [key.partition("-")[0] for key in (k.partition(":")[2] for k in room.chat.order)] == [
        "card",
        "question",
        "result",
    ]
    assert any("loud" in str(m["content"]) for m in house.server.requests[-2].messages if m["role"] == "tool")


def test_a_red_test_is_repaired_before_anything_is_committed(house: House) -> None:
    script = by_role(
        [plan("feat: greet louder"), write("greet.py", BROKEN), done(), write("greet.py", LOUD), done("repaired")]
    )
    room = house.room(TESTED, script)
    room.start()
    room.until("watching")
    assert room.commits() == ["feat: greet louder"]
    assert room.file(f"threadwright/{room.task}", "greet.py") == LOUD.rstrip("\n")


def test_what_stays_red_is_asked_about_and_opens_no_pull_request(house: House) -> None:
    script = by_role([plan("feat: greet louder"), write("greet.py", BROKEN), *[done(str(n)) for n in range(4)]])
    room = house.room(TESTED, script)
    room.start()
    view = room.until("asking")
    assert view.data["question"]["kind"] == "stuck"
    assert room.pulls() == []
    room.say("Stop")
    room.until("stopped")
    assert room.pulls() == []
    assert len(room.said("final")) == 1


def test_nothing_changed_opens_nothing_and_says_so(house: House) -> None:
    script = by_role([plan("feat: greet louder"), done("it does that already")])
    room = house.room(TESTED, script)
    room.start()
    view = room.until("done")
    assert view.data["final"]["kind"] == "nothing to do"
    assert room.pulls() == []
    assert len(room.said("final")) == 1


def test_review_findings_go_back_and_are_fixed_on_the_same_branch(house: House) -> None:
    finding = {"severity": "major", "path": "greet.py", "text": "Too quiet."}
    reviews = [
        call("Review", summary="No.", findings=[finding]),
        call("Review", summary="Yes.", findings=[]),
    ]

    def review_place(request: object) -> int:
        return int("hello there" in str(getattr(request, "messages", "")))

    quiet = "def greet():\n    return 'hello you'\n"
    script = by_role([plan("feat: greet you"), write("greet.py", quiet), done(), write("greet.py", LOUD), done()])

    def answer(request):  # type: ignore[no-untyped-def]
        if "# Role: review" in str(request.messages[0]["content"]):
            return reviews[review_place(request)]
        return script(request)

    room = house.room(TESTED, answer)
    room.start()
    room.until("watching")
    assert len(room.commits()) == 2


def test_words_after_the_result_continue_on_the_same_pull_request(house: House) -> None:
    script = by_role(
        [
            plan("feat: greet louder"),
            write("greet.py", LOUD),
            done(),
            plan("docs: say how to greet", title="Say how"),
            write("README.md", "greet()\n"),
            done(),
        ]
    )
    room = house.room(TESTED, script)
    room.start()
    first = room.until("watching").data["pull_request"]
    room.say("also document it")
    second = room.when(
        lambda v: v.status == "watching" and v.data["pull_request"]["head"] != first["head"], "pushed again"
    ).data["pull_request"]
    assert second["number"] == first["number"]
    assert room.commits() == ["feat: greet louder", "docs: say how to greet"]
    assert len(room.pulls()) == 1
    texts = room.said("result")
    assert len(texts) == 2
    assert "was replaced by" in texts[0]


def test_a_question_that_the_thread_answers_gets_one_reply_and_no_repository(house: House) -> None:
    script = by_role([], triage=[call("Triage", kind="question", title="", reply="It is a thread.")])
    room = house.room(TESTED, script)
    room.start("what is this?")
    room.until("done")
    assert room.said("final") == ["It is a thread."]
    assert room.said("result") == []


def test_approval_merges_exactly_that_commit_when_the_policy_says_so(house: House) -> None:
    script = by_role([plan("feat: greet louder"), write("greet.py", LOUD), done()])
    room = house.room(TESTED, script, on_approval="merge", second_person=False)
    room.start()
    head = room.until("watching").data["pull_request"]["head"]
    key = next(k for k in room.chat.order if ":result-" in k).partition(":")[2]
    room.react("approve", key)
    view = room.until("done")
    assert view.data["pull_request"]["state"] == "merged"
    assert head in room.git("log", "--format=%H", "main").splitlines()
    assert room.said("final") == []
    assert "Merged" in room.said("result")[0]
    room.when(lambda _: not (house.settings.threadwright_home / "work" / room.task).exists(), "cleaned up")


def test_control_the_workspace_is_there_while_the_task_waits(house: House) -> None:
    script = by_role([plan("feat: greet louder"), write("greet.py", LOUD), done()])
    room = house.room(TESTED, script)
    room.start()
    room.until("watching")
    assert (house.settings.threadwright_home / "work" / room.task).is_dir()


def test_a_stranger_cannot_approve(house: House) -> None:
    script = by_role([plan("feat: greet louder"), write("greet.py", LOUD), done()])
    room = house.room(TESTED, script)
    room.start()
    room.until("watching")
    receipt = room.say("approve", Author("room:r:eve", "Eve"))
    assert "Only approvers" in receipt.whisper
    room.settle()
    assert room.view.data["pull_request"]["draft"]


def test_the_card_is_one_message_and_ends_without_buttons(house: House) -> None:
    script = by_role([plan("feat: greet louder"), write("greet.py", LOUD), done()])
    room = house.room(TESTED, script)
    room.start()
    room.until("watching")
    room.say("cancel")
    room.until("stopped")
    [cards] = room.chat.cards.values()
    assert cards[-1].final
    assert cards[-1].state.startswith("stopped")
    assert OPERATOR.name == cards[-1].requester
    assert len(room.said("final")) == 1
