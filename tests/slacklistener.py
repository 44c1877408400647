"""A listener that acknowledges before it stores, for control tests: `python slacklistener.py`, settings as for `up`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from bot.slack.catchup import CatchUp
from bot.slack.listening import Listener, running, slack_of, who_am_i
from bot.slack.web import Web
from jobs.listening import slack_config
from jobs.mail import RedisMail
from jobs.settings import load
from jobs.wiring import open_office

LATE_SECONDS = 0.5


class Hasty(RedisMail):
    """Says that it has stored what it stores later."""

    def keep(self, keys: Sequence[str], payload: dict[str, Any]) -> bool:
        timer = threading.Timer(LATE_SECONDS, super().keep, (keys, payload))
        timer.daemon = True
        timer.start()
        return True


class NoCatchUp(CatchUp):
    def run(self, stop: threading.Event) -> None:
        """Never."""


def main() -> None:
    with open_office(load()) as office:
        config = slack_config(office.settings)
        assert config
        web = Web(config.bot_token, base_url=config.api_url)
        me = who_am_i(web)
        listener = Listener(config, slack_of(config, me, web, office.desk, Hasty(office.tasks, "slack", me.team)))
        listener.catch_up = NoCatchUp(listener.slack, listener.intake)
        with running(listener, office.drainer(listener.slack.chat).run) as stop:
            stop.wait()


if __name__ == "__main__":
    main()
