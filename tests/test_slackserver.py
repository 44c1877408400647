"""The stub Slack itself: the real slack_sdk and slack_bolt run against it, and it refuses what Slack refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slackparts import Clock, Receiver, bolt, refusal
from slackserver import (
    ANN,
    BEN,
    BOT,
    ELSEWHERE,
    GENERAL,
    PRIVATE,
    STRANGER,
    Fault,
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


# --- in both directions


def test_a_mention_reaches_bolt_over_socket_mode_as_two_events(stub: SlackServer) -> None:
    with bolt(stub) as (_, heard):
        ts = stub.say(ANN, GENERAL, f"<@{BOT}> look", files=[("a.txt", "text")])
        stub.settle()
        stub.wait(lambda: len(heard) == 2)
    mention, message = sorted((body["event"] for body in heard), key=lambda event: event["type"])
    assert (mention["type"], "files" in mention, mention["ts"]) == ("app_mention", False, ts)
    assert (message["channel_type"], message["files"][0]["name"]) == ("channel", "a.txt")
    assert len({body["event_id"] for body in heard}) == 2
    assert not stub.problems
    assert len(stub.latencies()) == 2


def test_bolt_answers_a_command_and_the_answer_is_seen(stub: SlackServer) -> None:
    with bolt(stub) as (app, _):
        app.command("/threadwright")(lambda ack, respond: (ack("on it"), respond("later")))
        delivery = stub.command(BEN, GENERAL, "status")
        stub.settle()
        stub.wait(lambda: stub.responses)
    assert delivery.answer == {"text": "on it"}
    assert [(said.user, said.text) for said in stub.ephemerals] == [(BEN, "later")]


def test_a_button_opens_a_modal_that_is_sent(stub: SlackServer, web: WebClient) -> None:
    button = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}, "value": "v1"}
    post = web.chat_postMessage(channel=GENERAL, text="x", blocks=[{"type": "actions", "elements": [button]}])
    entry = {"type": "plain_text_input", "action_id": "words"}
    block = {"type": "input", "block_id": "b", "label": {"type": "plain_text", "text": "L"}, "element": entry}
    modal = {"type": "modal", "title": {"type": "plain_text", "text": "T"}, "blocks": [block], "callback_id": "m"}
    modal["submit"] = {"type": "plain_text", "text": "Send"}
    sent: list[Any] = []
    with bolt(stub) as (app, _):
        app.action("go")(
            lambda ack, body, client: (ack(), client.views_open(trigger_id=body["trigger_id"], view=modal))
        )
        app.view("m")(lambda ack, view: (sent.append(view), ack({"response_action": "errors", "errors": {"b": "no"}})))
        pressed = stub.press(ANN, GENERAL, post["ts"], "go")
        stub.wait(lambda: stub.views)
        answered = stub.submit(ANN, stub.views[0].id, {"words": "hello"})
        stub.settle()
    assert pressed.payload["actions"][0]["value"] == "v1"
    assert sent[0]["state"]["values"]["b"]["words"]["value"] == "hello"
    assert answered.answer == {"response_action": "errors", "errors": {"b": "no"}}


def test_an_unacknowledged_envelope_comes_again_and_is_then_lost(stub: SlackServer) -> None:
    stub.redeliver_after = 0.05
    with bolt(stub) as (app, heard):
        app.middleware(lambda body, next: heard.append(body))  # noqa: A006
        stub.say(ANN, GENERAL, "hello")
        stub.settle()
    assert [delivery.tries for delivery in stub.lost()] == [4]
    assert len({body["event_id"] for body in heard}) == 1
    assert len(heard) == 4


def test_events_wait_for_a_socket_for_a_while_and_are_then_lost(stub: SlackServer) -> None:
    stub.retry_delays = (0.01, 0.01, 0.01)
    stub.say(ANN, GENERAL, "nobody is there")
    stub.settle()
    assert len(stub.lost()) == 1
    stub.retry_delays = (0.5, 2.0, 2.0)
    stub.say(ANN, GENERAL, "somebody comes")
    with bolt(stub) as (_, heard):
        stub.settle()
        stub.wait(lambda: heard)
    assert [body["event"]["text"] for body in heard] == ["somebody comes"]


@pytest.mark.parametrize("act", ["refresh_sockets", "drop_sockets"])
def test_bolt_comes_again_after_its_socket_went(stub: SlackServer, act: str) -> None:
    stub.retry_delays = (1.0, 5.0, 5.0)
    with bolt(stub) as (_, heard):
        getattr(stub, act)()
        stub.wait(lambda: len(stub.called("apps.connections.open")) == 2)
        stub.wait_socket()
        stub.say(ANN, GENERAL, "still there?")
        stub.settle()
        stub.wait(lambda: heard)


def test_a_burst_is_delivered_with_a_share_sent_twice(stub: SlackServer, receiver: Receiver) -> None:
    stub.redeliver = 0.2
    for number in range(200):
        stub.say(ANN, GENERAL, str(number))
    stub.settle()
    stub.wait(lambda: len(receiver.requests) > 220)
    assert not stub.lost()
    assert len(stub.latencies()) == 200


def test_what_is_said_out_of_order_is_sent_shuffled(stub: SlackServer, receiver: Receiver) -> None:
    with stub.out_of_order():
        said = [stub.say(ANN, GENERAL, str(number)) for number in range(20)]
        assert not receiver.requests
    stub.settle()
    assert [one.payload["event"]["ts"] for one in stub.deliveries] != said


def test_http_pushes_are_signed_and_tried_again(stub: SlackServer, receiver: Receiver) -> None:
    receiver.says = lambda number: 200 if number == 3 else 500
    stub.retry_delays = (0.01, 0.01, 0.01)
    stub.say(ANN, GENERAL, "hello")
    stub.settle()
    assert not stub.lost()
    assert [headers.get("x-slack-retry-num") for headers, _ in receiver.requests] == [None, "1", "2"]
    assert receiver.requests[2][0]["x-slack-retry-reason"] == "http_error"


def test_a_slow_answer_counts_as_none(stub: SlackServer, receiver: Receiver) -> None:
    stub.answer_within, stub.retry_delays = 0.1, (0.01, 0.01, 0.01)
    slow = threading.Event()

    def says(number: int) -> int:
        slow.wait(5 if number == 1 else 0)
        return 200

    receiver.says = says
    stub.say(ANN, GENERAL, "hello")
    stub.settle()
    slow.set()
    assert receiver.requests[1][0]["x-slack-retry-reason"] == "http_timeout"


def test_commands_and_interactions_are_forms_and_never_tried_again(stub: SlackServer, receiver: Receiver) -> None:
    receiver.answer = b'{"text": "ok"}'
    ts = stub.say(ANN, GENERAL, "hello")
    stub.settle()
    command, shortcut = stub.command(ANN, GENERAL, "help me"), stub.shortcut(ANN, GENERAL, ts)
    stub.settle()
    assert command.answer == shortcut.answer == {"text": "ok"}
    forms = [parse_qs(body.decode()) for headers, body in receiver.requests if "form" in headers["content-type"]]
    assert any(form.get("text") == ["help me"] for form in forms)
    assert any('"message_action"' in form.get("payload", [""])[0] for form in forms)
    receiver.says = lambda _: 500
    assert stub.command(ANN, GENERAL, "again").done.wait(5)
    assert [one.tries for one in stub.lost()] == [1]


def test_only_events_that_the_app_may_get_are_sent(stub: SlackServer, receiver: Receiver) -> None:
    stub.say(ANN, ELSEWHERE, "the bot is not here")
    stub.scopes.discard("channels:history")
    stub.say(ANN, GENERAL, "no scope")
    stub.events.discard("message.groups")
    stub.say(ANN, PRIVATE, "not subscribed")
    stub.say(ANN, stub.dm(ANN), f"<@{BOT}> direct: one event")
    stub.settle()
    assert [one.payload["event"]["channel_type"] for one in stub.deliveries] == ["im"]


def test_edits_deletions_and_reactions_are_told(stub: SlackServer, receiver: Receiver) -> None:
    ts = stub.say(STRANGER, GENERAL, "first")
    stub.edit(STRANGER, GENERAL, ts, "second")
    stub.unfurl(GENERAL, ts)
    stub.react(BEN, GENERAL, ts, "x")
    stub.unreact(BEN, GENERAL, ts, "x")
    stub.delete(STRANGER, GENERAL, ts)
    stub.settle()
    events = [one.payload["event"] for one in stub.deliveries]
    assert [event.get("subtype", event["type"]) for event in events] == [
        *("message", "message_changed", "message_changed", "reaction_added", "reaction_removed", "message_deleted")
    ]
    assert events[0]["user_team"] != events[0]["team"] or events[0]["team"] != "T00000TEAM"
    assert events[1]["message"]["edited"]["user"] == STRANGER
    assert [version.text for version in stub.message(GENERAL, ts).versions] == ["first", "second"]


def test_an_edit_of_a_mention_sends_the_mention_again(stub: SlackServer, receiver: Receiver) -> None:
    ts = stub.say(ANN, GENERAL, f"<@{BOT}> fix it")
    stub.edit(ANN, GENERAL, ts, f"<@{BOT}> fix it please")
    stub.unfurl(GENERAL, ts)
    stub.settle()
    mentions = [one for one in stub.deliveries if one.payload["event"]["type"] == "app_mention"]
    assert len({one.event_id for one in mentions}) == 2
    assert ["edited" in one.payload["event"] for one in mentions] == [False, True]


def test_the_app_hears_itself_unless_told_otherwise(stub: SlackServer, receiver: Receiver, web: WebClient) -> None:
    ts = web.chat_postMessage(channel=GENERAL, text="mine")["ts"]
    stub.echo = False
    web.reactions_add(channel=GENERAL, timestamp=ts, name="eyes")
    stub.react(ANN, GENERAL, ts, "x")
    stub.settle()
    assert [one.payload["event"]["type"] for one in stub.deliveries] == ["message", "reaction_added"]
    assert stub.deliveries[0].payload["event"]["bot_id"] == "B00000BOT1"


# --- faults


def test_faults_come_in_the_order_they_were_asked_for(stub: SlackServer, web: WebClient) -> None:
    for fault in (Fault.status(503), Fault.limited(7), Fault.not_json(), Fault.drop_before(), Fault.drop_after()):
        stub.fault("chat.postMessage", fault)
    errors = []
    for _ in range(5):
        with pytest.raises(Exception) as caught:
            web.chat_postMessage(channel=GENERAL, text="hello")
        errors.append(type(caught.value).__name__)
    assert [call.error for call in stub.called("chat.postMessage")] == [
        *("http_503", "ratelimited", "http_200", "dropped", "dropped")
    ]
    assert len(stub.posts()) == 1  # drop_after did it
    assert errors[-1] == "RemoteDisconnected"
    assert web.chat_postMessage(channel=GENERAL, text="hello")["ok"]


def test_the_same_seed_fails_the_same_calls() -> None:
    runs = []
    for _ in range(2):
        with SlackServer(seed=7) as stub:
            stub.fault_rate, stub.fault_kinds = 0.5, (Fault.error("internal_error"),)
            web = WebClient(base_url=stub.url, token=stub.bot_token)
            for _ in range(20):
                with suppress(SlackApiError):
                    web.chat_postMessage(channel=GENERAL, text="hello")
            runs.append([call.error for call in stub.calls])
    assert runs[0] == runs[1]
    assert {"", "internal_error"} == set(runs[0])


def test_rate_limits_are_by_method_and_channel(stub: SlackServer, web: WebClient, clock: Clock) -> None:
    stub.limit("chat.postMessage", 1, 1.0)
    web.chat_postMessage(channel=GENERAL, text="one")
    web.chat_postMessage(channel=PRIVATE, text="one")
    assert refusal(web.chat_postMessage, channel=GENERAL, text="two") == "ratelimited"
    clock.now += 1
    web.chat_postMessage(channel=GENERAL, text="two")
    stub.rate_limit("users.info", seconds=5)
    assert refusal(web.users_info, user=ANN) == "ratelimited"
    clock.now += 5
    web.users_info(user=ANN)
