"""What only the durable store promises: crashes, a full disk, compaction, taking up its file again."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from atoll.base.clock import ManualClock, SystemClock
from atoll.base.errors import UserError
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.port import Key, StorageFailed, TooOld
from atoll.testing.contracts.store import collect, obj, put, remove, shown

A, B = Key("pods", "default", "a"), Key("pods", "default", "b")


def with_store(
    path: Path, scenario: Callable[[DurableStore], Awaitable[None]], clock: ManualClock | None = None
) -> None:
    async def main() -> None:
        store = DurableStore(path, clock or SystemClock())
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def state(store: DurableStore) -> dict[Key, tuple[int, object]]:
    return {record.key: (record.version, record.object) for kind in store.resources() for record in store.scan(kind)}


def test_everything_is_there_after_a_reopening(tmp_path: Path) -> None:
    before: list[object] = []

    async def fill(store: DurableStore) -> None:
        for number in range(5):
            await put(store, A, n=number)
        await put(store, B)
        await remove(store, A)
        await put(store, Key("nodes", "", "n"))
        await remove(store, B)
        before.extend([state(store), store.version])

    async def check(store: DurableStore) -> None:
        assert [state(store), store.version] == before
        record = await put(store, A)
        assert record.version == store.version == before[1] + 1  # type: ignore[operator]

    with_store(tmp_path / "log", fill)
    with_store(tmp_path / "log", check)


def test_watchers_resume_after_a_reopening(tmp_path: Path) -> None:
    versions: list[int] = []
    clock = ManualClock()

    async def fill(store: DurableStore) -> None:
        versions.extend([(await put(store, A, n=number)).version for number in range(3)])
        versions.append((await remove(store, A)).version)

    async def check(store: DurableStore) -> None:
        events = await collect(store.watch("pods", versions[0]), 3)
        assert shown(events) == [
            ("MODIFIED", "a", versions[1]),
            ("MODIFIED", "a", versions[2]),
            ("DELETED", "a", versions[3]),
        ]
        assert events[2].record.object["n"] == 2
        assert events[2].record.object["metadata"]["resourceVersion"] == str(versions[3])
        assert [record.object["n"] for record in store.scan("pods", at=versions[1])] == [1]

    async def too_late(store: DurableStore) -> None:
        with pytest.raises(TooOld):
            store.watch("pods", versions[0])
        store.watch("pods", versions[3])

    with_store(tmp_path / "log", fill, clock)
    with_store(tmp_path / "log", check, clock)
    clock.advance(1000)
    with_store(tmp_path / "log", too_late, clock)


def test_the_log_is_compacted(tmp_path: Path) -> None:
    before: list[object] = []

    async def fill(store: DurableStore) -> None:
        await put(store, Key("pods", "default", "untouched"), n=1)
        await put(store, Key("pods", "default", "removed"), n=1)
        await remove(store, Key("pods", "default", "removed"))
        for number in range(400):
            await asyncio.gather(*(put(store, Key("pods", "x", str(i)), n=number, pad="x" * 100_000) for i in range(3)))
        before.extend([state(store), store.version])

    async def check(store: DurableStore) -> None:
        assert [state(store), store.version] == before

    with_store(tmp_path / "log", fill)
    assert (tmp_path / "log").stat().st_size < 30 << 20  # of 120 MB written
    with_store(tmp_path / "log", check)


def test_compaction_takes_the_history_of_no_other_resource_with_it(tmp_path: Path) -> None:
    clock, large = ManualClock(), "x" * 2_000_000
    secret, config_map = Key("secrets", "default", "s"), Key("configmaps", "default", "c")

    async def fill(store: DurableStore) -> None:
        store.slack_bytes = 0
        await put(store, secret, pad=large)
        await put(store, A)
        clock.advance(1000)
        await put(store, config_map, n=1)
        await put(store, secret, n=1)  # the log is compacted: what the secret was is gone
        await put(store, config_map, n=2)
        await put(store, secret, n=2)
        assert store.version == 6

    async def check(store: DurableStore) -> None:
        events = await collect(store.watch("configmaps", 2), 2)
        assert shown(events) == [("ADDED", "c", 3), ("MODIFIED", "c", 5)]
        assert [record.object["n"] for record in store.scan("configmaps", at=4)] == [1]
        with pytest.raises(TooOld):
            store.watch("secrets", 3)
        with pytest.raises(TooOld):
            store.scan("secrets", at=3)
        events = await collect(store.watch("secrets", 4), 1)
        assert [(event.version, event.previous and event.previous.object["n"]) for event in events] == [(6, 1)]

    with_store(tmp_path / "log", fill, clock)
    with closing(sqlite3.connect(tmp_path / "log")) as log:
        assert log.execute("select min(number) from log").fetchone() == (2,)
    with_store(tmp_path / "log", check, clock)


def test_a_file_in_use_is_refused(tmp_path: Path) -> None:
    async def scenario(store: DurableStore) -> None:
        with pytest.raises(UserError, match="in use"):
            DurableStore(tmp_path / "log", SystemClock())
        await put(store, A)

    with_store(tmp_path / "log", scenario)


def test_files_that_are_not_ours_or_newer_are_refused(tmp_path: Path) -> None:
    async def nothing(_: DurableStore) -> None: ...

    (tmp_path / "text").write_text("hello, this is certainly no database file" * 100)
    with pytest.raises(UserError, match="not a log of Atoll"):
        with_store(tmp_path / "text", nothing)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE mine(x)")
    other.close()
    with pytest.raises(UserError, match="not a log of Atoll"):
        with_store(tmp_path / "other", nothing)
    with_store(tmp_path / "newer", nothing)
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(UserError, match="format 99") as caught:
        with_store(tmp_path / "newer", nothing)
    assert caught.value.hint
    with pytest.raises(UserError, match="can't be opened"):
        with_store(tmp_path / "no" / "folder", nothing)


def test_a_quota_fails_writes_and_leaves_no_trace_of_them(tmp_path: Path) -> None:
    async def main() -> None:
        store = DurableStore(tmp_path / "log", SystemClock(), quota_bytes=1 << 20)
        stored = await put(store, A, n=1)
        futures = [store.write(Key("pods", "x", str(i)), 0, obj(B, pad="x" * 200_000)) for i in range(20)]
        newest = store.newest(A)
        assert newest is not None
        futures.append(store.write(A, newest.version, obj(A, n=2)))
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert all(isinstance(result, StorageFailed) for result in results)
        assert store.newest(A) is store.get(A) and store.get(A) is not None
        assert [record.version for record in store.scan("pods")] == [stored.version] and store.version == stored.version
        after = await put(store, A, n=3)  # there is room for small ones
        assert after.version > stored.version
        await store.close()

    asyncio.run(main())


def test_what_depends_on_a_write_that_fails_fails(tmp_path: Path) -> None:
    async def main() -> None:
        store = DurableStore(tmp_path / "log", SystemClock(), quota_bytes=1 << 20)
        await put(store, A, n=1)
        lost = [store.write(Key("pods", "x", str(i)), 0, obj(B, pad="x" * 400_000)) for i in range(4)]
        waiting = asyncio.ensure_future(store.settle(Key("pods", "x", "3")))
        with pytest.raises(StorageFailed):
            await waiting
        await asyncio.gather(*lost, return_exceptions=True)
        await store.settle(Key("pods", "x", "3"))  # nothing is pending any more
        await store.close()

    asyncio.run(main())


FULL_DISK = """
import asyncio, os, resource, sys
from pathlib import Path
from atoll.base.clock import SystemClock
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.port import Key, StorageFailed
from atoll.testing.contracts.store import put

async def main():
    path = Path(sys.argv[1])
    store = DurableStore(path, SystemClock())
    await put(store, Key("pods", "x", "first"), pad="x" * 100_000)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # no file grows beyond it
    stored, failed = {}, set()
    for number in range(40):
        name = f"p{number}"
        try:
            stored[name] = (await put(store, Key("pods", "x", name), pad="x" * 100_000)).version
        except StorageFailed:
            failed.add(name)
    assert stored and failed, (stored, failed)
    before = store.version
    assert {r.key.name for r in store.scan("pods")} == {*stored, "first"}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    record = await put(store, Key("pods", "x", "last"))
    assert record.version > before
    await store.close()
    again = DurableStore(path, SystemClock())
    assert {r.key.name for r in again.scan("pods")} == {*stored, "first", "last"}
    assert again.version >= record.version
    await again.close()

asyncio.run(main())
"""


def test_writing_goes_on_once_a_full_disk_has_room(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "log")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


WRITERS = """
import asyncio, json, sys
from pathlib import Path
from atoll.base.clock import SystemClock
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.port import Key
from atoll.testing.contracts.store import put, remove

async def writer(store, number):
    key = Key("pods", "x", f"w{number}")
    newest = store.get(key)
    n = json.loads(sys.argv[2]).get(key.name, 0) + 1
    while True:
        if n % 5 == 0 and store.newest(key) is not None:
            record = await remove(store, key)
        else:
            record = await put(store, key, n=n, pad="x" * 5000)
        print(json.dumps([key.name, n, record.version, n % 5 == 0]), flush=False)
        sys.stdout.flush()
        n += 1

async def main():
    store = DurableStore(Path(sys.argv[1]), SystemClock())
    await asyncio.gather(*(writer(store, number) for number in range(8)))

asyncio.run(main())
"""


def run_until_killed(path: Path, counts: dict[str, int], lines: int) -> list[tuple[str, int, int, bool]]:
    """Acknowledged writes of a process that is killed after some of them."""
    program = [sys.executable, "-c", textwrap.dedent(WRITERS), str(path), json.dumps(counts)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, env={**os.environ})
    assert process.stdout is not None
    acknowledged = []
    try:
        for _ in range(lines):
            acknowledged.append(json.loads(process.stdout.readline()))
    finally:
        process.kill()
    rest = process.stdout.read().split(b"\n")
    process.wait()
    return acknowledged + [json.loads(line) for line in rest[:-1]]


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "log"
    counts: dict[str, int] = {}
    newest_version = 0
    for lines in (1, 400, 37, 1500, 200):
        acknowledged = run_until_killed(path, counts, lines)
        last = {name: (n, version, gone) for name, n, version, gone in acknowledged}
        assert min(version for _, _, version, _ in acknowledged) > newest_version

        async def check(store: DurableStore, last: dict[str, tuple[int, int, bool]] = last) -> None:
            nonlocal newest_version
            assert store.version >= max(version for _, version, _ in last.values())
            newest_version = store.version
            for name, (n, version, gone) in last.items():
                record = store.get(Key("pods", "x", name))
                if record is None:  # deleted, or the next write, not acknowledged, deleted it
                    assert gone or (n + 1) % 5 == 0, name
                    counts[name] = n + 1
                    continue
                found = record.object["n"]
                assert found in ((n + 1,) if gone else (n, n + 1)), (name, found, n)
                assert record.version == version or found == n + 1
                counts[name] = found

        with_store(path, check)
