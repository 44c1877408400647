"""When a question runs out: weekdays of the installation's time zone count, weekends do not. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from graph.values import Question
from jobs.settings import Settings

SATURDAY = 5


def deadlines(question: Question, now: float, settings: Settings) -> list[tuple[str, float]]:
    """`answer` and `remind` for a clarifying question; `park` for one that no assumption may answer. Epoch seconds."""
    if question.kind == "clarify":
        zone = ZoneInfo(settings.timezone)
        return [
            ("remind", after_weekdays(now, settings.ask_timeout / 2, zone)),
            ("answer", after_weekdays(now, settings.ask_timeout, zone)),
        ]
    return [("park", now + settings.park_after * 86_400)]


def after_weekdays(start: float, hours: float, zone: ZoneInfo) -> float:
    """`hours` after `start`, not counting Saturdays and Sundays of `zone`.

    Days are cut at the zone's own midnights, so that a day of 23 or 25 hours counts as long as it is.
    """
    at = datetime.fromtimestamp(start, UTC)
    left = timedelta(hours=hours)
    while True:
        local = at.astimezone(zone)
        midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), zone).astimezone(UTC)
        if local.weekday() < SATURDAY:
            if at + left <= midnight:
                return (at + left).timestamp()
            left -= midnight - at
        at = midnight
