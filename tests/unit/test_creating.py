"""Creates that are answered without a task: the same as by the whole way, and left to it where anything is in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import test_gate

from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Key, Record, StorageFailed
from atoll.kinds.builtin import PODS, SERVICE_ACCOUNTS
from atoll.runtime.virtual import LoopClock
from atoll.wire.messages import HttpRequest, HttpResponse, Promise

PATH = "/api/v1/namespaces/default/pods"
BODY = (
    b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"NAME","labels":{"app":"a"}},"spec":{"containers":'
    b'[{"name":"c","image":"x:1","env":[{"name":"A","value":"100%"}]}]}}'
)


class DelayedStore(MemoryStore):
    """A write is acknowledged when the test lets it."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.held: list[asyncio.Future[Record]] | None = None

    def write(self, key: Key, expected: int, obj: Any) -> asyncio.Future[Record]:
        done = super().write(key, expected, obj)
        if self.held is not None:
            done = asyncio.get_running_loop().create_future()
            self.held.append(done)
        return done


class Server(test_gate.Server):
    Store = DelayedStore

    @property
    def store(self) -> DelayedStore:
        assert isinstance(self.assembly.store, DelayedStore)
        return self.assembly.store

    @staticmethod
    def request(name: str, body: bytes = BODY, query: str = "", content_type: str = "application/json") -> HttpRequest:
        headers = {"content-type": content_type} if content_type else {}
        return HttpRequest("POST", PATH, query, headers, body.replace(b"NAME", name.encode()))

    async def learn(self, body: bytes = BODY) -> None:
        """The whole way thrice: seen, molded, cast with its template taken up."""
        for number in range(3):
            assert self.handler.immediate(self.request(f"learn-{number}", body)) is None
            assert (await self.handler(self.request(f"learn-{number}", body))).status == 201

    def promised(self, request: HttpRequest) -> list[HttpResponse]:
        """What is answered to it, when it is."""
        promise = self.handler.immediate(request)
        assert isinstance(promise, Promise)
        answers: list[HttpResponse] = []
        promise.respond = answers.append
        return answers


def serving(scenario: Callable[[Server], Awaitable[None]], server_limit: int = 600) -> None:
    async def main(server: Server) -> None:
        await server.assembly.client().create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default")
        await scenario(server)

    test_gate.serving(main, server_limit, Server)


def unlike(obj: dict[str, Any]) -> str:
    metadata = {key: obj["metadata"][key] for key in obj["metadata"] if key not in ("name", "uid", "resourceVersion")}
    return repr({**obj, "metadata": metadata}).replace(obj["spec"]["volumes"][-1]["name"], "VOLUME")


def test_it_is_as_by_the_whole_way_and_counted_as_such() -> None:
    async def scenario(server: Server) -> None:
        await server.learn()
        answers = server.promised(server.request("quick"))
        assert not answers
        await asyncio.sleep(0)
        (answer,) = answers
        slow = await server.handler(server.request("learn-3", BODY + b" "))
        assert (answer.status, answer.headers) == (slow.status, slow.headers) == (201, slow.headers)
        made = orjson.loads(answer.body)
        assert unlike(made) == unlike(orjson.loads(slow.body))
        assert made == await server.assembly.client().get(PODS, "quick", "default")
        line = next(
            line
            for line in server.assembly.metrics.text().splitlines()
            if line.startswith("apiserver_request_total") and 'verb="POST"' in line
        )
        assert line.endswith(" 5")
        await asyncio.sleep(1)
        assert all(state.queues.seats_in_use == 0 for state in server.flow.levels.states.values())

    serving(scenario)


def test_generated_names_have_templates_too() -> None:
    async def scenario(server: Server) -> None:
        body = BODY.replace(b'"name":"NAME"', b'"generateName":"web-"')
        await server.learn(body)
        promised = [server.promised(server.request("", body)) for _ in range(2)]
        await asyncio.sleep(0)
        names = [orjson.loads(answer.body)["metadata"]["name"] for (answer,) in promised]
        assert names[0] != names[1] and all(name.startswith("web-") for name in names)
        pods = (await server.assembly.client().list(PODS, "default")).items
        assert len({pod["metadata"]["name"] for pod in pods} | set(names)) == len(pods) == 5

    serving(scenario)


def test_what_differs_or_is_in_doubt_goes_the_whole_way() -> None:
    async def scenario(server: Server) -> None:
        await server.learn()
        requests = [
            server.request("learn-0"),  # taken
            server.request("Upper"),
            server.request('quo\\"te'),
            server.request(""),
            server.request("a" * 64),
            server.request("dry", query="dryRun=All"),
            server.request("yaml", content_type="application/yaml"),
            server.request("other", BODY.replace(b"x:1", b"x:2")),
            server.request("spaced", BODY.replace(b'"name":"NAME"', b'"name": "NAME"')),
        ]
        assert [server.handler.immediate(request) for request in requests] == [None] * len(requests)
        statuses = [(await server.handler(request)).status for request in requests]
        assert statuses == [409, 422, 422, 422, 201, 201, 201, 201, 201]
        assert isinstance(server.handler.immediate(server.request("plain", content_type="")), Promise)

    serving(scenario)


def test_another_name_within_the_body_is_no_hole() -> None:
    async def scenario(server: Server) -> None:
        body = BODY.replace(b'"metadata":{', b'"metadata":{"annotations":{"name":"x"},')
        await server.learn(body)
        assert server.handler.immediate(server.request("p", body)) is None
        renamed = body.replace(b'{"name":"x"}', b'{"name":"y"}')
        answer = await server.handler(server.request("p", renamed))
        assert orjson.loads(answer.body)["metadata"]["annotations"] == {"name": "y"}

    serving(scenario)


def test_without_a_seat_it_waits_for_one() -> None:
    async def scenario(server: Server) -> None:
        await server.learn()
        await asyncio.sleep(0)
        server.store.held = []
        server.promised(server.request("a"))
        server.promised(server.request("b"))  # its level has two seats
        assert server.handler.immediate(server.request("c")) is None

    serving(scenario, server_limit=20)


def test_storage_that_fails_or_takes_too_long_is_told_and_told_once() -> None:
    async def scenario(server: Server) -> None:
        await server.learn()
        server.store.held = []
        failed, late = server.promised(server.request("failed")), server.promised(server.request("late"))
        server.store.held[0].set_exception(StorageFailed("disk full"))
        await asyncio.sleep(0)
        assert failed[0].status == 500 and b"etcdserver: disk full" in failed[0].body
        await asyncio.sleep(59)
        assert not late
        await asyncio.sleep(4)
        assert late[0].status == 504
        record = server.store.get(Key("pods", "default", "learn-0"))
        assert record is not None
        server.store.held[1].set_result(record)
        await asyncio.sleep(1)
        assert len(failed) == len(late) == 1
        assert all(state.queues.seats_in_use == 0 for state in server.flow.levels.states.values())

    serving(scenario)


def test_a_closed_store_is_told() -> None:
    async def scenario(server: Server) -> None:
        await server.learn()
        await server.store.close()
        answers = server.promised(server.request("p"))
        await asyncio.sleep(0)
        assert answers[0].status == 500 and b"the store is closed" in answers[0].body

    serving(scenario)
