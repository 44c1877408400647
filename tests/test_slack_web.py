"""What Slack's failures mean to us: who has to wait, who has to act, and what may have happened all the same."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from slackserver import ALL_SCOPES, ANN, ELSEWHERE, GENERAL, OLD, PRIVATE, SECRET, Fault, SlackServer

from bot.chat import TryLater
from bot.slack.web import Broken, Gone, NotInChannel, ParentGone, Refusal, Refused, Web, refusal


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stub(clock: Clock) -> Iterator[SlackServer]:
    with SlackServer(clock=clock) as stub:
        yield stub


@pytest.fixture
def web(stub: SlackServer, clock: Clock) -> Web:
    return Web(stub.bot_token, base_url=stub.url, timeout=5, clock=clock)


def say(web: Web, channel: str = GENERAL) -> str:
    return str(web.call("chat.postMessage", unclear=True, channel=channel, text="hello")["ts"])


def later(web: Web, channel: str = GENERAL) -> TryLater:
    with pytest.raises(TryLater) as caught:
        say(web, channel)
    return caught.value


# Waiting


def test_while_slack_asks_to_wait_nothing_is_sent_to_that_channel(stub: SlackServer, web: Web, clock: Clock) -> None:
    stub.rate_limit("chat.postMessage", channel=GENERAL, seconds=30)
    assert later(web).after == pytest.approx(30, abs=1)
    clock.now += 10
    assert later(web).after == pytest.approx(20, abs=1)
    assert len(stub.called("chat.postMessage")) == 1, "it asked although it was told to wait"
    clock.now += 21
    say(web)


def test_waiting_for_one_method_and_channel_holds_up_no_other(stub: SlackServer, web: Web) -> None:
    message = say(web)
    stub.rate_limit("chat.postMessage", channel=GENERAL, seconds=30)
    later(web)
    say(web, PRIVATE)
    web.call("chat.update", channel=GENERAL, ts=message, text="hello again")


@pytest.mark.parametrize("said", ["", "soon", "-1", "nan", "1e99", "٣"])
def test_a_wait_that_is_no_number_is_a_short_one(web: Web, said: str) -> None:
    assert web._limit(("chat.postMessage", GENERAL), {"Retry-After": said}).after == 5


def test_a_limit_that_is_told_with_status_200_is_one_as_well(stub: SlackServer, web: Web) -> None:
    stub.fault("chat.postMessage", Fault.error("ratelimited"))
    assert not later(web).unclear


# What may have happened


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        Fault.status(503),
        Fault.drop_before(),
        Fault.drop_after(),
        Fault.not_json(),
        Fault.error("internal_error"),
        Fault.error("fatal_error"),
    ],
)
def test_after_a_failure_a_post_may_have_happened_and_a_question_may_be_asked_again(
    stub: SlackServer, web: Web, fault: Fault
) -> None:
    stub.fault("*", fault, times=2)
    assert later(web).unclear
    with pytest.raises(TryLater) as caught:
        web.call("users.info", user=ANN)
    assert not caught.value.unclear


def test_after_a_timeout_a_post_may_have_happened(stub: SlackServer, clock: Clock) -> None:
    stub.fault("chat.postMessage", Fault.delay(1))
    error = later(Web(stub.bot_token, base_url=stub.url, timeout=0.1, clock=clock))
    assert error.unclear
    assert error.everywhere


def test_where_nobody_listens_nothing_can_have_happened(clock: Clock) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        web = Web("xoxb-1", base_url=f"http://127.0.0.1:{unused.getsockname()[1]}/api/", timeout=5, clock=clock)
        error = later(web)
    assert (error.unclear, error.everywhere) == (False, True)


def test_control_a_limit_means_that_nothing_happened(stub: SlackServer, web: Web) -> None:
    stub.fault("chat.postMessage", Fault.limited(3))
    error = later(web)
    assert (error.after, error.unclear, error.everywhere) == (3, False, False)


# Who has to act


def test_a_missing_scope_is_named_and_logged_once(
    stub: SlackServer, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    stub.scopes = set(ALL_SCOPES) - {"chat:write"}
    for _ in range(3):
        error = later(web)
        assert isinstance(error, Broken)
        assert "chat:write" in error.problem
        assert "manifest" in error.problem
        assert not error.everywhere, "other methods work"
    assert web.problem == error.problem
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    web.call("users.info", user=ANN)
    assert web.problem, "another method that works does not end it"
    stub.scopes = set(ALL_SCOPES)
    say(web)
    assert web.problem == ""


@pytest.mark.parametrize(
    ("code", "words"), [("token_revoked", "revoked"), ("account_inactive", "removed"), ("invalid_auth", "know")]
)
def test_a_token_that_is_no_good_is_the_operators_to_mend(stub: SlackServer, web: Web, code: str, words: str) -> None:
    stub.revoke(code)
    error = later(web)
    assert isinstance(error, Broken)
    assert error.everywhere
    assert words in web.problem
    stub.restore()
    web.call("auth.test")
    assert web.problem == ""


def test_an_address_that_is_not_slacks_is_the_operators_to_mend(stub: SlackServer, clock: Clock) -> None:
    web = Web(stub.bot_token, base_url=stub.url.replace("/api/", "/apo/"), clock=clock)
    with pytest.raises(Broken, match="SLACK_API_URL"):
        web.call("auth.test")


@pytest.mark.parametrize(
    ("channel", "error", "words"),
    [
        (OLD, Gone, "archived"),
        (SECRET, Gone, "does not exist"),
        (ELSEWHERE, NotInChannel, "/invite"),
    ],
)
def test_a_channel_that_takes_nothing_is_told_in_a_sentence(
    web: Web, channel: str, error: type[Refusal], words: str
) -> None:
    with pytest.raises(error, match=words):
        say(web, channel)


def test_a_deleted_message_cannot_be_changed(stub: SlackServer, web: Web) -> None:
    message = say(web)
    web.call("chat.delete", channel=GENERAL, ts=message)
    with pytest.raises(Gone, match="deleted"):
        web.call("chat.update", channel=GENERAL, ts=message, text="new")
    with pytest.raises(ParentGone):
        web.call("conversations.replies", channel=GENERAL, ts=message)


@pytest.mark.parametrize(
    ("code", "error"),
    [("invalid_blocks", Refused), ("msg_too_long", Refused), ("restricted_action", Refusal), ("no_such_code", Refusal)],
)
def test_each_code_becomes_words(code: str, error: type[Refusal]) -> None:
    refused = refusal("chat.postMessage", code)
    assert type(refused) is error
    assert refused.code == code
    assert str(refused).endswith(".")


def test_the_token_is_in_no_error(stub: SlackServer, web: Web) -> None:
    stub.revoke()
    assert stub.bot_token not in str(later(web))


def test_the_scopes_of_the_token_are_told(stub: SlackServer, web: Web) -> None:
    assert web.scopes() == set(ALL_SCOPES) - {"connections:write"}, "that one belongs to the app's token"
    stub.scopes = {"chat:write"}
    assert web.scopes() == {"chat:write"}


# Files


def url_of(stub: SlackServer, web: Web, content: bytes) -> str:
    file = stub.add_file("notes.txt", content, channels=(GENERAL,))
    return str(web.call("files.info", file=file)["file"]["url_private"])


def test_a_file_is_fetched_with_the_token(stub: SlackServer, web: Web) -> None:
    assert web.fetch(url_of(stub, web, b"some notes"), 100) == b"some notes"


def test_a_file_that_is_longer_than_allowed_is_refused(stub: SlackServer, web: Web) -> None:
    url = url_of(stub, web, b"x" * 101)
    with pytest.raises(Refusal, match="longer"):
        web.fetch(url, 100)


def test_the_page_to_sign_in_is_not_taken_for_the_file(stub: SlackServer, web: Web) -> None:
    url = url_of(stub, web, b"some notes")
    stub.scopes = set(ALL_SCOPES) - {"files:read"}
    with pytest.raises(Refusal):
        web.fetch(url, 10_000)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/files/1",
        "https://slack.com.example.com/1",
        "https://notslack.com/1",
        "http://files.slack.com/1",
        "https://files.slack.com:8443/1",
        "https://files.slack.com@example.com/1",
        "file:///etc/passwd",
        "https://[",
        "",
    ],
)
def test_the_token_goes_to_slack_only(web: Web, url: str) -> None:
    with pytest.raises(Refusal, match="not Slack's"):
        web.fetch(url, 100)
    with pytest.raises(Refusal, match="not Slack's"):
        web.put(url, b"x")


@pytest.mark.parametrize("url", ["https://files.slack.com/files-pri/T1-F1/a.txt", "https://files.slack-gov.com/1"])
def test_control_slacks_own_file_hosts_are_slack(web: Web, url: str) -> None:
    assert web._own(url) == url


def test_a_download_that_breaks_off_is_tried_again_later(stub: SlackServer, web: Web) -> None:
    url = url_of(stub, web, b"some notes")
    stub.fault("download", Fault.status(503))
    stub.fault("download", Fault.drop_before())
    stub.fault("download", Fault.limited(0))
    for _ in range(3):
        with pytest.raises(TryLater):
            web.fetch(url, 100)
    assert web.fetch(url, 100) == b"some notes"
