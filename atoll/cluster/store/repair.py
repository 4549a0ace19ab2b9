"""What is wrong with a log, what it cost, and, when asked, the log without it.

Nothing here happens by itself: a store refuses a damaged log (LogDamaged) until somebody restores a copy, or gives up
what follows the damage. What is given up is said first. The damaged file is kept beside the mended one.

The state before the damage is not only in the rows before it: compaction writes old objects again in later rows. So
what is whole after the damage is read for those, and only for those: a change after the damage may have been built on
one that is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from atoll.base.errors import UserError
from atoll.cluster.store import log as logfile
from atoll.cluster.store import snapshot
from atoll.cluster.store.log import Entry, LogDamaged, LogFile, Row, verified
from atoll.cluster.store.port import Key

_NAMED = 10


@dataclass(slots=True)
class Report:
    """The state of a log. Without damage `why` is empty and nothing is lost."""

    path: Path
    rows: int = 0
    version: int = 0  # the newest version that is whole
    at: float = 0.0  # when that was written
    objects: int = 0
    why: str = ""
    lost_rows: int = 0  # from the damage on, as far as they can be counted
    newest: int = 0  # the newest version that is known to have been written
    lost_changes: list[str] = field(default_factory=list)  # those that can still be read
    unreadable: int = 0  # of lost_rows
    state: dict[Key, Entry] = field(default_factory=dict)


def check(path: Path) -> Report:
    """Read a log that nobody uses. Raises UserError: in use, or no log of Atoll."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    with closing(LogFile(path)) as file:
        return _check(file)


def _check(file: LogFile) -> Report:
    report = Report(file.path)
    entries: list[Entry] = []
    try:
        for row in file.rows():
            report.rows += 1
            report.version, report.at = row.version, row.at
            entries += logfile.unpack(row.entries)
    except LogDamaged as damage:
        report.why = damage.why
        report.newest = report.version
        entries += _after(file, damage.good, report)
    report.newest = max(report.newest, report.version)
    report.state = snapshot.replay(entries)
    report.objects = len(report.state)
    return report


def _after(file: LogFile, good: Row | None, report: Report) -> Iterator[Entry]:
    """Count what follows the last good row; yields the entries that are of the state before the damage."""
    after = 0 if good is None else good.number
    last = after
    for number, values in file.rows_after(after):
        report.lost_rows += number - last
        report.unreadable += number - last - 1
        last = number
        row = None if values is None else verified(values, None)
        if row is None or isinstance(row, str):
            report.unreadable += 1
            continue
        report.newest = max(report.newest, row.version)
        for entry in logfile.unpack(row.entries):
            kind = entry.kind & ~logfile.RELOCATED
            if entry.kind & logfile.RELOCATED and entry.version <= report.version:
                yield entry
            elif kind != logfile.FLOOR and not entry.kind & logfile.RELOCATED:
                name = f"{entry.namespace}/{entry.name}" if entry.namespace else entry.name
                report.lost_changes.append(f"{entry.resource} {name} (version {entry.version})")


def describe(report: Report, when: str) -> list[str]:
    """A report in words. `when`: its time, written out."""
    if not report.why:
        return [f"{report.path} is whole: {report.objects} objects, {report.rows} rows, version {report.version}"]
    lines = [f"{report.path} is damaged: {report.why}"]
    if not report.rows:
        return [*lines, "nothing before the damage is left: restore a snapshot"]
    lines.append(f"whole up to version {report.version}, written {when}: {report.objects} objects")
    lines.append(f"lost: {report.lost_rows} row(s) from there on, up to version {report.newest} or later")
    if report.unreadable:
        lines.append(f"of these {report.unreadable} can't be read: what they changed is not known")
    changes = report.lost_changes
    lines += [f"  lost: {change}" for change in changes[:_NAMED]]
    if len(changes) > _NAMED:
        lines.append(f"  … and {len(changes) - _NAMED} changes more")
    return lines


def truncate(report: Report, at: float) -> tuple[Path, int]:
    """Give up what follows the damage; returns where the damaged file lies now, and the version that follows.

    Versions do not go back: the mended log begins above the newest that was ever seen in the damaged one. Raises
    UserError where nothing is whole.
    """
    if not report.why:
        raise UserError(f"{report.path} is whole", hint="there is nothing to give up")
    if not report.rows:
        raise UserError(f"nothing in {report.path} is whole", hint="restore a snapshot: atoll cluster restore")
    mended = report.path.with_name(report.path.name + ".mended")
    version = report.newest + snapshot.BUMP
    mended.unlink(missing_ok=True)
    snapshot.write(mended, report.state.values(), version, at)
    kept = _free_name(report.path)
    for suffix in ("-wal", "-shm", ""):
        part = report.path.with_name(report.path.name + suffix)
        if part.exists():
            part.replace(kept.with_name(kept.name + suffix))
    mended.replace(report.path)
    return kept, version


def _free_name(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept
