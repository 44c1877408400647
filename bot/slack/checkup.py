"""What `doctor` says of Slack: whether the tokens are good, and each scope that is missing."""

from __future__ import annotations

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.chat import TryLater, Undeliverable
from bot.cli import Found
from bot.slack.listening import Config, in_words
from bot.slack.manifest import SCOPES
from bot.slack.web import Web

REINSTALL = (
    "Put them into the app (`threadwright manifest slack` prints the manifest: App Manifest, paste, Save), "
    "then install it again (Install App)."
)


def look(config: Config) -> list[Found]:
    """One part for the bot's token, one a missing scope, one for the transport."""
    web = Web(config.bot_token, base_url=config.api_url)
    try:
        who = web.call("auth.test")
        missing = sorted(SCOPES - web.scopes())
    except (TryLater, Undeliverable) as exc:
        remedy = "Look at SLACK_BOT_TOKEN (OAuth & Permissions, Bot User OAuth Token) and SLACK_API_URL."
        return [Found("Slack", False, str(exc), remedy)]
    parts = [Found("Slack", True, f"{who.get('user')} in {who.get('team')} ({who['team_id']})")]
    parts += [Found("Slack scope", False, f"{scope} is missing", REINSTALL) for scope in missing]
    return [*parts, _transport(config)]


def _transport(config: Config) -> Found:
    if not config.app_token:
        return Found("Slack events", True, "HTTP with the signing secret; Socket Mode needs SLACK_APP_TOKEN")
    client = WebClient(base_url=config.api_url, retry_handlers=[])
    try:
        client.apps_connections_open(app_token=config.app_token)
    except (SlackApiError, SlackClientError, OSError) as exc:
        return Found("Slack events", False, in_words(exc), "SLACK_APP_TOKEN needs the scope connections:write.")
    return Found("Slack events", True, "Socket Mode")
