"""Slack over HTTP: what Slack did not sign just now is refused, nothing of it stored; manifest and doctor."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_module
import yaml
from boxes import wait_until
from office import DeskRoom
from pydantic import SecretStr
from rooms import House
from slackserver import ALL_SCOPES, ANN, BOT, GENERAL, TEAM, SlackServer

from bot.chat import DeskClosed
from bot.slack import checkup, manifest
from bot.slack.http import PATH, Door, Verifier, route
from bot.slack.listening import Config, Listener, slack_of, who_am_i
from bot.slack.web import Web
from bot.web.app import MOST_BYTES, application, served
from integrations.redaction import Redactor
from jobs.listening import listening
from jobs.mail import RedisMail


@pytest.fixture(scope="module")
def stub() -> Iterator[SlackServer]:
    with SlackServer() as server:
        yield server


class Shut(RedisMail):
    """A store that takes nothing while it is `shut`."""

    shut = False

    def keep(self, keys: Any, payload: dict[str, Any]) -> bool:
        if self.shut:
            raise DeskClosed("not now")
        return super().keep(keys, payload)


class Office:
    def __init__(self, redis: redis_module.Redis, stub: SlackServer) -> None:
        room = DeskRoom(redis)
        self.redis = redis
        self.mail = Shut(room.tasks, "slack", TEAM, redact=Redactor(()).redact)
        config = Config(stub.bot_token, signing_secret=stub.signing_secret, api_url=stub.url)
        web = Web(stub.bot_token, base_url=stub.url)
        self.listener = Listener(config, slack_of(config, who_am_i(web), web, room.desk, self.mail))
        self.door = Door(self.listener.app, Verifier(stub.signing_secret, self.mail))

    @property
    def stored(self) -> int:
        return int(self.redis.xlen(f"tw:mail:slack/{TEAM}"))


@pytest.fixture
def office(redis: redis_module.Redis, stub: SlackServer) -> Office:
    return Office(redis, stub)


@pytest.fixture
def url(office: Office) -> Iterator[str]:
    app = application([route(office.door.receive)], lambda: ["Redis does not answer"] if office.mail.shut else [])
    with served(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


def mention(number: int = 1) -> bytes:
    event = {
        "type": "message",
        "channel": GENERAL,
        "channel_type": "channel",
        "user": ANN,
        "text": f"<@{BOT}> add retries",
        "ts": f"1795597000.{number:06}",
        "event_ts": f"1795597000.{number:06}",
    }
    return json.dumps(
        {
            "type": "event_callback",
            "team_id": TEAM,
            "event_id": f"Ev{number}",
            "event_time": 1795597000,
            "event": event,
        }
    ).encode()


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url + PATH, body, {"Content-Type": "application/json", **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def test_what_slack_signed_is_stored_and_acknowledged(office: Office, url: str, stub: SlackServer) -> None:
    assert post(url, mention(), stub.sign(mention())) == 200
    assert office.stored == 1


def wrong(stub: SlackServer) -> dict[str, dict[str, str]]:
    good = stub.sign(mention())
    return {
        "another signature": {**good, "X-Slack-Signature": "v0=" + "0" * 64},
        "no signature": {"X-Slack-Request-Timestamp": str(int(time.time()))},
        "six minutes old": stub.sign(mention(), at=time.time() - 360),
        "six minutes ahead": stub.sign(mention(), at=time.time() + 360),
        "no number": {**good, "X-Slack-Request-Timestamp": "soon"},
        "no time": {"X-Slack-Signature": good["X-Slack-Signature"]},
        "not ASCII": {**good, "X-Slack-Signature": "v0=\u00e9"},
        "signed for another body": stub.sign(mention(2)),
    }


@pytest.mark.parametrize("what", [*wrong(SlackServer())])
def test_what_is_not_signed_now_by_slack_is_refused_and_not_stored(
    office: Office, url: str, stub: SlackServer, what: str
) -> None:
    assert post(url, mention(), wrong(stub)[what]) == 401
    assert office.stored == 0


def test_a_replay_is_refused(office: Office, url: str, stub: SlackServer) -> None:
    headers = stub.sign(mention())
    assert [post(url, mention(), headers) for _ in range(3)] == [200, 401, 401]
    assert office.stored == 1


def test_slacks_own_retry_is_signed_anew_and_taken_once(office: Office, url: str, stub: SlackServer) -> None:
    first, second = stub.sign(mention()), stub.sign(mention(), at=time.time() + 1)
    assert [post(url, mention(), headers) for headers in (first, second)] == [200, 200]
    assert office.stored == 1


def test_what_cannot_be_stored_is_not_acknowledged_and_may_come_again(
    office: Office, url: str, stub: SlackServer
) -> None:
    headers = stub.sign(mention())
    office.mail.shut = True
    assert post(url, mention(), headers) == 503
    office.mail.shut = False
    assert post(url, mention(), headers) == 200
    assert office.stored == 1


def test_bytes_that_are_no_text_are_refused(office: Office, url: str, stub: SlackServer) -> None:
    body = b"\xff\xfe" + mention()
    assert post(url, body, {**stub.sign(mention())}) == 401
    assert office.stored == 0


def test_a_body_without_end_is_refused(office: Office, url: str, stub: SlackServer) -> None:
    body = b'{"a": "' + b"x" * MOST_BYTES + b'"}'
    assert post(url, body, {}) == 413


def test_slacks_challenge_is_answered(url: str, stub: SlackServer) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "abc", "token": "x"}).encode()
    request = urllib.request.Request(url + PATH, body, {"Content-Type": "application/json", **stub.sign(body)})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert b"abc" in answer.read()


def test_health_says_what_does_not_work(office: Office, url: str) -> None:
    with urllib.request.urlopen(url + "/health", timeout=10) as answer:
        assert json.load(answer) == {"ok": True, "problems": []}
    office.mail.shut = True
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        urllib.request.urlopen(url + "/health", timeout=10)
    assert json.load(caught.value)["problems"] == ["Redis does not answer"]


def test_an_address_that_is_taken_is_told_in_plain_words(tmp_path: Path, stub: SlackServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        house = House(
            tmp_path,
            workers=0,
            slack_bot_token=SecretStr(stub.bot_token),
            slack_signing_secret=SecretStr(stub.signing_secret),
            slack_api_url=stub.url,
            http_port=taken.getsockname()[1],
        )
        said: list[str] = []
        with listening(house.office, said.append):
            wait_until(lambda: said, 20)
        house.close()
    assert "Set HTTP_HOST and HTTP_PORT" in said[0]


# ---- the manifest and doctor


def test_the_manifest_asks_for_every_scope_that_is_used_and_for_no_other() -> None:
    data = yaml.safe_load(manifest.manifest())
    assert sorted(data["oauth_config"]["scopes"]["bot"]) == sorted(manifest.SCOPES)
    assert sorted(data["settings"]["event_subscriptions"]["bot_events"]) == sorted(manifest.EVENTS)
    assert data["settings"]["socket_mode_enabled"]
    assert manifest.SCOPES <= ALL_SCOPES


def test_every_method_that_the_code_calls_is_in_the_table_of_scopes() -> None:
    source = "\n".join(path.read_text() for path in Path(manifest.__file__).parent.glob("*.py"))
    listed = set(manifest.METHODS)
    code = source.replace(Path(manifest.__file__).read_text(), "")
    called = {method for method in METHODS if f'"{method}"' in code}
    assert called == listed


METHODS = (
    *("api.test", "apps.connections.open", "auth.revoke", "auth.test", "bots.info", "chat.delete", "chat.meMessage"),
    *("chat.getPermalink", "chat.postEphemeral", "chat.postMessage", "chat.startStream", "chat.unfurl", "chat.update"),
    *("conversations.history", "conversations.info", "conversations.join", "conversations.list", "files.info"),
    *("conversations.members", "conversations.open", "conversations.replies", "emoji.list", "files.upload"),
    *("files.completeUploadExternal", "files.getUploadURLExternal", "reactions.add", "reactions.get", "team.info"),
    *("reactions.remove", "usergroups.list", "users.info", "users.list", "users.profile.get", "views.open"),
    *("views.publish", "views.update", "assistant.threads.setStatus", "assistant.threads.setTitle", "pins.add"),
)


def test_with_a_host_the_manifest_is_for_http() -> None:
    data = yaml.safe_load(manifest.manifest("https://bot.example.com/"))
    address = "https://bot.example.com/slack/events"
    assert not data["settings"]["socket_mode_enabled"]
    assert data["settings"]["event_subscriptions"]["request_url"] == address
    assert data["settings"]["interactivity"]["request_url"] == address
    assert data["features"]["slash_commands"][0]["url"] == address
    with pytest.raises(ValueError, match="no host"):
        manifest.manifest("bot.example.com/path?x")


def test_doctor_names_each_missing_scope() -> None:
    with SlackServer(scopes=ALL_SCOPES - {"reactions:write", "files:read"}) as stub:
        config = Config(stub.bot_token, stub.app_token, api_url=stub.url)
        found = checkup.look(config)
        assert [part.detail for part in found if not part.ok] == ["files:read is missing", "reactions:write is missing"]
        stub.scopes |= {"reactions:write", "files:read"}
        assert all(part.ok for part in checkup.look(config))


def test_doctor_says_that_a_token_was_revoked() -> None:
    with SlackServer() as stub:
        stub.revoke()
        [part] = checkup.look(Config(stub.bot_token, stub.app_token, api_url=stub.url))
        assert not part.ok
        assert "revoked" in part.detail


def test_doctor_says_that_the_app_token_is_no_good() -> None:
    with SlackServer() as stub:
        parts = checkup.look(Config(stub.bot_token, "xapp-wrong", api_url=stub.url))
        assert "SLACK_APP_TOKEN" in parts[-1].detail
        assert not parts[-1].ok
