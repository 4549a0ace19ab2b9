"""What requests pass before they are authorized: seats, refusals, deadlines. Over the translation, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.flow_control import FlowControl, flow_control
from atoll.base.chance import Chance
from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.deadlines import allotted_seconds
from atoll.cluster.apiserver.flowcontrol.dump import dump_levels, dump_requests
from atoll.cluster.apiserver.flowcontrol.keeper import FLOW_SCHEMAS, LEVELS
from atoll.cluster.apiserver.gate import Gate
from atoll.cluster.apiserver.http import Translator, http_handler
from atoll.cluster.apiserver.ports import User
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import CONFIGMAPS
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import AllowAll
from atoll.wire.messages import HttpRequest, HttpResponse

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


class Server:
    """An assembled API behind its gate; who asks is named by a header."""

    Store = MemoryStore

    def __init__(self, server_limit: int) -> None:
        clock = LoopClock(asyncio.get_running_loop())
        self.assembly: Assembly = assemble(self.Store(clock), clock, Chance(1), ApiOptions())
        self.flow: FlowControl = flow_control(self.assembly, server_limit)
        api = self.assembly.api
        gate = Gate(self.flow.filter, clock, self.assembly.metrics, api.registry)
        self.handler: Translator = http_handler(api, self._identify, AllowAll(), gate=gate)

    @staticmethod
    def _identify(request: HttpRequest) -> User:
        name = request.headers.get("x-user", "jane")
        groups = ("system:masters",) if name == "admin" else ()
        return User(name, (*groups, "system:authenticated"))

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        path, _, query = path.partition("?")
        given = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return await self.handler(HttpRequest(method, path, query, given, b"" if body is None else orjson.dumps(body)))

    def slow_writes(self, seconds: float) -> None:
        """Every write becomes durable that much later."""
        store = self.assembly.store
        write = store.write

        def slow(*arguments: Any) -> Any:
            done = write(*arguments)

            async def wait() -> Any:
                await asyncio.sleep(seconds)
                return await done

            return asyncio.ensure_future(wait())

        store.write = slow  # type: ignore[method-assign]


def serving(scenario: Callable[[Any], Awaitable[None]], server_limit: int = 600, kind: type[Server] = Server) -> None:
    async def main() -> None:
        server = kind(server_limit)
        await bootstrap(server.assembly)
        keeping = asyncio.create_task(server.flow.keeper.run())
        await server.flow.keeper.ready.wait()
        try:
            await scenario(server)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    run_virtual(main())


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def header(response: HttpResponse, name: str) -> str:
    return next((value for key, value in response.headers if key == name), "")


def test_the_default_objects_are_there_and_say_that_their_level_is() -> None:
    async def scenario(server: Server) -> None:
        client = server.assembly.client()
        schemas = (await client.list(FLOW_SCHEMAS)).items
        assert len(schemas) == 11
        assert len((await client.list(LEVELS)).items) == 8
        for schema in schemas:
            (condition,) = schema["status"]["conditions"]
            assert (condition["type"], condition["status"]) == ("Dangling", "False")
            managers = {entry["manager"] for entry in schema["metadata"]["managedFields"]}
            assert managers == {
                "api-priority-and-fairness-config-producer-v1",
                "api-priority-and-fairness-config-consumer-v1",
            }

    serving(scenario)


def test_a_deleted_default_comes_back_and_a_dangling_schema_is_told() -> None:
    async def scenario(server: Server) -> None:
        client = server.assembly.client()
        await client.delete(LEVELS, "workload-low")
        await asyncio.sleep(1)
        schema = await client.get(FLOW_SCHEMAS, "service-accounts")
        assert schema["status"]["conditions"][0]["status"] == "True"
        await asyncio.sleep(65)
        assert (await client.get(LEVELS, "workload-low"))["spec"]["type"] == "Limited"
        schema = await client.get(FLOW_SCHEMAS, "service-accounts")
        assert schema["status"]["conditions"][0]["reason"] == "Found"

    serving(scenario)


def test_answers_name_the_flow_schema_and_the_level() -> None:
    async def scenario(server: Server) -> None:
        client = server.assembly.client()
        response = await server.ask("GET", CONFIG_MAPS)
        schema = await client.get(FLOW_SCHEMAS, "global-default")
        level = await client.get(LEVELS, "global-default")
        assert header(response, "X-Kubernetes-Pf-Flowschema-Uid") == schema["metadata"]["uid"]
        assert header(response, "X-Kubernetes-Pf-Prioritylevel-Uid") == level["metadata"]["uid"]
        at_once = server.handler.immediate(HttpRequest("GET", f"{CONFIG_MAPS}/kube-root-ca.crt", "", {}, b""))
        assert at_once is not None
        assert header(at_once, "X-Kubernetes-Pf-Flowschema-Uid") == schema["metadata"]["uid"]

    serving(scenario)


def test_a_flood_of_writes_is_queued_and_refused_and_the_polite_are_served() -> None:
    """global-default has two seats here; its greedy user fills the queues of its hand."""

    async def scenario(server: Server) -> None:
        server.slow_writes(0.01)

        async def write(user: str, index: int) -> HttpResponse:
            return await server.ask("POST", CONFIG_MAPS, config_map(f"{user}-{index}"), x_user=user)

        flood = [asyncio.create_task(write("greedy", index)) for index in range(2000)]
        await asyncio.sleep(0)
        polite = await asyncio.gather(*(write(f"polite-{index}", 0) for index in range(20)))
        assert {response.status for response in polite} == {201}
        finished = [task for task in flood if task.done()]
        served = [task for task in finished if task.result().status == 201]
        refused = [task for task in finished if task.result().status == 429]
        assert len(served) < 200  # the polite did not wait for the flood's end
        assert len(refused) > 1000
        answer = refused[0].result()
        assert answer.body == b"Too many requests, please try again later.\n"
        assert int(header(answer, "Retry-After")) >= 1
        assert header(answer, "X-Kubernetes-Pf-Prioritylevel-Uid")
        responses = await asyncio.gather(*flood)
        assert {response.status for response in responses} == {201, 429}
        await asyncio.sleep(1)
        for state in server.flow.levels.states.values():
            assert state.queues.idle
            assert state.queues.seats_in_use == state.queues.seats_waiting == 0

    serving(scenario, server_limit=20)


def test_reads_of_one_moment_beyond_the_seats_wait_a_turn() -> None:
    async def scenario(server: Server) -> None:
        request = HttpRequest("GET", f"{CONFIG_MAPS}/none", "", {}, b"")
        answers = [server.handler.immediate(request) for _ in range(5)]
        assert [answer is None for answer in answers] == [False, False, True, True, True]
        waiting = [asyncio.create_task(server.handler(request)) for _ in range(3)]
        assert {response.status for response in await asyncio.gather(*waiting)} == {404}

    serving(scenario, server_limit=20)


def test_the_administrator_is_not_limited() -> None:
    async def scenario(server: Server) -> None:
        server.slow_writes(0.01)
        tasks = [server.ask("POST", CONFIG_MAPS, config_map(f"a-{index}"), x_user="admin") for index in range(500)]
        assert {response.status for response in await asyncio.gather(*tasks)} == {201}

    serving(scenario, server_limit=20)


def test_watches_take_a_seat_only_till_they_have_begun() -> None:
    async def scenario(server: Server) -> None:
        await server.assembly.client().create(CONFIGMAPS, config_map("a"), "default")
        streams = []
        for _ in range(50):
            response = await server.ask("GET", f"{CONFIG_MAPS}?watch=1")
            assert response.stream is not None
            assert b"ADDED" in await anext(response.stream)
            streams.append(response.stream)
        interested = server.flow.filter.watches.interested("", "configmaps", "default", "")
        assert interested == 50
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        assert server.flow.filter.watches.interested("", "configmaps", "default", "") == 0
        assert server.flow.levels.states["global-default"].queues.seats_in_use == 0

    serving(scenario, server_limit=20)


def test_a_request_that_takes_too_long_is_told_so() -> None:
    async def scenario(server: Server) -> None:
        server.slow_writes(90.0)
        started = asyncio.get_running_loop().time()
        response = await server.ask("POST", CONFIG_MAPS, config_map("late"))
        assert response.status == 504
        assert orjson.loads(response.body) == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": "Timeout: request did not complete within the allotted timeout",
            "reason": "Timeout",
            "details": {},
            "code": 504,
        }
        assert 60.0 <= asyncio.get_running_loop().time() - started <= 62.0
        started = asyncio.get_running_loop().time()
        assert (await server.ask("POST", f"{CONFIG_MAPS}?timeout=2s", config_map("later"))).status == 504
        assert asyncio.get_running_loop().time() - started == pytest.approx(2.0)
        await asyncio.sleep(1)
        assert server.flow.levels.states["global-default"].queues.seats_in_use == 0

    serving(scenario)


def test_who_waits_for_a_seat_waits_a_quarter_of_its_time() -> None:
    async def scenario(server: Server) -> None:
        server.slow_writes(50.0)
        holding = [
            asyncio.create_task(server.ask("POST", CONFIG_MAPS, config_map(f"a-{index}"), x_user=f"u{index}"))
            for index in range(2)
        ]
        await asyncio.sleep(0)
        started = asyncio.get_running_loop().time()
        waiting = asyncio.create_task(server.ask("POST", f"{CONFIG_MAPS}?timeout=20s", config_map("b")))
        await asyncio.sleep(0)
        shown = dump_requests(server.flow.levels, True, 0.0).splitlines()
        assert len(shown) == 2
        assert [cell.strip() for cell in shown[1].split(",")][-2:] == ["configmaps", ""]
        assert (await waiting).status == 429
        assert asyncio.get_running_loop().time() - started == pytest.approx(5.0)
        lane = next(line for line in dump_levels(server.flow.levels).splitlines() if line.startswith("global-default"))
        assert lane.split(",")[5].strip() == "2"
        await asyncio.gather(*holding)

    serving(scenario, server_limit=20)


def test_a_client_that_goes_leaves_its_seat() -> None:
    async def scenario(server: Server) -> None:
        server.slow_writes(50.0)
        going = [
            asyncio.create_task(server.ask("POST", CONFIG_MAPS, config_map(f"a-{index}"), x_user=f"u{index}"))
            for index in range(6)
        ]
        await asyncio.sleep(1)
        for task in going:
            task.cancel()
        assert all(
            isinstance(item, asyncio.CancelledError) for item in await asyncio.gather(*going, return_exceptions=True)
        )
        await asyncio.sleep(1)
        queues = server.flow.levels.states["global-default"].queues
        assert queues.idle
        assert queues.seats_in_use == queues.seats_waiting == 0

    serving(scenario, server_limit=20)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("1m", 60), ("0s", 60), ("90s", 60), ("100ms", 0.1), ("1.5s", 1.5), ("0h0m2s", 2), ("", 60)],
)
def test_the_time_that_a_client_asks_for(text: str, seconds: float) -> None:
    assert allotted_seconds(f"timeout={text}") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("abc", 'invalid duration "abc"'),
        ("5", 'missing unit in duration "5"'),
        ("5x", 'unknown unit "x" in duration "5x"'),
    ],
)
def test_a_time_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadRequest) as error:
        allotted_seconds(f"timeout={text}")
    assert error.value.message == f"invalid timeout specified in the request URL - time: {why}"
