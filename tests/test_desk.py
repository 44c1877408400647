"""What the desk answers at once, to whom, and what it stores."""

from __future__ import annotations

import json

import pytest
import redis as redis_module
from office import ANN, BEN, CAT, GUEST, DeskRoom

from bot.chat import Author, DeskClosed, Place
from graph.values import Brief
from integrations import redisserver
from jobs.desk import TaskDesk
from jobs.tasks import Tasks

TOKEN = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


@pytest.fixture
def room(redis: redis_module.Redis) -> DeskRoom:
    return DeskRoom(redis)


def brief_of(room: DeskRoom, task: str) -> Brief:
    return Brief.model_validate_json(room.tasks.record(task)["brief"])


def asking(room: DeskRoom, task: str, kind: str = "clarify") -> None:
    """As a turn leaves a task that asks."""
    lease = room.tasks.take(task)
    assert lease
    choices = [{"question": "Which?", "suggestions": ["red", "blue"], "assumption": "red"}]
    room.tasks.write(lease, question=json.dumps({"id": "q1", "kind": kind, "text": "Which?", "choices": choices}))
    room.tasks.move(task, "asking", at=room.clock, lease=lease)
    room.tasks.release(lease)


def watching(room: DeskRoom, task: str, head: str = "a" * 40) -> None:
    lease = room.tasks.take(task)
    assert lease
    pull = {"number": 7, "head": head, "state": "open", "url": "file:///7", "draft": True}
    room.tasks.write(lease, view=json.dumps({"pull_request": pull}))
    room.tasks.move(task, "watching", at=room.clock, lease=lease)
    room.tasks.release(lease)


def heard(room: DeskRoom, task: str) -> list[dict[str, str]]:
    return [json.loads(raw) for raw in room.redis.lrange(Tasks.key(task, "inbox"), 0, -1)]


def test_a_task_is_stored_woken_and_gets_a_card_before_it_is_acknowledged(room: DeskRoom) -> None:
    receipt = room.say(ANN, "add retries to the client")
    assert receipt.started
    assert receipt.seen
    assert room.woken == [receipt.task]
    assert brief_of(room, receipt.task).text == "add retries to the client"
    assert room.tasks.record(receipt.task)["card"]


def test_one_post_that_arrives_as_two_events_is_one_task(room: DeskRoom) -> None:
    request = room.request(ANN, "add retries")
    first = room.desk.submit(request)
    second = room.desk.submit(type(request)(**{**request.__dict__, "id": "E-other"}))
    assert first.task == second.task
    assert heard(room, first.task) == []


def test_control_two_posts_with_the_same_words_are_a_task_and_words_to_it(room: DeskRoom) -> None:
    first = room.say(ANN, "add retries")
    assert room.say(ANN, "add retries").task == first.task
    assert [e["text"] for e in heard(room, first.task)] == ["add retries"]


def test_a_guest_starts_nothing_and_is_told_once_privately(room: DeskRoom) -> None:
    receipt = room.say(GUEST, "add retries")
    assert not receipt.task
    assert not receipt.reply
    assert "Ask a member" in receipt.whisper
    assert room.say(GUEST, "please").whisper == ""
    assert room.tasks.newest() == []


def test_an_unknown_option_in_brackets_starts_nothing_and_lists_the_valid_ones(room: DeskRoom) -> None:
    receipt = room.say(ANN, "[colour=red] add retries")
    assert not receipt.task
    assert "`budget=2`" in receipt.reply
    assert room.tasks.newest() == []


def test_options_become_the_brief(room: DeskRoom) -> None:
    brief = brief_of(room, room.say(ANN, "[branch=develop plan=ask budget=0.5 time=20m] add retries").task)
    assert (brief.branch, brief.approve_plan, brief.limits.usd, brief.limits.minutes) == ("develop", True, 0.5, 20)
    assert "budget" not in brief.text


def test_a_repository_that_nobody_knows_is_refused_before_anything_starts(room: DeskRoom) -> None:
    assert room.say(ANN, "[repo=acme/nope] add retries").reply == "I know no repository `acme/nope`."
    assert room.tasks.newest() == []


def test_a_path_may_be_named_in_the_terminal_and_nowhere_else(room: DeskRoom) -> None:
    assert not room.say(ANN, "[repo=/srv/x] add retries").task
    assert room.say(ANN, "[repo=/srv/x] add retries", local=True).task


def test_the_card_says_which_rule_chose_the_repository(redis: redis_module.Redis) -> None:
    room = DeskRoom(redis, repositories=("acme/api", "acme/web"))
    none = room.say(ANN, "fix the login")
    assert brief_of(room, none.task).repository is None
    assert room.say(ANN, "repo acme/web", place=Place("slack", "T1", "C2", "1")).reply.startswith("The repository here")
    chosen = room.say(ANN, "fix the login", place=Place("slack", "T1", "C2", "2"))
    repository = brief_of(room, chosen.task).repository
    assert repository is not None
    assert (repository.name, repository.rule) == ("acme/web", "the default of this channel")


def test_a_pasted_token_is_not_kept_and_its_writer_alone_is_told(room: DeskRoom) -> None:
    receipt = room.say(ANN, f"use {TOKEN} to fetch")
    assert "GitHub token" in receipt.whisper
    assert "Revoke it" in receipt.whisper
    assert TOKEN not in receipt.reply
    for key in room.redis.keys("*"):
        assert TOKEN.encode() not in room.redis.dump(key)


def test_control_other_words_are_found_in_redis(room: DeskRoom) -> None:
    room.say(ANN, "use XYZZY-17 to fetch")
    assert any(b"XYZZY-17" in room.redis.dump(key) for key in room.redis.keys("*"))


def test_an_answer_goes_to_the_open_question_and_a_number_stands_for_a_suggestion(room: DeskRoom) -> None:
    task = room.say(ANN, "paint it").task
    asking(room, task)
    room.say(BEN, "2")
    assert [(e["kind"], e["question"], e["text"]) for e in heard(room, task)] == [("answer", "q1", "blue")]
    assert room.tasks.record(task)["status"] == "running"


def test_only_an_approver_allows_a_protected_path(room: DeskRoom) -> None:
    task = room.say(CAT, "change the workflow").task
    asking(room, task, "protected")
    assert "approve" in room.say(CAT, "yes").whisper
    assert room.tasks.record(task)["status"] == "asking"
    room.say(ANN, "yes")
    assert room.tasks.record(task)["status"] == "running"


def test_side_talk_is_not_heard(room: DeskRoom) -> None:
    task = room.say(ANN, "add retries").task
    room.say(BEN, "@cat lunch?", addressed=False, mentions_others=True)
    room.say(BEN, "!aside this is odd")
    room.say(BEN, "in a thread that was there before", addressed=False, own_thread=False)
    assert heard(room, task) == []


def test_in_a_muted_thread_only_mentions_are_heard(room: DeskRoom) -> None:
    task = room.say(ANN, "add retries").task
    room.say(ANN, "mute")
    room.say(ANN, "with jitter", addressed=False)
    assert heard(room, task) == []
    room.say(ANN, "with backoff", addressed=True)
    assert [e["text"] for e in heard(room, task)] == ["with backoff"]


def test_approve_is_for_the_commit_that_was_looked_at(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    assert room.say(ANN, "approve").reply == "There is nothing to approve yet."
    watching(room, task)
    assert "Only approvers" in room.say(CAT, "approve").whisper
    assert heard(room, task) == []
    assert room.say(ANN, "approve").seen
    assert [(e["kind"], e["sha"]) for e in heard(room, task)] == [("approved", "a" * 40)]


def test_stop_ends_a_task_that_nobody_works_on_at_once_with_one_final_message(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    assert "Only the person" in room.say(BEN, "cancel").whisper
    room.say(CAT, "cancel")
    assert room.tasks.record(task)["status"] == "stopped"
    room.say(CAT, f"cancel {task}")
    room.drainer.run_once()
    finals = [r for _, r in room.chat.posted if getattr(r, "kind", "") == "final"]
    assert len(finals) == 1
    assert "Stopped by Cat" in finals[0].text


def test_words_after_the_end_are_a_new_task(room: DeskRoom) -> None:
    first = room.say(CAT, "add retries").task
    room.say(CAT, "cancel")
    second = room.say(CAT, "add timeouts")
    assert second.started
    assert second.task != first


def test_a_verb_counts_only_when_it_is_the_whole_message(room: DeskRoom) -> None:
    assert room.say(ANN, "stop using the old client").started


def test_every_verb_is_answered_without_a_worker(room: DeskRoom) -> None:
    task = room.say(ANN, "add retries").task
    for words in ("help", "status", f"status {task}", "list", "list mine", "plan", "diff", "logs", "cost", "settings"):
        receipt = room.say(ANN, words)
        assert receipt.reply or receipt.file, words
    for words in ("pause", "resume", "finish", "mute", "unmute", "reject", "approve", "repo", "new", "retry"):
        assert room.say(ANN, words).reply, words
    assert "I know no task" in room.say(ANN, "status tw-zzzzz").reply


def test_move_does_the_same_words_elsewhere(redis: redis_module.Redis) -> None:
    room = DeskRoom(redis, repositories=("acme/api", "acme/web"))
    old = room.say(CAT, "[repo=acme/api] add retries").task
    receipt = room.say(CAT, "move acme/web")
    assert receipt.started
    moved = brief_of(room, receipt.task)
    assert moved.text == "add retries"
    assert moved.repository is not None
    assert moved.repository.name == "acme/web"
    assert room.tasks.record(old)["status"] == "stopped"


def test_approving_with_a_reaction_counts_on_the_result_alone(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    room.drainer.run_once()
    card = room.chat.keys[f"{task}:card"]
    elsewhere = room.say(ANN, "", kind="reaction", reaction="approve", target=card)
    assert "approves only on the result" in elsewhere.whisper
    assert room.say(ANN, "", kind="reaction", reaction="approve", target=card).whisper == ""
    assert heard(room, task) == []


def test_what_cannot_be_stored_is_refused_with_a_clear_sentence() -> None:
    client = redisserver.connect("unix:///nonexistent/redis.sock", timeout=0.2, retries=0)
    room = DeskRoom(client)
    desk: TaskDesk = room.desk
    with pytest.raises(DeskClosed, match="send it again"):
        desk.submit(room.request(ANN, "add retries"))


def test_a_bot_is_told_nothing_so_that_two_bots_cannot_talk(room: DeskRoom) -> None:
    other = Author("slack:T1:robo", "Robo", "bot")
    receipt = room.say(other, "add retries")
    assert (receipt.task, receipt.reply, receipt.whisper, receipt.seen) == ("", "", "", False)


@pytest.mark.parametrize("words", ["thanks", "Thank you!", "LGTM", "👍", "great, thanks a lot.", "Nice work!"])
def test_thanks_and_praise_get_a_reaction_and_approve_nothing(room: DeskRoom, words: str) -> None:
    task = room.say(CAT, "add retries").task
    watching(room, task)
    assert room.say(ANN, words).seen
    assert heard(room, task) == []


@pytest.mark.parametrize("words", ["thanks, also add tests", "nice, but too slow", "great idea: add retries", "ok"])
def test_words_with_more_in_them_than_thanks_are_heard(room: DeskRoom, words: str) -> None:
    task = room.say(CAT, "add retries").task
    room.say(ANN, words)
    assert [e["text"] for e in heard(room, task)] == [words]


def test_thanks_may_be_an_answer_while_a_question_is_open(room: DeskRoom) -> None:
    task = room.say(CAT, "add retries").task
    asking(room, task)
    room.say(CAT, "perfect")
    assert [e["kind"] for e in heard(room, task)] == ["answer"]
