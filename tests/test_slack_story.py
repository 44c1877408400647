"""A whole task in a Slack thread, over both transports: real bolt and slack_sdk against a strict stub Slack."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from boxes import wait_until
from greetings import LOUD, TESTED, TITLE, louder
from rooms import by_role, call, done, plan, write
from slackroom import SlackHouse, buttons, shown
from slackserver import ANN, BEN, BOT, GENERAL, GUEST, SHARED, STRANGER, TEAM

QUESTION = {"question": "Loud or soft?", "suggestions": ["loud", "soft"], "assumption": "loud"}
OTHER = {"question": "For whom?", "suggestions": ["for all", "for me"], "assumption": "for all"}


def asking(*questions: dict[str, object]) -> object:
    return by_role([call("ask_person", questions=list(questions)), plan(TITLE), write("greet.py", LOUD), done()])


@pytest.fixture(scope="module", params=["socket", "http"])
def slack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlackHouse]:
    root = tmp_path_factory.mktemp(f"slack-{request.param}")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(0o755)
    house = SlackHouse(root, http=request.param == "http", on_approval="merge", second_person=False)
    with house.listening():
        yield house
    house.close()


def test_mention_eyes_card_question_answer_result_and_merge_in_three_posts(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    ts = room.start("greet better")
    wait_until(lambda: "eyes" in slack.stub.message(GENERAL, ts).reactions)
    question = room.post(lambda m: "tw_answer_0" in buttons(m), "question with buttons")
    assert "Loud or soft?" in shown(question)
    assert f'"user_id": "{ANN}"' in str(question.blocks).replace("'", '"'), "the requester is mentioned"
    slack.stub.press(ANN, GENERAL, question.ts, "tw_answer_0")
    result = room.post(lambda m: "React ✅" in shown(m), "result")
    assert "unittest" in shown(result)
    wait_until(lambda: not buttons(slack.stub.message(GENERAL, question.ts)))
    assert "ann: loud" in shown(slack.stub.message(GENERAL, question.ts)), "who answered stands in the question"
    slack.stub.react(ANN, GENERAL, result.ts, "white_check_mark")
    room.until("done")
    assert room.git("show", "main:greet.py") == LOUD.rstrip("\n")
    assert len(room.posts) == 3, [shown(m) for m in room.posts]
    wait_until(lambda: not buttons(room.card))
    assert len(slack.stub.message(GENERAL, room.card.ts).versions) > 2, "one card, edited in place"


def test_free_text_in_the_thread_answers_and_a_second_press_changes_nothing(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    room.start()
    question = room.post(lambda m: "tw_answer_0" in buttons(m), "question with buttons")
    room.say("loud, please")
    room.until("watching")
    assert "loud, please" in str(slack.house.server.requests)
    wait_until(lambda: not buttons(slack.stub.message(GENERAL, question.ts)))


def test_several_questions_are_answered_together(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION, OTHER))
    room.start()
    question = room.post(lambda m: "tw_answers" in buttons(m), "question with a send button")
    slack.stub.press(ANN, GENERAL, question.ts, "tw_choose_0", option="1")
    slack.stub.press(ANN, GENERAL, question.ts, "tw_choose_1", option="0")
    slack.stub.press(ANN, GENERAL, question.ts, "tw_answers")
    room.until("watching")
    told = [str(m["content"]) for r in slack.house.server.requests for m in r.messages if m["role"] == "tool"]
    assert any("soft" in text and "for all" in text for text in told)


def test_stop_on_the_card_ends_it_with_one_last_message(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    room.start()
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    slack.stub.press(ANN, GENERAL, room.card.ts, "tw_stop")
    room.until("stopped")
    room.post(lambda m: "stopped" in shown(m).lower() and m.ts != room.card.ts, "last message")
    wait_until(lambda: not buttons(room.card))


def test_a_stop_sign_on_the_card_stops_too(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    room.start()
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    slack.stub.react(ANN, GENERAL, room.card.ts, "octagonal_sign")
    room.until("stopped")


def test_the_wrong_repository_is_put_right_in_a_form(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    right = slack.room(TESTED, louder())
    room.start()
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    press = slack.stub.press(ANN, GENERAL, room.card.ts, "tw_move")
    wait_until(lambda: any(v.trigger_id == press.trigger_id for v in slack.stub.views))
    view = next(v for v in slack.stub.views if v.trigger_id == press.trigger_id)
    slack.house.scripts[room.marker] = louder()
    slack.stub.submit(ANN, view.id, {"repo": right.repository})
    wait_until(lambda: room.view and room.view.repository == right.repository)
    room.until("watching")


def test_a_message_is_given_to_the_bot_with_a_form(slack: SlackHouse) -> None:
    room = slack.room(TESTED, louder())
    room.ts = slack.stub.say(BEN, GENERAL, f"the greeting is too soft ({room.marker})")
    press = slack.stub.shortcut(ANN, GENERAL, room.ts)
    wait_until(lambda: any(v.trigger_id == press.trigger_id for v in slack.stub.views))
    view = next(v for v in slack.stub.views if v.trigger_id == press.trigger_id)
    values = {"text": f"greet louder ({room.marker})", "options": "budget=1", "repo": room.repository}
    slack.stub.submit(ANN, view.id, values)
    room.until("watching")
    assert "the greeting is too soft" in str(slack.house.server.requests)


def test_a_form_with_a_bad_option_says_so_in_the_form(slack: SlackHouse) -> None:
    room = slack.room(TESTED, louder())
    room.ts = slack.stub.say(BEN, GENERAL, "the greeting is too soft")
    press = slack.stub.shortcut(ANN, GENERAL, room.ts)
    wait_until(lambda: any(v.trigger_id == press.trigger_id for v in slack.stub.views))
    view = next(v for v in slack.stub.views if v.trigger_id == press.trigger_id)
    sent = slack.stub.submit(ANN, view.id, {"text": "x", "options": "speed=9", "repo": room.repository})
    sent.done.wait(10)
    assert sent.answer
    assert sent.answer["response_action"] == "errors"
    assert "speed" in str(sent.answer["errors"])
    assert room.view is None


def test_a_slash_command_opens_a_thread_for_its_task_and_answers_verbs_privately(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    slack.stub.command(ANN, GENERAL, f"[repo={room.repository}] greet better ({room.marker})")
    wait_until(lambda: any(room.marker in m.text for m in slack.stub.posts(GENERAL)), 20)
    room.ts = next(m.ts for m in slack.stub.posts(GENERAL) if room.marker in m.text)
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    task = room.view
    assert task
    posts = len(slack.stub.posts(GENERAL))
    slack.stub.command(BEN, GENERAL, f"status {task.id}")
    wait_until(lambda: any(task.id in str(r.body) for r in slack.stub.responses))
    assert len(slack.stub.posts(GENERAL)) == posts, "a verb by command is answered to its writer alone"
    room.say("loud")
    room.until("watching")


def test_a_mention_in_a_thread_brings_what_was_said_before(slack: SlackHouse) -> None:
    room = slack.room(TESTED, louder())
    room.ts = slack.stub.say(BEN, GENERAL, "our greeting is far too soft")
    slack.stub.say(ANN, GENERAL, "agreed, <@" + BEN + ">", thread=room.ts)
    room.say(f"<@{BOT}> [repo={room.repository}] please do ({room.marker})")
    room.until("watching")
    sent = str(slack.house.server.requests)
    assert "our greeting is far too soft" in sent
    assert "agreed, @ben" in sent
    before = len(slack.house.server.requests)
    room.say("nice weather today")
    slack.stub.settle()
    assert room.status == "watching"
    assert len(slack.house.server.requests) == before, "in a thread that was there before, only mentions count"


def test_messages_outside_its_threads_are_dropped_unread(slack: SlackHouse) -> None:
    slack.stub.say(ANN, GENERAL, "the quick brown secret fox")
    slack.stub.settle()
    redis = slack.house.office.redis
    assert not any(b"secret fox" in (redis.dump(key) or b"") for key in redis.keys("*"))


def test_control_a_message_that_is_kept_is_found_in_redis(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    room.start("the quick brown secret badger")
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    redis = slack.house.office.redis
    assert any(b"secret badger" in (redis.dump(key) or b"") for key in redis.keys("*"))


@pytest.mark.parametrize(("who", "where"), [(GUEST, GENERAL), (STRANGER, SHARED)])
def test_guests_and_strangers_start_nothing_and_are_told_privately(slack: SlackHouse, who: str, where: str) -> None:
    ts = slack.stub.say(who, where, f"<@{BOT}> add retries")
    wait_until(lambda: any(e.user == who for e in slack.stub.ephemerals))
    [told] = [e for e in slack.stub.ephemerals if e.user == who]
    assert "Ask a member to mention me" in told.text
    assert not [m for m in slack.stub.messages(where, ts) if m.user == BOT]


def test_an_edit_before_it_is_read_replaces_the_words(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION))
    room.start()
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    ts = room.say("make it load")
    slack.stub.settle()
    slack.stub.edit(ANN, GENERAL, ts, "make it loud")
    room.until("watching")


def test_taking_the_check_mark_back_revokes_before_the_merge(slack: SlackHouse) -> None:
    room = slack.room(TESTED, louder())
    room.start()
    result = room.post(lambda m: "React ✅" in shown(m), "result")
    room.until("watching")
    slack.stub.react(BEN, GENERAL, result.ts, "white_check_mark")
    wait_until(lambda: any(e.user == BEN and "approvers" in e.text for e in slack.stub.ephemerals))
    slack.stub.unreact(BEN, GENERAL, result.ts, "white_check_mark")
    slack.stub.react(ANN, GENERAL, result.ts, "+1")
    slack.stub.settle()
    wait_until(lambda: slack.house.office.redis.xlen(f"tw:mail:slack/{TEAM}") == 0)
    assert room.status == "watching"
    slack.stub.react(ANN, GENERAL, result.ts, "white_check_mark")
    room.until("done")


def test_a_check_mark_quicker_than_our_note_of_the_message_counts(slack: SlackHouse) -> None:
    room = slack.room(TESTED, louder())
    room.start()
    result = room.post(lambda m: "React ✅" in shown(m), "result")
    room.until("watching")
    redis, name, field = slack.house.office.redis, f"tw:messages:slack/{TEAM}", f"{GENERAL}/{result.ts}"
    noted = wait_until(lambda: redis.hget(name, field))
    redis.hdel(name, field)
    slack.stub.react(ANN, GENERAL, result.ts, "white_check_mark")
    wait_until(lambda: redis.xlen(f"tw:mail:slack/{TEAM}") == 1)
    redis.hset(name, field, noted)
    room.until("done")


def test_a_direct_message_is_a_task_and_a_second_one_is_asked_about(slack: SlackHouse) -> None:
    room = slack.room(TESTED, asking(QUESTION), channel=slack.stub.dm(ANN))
    room.start()
    room.post(lambda m: "tw_answer_0" in buttons(m), "question")
    second = slack.room(TESTED, louder(), channel=room.channel)
    second.ts = slack.stub.say(ANN, second.channel, f"[repo={second.repository}] louder ({second.marker})")
    asked = second.post(lambda m: "task above" in shown(m), "question which task it is for")
    slack.stub.press(ANN, second.channel, asked.ts, "tw_answer_1")
    second.until("watching")
    assert room.status == "asking"


def test_the_working_status_is_shown_and_cleared(slack: SlackHouse) -> None:
    def slow(request: object) -> object:
        time.sleep(3)
        return script(request)

    script = louder()
    room = slack.room(TESTED, slow)
    room.start()
    wait_until(lambda: slack.stub.status(GENERAL, room.ts), 20)
    room.until("watching")
    wait_until(lambda: not slack.stub.status(GENERAL, room.ts), 20)
