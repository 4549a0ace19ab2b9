"""Whether a cron schedule is valid, and what the parser that upstream uses (robfig/cron, standard form) says if not."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, _MONTHS), (0, 6, _DAYS),
)  # fmt: skip
_DESCRIPTORS = frozenset(("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"))
_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+\Z")


class _Bad(Exception):
    pass


def schedule_error(schedule: str) -> str:
    """ "" when it is valid."""
    try:
        _check(schedule)
    except _Bad as error:
        return str(error)
    return ""


def _check(schedule: str) -> None:
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        head, space, rest = schedule.partition(" ")
        if not space:
            raise _Bad("invalid schedule format: runtime error: slice bounds out of range [:-1]")
        zone = head.partition("=")[2]
        try:
            ZoneInfo(zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise _Bad(f"provided bad location {zone}: unknown time zone {zone}") from None
        schedule = rest.strip()
    if schedule.startswith("@"):
        _descriptor(schedule)
        return
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise _Bad(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    for field, bounds in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if part:
                _range(part, *bounds)


def _descriptor(text: str) -> None:
    if text in _DESCRIPTORS:
        return
    if text.startswith("@every "):
        if not _DURATION.match(text[7:]):
            raise _Bad(f'failed to parse duration {text}: time: invalid duration "{text[7:]}"')
        return
    raise _Bad(f"unrecognized descriptor: {text}")


def _range(text: str, low: int, high: int, named: dict[str, int]) -> None:
    parts = text.split("/")
    ends = parts[0].split("-")
    if ends[0] in ("*", "?"):
        start, end = low, high
    else:
        start = end = _number(ends[0], named)
        if len(ends) == 2:
            end = _number(ends[1], named)
        elif len(ends) > 2:
            raise _Bad(f"too many hyphens: {text}")
    step = 1
    if len(parts) == 2:
        step = _number(parts[1], {})
        if len(ends) == 1:
            end = high
    elif len(parts) > 2:
        raise _Bad(f"too many slashes: {text}")
    if start < low:
        raise _Bad(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise _Bad(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise _Bad(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise _Bad(f"step of range should be a positive number: {text}")


def _number(text: str, named: dict[str, int]) -> int:
    known = named.get(text.lower())
    if known is not None:
        return known
    if not re.match(r"[-+]?\d+\Z", text):
        raise _Bad(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise _Bad(f"negative number ({number}) not allowed: {text}")
    return number
