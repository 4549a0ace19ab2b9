"""The log over versions and damage: an older format is taken up, a changed row is found, what is lost is said."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from atoll.base.clock import ManualClock
from atoll.base.errors import UserError
from atoll.cluster.store import log as logfile
from atoll.cluster.store import repair, snapshot
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.log import LogDamaged
from atoll.cluster.store.port import Key, TooOld
from atoll.testing.contracts.store import collect, obj, put, remove, shown

A, B, C = (Key("configmaps", "default", name) for name in "abc")
OLDER = Path(__file__).parent / "data" / "format-1.db"  # written by the last Atoll that wrote format 1


def with_store(path: Path, scenario: Callable[[DurableStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = DurableStore(path, ManualClock())
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def written(path: Path) -> Path:
    """A log of five rows: a, b, c, b changed, a removed."""

    async def fill(store: DurableStore) -> None:
        for key in (A, B, C, B):
            await put(store, key, pad="x" * 500)
        await remove(store, A)

    with_store(path, fill)
    return path


def sql(path: Path, statement: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(statement)
    db.close()


def test_a_log_of_format_1_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(OLDER, path)

    async def check(store: DurableStore) -> None:
        found = {r.key: (r.version, r.object["n"]) for kind in store.resources() for r in store.scan(kind)}
        assert found == {
            Key("configmaps", "default", "a"): (4, 3),
            Key("leases.coordination.k8s.io", "kube-system", "l"): (6, 1),
            Key("namespaces", "", "ünïcode"): (8, 2),
        }
        events = await collect(store.watch("configmaps", 3), 3)  # its history too
        assert shown(events) == [("MODIFIED", "a", 4), ("ADDED", "b", 5), ("DELETED", "b", 7)]
        assert (await put(store, A, n=9)).version == 9

    async def again(store: DurableStore) -> None:
        assert store.version == 9 and store.count("configmaps") == 1

    with_store(path, check)
    with_store(path, again)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (logfile.FORMAT,)
    assert db.execute("SELECT count(*) FROM log WHERE checksum IS NULL").fetchone() == (0,)
    db.close()
    assert repair.check(path).why == ""


def test_a_migration_that_is_cut_off_leaves_the_old_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    shutil.copy(OLDER, path)

    def broken(_: object) -> int:
        raise ValueError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(logfile, "checksum", broken)
        with pytest.raises(UserError):
            logfile.LogFile(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
    assert repair.check(path).objects == 3


DAMAGES = {
    "a changed blob": "UPDATE log SET entries = CAST(replace(entries, 'xx', 'xy') AS BLOB) WHERE number = 3",
    "a changed version": "UPDATE log SET version = 99 WHERE number = 3",
    "a changed time": "UPDATE log SET at = 1.0 WHERE number = 3",
    "a blob that is no blob": "UPDATE log SET entries = NULL WHERE number = 3",
    "a missing row": "DELETE FROM log WHERE number = 3",
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_found_told_and_given_up_only_when_asked(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path / "store.db")
    sql(path, DAMAGES[damage])
    before = path.read_bytes()
    for _ in range(2):

        async def nothing(_: DurableStore) -> None: ...

        with pytest.raises(LogDamaged, match="whole up to version 2") as caught:
            with_store(path, nothing)
        assert caught.value.hint is not None and "--truncate" in caught.value.hint
    assert path.read_bytes() == before, "a refusal changes nothing"

    report = repair.check(path)
    assert (report.rows, report.version, report.objects, report.lost_rows) == (2, 2, 2, 3)
    assert report.unreadable == 1
    said = "\n".join(repair.describe(report, "then"))
    assert "configmaps default/b (version 4)" in said and "configmaps default/a (version 5)" in said
    assert "1 can't be read" in said

    kept, version = repair.truncate(report, 1_700_000_000.0)
    assert kept.read_bytes() == before and version > 5

    async def after(store: DurableStore) -> None:
        assert {r.key: r.version for r in store.scan("configmaps")} == {A: 1, B: 2}
        with pytest.raises(TooOld):
            store.watch("configmaps", 5)
        assert (await put(store, C)).version == version + 1

    with_store(path, after)


def test_damage_below_the_rows_is_found(tmp_path: Path) -> None:
    """Bytes of the file itself, as a disk changes them: found by SQLite or by the checksum, never taken up."""
    path = written(tmp_path / "store.db")
    whole = path.read_bytes()
    at = whole.index(b"x" * 400)
    for offset, byte in ((at + 7, b"y"), (4096, b"\xff" * 64)):
        path.write_bytes(whole[:offset] + byte + whole[offset + len(byte) :])

        async def nothing(_: DurableStore) -> None: ...

        with pytest.raises(UserError, match=r"damaged|not a log"):
            with_store(path, nothing)


def test_what_compaction_moved_behind_the_damage_is_kept(tmp_path: Path) -> None:
    """Rows 2 and 3 were made from row 1, which is gone; row 3 is damaged, row 4 holds an old object moved there."""
    path = tmp_path / "store.db"
    file = logfile.LogFile(path)

    def entry(key: Key, version: int, kind: int) -> bytes:
        return logfile.pack(version, kind, *key, b'{"metadata":{"resourceVersion":"%d"}}' % version)

    file.append(logfile.Row(5, 7, 1.0, entry(A, 7, logfile.ADDED)))
    file.append(logfile.Row(6, 8, 1.0, entry(A, 8, logfile.MODIFIED)))
    file.append(logfile.Row(7, 9, 1.0, entry(B, 3, logfile.ADDED | logfile.RELOCATED) + entry(C, 9, logfile.ADDED)))
    file.close()
    sql(path, "UPDATE log SET at = 2.0 WHERE number = 6")
    report = repair.check(path)
    assert {key: entry.version for key, entry in report.state.items()} == {A: 7, B: 3}
    assert report.newest == 9 and report.lost_changes == ["configmaps default/c (version 9)"]


def test_a_row_that_is_damaged_while_the_store_runs_is_not_copied_on(tmp_path: Path) -> None:
    path = written(tmp_path / "store.db")
    sql(path, DAMAGES["a changed blob"])
    file = logfile.LogFile(path)
    with pytest.raises(LogDamaged):
        file.oldest(5, 1 << 20)
    file.close()


def test_a_log_with_nothing_whole_is_not_truncated(tmp_path: Path) -> None:
    path = written(tmp_path / "store.db")
    sql(path, "UPDATE log SET at = 0.5 WHERE number = 1")
    report = repair.check(path)
    assert "restore a snapshot" in "\n".join(repair.describe(report, ""))
    with pytest.raises(UserError, match="nothing"):
        repair.truncate(report, 1.0)
    whole = repair.check(written(tmp_path / "other.db"))
    with pytest.raises(UserError, match="whole"):
        repair.truncate(whole, 1.0)


def test_a_snapshot_is_one_moment_and_its_store_goes_on_above_it(tmp_path: Path) -> None:
    copy, restored = tmp_path / "copy", tmp_path / "new.db"

    async def fill(store: DurableStore) -> None:
        for number in range(300):
            await put(store, Key("configmaps", "default", str(number % 50)), n=number, pad="x" * 9000)
        await remove(store, Key("configmaps", "default", "0"))
        records, version = snapshot.records_of(store), store.version
        writes = [put(store, Key("configmaps", "default", str(number)), n=-1) for number in range(50)]
        later = asyncio.gather(*writes)
        snapshot.write(copy, snapshot.entries_of(records), version, 1_700_000_000.0, {"name": "a"})
        await later

    with_store(tmp_path / "store.db", fill)
    assert copy.stat().st_mode & 0o077 == 0
    assert list(tmp_path.glob(".*")) == []
    found = snapshot.read(copy)
    assert (found.version, len(found.entries), found.about) == (301, 49, {"name": "a"})
    begun = snapshot.restore(found, restored, 1_700_000_000.0)

    async def check(store: DurableStore) -> None:
        assert store.version == begun == 301 + snapshot.BUMP
        assert sorted(r.version for r in store.scan("configmaps")) == list(range(252, 301))
        for old in (1, 300, 301, 5000):
            with pytest.raises(TooOld):
                store.watch("configmaps", old)
            with pytest.raises(TooOld):
                store.watch("pods", old)
        watcher = store.watch("configmaps", begun)
        made = await put(store, A)
        assert shown(await watcher.next()) == [("ADDED", "a", begun + 1)] and made.version == begun + 1

    with_store(restored, check)
    with_store(restored, lambda store: _floor_holds(store, begun))
    with pytest.raises(UserError, match="exists"):
        snapshot.restore(found, restored, 1.0)


async def _floor_holds(store: DurableStore, begun: int) -> None:
    """After another restart too."""
    with pytest.raises(TooOld):
        store.watch("configmaps", begun - 1)
    assert shown(await store.watch("configmaps", begun).next()) == [("ADDED", "a", begun + 1)]


def test_a_damaged_or_missing_snapshot_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "store.db")
    sql(path, DAMAGES["a changed blob"])
    with pytest.raises(UserError, match="damaged"):
        snapshot.read(path)
    with pytest.raises(UserError, match="no file"):
        snapshot.read(tmp_path / "none")
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(UserError, match="not a log"):
        snapshot.read(tmp_path / "text")
    with pytest.raises(UserError, match="can't be written"):
        snapshot.write(tmp_path / "no" / "folder", [], 1, 1.0)


def test_a_floor_survives_compaction(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    snapshot.write(path, [], 1000, 1_700_000_000.0)

    async def fill(store: DurableStore) -> None:
        for number in range(400):
            keys = [Key("pods", "x", str(i)) for i in range(3)]
            await asyncio.gather(
                *(
                    store.write(k, getattr(store.newest(k), "version", 0), obj(k, n=number, pad="x" * 50_000))
                    for k in keys
                )
            )

    async def check(store: DurableStore) -> None:
        with pytest.raises(TooOld):
            store.watch("configmaps", 999)
        assert store.version == 1000 + 1200

    with_store(path, fill)
    db = sqlite3.connect(path)
    assert db.execute("SELECT min(number) FROM log").fetchone()[0] > 1
    db.close()
    with_store(path, check)


def test_only_its_owner_reads_a_log(tmp_path: Path) -> None:
    """It holds Secrets: the log and its write-ahead file, wherever they lie."""
    file = logfile.LogFile(tmp_path / "store.db")
    file.append(logfile.Row(1, 1, 1.0, logfile.pack(1, logfile.ADDED, *A, b"{}")))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    file.close()
    assert modes and set(modes.values()) == {0o600}, modes
