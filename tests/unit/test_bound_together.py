"""Many bindings and status patches of one call: what a pod comes to is what it comes to when asked for by itself."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import pytest

from atoll.app.api_metrics import observe_api
from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.base.errors import Conflict, Forbidden, NotFound, ServerError
from atoll.base.metrics import Metrics
from atoll.client.port import STRATEGIC_PATCH, bind_all, patch_all
from atoll.cluster.apiserver.admission.chain import AdmissionChain
from atoll.cluster.apiserver.ports import AdmissionRequest
from atoll.cluster.apiserver.verbs.together import Together
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Key
from atoll.kinds.builtin import NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS

Object = dict[str, Any]


def _binding(name: str, node: str, **more: Any) -> Object:
    metadata = {"name": name, "namespace": "d", **more}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": {"kind": "Node", "name": node}}


def _status(number: int) -> Object:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ip = f"10.1.0.{number}"
    return {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}}


async def _world(pods: int) -> Assembly:
    clock = ManualClock()
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
    await bootstrap(assembly)
    client = assembly.client()
    await client.create(NAMESPACES, {"metadata": {"name": "d"}})
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "d")
    zone = {"topology.kubernetes.io/zone": "z"}
    for name in ("n0", "n1", "n2"):
        await client.create(NODES, {"metadata": {"name": name, "labels": zone if name == "n2" else {}}})
    spec = {"containers": [{"name": "c", "image": "i"}]}
    for name in ("first", "second", *(f"p{number}" for number in range(pods))):  # the others are of one mold
        await client.create(PODS, {"metadata": {"name": name}, "spec": spec}, "d")
    return assembly


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry an object: whether its write was begun at once."""
    found: list[bool] = []

    def follow(name: str) -> None:
        whole = getattr(Together, name)

        def begin(self: Together, *asked: Any) -> Any:
            one = whole(self, *asked)
            found.append(one is not None)
            return one

        monkeypatch.setattr(Together, name, begin)

    follow("bind")
    follow("patch_status")
    return found


def _texts(assembly: Assembly, numbers: range) -> set[bytes]:
    """What is stored of the pods but for what differs from one to the next by its kind."""
    found = set()
    for number in numbers:
        record = assembly.store.get(Key("pods", "d", f"p{number}"))
        assert record is not None and orjson.loads(record.data) == record.object
        text = record.data
        volume = record.object["spec"]["volumes"][0]["name"]
        values = (record.uid, str(record.version), f"10.1.0.{number}", volume, f"p{number}")
        found.add(re.sub(rb"\b(" + b"|".join(re.escape(value).encode() for value in values) + rb")\b", b"*", text))
    return found


def test_they_come_to_the_same(begun: list[bool]) -> None:
    async def main() -> None:
        assembly = await _world(16)
        client = assembly.client()
        for number in range(5):
            await client.create(PODS, _binding(f"p{number}", "n0"), "d", name=f"p{number}", subresource="binding")
        assert await bind_all(client, [_binding(f"p{number}", "n0") for number in range(5, 16)]) == [None] * 11
        assert begun == [True] * 11
        assert len(_texts(assembly, range(16))) == 1
        for number in range(5):
            await client.patch(
                PODS, f"p{number}", _status(number), "d", content_type=STRATEGIC_PATCH, subresource="status"
            )
        patches: list[tuple[str | None, str, Any]] = [("d", f"p{number}", _status(number)) for number in range(5, 16)]
        begun.clear()
        assert await patch_all(client, PODS, patches, content_type=STRATEGIC_PATCH, subresource="status") == [None] * 11
        assert begun == [True] * 11
        assert len(_texts(assembly, range(16))) == 1

    asyncio.run(main())


def test_the_first_teaches_the_others(begun: list[bool]) -> None:
    async def main() -> None:
        client = (await _world(12)).client()
        assert await bind_all(client, [_binding(f"p{number}", "n0") for number in range(12)]) == [None] * 12
        assert begun == [False] * 12 + [True] * 11

    asyncio.run(main())


def test_a_zone_and_what_can_not_be_bound(begun: list[bool]) -> None:
    async def main() -> None:
        assembly = await _world(12)
        client = assembly.client()
        for number in range(3):
            await client.create(PODS, _binding(f"p{number}", "n0"), "d", name=f"p{number}", subresource="binding")
        uid = (await client.get(PODS, "p4", "d"))["metadata"]["uid"]
        asked = [
            _binding("p0", "n1"), _binding("p3", "n2"), _binding("p4", "n1", uid=uid), _binding("p5", "n1", uid=uid),
            _binding("p6", "n1", annotations={"a": "b"}), _binding("none", "n1"), _binding("p7", "n1"),
            _binding("p7", "n0"),
        ]  # fmt: skip
        done = [type(one) for one in await bind_all(client, asked)]
        good = type(None)
        assert done == [Conflict, good, good, Conflict, good, NotFound, good, Conflict]
        pods = [await client.get(PODS, f"p{number}", "d") for number in range(8)]
        nodes = [pod["spec"].get("nodeName") for pod in pods]
        assert nodes == ["n0", "n0", "n0", "n2", "n1", None, "n1", "n1"]
        assert pods[3]["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z"}
        assert pods[6]["metadata"]["annotations"] == {"a": "b"}

    asyncio.run(main())


class _Asking:
    """A plugin that waits before it says no to one node."""

    resources = frozenset(("pods",))

    def __init__(self) -> None:
        self.asked = 0

    async def validate(self, request: AdmissionRequest) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if request.obj is not None and request.obj.get("target", {}).get("name") == "n1":
            raise Forbidden("not there")


def test_admission_that_waits_is_asked_each_time(begun: list[bool]) -> None:
    async def main() -> None:
        assembly = await _world(9)
        client, plugin = assembly.client(), _Asking()
        assembly.api.hooks.admission = AdmissionChain([], [plugin])
        metrics = Metrics()
        observe_api(assembly, metrics)
        done = await bind_all(client, [_binding(f"p{number}", f"n{number % 2}") for number in range(9)])
        assert [type(one) for one in done] == [type(None), Forbidden] * 4 + [type(None)]
        assert plugin.asked == 9
        assert not any(begun)
        rejected = '{operation="CREATE",rejected="true",type="validate"}'
        name = "apiserver_admission_step_admission_duration_seconds_count"
        assert f"{name}{rejected} 4\n" in metrics.text()

    asyncio.run(main())


def test_the_store_is_closed() -> None:
    async def main() -> None:
        assembly = await _world(6)
        client = assembly.client()
        assert await bind_all(client, [_binding(f"p{number}", "n0") for number in range(3)]) == [None] * 3
        await assembly.store.close()
        done = await bind_all(client, [_binding(f"p{number}", "n0") for number in range(3, 6)])
        assert [type(one) for one in done] == [ServerError] * 3

    asyncio.run(main())
