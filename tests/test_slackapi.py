"""The stub Slack's Web API, as the real slack_sdk sees it: what it does, and what it refuses."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slackparts import Clock, Receiver, refusal
from slackserver import (
    ANN,
    BEN,
    BOT,
    ELSEWHERE,
    GENERAL,
    GUEST,
    OLD,
    SECRET,
    STRANGER,
    SlackServer,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stub(clock: Clock) -> Iterator[SlackServer]:
    with SlackServer(clock=clock) as stub:
        yield stub


@pytest.fixture
def web(stub: SlackServer) -> WebClient:
    return WebClient(base_url=stub.url, token=stub.bot_token, retry_handlers=[])


@pytest.fixture
def receiver(stub: SlackServer) -> Iterator[Receiver]:
    receiver = Receiver(stub.signing_secret)
    stub.push_to(receiver.url)
    yield receiver
    receiver.close()


# --- the Web API


def test_messages_are_posted_edited_and_removed(stub: SlackServer, web: WebClient) -> None:
    metadata = {"event_type": "threadwright", "event_payload": {"key": "k1"}}
    root = stub.say(ANN, GENERAL, "root")
    ts = web.chat_postMessage(channel=GENERAL, thread_ts=root, text="one", metadata=metadata)["ts"]
    web.chat_update(channel=GENERAL, ts=ts, text="two")
    assert [(m.text, m.metadata) for m in stub.messages(GENERAL, root)][1] == ("two", metadata)
    plain = web.conversations_replies(channel=GENERAL, ts=root)["messages"]
    assert "metadata" not in plain[1]
    full = web.conversations_replies(channel=GENERAL, ts=root, include_all_metadata=True)["messages"]
    assert full[1]["metadata"] == metadata
    web.chat_delete(channel=GENERAL, ts=ts)
    assert stub.posts() == []


def test_a_reply_to_a_deleted_parent_lands_in_the_channel(stub: SlackServer, web: WebClient) -> None:
    root = stub.say(ANN, GENERAL, "root")
    stub.delete(ANN, GENERAL, root)
    answer = web.chat_postMessage(channel=GENERAL, thread_ts=root, text="reply")
    assert "thread_ts" not in answer["message"]
    assert refusal(web.conversations_replies, channel=GENERAL, ts=root) == "thread_not_found"


def test_with_tombstones_a_thread_outlives_its_first_message(stub: SlackServer, web: WebClient) -> None:
    stub.tombstones = True
    root = stub.say(ANN, GENERAL, "root")
    stub.say(BEN, GENERAL, "reply", thread=root)
    stub.delete(ANN, GENERAL, root)
    assert web.chat_postMessage(channel=GENERAL, thread_ts=root, text="more")["message"]["thread_ts"] == root
    thread = web.conversations_replies(channel=GENERAL, ts=root)["messages"]
    assert [message.get("subtype", message["text"]) for message in thread] == ["tombstone", "reply", "more"]


def test_a_thread_is_read_oldest_first_in_pages(stub: SlackServer, web: WebClient) -> None:
    root = stub.say(ANN, GENERAL, "0")
    said = [stub.say(ANN, GENERAL, str(number), thread=root) for number in range(1, 25)]
    pages = [page["messages"] for page in web.conversations_replies(channel=GENERAL, ts=root, limit=10)]
    assert [message["text"] for page in pages for message in page] == [str(number) for number in range(25)]
    since = web.conversations_replies(channel=GENERAL, ts=root, oldest=said[20], inclusive=True)["messages"]
    assert [message["text"] for message in since] == ["0", "21", "22", "23", "24"]
    assert refusal(web.conversations_replies, channel=GENERAL, ts=root, cursor="?") == "invalid_cursor"
    assert [m["text"] for m in web.conversations_history(channel=GENERAL)["messages"]] == ["0"]


def test_an_app_outside_the_marketplace_reads_fifteen_messages_a_minute(
    stub: SlackServer, web: WebClient, clock: Clock
) -> None:
    stub.non_marketplace = True
    root = stub.say(ANN, GENERAL, "root")
    for _ in range(20):
        stub.say(ANN, GENERAL, "more", thread=root)
    assert len(web.conversations_replies(channel=GENERAL, ts=root, limit=100)["messages"]) == 15
    with pytest.raises(SlackApiError) as caught:
        web.conversations_replies(channel=GENERAL, ts=root)
    assert (caught.value.response.status_code, caught.value.response.headers["Retry-After"]) == (429, "60")
    clock.now += 61
    web.conversations_replies(channel=GENERAL, ts=root)


def test_a_file_goes_up_and_comes_down(stub: SlackServer, web: WebClient) -> None:
    root = stub.say(ANN, GENERAL, "root")
    web.files_upload_v2(channel=GENERAL, thread_ts=root, filename="log.txt", content="all of it", title="Log")
    (post,) = stub.messages(GENERAL, root)[1:]
    file = web.files_info(file=post.files[0])["file"]
    assert (file["title"], file["size"], file["shares"]["public"][GENERAL][0]["ts"]) == ("Log", 9, post.ts)
    request = urllib.request.Request(file["url_private"])
    with urllib.request.urlopen(request) as page:
        assert b"Sign in" in page.read()
    request.add_header("Authorization", f"Bearer {stub.bot_token}")
    with urllib.request.urlopen(request) as page:
        assert page.read() == b"all of it"


def test_a_status_ends_by_itself_and_with_the_next_message(stub: SlackServer, web: WebClient, clock: Clock) -> None:
    root = stub.say(ANN, GENERAL, "root")
    set_status = web.assistant_threads_setStatus
    set_status(channel_id=GENERAL, thread_ts=root, status="is working")
    assert stub.status(GENERAL, root) == "is working"
    web.chat_postMessage(channel=GENERAL, thread_ts=root, text="done")
    assert stub.status(GENERAL, root) == ""
    set_status(channel_id=GENERAL, thread_ts=root, status="is working")
    clock.now += 121
    assert stub.status(GENERAL, root) == ""
    assert refusal(set_status, channel_id=GENERAL, thread_ts="1.000000", status="x").startswith("invalid_arguments")
    assert refusal(set_status, channel_id=GENERAL, thread_ts="1700000000.000001", status="x") == "invalid_thread_ts"


def test_people_are_as_they_are(stub: SlackServer, web: WebClient) -> None:
    assert web.users_info(user=GUEST)["user"]["is_restricted"]
    assert web.users_info(user=STRANGER)["user"]["team_id"] != stub.world.users[ANN].team
    assert web.bots_info(bot="B000ROBOT1")["bot"]["name"] == "robot"
    assert refusal(web.users_info, user="U0NOBODY") == "user_not_found"
    assert refusal(web.bots_info, bot="B0NOBODY") == "bot_not_found"
    direct = web.conversations_open(users=ANN)["channel"]["id"]
    assert web.chat_postMessage(channel=ANN, text="hello")["channel"] == direct
    assert refusal(web.conversations_open, users=BOT) == "cannot_dm_bot"
    assert "chat:write" in web.auth_test().headers["x-oauth-scopes"]


def test_a_response_url_is_good_for_five_answers_and_thirty_minutes(
    stub: SlackServer, receiver: Receiver, clock: Clock
) -> None:
    def respond(url: str) -> int:
        request = urllib.request.Request(url, b'{"text": "hello"}', {"Content-Type": "application/json"})
        try:
            return int(urllib.request.urlopen(request).status)
        except urllib.error.HTTPError as exc:
            return exc.code

    used = stub.command(ANN, GENERAL, "status")
    assert [respond(used.response_url) for _ in range(6)] == [200] * 5 + [404]
    late = stub.command(ANN, GENERAL, "status")
    clock.now += 30 * 60 + 1
    assert respond(late.response_url) == 404


# --- what is refused: methods, tokens, places


def test_tokens_and_scopes_are_checked(stub: SlackServer, web: WebClient) -> None:
    assert refusal(WebClient(base_url=stub.url).auth_test) == "not_authed"
    assert refusal(WebClient(base_url=stub.url, token="xoxb-other").auth_test) == "invalid_auth"
    assert refusal(web.apps_connections_open, app_token=stub.bot_token) == "not_allowed_token_type"
    assert refusal(WebClient(base_url=stub.url, token=stub.app_token).auth_test) == "not_allowed_token_type"
    assert refusal(web.api_call, api_method="chat.nonsense") == "unknown_method"
    stub.scopes -= {"chat:write", "channels:history"}
    with pytest.raises(SlackApiError) as caught:
        web.chat_postMessage(channel=GENERAL, text="x")
    assert (caught.value.response["error"], caught.value.response["needed"]) == ("missing_scope", "chat:write")
    assert "reactions:write" in caught.value.response["provided"]
    assert refusal(web.conversations_history, channel=GENERAL) == "missing_scope"
    stub.revoke("account_inactive")
    assert refusal(web.auth_test) == "account_inactive"


def test_arguments_are_checked(web: WebClient) -> None:
    post = web.chat_postMessage
    assert refusal(post, channel=GENERAL, text="x", urgent=True).endswith("invalid additional property: urgent")
    assert refusal(web.api_call, api_method="chat.delete", json={"channel": GENERAL}).endswith(
        "missing required field: ts"
    )
    assert "/unfurl_links" in refusal(post, channel=GENERAL, text="x", unfurl_links="perhaps")
    assert "/thread_ts" in refusal(post, channel=GENERAL, text="x", thread_ts="yesterday")
    assert refusal(web.api_call, api_method="chat.postMessage", json={"channel": GENERAL, "text": ""}) == "no_text"
    assert refusal(post, channel=GENERAL, text="x" * 40_001) == "msg_too_long"
    assert refusal(post, channel=GENERAL, text="x", metadata={"event_type": "x"}) == "invalid_metadata_format"
    bad_name = {"event_type": "a b", "event_payload": {}}
    assert refusal(post, channel=GENERAL, text="x", metadata=bad_name) == "invalid_metadata_schema"
    ts = post(channel=GENERAL, text="x")["ts"]
    assert refusal(web.chat_update, channel=GENERAL, ts=ts, text="x" * 4001) == "msg_too_long"


def test_places_are_checked(stub: SlackServer, web: WebClient) -> None:
    post = web.chat_postMessage
    assert refusal(post, channel=ELSEWHERE, text="x") == "not_in_channel"
    assert refusal(post, channel=SECRET, text="x") == "channel_not_found"
    assert refusal(post, channel="C0NOWHERE", text="x") == "channel_not_found"
    assert refusal(post, channel=OLD, text="x") == "is_archived"
    stub.add_user("U0AWAY", "away")
    assert refusal(web.chat_postEphemeral, channel=GENERAL, user="U0AWAY", text="x") == "user_not_in_channel"
    theirs = stub.say(ANN, GENERAL, "hers")
    assert refusal(web.chat_update, channel=GENERAL, ts=theirs, text="x") == "cant_update_message"
    assert refusal(web.chat_delete, channel=GENERAL, ts=theirs) == "cant_delete_message"
    assert refusal(web.chat_update, channel=GENERAL, ts="1700000000.000001", text="x") == "message_not_found"
    react, unreact = web.reactions_add, web.reactions_remove
    react(channel=GENERAL, timestamp=theirs, name="eyes")
    assert refusal(react, channel=GENERAL, timestamp=theirs, name="eyes") == "already_reacted"
    assert refusal(unreact, channel=GENERAL, timestamp=theirs, name="x") == "no_reaction"
    assert refusal(react, channel=GENERAL, timestamp=theirs, name="no_such_emoji") == "invalid_name"
    assert stub.message(GENERAL, theirs).reactions == {"eyes": [BOT]}


def test_a_trigger_id_opens_one_modal_within_three_seconds(
    stub: SlackServer, web: WebClient, receiver: Receiver, clock: Clock
) -> None:
    view = {"type": "modal", "title": {"type": "plain_text", "text": "T"}, "blocks": []}
    first, second = (stub.command(ANN, GENERAL, "x").trigger_id for _ in range(2))
    web.views_open(trigger_id=first, view=view)
    assert refusal(web.views_open, trigger_id=first, view=view) == "exchanged_trigger_id"
    clock.now += 3.1
    assert refusal(web.views_open, trigger_id=second, view=view) == "expired_trigger_id"
    assert refusal(web.views_open, trigger_id="made.up", view=view) == "invalid_trigger_id"
