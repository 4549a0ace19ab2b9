"""Cron schedules as CronJobs write them (robfig/cron's standard format): five fields, macros, @every. Pure.

Times are seconds since the epoch. A local time that a clock change skips doesn't happen; one that it repeats
happens twice.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_YEARS = 5


class BadSchedule(ValueError):
    """The text is no schedule; the message says why."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`every` seconds; or the five sets, of which the two of days may be starred."""

    zone: datetime.tzinfo
    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_day: bool = False
    any_weekday: bool = False
    every: float = 0.0

    def next(self, after: float) -> float | None:
        """The first time later than `after`; None within five years."""
        if self.every:
            return float(int(after)) + self.every
        moment = datetime.datetime.fromtimestamp(int(after) // 60 * 60 + 60, self.zone)
        last_year = moment.year + _YEARS
        while moment.year <= last_year:
            if moment.month not in self.months:
                year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
                moment = self._at(datetime.datetime(year, month, 1))
            elif not self._day_matches(moment):
                moment = self._at(datetime.datetime(moment.year, moment.month, moment.day) + datetime.timedelta(days=1))
            elif moment.hour not in self.hours:
                moment = self._later(moment, 3600 - moment.minute * 60)
            elif moment.minute not in self.minutes:
                moment = self._later(moment, 60)
            else:
                return moment.timestamp()
        return None

    def _day_matches(self, moment: datetime.datetime) -> bool:
        day = moment.day in self.days
        weekday = moment.isoweekday() % 7 in self.weekdays
        return day and weekday if self.any_day or self.any_weekday else day or weekday

    def _at(self, local: datetime.datetime) -> datetime.datetime:
        """That local time; if it is skipped, the one that the clock shows instead."""
        return datetime.datetime.fromtimestamp(local.replace(tzinfo=self.zone).timestamp(), self.zone)

    def _later(self, moment: datetime.datetime, seconds: int) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(moment.timestamp() + seconds, self.zone)


def parse(text: str, time_zone: str | None = None) -> Schedule:
    """Raises BadSchedule. A TZ= or CRON_TZ= before the schedule wins over `time_zone`; else UTC."""
    spec = text.strip()
    if not spec:
        raise BadSchedule("empty spec string")
    for prefix in ("TZ=", "CRON_TZ="):
        if spec.startswith(prefix):
            time_zone, _, spec = spec.removeprefix(prefix).partition(" ")
            spec = spec.strip()
    zone = find_zone(time_zone)
    if spec.startswith("@every "):
        return Schedule(zone, every=_duration(spec.removeprefix("@every ")))
    if spec.startswith("@"):
        if spec not in _MACROS:
            raise BadSchedule(f"unrecognized descriptor: {spec}")
        spec = _MACROS[spec]
    fields = spec.split()
    if len(fields) != 5:
        raise BadSchedule(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = map(_field, fields, _FIELDS)
    return Schedule(zone, minutes, hours, days, months, weekdays, any_day, any_weekday)


def find_zone(name: str | None) -> datetime.tzinfo:
    """Raises BadSchedule for a zone that this machine doesn't know."""
    if not name or name == "UTC":
        return datetime.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadSchedule(f"unknown time zone {name}") from None


def _duration(text: str) -> float:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise BadSchedule(f"failed to parse duration @every {text}")
    return max(1.0, float(int(sum(float(number) * _UNITS[unit] for number, unit in parts))))


def _field(text: str, bounds: tuple[int, int, dict[str, int]]) -> tuple[frozenset[int], bool]:
    """The values, and whether it is starred (which a step undoes)."""
    found: set[int] = set()
    starred = False
    for part in text.split(","):
        values, star = _range(part, *bounds)
        found |= values
        starred = starred or star
    return frozenset(found), starred


def _range(text: str, low: int, high: int, names: dict[str, int]) -> tuple[set[int], bool]:
    span, slash, step_text = text.partition("/")
    first_text, dash, last_text = span.partition("-")
    starred = first_text in ("*", "?")
    if starred:
        first, last = low, high
    else:
        first = _number(first_text, names)
        last = _number(last_text, names) if dash else first
    step = 1
    if slash:
        step = _number(step_text, {})
        starred = starred and step <= 1
        if not dash and first_text not in ("*", "?"):
            last = high
    if first < low:
        raise BadSchedule(f"beginning of range ({first}) below minimum ({low}): {text}")
    if last > high:
        raise BadSchedule(f"end of range ({last}) above maximum ({high}): {text}")
    if first > last:
        raise BadSchedule(f"beginning of range ({first}) beyond end of range ({last}): {text}")
    if step == 0:
        raise BadSchedule(f"step of range should be a positive number: {text}")
    return set(range(first, last + 1, step)), starred


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.isdigit():
        raise BadSchedule(f"failed to parse int from {text}")
    return int(text)
