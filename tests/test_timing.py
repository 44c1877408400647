"""Weekdays count, weekends do not, in the installation's time zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from jobs.timing import after_weekdays

BERLIN, UTC = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("start", "hours", "end", "zone"),
    [
        ("2026-11-18 10:00", 24, "2026-11-19 10:00", UTC),
        ("2026-11-20 10:00", 24, "2026-11-23 10:00", UTC),  # Friday to Monday
        ("2026-11-21 10:00", 24, "2026-11-24 00:00", UTC),  # a Saturday does not count
        ("2026-11-20 23:30", 1, "2026-11-23 00:30", UTC),
        ("2026-10-23 12:00", 24, "2026-10-26 12:00", BERLIN),  # the clocks change on that Sunday
        ("2026-11-20 10:00", 72, "2026-11-25 10:00", BERLIN),
    ],
)
def test_an_answer_is_waited_for_over_weekdays(start: str, hours: float, end: str, zone: ZoneInfo) -> None:
    begin = datetime.fromisoformat(start).replace(tzinfo=zone).timestamp()
    assert after_weekdays(begin, hours, zone) == datetime.fromisoformat(end).replace(tzinfo=zone).timestamp()
