"""Each post once, whatever breaks; questions never wait for cards; how it looks in Slack."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from slackscene import CARD, FAULTS, ME, PERSON, REPLY, Scene, keys, scenes
from slackserver import ANN, BEN, BOT, GENERAL, TEAM, Fault, SlackServer

from bot.chat import Place, TryLater
from bot.slack.finding import Finder, Search
from bot.slack.posting import SlackChat
from bot.slack.web import Refusal


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scenes() as scene:
        yield scene


@pytest.fixture
def stub(scene: Scene) -> SlackServer:
    return scene.stub


# Posting


def test_a_reply_is_posted_in_the_thread_with_its_key_and_no_previews(scene: Scene, stub: SlackServer) -> None:
    message = scene.chat.post(scene.place, REPLY, "tw-x:final-0")
    (posted,) = scene.thread_posts()
    assert posted.ts == message
    assert posted.metadata == {"event_type": "threadwright", "event_payload": {"key": "tw-x:final-0"}}
    assert [posted.args[name] for name in ("link_names", "unfurl_links", "unfurl_media")] == [False] * 3


def test_a_card_is_posted_and_edited_in_place(scene: Scene, stub: SlackServer) -> None:
    message = scene.chat.post(scene.place, CARD, "tw-x:card")
    scene.chat.edit(scene.place, message, replace(CARD, title="Add three retries"))
    (posted,) = scene.thread_posts()
    assert posted.ts == message
    assert "Add three retries" in str(posted.blocks)


def test_a_reaction_that_is_there_is_as_good_as_a_new_one(scene: Scene, stub: SlackServer) -> None:
    for name in ("eyes", "seen", "👀", ":eyes:"):
        scene.chat.react(scene.place, scene.thread, name)
    assert stub.message(GENERAL, scene.thread).reactions == {"eyes": [BOT]}


# Faults


def storm(scene: Scene, chat: SlackChat, posts: int) -> Counter[str]:
    scene.stub.fault_rate, scene.stub.fault_kinds = 0.4, FAULTS
    for number in range(posts):
        scene.persist(f"k{number}", chat=chat)
    scene.stub.fault_rate = 0.0
    return keys(scene.thread_posts())


def test_of_200_posts_at_40_percent_faults_none_is_lost_and_none_doubled(scene: Scene) -> None:
    assert storm(scene, scene.chat, 200) == Counter(f"k{number}" for number in range(200))


def test_control_without_the_look_posts_are_doubled(scene: Scene) -> None:
    class Blind(Finder):
        def message(self, place: Place, key: str, search: Search) -> str:
            return ""

    scene.chat._finder = Blind(scene.chat._web, ME)
    counted = storm(scene, scene.chat, 60)
    assert set(counted) == {f"k{number}" for number in range(60)}
    assert max(counted.values()) > 1


def test_what_another_process_may_have_posted_is_looked_for(scene: Scene) -> None:
    first = scene.chat.post(scene.place, REPLY, "k")
    assert scene.another().post(scene.place, REPLY, "k", again=True) == first
    assert len(scene.thread_posts()) == 1


def test_what_another_process_did_not_post_after_all_is_posted(scene: Scene) -> None:
    scene.chat.post(scene.place, REPLY, "another")
    scene.another().post(scene.place, REPLY, "k", again=True)
    assert keys(scene.thread_posts()) == {"another": 1, "k": 1}


def test_control_where_nothing_was_tried_before_nothing_is_read(scene: Scene, stub: SlackServer) -> None:
    scene.persist()
    stub.fault("chat.postMessage", Fault.limited(1))
    scene.persist("k2")
    assert stub.called("conversations.replies") == []


def test_the_same_key_from_somebody_elses_app_is_not_taken_for_ours(scene: Scene, stub: SlackServer) -> None:
    foreign = stub.message(GENERAL, stub.say(ANN, GENERAL, "I am you", thread=scene.thread))
    foreign.metadata = {"event_type": "threadwright", "event_payload": {"key": "k"}}
    assert scene.chat.post(scene.place, REPLY, "k", again=True) != foreign.ts


def test_a_long_thread_is_searched_to_its_end(scene: Scene, stub: SlackServer) -> None:
    for number in range(450):
        stub.say(BEN, GENERAL, f"{number}", thread=scene.thread)
    first = scene.chat.post(scene.place, REPLY, "k")
    assert scene.another().post(scene.place, REPLY, "k", again=True) == first


def test_after_a_lost_answer_only_what_is_new_is_read(scene: Scene, stub: SlackServer) -> None:
    for number in range(50):
        stub.say(BEN, GENERAL, f"{number}", thread=scene.thread)
    scene.clock.now += 3_600
    stub.fault("chat.postMessage", Fault.drop_after())
    scene.persist()
    (look,) = stub.called("conversations.replies")
    assert float(look.args["oldest"]) > float(scene.thread) + 3_000
    assert len(scene.thread_posts()) == 1


def test_where_threads_may_be_read_once_a_minute_the_search_waits_and_goes_on(scene: Scene, stub: SlackServer) -> None:
    for number in range(40):
        stub.say(BEN, GENERAL, f"{number}", thread=scene.thread)
    first = scene.chat.post(scene.place, REPLY, "k")
    stub.non_marketplace = True
    again, waits = scene.another(), 0
    while waits < 2:
        with pytest.raises(TryLater) as caught:
            again.post(scene.place, REPLY, "k", again=True)
        assert caught.value.unclear, "whoever drains next has to look as well"
        waits += 1
        scene.clock.now += caught.value.after
    assert again.post(scene.place, REPLY, "k", again=True) == first
    assert len(stub.posts(GENERAL)) == 1


def test_a_post_outside_a_thread_is_looked_for_in_the_channel(scene: Scene, stub: SlackServer) -> None:
    channel = replace(scene.place, thread="")
    stub.fault("chat.postMessage", Fault.drop_after())
    with pytest.raises(TryLater):
        scene.chat.post(channel, REPLY, "k")
    scene.clock.now += 2
    found = scene.chat.post(channel, REPLY, "k")
    assert [m.ts for m in stub.posts(GENERAL)] == [found]
    assert scene.another().post(channel, REPLY, "k", again=True) == found


# How it looks


def test_a_workspace_that_refuses_plans_gets_plain_blocks_and_is_asked_once(scene: Scene, stub: SlackServer) -> None:
    stub.refused_blocks = {"plan"}
    message = scene.chat.post(scene.place, CARD, "k")
    assert "plan" not in {block["type"] for block in stub.message(GENERAL, message).blocks}
    for number in range(3):
        scene.chat.edit(scene.place, message, replace(CARD, state=f"step {number}"))
    assert len([call for call in stub.calls if call.error == "invalid_blocks"]) == 1


def test_control_elsewhere_a_card_is_a_plan(scene: Scene, stub: SlackServer) -> None:
    message = scene.chat.post(scene.place, CARD, "k")
    assert "plan" in {block["type"] for block in stub.message(GENERAL, message).blocks}


def test_a_message_whose_blocks_are_refused_altogether_is_sent_as_text(scene: Scene, stub: SlackServer) -> None:
    stub.fault("chat.postMessage", Fault.error("invalid_blocks"), times=2)
    message = scene.chat.post(scene.place, REPLY, "k")
    posted = stub.message(GENERAL, message)
    assert (posted.blocks, "All done." in posted.text) == ([], True)


def test_one_reply_whose_blocks_are_refused_says_nothing_about_the_next_message(
    scene: Scene, stub: SlackServer
) -> None:
    stub.fault("chat.postMessage", Fault.error("invalid_blocks"))
    first = stub.message(GENERAL, scene.chat.post(scene.place, REPLY, "k"))
    assert "rich_text" not in {block["type"] for block in first.blocks}
    second = stub.message(GENERAL, scene.chat.post(scene.place, REPLY, "k2"))
    assert "rich_text" in {block["type"] for block in second.blocks}
    card = stub.message(GENERAL, scene.chat.post(scene.place, CARD, "card"))
    assert "plan" in {block["type"] for block in card.blocks}


LONG = "\n\n".join(f"{number}. This is what I found in file {number}." for number in range(400))


def test_what_is_too_long_for_a_message_comes_as_a_file_in_the_thread(scene: Scene, stub: SlackServer) -> None:
    scene.chat.post(scene.place, replace(REPLY, text=LONG), "k")
    message, shared = scene.thread_posts()
    assert message.metadata
    (file,) = stub.files.values()
    assert file.shared == {GENERAL: shared.ts}
    assert "file 399" in file.content.decode()


@pytest.mark.parametrize(
    "method", ["chat.postMessage", "files.getUploadURLExternal", "upload", "files.completeUploadExternal"]
)
@pytest.mark.parametrize("fault", FAULTS[:5])
def test_message_and_file_come_once_each_whatever_step_fails(
    scene: Scene, stub: SlackServer, method: str, fault: Fault
) -> None:
    stub.fault(method, fault, times=2)
    scene.persist(what=replace(REPLY, text=LONG))
    assert [bool(m.files) for m in scene.thread_posts()] == [False, True]


def test_a_process_that_died_before_the_file_leaves_it_to_the_next(scene: Scene, stub: SlackServer) -> None:
    stub.fault("files.getUploadURLExternal", Fault.status(500))
    with pytest.raises(TryLater) as caught:
        scene.chat.post(scene.place, replace(REPLY, text=LONG), "k")
    assert caught.value.unclear
    for _ in range(2):
        scene.another().post(scene.place, replace(REPLY, text=LONG), "k", again=True)
    assert [bool(m.files) for m in scene.thread_posts()] == [False, True]


def test_a_file_that_is_refused_for_good_leaves_the_message_and_says_so(scene: Scene, stub: SlackServer) -> None:
    stub.fault("files.getUploadURLExternal", Fault.error("restricted_action"))
    message = scene.chat.post(scene.place, replace(REPLY, text=LONG), "k")
    first, second = scene.thread_posts()
    assert first.ts == message
    assert re.search(r"[\d,]+ characters, could not be uploaded", second.text)


def test_a_file_of_the_desk_is_uploaded(scene: Scene, stub: SlackServer) -> None:
    file = scene.chat.upload(scene.place, "log.txt", "one line", "k")
    assert stub.files[file].content == b"one line"
    assert stub.files[file].title == "log.txt"


# Cards and questions


def test_cards_share_their_edits_and_replies_need_none(scene: Scene, stub: SlackServer) -> None:
    chat = scene.another(edits_a_minute=3)
    card, reply = chat.post(scene.place, CARD, "card"), chat.post(scene.place, REPLY, "k")
    for number in range(3):
        chat.edit(scene.place, card, replace(CARD, state=f"step {number}"))
        scene.clock.now += 10
    with pytest.raises(TryLater) as caught:
        chat.edit(scene.place, card, CARD)
    assert caught.value.after == pytest.approx(30)
    assert not caught.value.everywhere
    for number in range(5):
        chat.edit(scene.place, reply, replace(REPLY, text=f"changed {number}"))
        chat.post(scene.place, REPLY, f"k{number}")
    scene.clock.now += 30
    chat.edit(scene.place, card, CARD)
    with pytest.raises(TryLater):
        chat.edit(scene.place, card, CARD)


# To one person


def test_a_whisper_is_seen_by_one_person_in_the_thread(scene: Scene, stub: SlackServer) -> None:
    scene.chat.whisper(scene.place, PERSON, "Only members may start tasks.")
    (said,) = stub.ephemerals
    assert (said.channel, said.user, said.thread_ts) == (GENERAL, ANN, scene.thread)
    assert "members" in said.text
    assert scene.thread_posts() == []


def test_a_long_whisper_comes_in_pieces_and_whole(scene: Scene, stub: SlackServer) -> None:
    scene.chat.whisper(scene.place, PERSON, LONG)
    assert len(stub.ephemerals) > 1
    assert "file 0." in str(stub.ephemerals[0].blocks)
    assert "file 399." in str(stub.ephemerals[-1].blocks)
    assert stub.files == {}


def test_in_a_direct_message_a_whisper_is_an_ordinary_message(scene: Scene, stub: SlackServer) -> None:
    channel = stub.dm(ANN)
    scene.chat.whisper(Place("slack", TEAM, channel, stub.say(ANN, channel, "hello")), PERSON, "Not here.")
    assert stub.ephemerals == []
    assert len(scene.direct()) == 1


def test_a_command_is_answered_by_its_address_and_once_that_is_stale_by_a_whisper(
    scene: Scene, stub: SlackServer
) -> None:
    url = stub.command(ANN, GENERAL, "list").response_url
    scene.chat.respond(url, "No tasks.", fallback=(scene.place, PERSON))
    assert [response.body["response_type"] for response in stub.responses] == ["ephemeral"]
    assert stub.called("chat.postEphemeral") == []
    scene.clock.now += 31 * 60
    scene.chat.respond(url, "No tasks.", fallback=(scene.place, PERSON))
    assert len(stub.called("chat.postEphemeral")) == 1


def test_a_response_address_elsewhere_is_not_used(scene: Scene, stub: SlackServer) -> None:
    scene.chat.respond("https://example.com/collect", "No tasks.", fallback=(scene.place, PERSON))
    assert len(stub.ephemerals) == 1


def test_an_edit_of_a_message_that_is_gone_is_undeliverable(scene: Scene, stub: SlackServer) -> None:
    message = scene.chat.post(scene.place, REPLY, "k")
    stub.delete(BOT, GENERAL, message)
    with pytest.raises(Refusal, match="deleted"):
        scene.chat.edit(scene.place, message, REPLY)
