"""A process that drains to a stub Slack until it is killed. Imported by the fork server: keep it light."""

from __future__ import annotations

import threading

from slackworld import BOT, BOT_ID, TEAM

from bot.slack.payloads import Me
from bot.slack.posting import SlackChat
from bot.slack.web import Web
from integrations import redisserver
from jobs.outbox import Drainer
from jobs.tasks import Tasks

ME = Me(BOT, BOT_ID, TEAM)
LEASE_SECONDS = 0.3


def chat(url: str, token: str) -> SlackChat:
    return SlackChat(Web(token, base_url=url, timeout=5), ME)


def drain(redis_url: str, url: str, token: str) -> None:
    with redisserver.connect(redis_url) as redis:
        tasks = Tasks(redis, lease_seconds=5)
        drainer = Drainer(tasks, chat(url, token), edit_seconds=0, lease_seconds=LEASE_SECONDS)
        drainer.run(threading.Event(), idle=0.01)
