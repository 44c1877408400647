"""Calls to Slack's Web API, and what their failures mean, translated once.

slack_sdk never tries again by itself: its retries post twice. Who calls decides, by what is raised: `Undeliverable` is
the place's or a person's problem, `Broken` is the operator's, any other `TryLater` passes by itself.
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from bot.chat import TryLater, Undeliverable

log = logging.getLogger(__name__)
_silent = logging.getLogger(f"{__name__}.sdk")
_silent.setLevel(logging.CRITICAL)
"""slack_sdk logs each failure, which is raised here as well, and bodies on debug level, which nobody should keep."""

SLACK_HOSTS = (".slack.com", ".slack-gov.com")
"""Besides the API's own host, where files are fetched from and sent to."""
PASSES_SECONDS = 2.0
"""After a failure: long enough for a post that took place to be found in its thread."""
OPERATOR_SECONDS = 60.0
NO_RETRY_AFTER_SECONDS = 5.0
_CODE = re.compile(r"[a-z][a-z0-9_]*")

_TRANSIENT = frozenset(
    {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org", "ratelimited"}
    | {"rate_limited"}
)
"""Some part of the call may have succeeded all the same, says https://docs.slack.dev/reference/methods/chat.postMessage."""

_TOKEN = {
    "invalid_auth": "Slack does not know the bot token",
    "not_authed": "Slack was given no bot token",
    "token_revoked": "The bot token was revoked",
    "token_expired": "The bot token has expired",
    "account_inactive": "The app was removed from the workspace, or its bot user was deactivated",
    "not_allowed_token_type": "This is no bot token",
    "org_login_required": "The workspace is being moved to another organisation",
    "team_access_not_granted": "The app was not granted access to this workspace",
    "access_denied": "Slack denies this app access",
    "ekm_access_denied": "The organisation has suspended access by its encryption keys",
    "enterprise_is_restricted": "The organisation does not let this app call Slack",
    "two_factor_setup_required": "The workspace asks for two-factor set-up first",
}
_GONE = {
    "channel_not_found": "That channel does not exist any more, or I was removed from it.",
    "is_archived": "That channel was archived.",
    "message_not_found": "That message was deleted.",
    "thread_not_found": "That thread was deleted.",
    "cant_update_message": "That message is not mine to change.",
    "cant_delete_message": "That message is not mine to delete.",
    "edit_window_closed": "The workspace does not let messages of that age be changed.",
    "file_not_found": "That file was deleted.",
    "file_deleted": "That file was deleted.",
    "user_not_found": "That person is not in the workspace.",
}
_NOT_IN = {
    "not_in_channel": "I am not in that channel. Invite me there with /invite, then say `retry`.",
    "user_not_in_channel": "That person is not in the channel.",
}
_OTHER = {
    "restricted_action": "The workspace's settings do not let me post there.",
    "restricted_action_read_only_channel": "That channel is read-only.",
    "restricted_action_thread_locked": "That thread is locked.",
    "restricted_action_thread_only_channel": "In that channel only replies in threads are allowed.",
    "restricted_action_non_threadable_channel": "That channel has no threads.",
    "cannot_reply_to_message": "That message cannot be replied to.",
    "messages_tab_disabled": "Direct messages to the app are switched off: see its App Home settings.",
    "cannot_dm_bot": "That is a bot: it takes no direct messages.",
}
FORMAT = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long", "invalid_attachments"}
)
"""Slack refused how it looks: another form of the same may pass."""


class Refusal(Undeliverable):
    """Slack said no, for good. `code`: Slack's word for it."""

    def __init__(self, words: str, code: str = "") -> None:
        super().__init__(words)
        self.code = code


class Gone(Refusal):
    """Channel, thread, message, file or person is not there any more."""


class ParentGone(Gone):
    """The message that the thread hangs on was deleted."""


class NotInChannel(Refusal):
    """The bot (or the person spoken to) is no member."""


class Refused(Refusal):
    """Blocks or length are not to Slack's liking."""


class Broken(TryLater):
    """Only the operator can mend it; till then everything is kept. `problem`: one sentence for log and `doctor`."""

    def __init__(self, problem: str, code: str = "", *, everywhere: bool = True) -> None:
        super().__init__(problem, OPERATOR_SECONDS, everywhere=everywhere)
        self.problem = problem
        self.code = code


class Web:
    """One workspace's Web API. Safe to use from several threads.

    `timeout`: seconds for each read. `clock`: seconds, rising, for how long Slack asked to wait.
    """

    def __init__(
        self,
        token: str,
        *,
        base_url: str = "https://slack.com/api/",
        timeout: float = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # The SDK annotates int and hands it to urllib, which takes fractions.
        seconds: Any = timeout
        self.client = WebClient(token=token, base_url=base_url, timeout=seconds, retry_handlers=[], logger=_silent)
        self._problems: dict[str, str] = {}
        """By method; under "" those of the token, which concern all methods."""
        self._clock = clock
        self._not_before: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    @property
    def problem(self) -> str:
        """What the operator has to mend, in a sentence; empty while calls succeed."""
        with self._lock:
            return next(iter(self._problems.values()), "")

    def call(self, method: str, *, unclear: bool = False, **arguments: Any) -> dict[str, Any]:
        """What Slack answered. Arguments that are None are left out; lists and objects are sent as JSON.

        `unclear`: the call has an effect that must not happen twice, so failures after which it may have happened
        say so. Raises Refusal (Gone, NotInChannel, Refused), Broken, TryLater.
        """
        data = self._send(method, arguments, unclear=unclear).data
        return data if isinstance(data, dict) else {}

    def scopes(self) -> frozenset[str]:
        """What the token may do: https://docs.slack.dev/authentication/tokens (header of every answer)."""
        headers = self._send("auth.test", {}, unclear=False).headers
        found = next((value for name, value in headers.items() if name.lower() == "x-oauth-scopes"), "")
        return frozenset(scope.strip() for scope in found.split(",") if scope.strip())

    def fetch(self, url: str, limit: int) -> bytes:
        """A file, with the token, from Slack's own hosts only. Raises Refusal when it is longer than `limit` bytes."""
        headers = {"Authorization": f"Bearer {self.client.token}"}
        data = self._transfer(Request(self._own(url), headers=headers), "download", limit)  # noqa: S310
        if len(data) > limit:
            raise Refusal(f"That file is longer than {limit:,} bytes.", "too_large")
        return data

    def put(self, url: str, data: bytes, *, mimetype: str = "application/octet-stream") -> None:
        """Send bytes to an address that Slack gave for them: no token, and only to Slack's own hosts."""
        headers = {"Content-Type": mimetype}
        self._transfer(Request(self._own(url), data=data, headers=headers, method="POST"), "upload", 10_000)  # noqa: S310

    # Sending

    def _send(self, method: str, arguments: Mapping[str, Any], *, unclear: bool) -> SlackResponse:
        where = (method, str(arguments.get("channel") or arguments.get("channel_id") or ""))
        self._wait_over(where)
        try:
            answer = self.client.api_call(method, params=_form(arguments))
        except SlackApiError as exc:
            raise self._failure(where, exc.response, unclear=unclear) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise _lost(method, exc, unclear=unclear) from exc
        except (ValueError, AttributeError) as exc:  # the SDK reads fields of an answer that may be any JSON
            raise TryLater(f"Slack's answer to {method} makes no sense.", PASSES_SECONDS, unclear=unclear) from exc
        self._works(method)
        return answer

    def _wait_over(self, where: tuple[str, str]) -> None:
        with self._lock:
            left = self._not_before.get(where, 0.0) - self._clock()
            if left <= 0:
                self._not_before.pop(where, None)
                return
        raise _limited(where[0], left)

    def _limit(self, where: tuple[str, str], headers: Mapping[str, str]) -> TryLater:
        said = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
        # Slack says whole seconds; a proxy or a stand-in may say less.
        seconds = float(said) if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", said, re.ASCII) else NO_RETRY_AFTER_SECONDS
        with self._lock:
            self._not_before[where] = self._clock() + seconds
        return _limited(where[0], seconds)

    def _failure(self, where: tuple[str, str], answer: Any, *, unclear: bool) -> Exception:
        method, status = where[0], answer.status_code
        data = answer.data if isinstance(answer.data, dict) else {}
        code = str(data.get("error") or "")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return self._limit(where, answer.headers)
        if code in {"ratelimited", "rate_limited"}:
            return self._limit(where, answer.headers)
        if status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT or code in _TRANSIENT:
            return TryLater(f"Slack has trouble with {method} ({code or status}).", PASSES_SECONDS, unclear=unclear)
        if status == HTTPStatus.OK and not _CODE.fullmatch(code):
            return TryLater(f"Slack's answer to {method} makes no sense.", PASSES_SECONDS, unclear=unclear)
        if status != HTTPStatus.OK and not _CODE.fullmatch(code):
            words = f"{self.client.base_url} answers {status} to {method}. Check SLACK_API_URL and the proxy."
            return self._broken("", Broken(words))
        if code == "missing_scope":
            return self._broken(method, Broken(_scope_words(method, data), code, everywhere=False))
        if code in _TOKEN:
            return self._broken("", Broken(f"{_TOKEN[code]} ({code}). Check SLACK_BOT_TOKEN and the app.", code))
        return refusal(method, code)

    def _broken(self, what: str, problem: Broken) -> Broken:
        """One line in the log for each problem, however many calls meet it."""
        with self._lock:
            known = self._problems.get(what)
            self._problems[what] = problem.problem
        if known != problem.problem:
            log.error("%s Nothing is lost: I try again every %.0f s.", problem.problem, problem.after)
        return problem

    def _works(self, method: str) -> None:
        with self._lock:
            over = [self._problems.pop(what) for what in ("", method) if what in self._problems]
        for problem in over:
            log.warning("This is over: %s", problem)

    # Files

    def _own(self, url: str) -> str:
        if not self._is_own(url):
            raise Refusal("That address is not Slack's: I do not go there.", "foreign_host")
        return url

    def _is_own(self, url: str) -> bool:
        try:
            asked, base = urlsplit(url), urlsplit(self.client.base_url)
            host = asked.hostname or ""
            if (asked.scheme, host, asked.port) == (base.scheme, base.hostname, base.port):
                return True
        except ValueError:
            return False
        return asked.scheme == "https" and asked.port in {None, 443} and host.endswith(SLACK_HOSTS)

    def _transfer(self, request: Request, method: str, limit: int) -> bytes:
        """At most `limit` + 1 bytes of the answer. A redirect is an error: only Slack's login page is behind one."""
        where = (method, "")
        self._wait_over(where)
        proxy = self.client.proxy
        proxies = [ProxyHandler({"http": proxy, "https": proxy})] if proxy else []
        try:
            with build_opener(_NoRedirect, *proxies).open(request, timeout=self.client.timeout) as answer:
                data: bytes = answer.read(limit + 1)
                return data
        except HTTPError as exc:
            with exc:
                raise self._file_failure(where, exc) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise _lost(method, exc, unclear=False) from exc

    def _file_failure(self, where: tuple[str, str], exc: HTTPError) -> Exception:
        if exc.code == HTTPStatus.TOO_MANY_REQUESTS:
            return self._limit(where, dict(exc.headers.items()))
        if exc.code >= 500:
            return TryLater(f"Slack has trouble with a file's {where[0]} ({exc.code}).", PASSES_SECONDS)
        if exc.code in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return Gone(_GONE["file_not_found"], "file_not_found")
        return Refusal(f"Slack refuses the file's {where[0]} ({exc.code}).", "file_refused")


class _NoRedirect(HTTPRedirectHandler):
    """urllib would carry the token along to wherever it is sent."""

    def redirect_request(self, *_: Any) -> None:
        return None


def refusal(method: str, code: str) -> Refusal:
    """What Slack's error code means for people. Pure."""
    if code in {"thread_not_found"}:
        return ParentGone(_GONE[code], code)
    if code in _GONE:
        return Gone(_GONE[code], code)
    if code in _NOT_IN:
        return NotInChannel(_NOT_IN[code], code)
    if code in FORMAT:
        return Refused(f"Slack does not take a message of this form ({code}).", code)
    return Refusal(_OTHER.get(code, f"Slack refuses {method}: {code}."), code)


def _scope_words(method: str, data: Mapping[str, Any]) -> str:
    needed = str(data.get("needed") or "").strip()
    scope = f"the scope {needed}" if needed else "a scope"
    return (
        f"The Slack app lacks {scope}, which {method} needs. Put it into the app's manifest "
        "(`threadwright manifest slack` prints one) and install the app again."
    )


def _limited(method: str, seconds: float) -> TryLater:
    return TryLater(f"Slack asks to wait {seconds:.0f} s before {method}.", seconds)


def _lost(method: str, exc: Exception, *, unclear: bool) -> TryLater:
    """The connection failed. Where there never was one, nothing can have happened."""
    reason = exc.reason if isinstance(exc, URLError) else exc
    never = isinstance(reason, (ConnectionRefusedError, socket.gaierror))
    words = f"Slack cannot be reached for {method}: {reason or type(exc).__name__}."
    return TryLater(words, PASSES_SECONDS, unclear=unclear and not never, everywhere=True)


def _form(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A form, which every method takes; few take a JSON body. https://docs.slack.dev/apis/web-api/#posting_json"""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, (list, tuple, dict)) else value
        for name, value in arguments.items()
        if value is not None
    }
