"""The chats that `threadwright up` listens to, put together: adapters of `bot`, the desk, the mail and the outbox."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

import redis

from bot.chat import TryLater
from bot.slack.listening import Config, Listener, running, slack_of, who_am_i
from bot.slack.web import Web
from jobs.settings import Settings
from jobs.wiring import Office

log = logging.getLogger(__name__)

Say = Callable[[str], None]
ADDRESS_AGAIN = 30.0
"""Seconds until an address that was taken is tried again."""


def slack_config(settings: Settings) -> Config | None:
    """None: Slack is not configured. Raises Misconfigured when it is in part only."""
    settings.check_slack()
    if not settings.slack_bot_token.get_secret_value():
        return None
    return Config(
        bot_token=settings.slack_bot_token.get_secret_value(),
        app_token=settings.slack_app_token.get_secret_value(),
        signing_secret=settings.slack_signing_secret.get_secret_value(),
        api_url=settings.slack_api_url,
        allowed=settings.slack_allowed,
    )


@contextlib.contextmanager
def listening(office: Office, say: Say) -> Iterator[list[str]]:
    """Listen to everything that is configured, until the block ends; gives the names. Raises Misconfigured."""
    stop = threading.Event()
    threads, names = [], []
    if config := slack_config(office.settings):
        names.append("Slack")
        threads.append(threading.Thread(target=_slack, args=(office, config, say, stop), name="slack", daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield names
    finally:
        stop.set()
        for thread in threads:
            thread.join(15)


def _slack(office: Office, config: Config, say: Say, stop: threading.Event) -> None:
    web = Web(config.bot_token, base_url=config.api_url)
    told = ""
    while not stop.is_set():
        try:
            me = who_am_i(web)
        except TryLater as exc:
            if str(exc) != told:
                told = str(exc)
                say(f"Slack: {told} I try again.")
            stop.wait(exc.after)
            continue
        slack = slack_of(config, me, web, office.desk, office.mail("slack", me.team))
        listener = Listener(config, slack)
        try:
            with running(listener, office.drainer(slack.chat).run), _transport(office, listener, say):
                stop.wait()
        except OSError as exc:
            say(
                f"Slack: I cannot listen at {office.settings.http_host}:{office.settings.http_port} ({exc.strerror}). "
                "Set HTTP_HOST and HTTP_PORT. I try again."
            )
            stop.wait(ADDRESS_AGAIN)


@contextlib.contextmanager
def _transport(office: Office, listener: Listener, say: Say) -> Iterator[None]:
    config, me = listener.config, listener.slack.me
    if config.app_token:
        say(f"Slack: I listen in the workspace {me.team} as {me.user}, through Socket Mode.")
        yield
        return
    from bot.slack.http import PATH, Door, Verifier, route  # noqa: PLC0415 - the server is loaded where it is needed
    from bot.web.app import application, served  # noqa: PLC0415

    door = Door(listener.app, Verifier(config.signing_secret, listener.slack.mail))
    app = application([route(door.receive)], lambda: problems(office))
    host, port = office.settings.http_host, office.settings.http_port
    with served(app, host, port) as port:
        say(f"Slack: I listen in the workspace {me.team} as {me.user}, at http://{host}:{port}{PATH}.")
        yield


def problems(office: Office) -> list[str]:
    """What does not work now, for `/health`."""
    try:
        office.redis.ping()
    except redis.RedisError as exc:
        return [f"Redis does not answer ({type(exc).__name__})"]
    return []
