"""Slack over HTTP: events, forms and slash commands at one address, each request verified before it is parsed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from slack_bolt import App, BoltRequest, BoltResponse
from slack_sdk.signature import Clock, SignatureVerifier
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bot.chat import DeskClosed, Mail
from bot.web.app import TooLong, body_of

PATH = "/slack/events"


class Verifier:
    """Who sent it, when, and whether it came before (https://docs.slack.dev/authentication/verifying-requests-from-slack)."""

    def __init__(self, secret: str, mail: Mail, *, clock: Clock | None = None) -> None:
        self._verifier = SignatureVerifier(secret, clock or Clock())
        self._mail = mail

    def accepts(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """False for a wrong signature, a time more than five minutes off, and a replay. Raises DeskClosed."""
        signature = headers.get("x-slack-signature", "")
        try:
            good = self._verifier.is_valid(body, headers.get("x-slack-request-timestamp", ""), signature)
        except (ValueError, TypeError):
            # The library raises for a timestamp that is no number, for text beyond ASCII, for a body beyond UTF-8.
            return False
        return good and self._mail.first(signature)

    def forget(self, headers: Mapping[str, str]) -> None:
        """It was not stored: the same request may come again."""
        self._mail.unseen(headers.get("x-slack-signature", ""))


class Door:
    """Raw request in, bolt's answer out."""

    def __init__(self, app: App, verifier: Verifier) -> None:
        self._app = app
        self._verifier = verifier

    def receive(self, body: bytes, headers: Mapping[str, str]) -> BoltResponse:
        try:
            if not self._verifier.accepts(body, headers):
                return BoltResponse(status=401, body="not signed by Slack, too old, or a replay")
            answer = self._app.dispatch(BoltRequest(body=body.decode(), headers=dict(headers)))
            if answer.status >= 500:
                self._verifier.forget(headers)
        except DeskClosed:
            return BoltResponse(status=503, body="not stored")
        return answer


def route(receive: Callable[[bytes, Mapping[str, str]], BoltResponse]) -> Route:
    async def events(request: Request) -> Response:
        try:
            body = await body_of(request)
        except TooLong:
            return PlainTextResponse("too long", status_code=413)
        # Bolt is sync: on the event loop one slow listener would hold back every other request.
        answer = await run_in_threadpool(receive, body, dict(request.headers))
        headers = {name: value[0] for name, value in answer.headers.items() if value}
        return Response(answer.body, status_code=answer.status, headers=headers)

    return Route(PATH, events, methods=["POST"])
