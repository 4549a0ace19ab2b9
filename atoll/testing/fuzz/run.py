"""Fuzz a server: many requests over pipelined connections; no fault of its own, no crash, no leak.

    python -m atoll.testing.fuzz.run --requests 1000000

The server is a process of its own: the whole assembly (authentication, RBAC, admission, all kinds) over HTTP. An answer
of 500 or above is a fault, but for those that kube-apiserver gives for the same request (`EXPECTED`). A request number
and a seed make a request again: --seed S --only N.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from atoll.testing.fuzz.requests import Maker, Request
from atoll.testing.robustness import report

TOKEN = "fuzz"
_DEPTH = 16  # requests in flight on one connection
_CONNECTIONS = 4
_ANSWER_SECONDS = 60.0
_WATCH_SECONDS = 0.02  # so long a watch is listened to
_LEAK_BYTES = 64 << 20

# (status, what its message says): kube-apiserver answers these so too, as tests/differential/recordings hold it.
RECORDED = (
    (500, r"resourceVersion: Invalid value"),
    (500, r"strconv\.ParseUint: parsing"),
    (500, r"target\.kind: "),
    (500, r"target\.name: "),
    (500, r"more than one PodDisruptionBudget"),
    (500, r"failed to create typed patch object"),
    (500, r"does not contain declared merge key"),
    (500, r"unknown patch type"),
    (500, r"no preferred addresses found"),
    (503, r"no endpoints available"),
    (504, r"Too large resource version"),
)
EXPECTED = (
    *RECORDED,
    (500, r"associative list with keys has an element that omits all key fields"),  # seen once: a stored one without it
)


@dataclass(slots=True)
class Found:
    """What a run gave."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)  # one example of each
    fault_count: int = 0
    expected: int = 0
    unanswered: int = 0
    memory: list[int] = field(default_factory=list)


def serve_in_child() -> tuple[int, int]:
    """Fork the server: (process id, port). Called before any loop runs."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receive)
        try:
            asyncio.run(_server(port, send))
        finally:
            os._exit(1)
    os.close(send)
    with os.fdopen(receive, "rb") as ready:
        if ready.read(1) != b"+":
            raise RuntimeError("the server did not start")
    return pid, port


async def _server(port: int, ready: int) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from atoll.app.assembly import ApiOptions, assemble, bootstrap, default_storage_class
    from atoll.app.serving import handler_of
    from atoll.base.chance import Chance
    from atoll.base.clock import SystemClock
    from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
    from atoll.cluster.apiserver.refusals import LIMITS
    from atoll.cluster.store.history import HistoryLimits
    from atoll.cluster.store.memory import MemoryStore
    from atoll.testing.cluster import namespace_object
    from atoll.wire.server import serve

    clock = SystemClock()
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    store = MemoryStore(clock, HistoryLimits(events=200))
    assembly = assemble(store, clock, Chance(1), ApiOptions(signing_key=pem, static_tokens={TOKEN: SYSTEM_ADMIN}))
    await bootstrap(assembly, [default_storage_class(), namespace_object("default")])
    handler = handler_of(assembly)
    await serve(handler, "127.0.0.1", port, limits=LIMITS, immediate=handler.immediate)
    os.write(ready, b"+")
    await asyncio.get_running_loop().create_future()


class Fuzzer:
    """Sends requests by number, and looks at the answers."""

    def __init__(self, maker: Maker, port: int, pid: int) -> None:
        self._maker = maker
        self._port = port
        self._pid = pid
        self.found = Found()

    async def run(self, numbers: Iterator[int], total: int) -> Found:
        every = max(1, total // 50)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_CONNECTIONS, total)):
                group.create_task(self._connection(numbers, every))
        self.found.memory.append(resident_bytes(self._pid))
        return self.found

    async def _connection(self, numbers: Iterator[int], every: int) -> None:
        waiting: list[Request] = []
        alone = 0
        while True:
            staying: list[Request] = []
            for _, number in zip(range(_DEPTH - len(waiting)), numbers, strict=False):
                request = self._maker.make(number)
                (staying if request.stays else waiting).append(request)
            for request in staying:
                await self._watch(request)
                self._count(1, every)
            if not waiting:
                if staying:
                    continue
                return
            depth = 1 if alone else len(waiting)
            answered = await self._exchange(waiting[:depth])
            if answered == 0:
                if depth == 1:  # nobody answered this one by itself either
                    self.found.unanswered += 1
                    self._fault("no answer", waiting[0], "the connection was closed without one")
                    answered, alone = 1, 0
                else:
                    alone = 1
                    continue
            elif alone:
                alone = 0
            del waiting[:answered]
            self._count(answered, every)

    def _count(self, answered: int, every: int) -> None:
        before = self.found.requests
        self.found.requests += answered
        if before // every != self.found.requests // every:
            self.found.memory.append(resident_bytes(self._pid))

    async def _watch(self, request: Request) -> None:
        """On a connection of its own: the answer's head, and what comes in a moment; then it is cut off."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=64 << 20)
        try:
            writer.write(request.head(TOKEN))
            async with asyncio.timeout(_ANSWER_SECONDS):
                status, headers = await _head(reader)
            if status != 200 or headers.get(b"transfer-encoding") != b"chunked":
                self._judge(request, status, b"" if status < 200 else await _body(reader, headers))
                return
            self._judge(request, status, b"")
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_SECONDS):
                    async for chunk in _chunks(reader):
                        self._judge_events(request, chunk)
        except TimeoutError:
            self._fault("no answer in time", request, f"within {_ANSWER_SECONDS:g} s")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.found.unanswered += 1
            self._fault("no answer", request, "the connection was closed without one, or in the middle of it")
        finally:
            writer.close()

    def _judge_events(self, request: Request, chunk: bytes) -> None:
        """Errors of a watch that has begun come as events."""
        for line in chunk.splitlines():
            if line.startswith(b'{"type":"ERROR"'):
                status = orjson.loads(line)["object"]
                self._judge(request, int(status.get("code") or 500), orjson.dumps(status))

    async def _exchange(self, batch: list[Request]) -> int:
        """Send all at once; how many were answered before the connection ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=64 << 20)
        answered = 0
        try:
            writer.write(b"".join(request.head(TOKEN) + request.body for request in batch))
            async with asyncio.timeout(_ANSWER_SECONDS):
                for request in batch:
                    status, body = await _answer(reader, request.method)
                    answered += 1
                    self._judge(request, status, body)
        except TimeoutError:
            self._fault("no answer in time", batch[answered], f"within {_ANSWER_SECONDS:g} s")
            answered += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it closes after what it can't follow
        finally:
            writer.close()
        return answered

    def _judge(self, request: Request, status: int, body: bytes) -> None:
        self.found.statuses[status] += 1
        if status < 500:
            if b'"continue":"' in body and len(self._maker.tokens) < 50:
                token = body.split(b'"continue":"', 1)[1].split(b'"', 1)[0]
                if token:
                    self._maker.tokens.append(token.decode())
            return
        text = _message(body)
        if any(status == code and re.search(pattern, text) for code, pattern in EXPECTED):
            self.found.expected += 1
            return
        self._fault(f"{status} {re.sub(r'[0-9]+', 'N', text)[:100]}", request, text)

    def _fault(self, what: str, request: Request, text: str) -> None:
        self.found.fault_count += 1
        self.found.faults.setdefault(what, f"{text[:300]}\n    {request}")


async def _answer(reader: asyncio.StreamReader, method: str) -> tuple[int, bytes]:
    status, headers = await _head(reader)
    if method == "HEAD" or status in (204, 304) or status < 200:
        return status, b""
    return status, await _body(reader, headers)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:] if line)}
    return int(lines[0].split(b" ")[1]), headers


async def _body(reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> bytes:
    if headers.get(b"transfer-encoding") == b"chunked":
        return b"".join([chunk async for chunk in _chunks(reader)])
    return await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


def _message(body: bytes) -> str:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:300].decode(errors="replace")
    return str(found.get("message")) if isinstance(found, dict) else str(found)


def resident_bytes(pid: int) -> int:
    """Raises OSError where the process is gone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(memory: list[int]) -> int:
    """How much memory grew after the first third, in which caches fill."""
    third = len(memory) // 3
    return memory[-1] - max(memory[: third + 1]) if memory else 0


def fuzz(seed: int, numbers: Iterator[int], total: int) -> Found:
    """Against a server of its own."""
    pid, port = serve_in_child()
    try:
        found = asyncio.run(Fuzzer(Maker(seed), port, pid).run(numbers, total))
        os.kill(pid, 0)  # it is there still
        return found
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll.testing.fuzz.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=20_000, help="how many (default: 20000)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first request (default: 0)")
    parser.add_argument("--only", type=int, help="send only the request of this number, and show it")
    parser.add_argument("--tally", type=Path, help="add the figures to those in this file")
    parser.add_argument("--write", type=Path, help="write the figures into this document")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if a fault was found."""
    options = _parser().parse_args(arguments)
    if options.only is not None:
        sys.stdout.write(f"{Maker(options.seed).make(options.only)}\n")
        options.first, options.requests = options.only, 1
    found = fuzz(options.seed, iter(range(options.first, options.first + options.requests)), options.requests)
    grown = growth(found.memory)
    for what, example in sorted(found.faults.items()):
        sys.stdout.write(f"{what}\n    {example}\n")
    sys.stdout.write(f"seed {options.seed}: {dict(sorted(found.statuses.items()))}\n")
    figures = report.add_up(
        options.tally,
        {"requests": found.requests, "faults": found.fault_count, "expected": found.expected,
         "max_memory_growth_bytes": grown, "max_memory_bytes": max(found.memory)},
    )  # fmt: skip
    happened = (
        f"{figures['expected']:,.0f} answers of 5xx that kube-apiserver gives too; memory at most "
        f"{figures['max_memory_bytes'] / 1e6:.0f} MB, {figures['max_memory_growth_bytes'] / 1e6:+.1f} MB over the last "
        "two thirds of a run"
    )
    sys.stdout.write(f"{figures['requests']:,.0f} requests, {figures['faults']:.0f} faults: {happened}\n")
    if options.write:
        cells = ["`make fuzz`", f"{figures['requests']:,.0f} requests", happened, f"{figures['faults']:.0f}"]
        report.write_row(options.write, "fuzz", cells, datetime.date.today())
    return 1 if found.fault_count or grown > _LEAK_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
