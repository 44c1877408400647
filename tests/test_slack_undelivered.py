"""What cannot be delivered is cleared away and told, and what the operator has to mend is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis as redis_module
from office import DeskRoom
from slackscene import CARD, FAULTS, OTHER, PERSON, REPLY, Scene, keys, scenes
from slackserver import ALL_SCOPES, ANN, BEN, ELSEWHERE, GENERAL, OLD, TEAM, Fault, SlackServer

from bot.chat import Place, TryLater, Undeliverable
from bot.slack.web import Broken, ParentGone
from jobs.outbox import Drainer
from jobs.wording import Post


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scenes() as scene:
        yield scene


@pytest.fixture
def stub(scene: Scene) -> SlackServer:
    return scene.stub


def test_an_answer_to_a_deleted_message_is_taken_away_and_told_directly_once(scene: Scene, stub: SlackServer) -> None:
    stub.delete(ANN, GENERAL, scene.thread)
    with pytest.raises(ParentGone, match="deleted"):
        scene.chat.post(scene.place, replace(REPLY, mentions=(PERSON, OTHER, PERSON)), "k")
    assert stub.posts(GENERAL) == []
    for person in (ANN, BEN):
        (told,) = scene.direct(person)
        assert "deleted" in told.text
        assert "All done." in told.text


def test_a_card_for_a_deleted_message_is_taken_away_and_told_nobody(scene: Scene, stub: SlackServer) -> None:
    stub.delete(ANN, GENERAL, scene.thread)
    with pytest.raises(ParentGone):
        scene.chat.post(scene.place, CARD, "k")
    assert stub.posts() == []


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.delete", "conversations.open", "conversations.history"])
@pytest.mark.parametrize("fault", FAULTS)
def test_even_if_much_breaks_the_stray_goes_and_the_person_is_told_once(
    scene: Scene, stub: SlackServer, method: str, fault: Fault
) -> None:
    stub.delete(ANN, GENERAL, scene.thread)
    stub.fault(method, fault, times=2)
    with pytest.raises(ParentGone):
        scene.persist()
    assert stub.posts(GENERAL) == []
    assert len(scene.direct()) == 1


def test_a_stray_of_a_process_that_died_is_found_and_taken_away(scene: Scene, stub: SlackServer) -> None:
    stub.delete(ANN, GENERAL, scene.thread)
    stub.fault("chat.delete", Fault.status(500))
    with pytest.raises(TryLater) as caught:
        scene.chat.post(scene.place, REPLY, "k")
    assert caught.value.unclear
    assert len(stub.posts(GENERAL)) == 1
    with pytest.raises(ParentGone):
        scene.another().post(scene.place, REPLY, "k", again=True)
    assert stub.posts(GENERAL) == []
    assert len(scene.direct()) == 1


def test_control_where_a_stone_marks_the_deleted_message_the_thread_goes_on(scene: Scene, stub: SlackServer) -> None:
    stub.say(BEN, GENERAL, "yes?", thread=scene.thread)
    stub.tombstones = True
    stub.delete(ANN, GENERAL, scene.thread)
    scene.chat.post(scene.place, REPLY, "k")
    assert len(scene.thread_posts()) == 1


@pytest.mark.parametrize(("channel", "words"), [(OLD, "archived"), (ELSEWHERE, "not in that channel")])
def test_where_the_channel_takes_nothing_the_person_is_told_directly(scene: Scene, channel: str, words: str) -> None:
    with pytest.raises(Undeliverable, match=words):
        scene.chat.post(Place("slack", TEAM, channel, "1790000000.000100"), REPLY, "k")
    (told,) = scene.direct()
    assert words in told.text
    assert "All done." in told.text


def test_a_person_who_takes_no_direct_messages_is_no_reason_to_try_for_ever(scene: Scene, stub: SlackServer) -> None:
    stub.fault("conversations.open", Fault.error("user_disabled"))
    with pytest.raises(Undeliverable, match="archived"):
        scene.chat.post(Place("slack", TEAM, OLD, "1790000000.000100"), REPLY, "k")
    assert stub.posts() == []


@pytest.mark.parametrize("trouble", ["scope", "token"])
def test_what_the_operator_has_to_mend_loses_nothing(
    scene: Scene, stub: SlackServer, redis: redis_module.Redis, trouble: str
) -> None:
    room = DeskRoom(redis, place=scene.place)
    task = room.say(PERSON, "add retries").task
    drainer = Drainer(room.tasks, scene.chat, edit_seconds=0, clock=scene.clock)
    room.outbox.say(task, Post("final-0", REPLY), anyone=True)
    stub.revoke() if trouble == "token" else stub.scopes.discard("chat:write")
    for _ in range(3):
        assert drainer.run_once() == 0
        scene.clock.now += 1
    assert len(stub.called("chat.postMessage")) == 1, "it asked although it knew"
    stub.restore() if trouble == "token" else stub.scopes.update(ALL_SCOPES)
    scene.clock.now += 60
    drainer.run_once()
    assert keys(scene.thread_posts()) == {f"{task}:card": 1, f"{task}:final-0": 1}


def test_a_refused_token_is_told_as_the_operators_problem(scene: Scene, stub: SlackServer) -> None:
    stub.revoke()
    with pytest.raises(Broken, match="revoked"):
        scene.chat.post(scene.place, REPLY, "k")
