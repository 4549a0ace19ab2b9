"""/livez, /readyz, /healthz: the pages' words as the real server's, and checks that tell the truth."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from atoll.app.api_health import check_controllers, check_store
from atoll.app.tasks import Tasks
from atoll.base.clock import SystemClock
from atoll.cluster.apiserver.health import READY, Health, latched
from atoll.cluster.store.durable import DurableStore
from atoll.cluster.store.log import LogFile, Row
from atoll.cluster.store.port import ABSENT, Key, StorageFailed
from atoll.wire.messages import HttpRequest, HttpResponse


def ask(health: Health, path: str) -> HttpResponse:
    path, _, query = path.partition("?")
    response = health.answer(HttpRequest("GET", path, query, {}, b""))
    assert response is not None
    return response


def made() -> Health:
    health = Health()
    health.add("etcd", lambda: "")
    health.add("informer-sync", lambda: "", READY)
    return health


def test_a_page_says_ok_and_with_verbose_what() -> None:
    health = made()
    response = ask(health, "/livez")
    assert (response.status, response.body) == (200, b"ok")
    assert dict(response.headers)["Content-Type"] == "text/plain; charset=utf-8"
    assert ask(health, "/livez?verbose").body == b"[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n"
    assert ask(health, "/readyz?verbose").body == (
        b"[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]informer-sync ok\n[+]shutdown ok\nreadyz check passed\n"
    )


def test_checks_can_be_excluded_and_those_that_are_none_are_told() -> None:
    assert ask(made(), "/healthz?verbose&exclude=etcd&exclude=nope").body == (
        b"[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n"
        b'warn: some health checks cannot be excluded: no matches for "nope"\nhealthz check passed\n'
    )


def test_a_failing_check_is_told_and_its_reason_is_not() -> None:
    health = made()
    health.add("etcd", lambda: "the disk is on fire")
    response = ask(health, "/livez")
    assert response.status == 500
    assert response.body == b"[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\nlivez check failed\n"
    assert ask(health, "/livez?exclude=etcd").status == 200
    assert ask(health, "/livez/ping").body == b"ok"
    assert ask(health, "/livez/etcd").body == b"internal server error: the disk is on fire\n"
    assert ask(health, "/livez/nope").status == 404
    assert ask(health, "/livez/shutdown").status == 404
    slis = ask(health, "/metrics/slis").body.decode()
    assert 'kubernetes_healthcheck{name="etcd",type="livez"} 0\n' in slis
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 2\n' in slis


def test_a_server_that_shuts_down_lives_and_is_not_ready() -> None:
    health = made()
    health.shut_down()
    assert ask(health, "/livez").status == 200
    assert b"[-]shutdown failed: reason withheld\n" in ask(health, "/readyz").body


def test_what_a_start_does_once_holds() -> None:
    there = [False, True, False]
    check = latched(lambda: there.pop(0), "not there yet")
    assert [check(), check(), check()] == ["not there yet", "", ""]


class FailingLog(LogFile):
    """A disk that is full until it is not."""

    full = False

    def append(self, row: Row, remove: Iterable[int] = ()) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        super().append(row, remove)


def test_a_store_that_does_not_write_is_not_healthy_until_it_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        health = Health()
        file = FailingLog(tmp_path / "store.db")
        store = DurableStore(tmp_path / "store.db", SystemClock(), file=file)
        check_store(health, store)
        assert ask(health, "/readyz").status == 200
        file.full = True
        with pytest.raises(StorageFailed):
            await store.write(Key("things", "", "a"), ABSENT, {"metadata": {"name": "a", "uid": "u"}})
        assert b"[-]etcd failed" in ask(health, "/livez").body
        assert b"[-]etcd-readiness failed" in ask(health, "/readyz").body
        file.full = False
        async with asyncio.timeout(10):
            while ask(health, "/readyz").status != 200:  # each look tries a write, since nobody else does
                await asyncio.sleep(0.01)
            while list(store.resources()):  # what it wrote goes too
                await asyncio.sleep(0.01)
        await store.close()

    asyncio.run(main())


def test_a_controller_that_fell_makes_the_cluster_unhealthy() -> None:
    async def falls() -> None:
        raise RuntimeError("a fault")

    async def main() -> None:
        health, tasks = Health(), Tasks()
        check_controllers(health, tasks)
        assert ask(health, "/livez").status == 200
        tasks.start("deployment-controller", falls())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answer = ask(health, "/livez")
        assert answer.status == 500 and b"[-]controllers failed" in answer.body

    asyncio.run(main())
