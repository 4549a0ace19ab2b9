"""Container logs in files, as the container runtime interface lays down: `TIME STREAM P|F TEXT`, one line each.

One writer a container instance, rotated by size; readers may follow. Lines longer than 16 KiB are kept in parts.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from atoll.base.clock import Clock

_PART_BYTES = 16 * 1024
_BLOCK = 256 * 1024


def rfc3339_nano(wall_seconds: float) -> str:
    """As the runtime stamps lines: nine decimals, UTC."""
    seconds = int(wall_seconds)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{int((wall_seconds - seconds) * 1_000_000_000):09d}Z"


def parse_nano(text: str) -> float:
    """Seconds of an RFC 3339 time with up to nine decimals. Raises ValueError."""
    head, dot, fraction = text.rstrip("Z").partition(".")
    zone = ""
    for sign in "+-":
        if dot and sign in fraction:
            fraction, _, rest = fraction.partition(sign)
            zone = sign + rest
    if not dot:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    base = datetime.datetime.fromisoformat(head + (zone or "+00:00")).timestamp()
    return base + float(f"0.{fraction or '0'}")


class LogWriter:
    """Appends what a container writes; wakes followers."""

    def __init__(self, path: Path, clock: Clock, *, most_bytes: int = 10 << 20, most_files: int = 5) -> None:
        self.path = path
        self.closed = False
        self._clock = clock
        self._most_bytes = most_bytes
        self._most_files = most_files
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        self._rest = {"stdout": b"", "stderr": b""}
        self._changed: asyncio.Future[None] | None = None

    def write(self, stream: str, data: bytes) -> None:
        """Add output of "stdout" or "stderr"; whole lines are written at once, a rest is kept."""
        if self.closed:
            return
        text = self._rest[stream] + data
        lines = text.split(b"\n")
        rest = lines.pop()
        stamp = f"{rfc3339_nano(self._clock.wall())} {stream} ".encode()
        out: list[bytes] = []
        for line in lines:
            out += _parts(stamp, line, b"F")
        while len(rest) >= _PART_BYTES:
            out.append(stamp + b"P " + rest[:_PART_BYTES] + b"\n")
            rest = rest[_PART_BYTES:]
        self._rest[stream] = rest
        if out:
            self._append(b"".join(out))

    def close(self) -> None:
        """Write what is left without a line end; followers then end."""
        if self.closed:
            return
        for stream, rest in self._rest.items():
            if rest:
                self._append(f"{rfc3339_nano(self._clock.wall())} {stream} P ".encode() + rest + b"\n")
        self.closed = True
        os.close(self._fd)
        self._wake()

    async def changed(self) -> None:
        """Wait for the next write or the close."""
        if self.closed:
            return
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _append(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._most_bytes:
            self._rotate()
        os.write(self._fd, data)
        self._size += len(data)
        self._wake()

    def _rotate(self) -> None:
        os.close(self._fd)
        for number in range(self._most_files - 1, 0, -1):
            older = self.path.with_suffix(f".log.{number}")
            newer = self.path if number == 1 else self.path.with_suffix(f".log.{number - 1}")
            with suppress(FileNotFoundError):
                newer.replace(older)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = 0

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


def _parts(stamp: bytes, line: bytes, last: bytes) -> Iterator[bytes]:
    while len(line) > _PART_BYTES:
        yield stamp + b"P " + line[:_PART_BYTES] + b"\n"
        line = line[_PART_BYTES:]
    yield stamp + last + b" " + line + b"\n"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """PodLogOptions."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float | None = None  # wall seconds
    limit_bytes: int | None = None
    stream: str = "All"


@dataclass(slots=True)
class _Line:
    stamp: str
    stream: str
    text: bytes  # with its line end, unless a part


def _parse(raw: bytes) -> _Line | None:
    pieces = raw.split(b" ", 3)
    if len(pieces) < 4:
        return None
    stamp, stream, tag, text = pieces
    return _Line(stamp.decode(), stream.decode(), text if tag.startswith(b"P") else text + b"\n")


def _files(path: Path) -> list[Path]:
    """Rotated files, oldest first, then the live one."""
    rotated = sorted(path.parent.glob(path.name + ".*"), key=lambda item: -int(item.suffix[1:] or 0))
    return [*rotated, path]


def _lines(path: Path) -> Iterator[_Line]:
    for file in _files(path):
        with suppress(FileNotFoundError), file.open("rb") as stream:
            for raw in stream:
                line = _parse(raw.rstrip(b"\n"))
                if line is not None:
                    yield line


async def read_logs(path: Path, options: LogOptions, writer: LogWriter | None = None) -> AsyncIterator[bytes]:
    """Chunks of the log at `path`; follows while `writer` is open."""
    wanted = _Wanted(options)
    position, identity = _place(path)
    block = bytearray()
    for line in _tail(path, options, wanted):
        block += wanted.render(line)
        if len(block) > _BLOCK or wanted.full:
            yield bytes(block)
            block.clear()
        if wanted.full:
            return
    if block:
        yield bytes(block)
    if not options.follow or writer is None:
        return
    rest = b""
    while True:
        done = writer.closed
        fresh, position, identity = _fresh(path, position, identity)
        if fresh:
            lines = (rest + fresh).split(b"\n")
            rest = lines.pop()
            parsed = (line for line in map(_parse, lines) if line is not None and wanted.accepts(line))
            out = b"".join(wanted.render(line) for line in parsed)
            if out:
                yield out
            if wanted.full:
                return
        elif done:
            return
        else:
            await writer.changed()


def _place(path: Path) -> tuple[int, int]:
    """(size, inode) now."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_ino


def _fresh(path: Path, position: int, identity: int) -> tuple[bytes, int, int]:
    """What was written since; after a rotation, the rest of the old file first."""
    found = path.stat()
    if found.st_ino != identity and identity:
        old = path.with_suffix(".log.1")
        rest = b""
        with suppress(FileNotFoundError):
            if old.stat().st_ino == identity:
                rest = _from(old, position)
        return rest + _from(path, 0), found.st_size, found.st_ino
    fresh = _from(path, position)
    return fresh, position + len(fresh), found.st_ino


def _from(path: Path, position: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(position)
        return stream.read()


def _tail(path: Path, options: LogOptions, wanted: _Wanted) -> Iterator[_Line]:
    lines = (line for line in _lines(path) if wanted.accepts(line))
    if options.tail_lines is None:
        return lines
    return iter(deque(lines, maxlen=options.tail_lines))


class _Wanted:
    """Which lines, and how many bytes more."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes

    @property
    def full(self) -> bool:
        return self._left is not None and self._left <= 0

    def accepts(self, line: _Line) -> bool:
        options = self._options
        if options.stream != "All" and line.stream != options.stream.lower():
            return False
        return options.since is None or parse_nano(line.stamp) >= options.since

    def render(self, line: _Line) -> bytes:
        out = f"{line.stamp} ".encode() + line.text if self._options.timestamps else line.text
        if self._left is not None:
            out = out[: max(self._left, 0)]
            self._left -= len(out)
        return out
