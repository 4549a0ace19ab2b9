"""Cron schedules: fields, macros, time zones and clock changes."""

import datetime

import pytest

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.cluster.workloads.cronjob.schedule import BadSchedule, parse


def after(schedule: str, time: str, zone: str | None = None) -> str:
    found = parse(schedule, zone).next(parse_rfc3339(time))
    assert found is not None
    return rfc3339(found)


@pytest.mark.parametrize(
    ("schedule", "time", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
        ("*/15 * * * *", "2026-01-01T00:14:59Z", "2026-01-01T00:15:00Z"),
        ("*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"),
        ("5/20 * * * *", "2026-01-01T00:46:00Z", "2026-01-01T01:05:00Z"),
        ("30 4 * * *", "2026-01-01T05:00:00Z", "2026-01-02T04:30:00Z"),
        ("0 0 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 9 * * mon-fri", "2026-11-20T10:00:00Z", "2026-11-23T09:00:00Z"),
        ("0 0 13 * 5", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"),  # either day where neither is starred
        ("0 0 */2 * 5", "2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z"),  # a step takes the star away
        ("0 0 1,15 * *", "2026-11-02T00:00:00Z", "2026-11-15T00:00:00Z"),
        ("@hourly", "2026-01-01T00:10:00Z", "2026-01-01T01:00:00Z"),
        ("@weekly", "2026-11-23T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("@yearly", "2026-11-23T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@every 1h30m", "2026-01-01T00:00:10Z", "2026-01-01T01:30:10Z"),
        ("? ? ? ? ?", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
    ],
)
def test_next(schedule: str, time: str, expected: str) -> None:
    assert after(schedule, time) == expected


def test_zones_and_clock_changes() -> None:
    assert after("0 9 * * *", "2026-07-01T00:00:00Z", "Europe/Paris") == "2026-07-01T07:00:00Z"
    assert after("TZ=Asia/Tokyo 0 9 * * *", "2026-07-01T00:00:00Z", "Europe/Paris") == "2026-07-02T00:00:00Z"
    # 02:30 doesn't exist on 29 March 2026 in Paris, and 02:30 comes twice on 25 October
    assert after("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Paris") == "2026-03-30T00:30:00Z"
    assert after("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Paris") == "2026-10-25T00:30:00Z"
    assert after("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Paris") == "2026-10-25T01:30:00Z"


def test_a_day_that_never_comes() -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert parse("0 0 30 2 *").next(start) is None


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("* * * *", r"expected exactly 5 fields, found 4: \[\* \* \* \*\]"),
        ("60 * * * *", r"end of range \(60\) above maximum \(59\): 60"),
        ("0 0 0 * *", r"beginning of range \(0\) below minimum \(1\): 0"),
        ("5-1 * * * *", r"beginning of range \(5\) beyond end of range \(1\): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number"),
        ("x * * * *", "failed to parse int from x"),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
        ("@every soon", "failed to parse duration @every soon"),
        ("", "empty spec string"),
    ],
)
def test_what_is_no_schedule(schedule: str, why: str) -> None:
    with pytest.raises(BadSchedule, match=why):
        parse(schedule)


def test_unknown_zone() -> None:
    with pytest.raises(BadSchedule, match="unknown time zone Mars/Olympus"):
        parse("* * * * *", "Mars/Olympus")
