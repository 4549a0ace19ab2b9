"""Objects that are parsed with equal parts shared are what their bytes say, and nobody changes what is shared."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.controllers import Running, running_cluster
from atoll.app.fleetspec import ClusterSpec
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.client.port import DeleteOptions
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.parts import Parts
from atoll.kinds import batch
from atoll.kinds.builtin import CONFIGMAPS, DEPLOYMENTS, JOBS, NODES, PODS
from atoll.runtime.virtual import LoopClock, run_virtual

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)


@given(st.lists(st.dictionaries(st.sampled_from(["metadata", "spec", "a", "é\n"]), json_values), max_size=6))
def test_an_object_is_what_its_bytes_say(objects: list[dict[str, Any]]) -> None:
    parts = Parts()
    for obj in [*objects, *objects]:
        data = orjson.dumps(obj)
        assert orjson.dumps(parts.parse(data)) == data
    assert parts.changed() == []


fields = st.dictionaries(st.sampled_from("abcdé"), json_values | st.sampled_from([1, 1.0, True, "1"]), max_size=4)
wholes = st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), fields | json_values)


@given(st.lists(wholes, min_size=2, max_size=6), st.data())
def test_a_changed_object_is_what_its_bytes_say(objects: list[dict[str, Any]], data: st.DataObject) -> None:
    """Each takes over some fields of the one before, and fields of fields."""
    parts, before = Parts(), None
    last: dict[str, Any] = {}
    for obj in objects:
        for name in [name for name in last if data.draw(st.booleans())]:
            obj[name] = last[name]
        for name, value in obj.items():
            was = last.get(name)
            if isinstance(value, dict) and isinstance(was, dict):
                obj[name] = {**value, **{field: was[field] for field in was if data.draw(st.booleans())}}
            elif isinstance(value, list) and isinstance(was, list):
                obj[name] = data.draw(st.permutations([*value, *was]))
        written = orjson.dumps(obj)
        found = parts.parse(written, before)
        assert orjson.dumps(found) == written
        before, last = (written, found), obj
    assert parts.changed() == []


def test_of_a_changed_object_only_what_changed_is_parsed() -> None:
    parts = Parts()
    metadata: dict[str, Any] = {"name": "a", "managedFields": [{"f": {"x": "y" * 3000}}]}
    pod = {"metadata": metadata, "spec": {"v": ["z" * 3000]}, "status": {}}
    first = orjson.dumps(pod)
    old = parts.parse(first)
    managed = [*metadata["managedFields"], {"g": {}}]
    changed = {**pod, "status": {"phase": "Running"}, "metadata": {**metadata, "managedFields": managed}}
    new = parts.parse(orjson.dumps(changed), (first, old))
    assert new == changed
    assert new["spec"] is old["spec"]
    assert new["metadata"]["managedFields"][0] is old["metadata"]["managedFields"][0]


def test_equal_parts_are_one_but_not_those_that_only_python_takes_for_equal() -> None:
    parts = Parts()

    def spec(**values: Any) -> Any:
        return parts.parse(orjson.dumps({"metadata": {"name": "a"}, "spec": values}))["spec"]

    assert spec(a={"b": 1}) is spec(a={"b": 1})
    assert spec(a={"b": 1}, c=2)["a"] is spec(a={"b": 1}, c=3)["a"]
    kinds = [spec(a={"b": value})["a"]["b"] for value in (1, True, 1.0, "1")]
    assert [type(value) for value in kinds] == [int, bool, float, str]
    assert list(spec(a=1, b=2)) == ["a", "b"] and list(spec(b=2, a=1)) == ["b", "a"]


@pytest.mark.parametrize("depth", [15, 16, 17, 250])
def test_deep_objects(depth: int) -> None:
    data = b'{"metadata":{},"spec":' + b'[{"a":' * (depth // 2) + b"7" + b"}]" * (depth // 2) + b"}"
    assert orjson.dumps(Parts().parse(data)) == data


def test_odd_metadata() -> None:
    for metadata in (None, 7, [], "m", {}):
        data = orjson.dumps({"metadata": metadata})
        assert orjson.dumps(Parts().parse(data)) == data


def test_what_is_remembered_is_bounded() -> None:
    parts = Parts()
    for number in range(30_000):
        parts.parse(orjson.dumps({"metadata": {}, "spec": {"same": {"a": "b" * 60}, "own": {"n": f"{number:0200}"}}}))
    remembered = [raw for known in (parts._young, parts._old) for raw in known]
    assert sum(map(len, remembered)) <= 2 << 20
    assert b'{"a":"' + b"b" * 60 + b'"}' in parts._young | parts._old


def test_a_change_of_what_is_shared_is_seen() -> None:
    parts = Parts()
    obj = parts.parse(b'{"metadata":{"labels":{"a":"b"}},"spec":{"c":[{"d":1}]}}')
    assert parts.changed() == []
    obj["spec"]["c"][0]["d"] = 2
    assert len(parts.changed()) == 3


def test_no_controller_changes_what_it_reads() -> None:
    """A cluster lives through some minutes; then each object that anybody holds is still what its bytes say."""

    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        store = MemoryStore(clock)
        assembly = assemble(store, clock, Chance(1, "cluster"), ApiOptions(batch=True))
        handler_of(assembly)
        await bootstrap(assembly, batch.custom_resource_definitions())
        async with running_cluster(assembly, ClusterSpec("shared", batch=True)) as running:
            await _live(running)
            held = 0
            for resource in store.resources():
                for record in store.scan(resource):
                    assert orjson.dumps(record.object) == record.data, record
            for informer in running.informers._informers.values():
                if informer._transform is None:
                    for obj in informer:
                        metadata = obj["metadata"]
                        held += _is_as_stored(store, informer.resource.group_resource, metadata, obj)
            assert held > 150
            assert store._parsed.parts.changed() == []

    run_virtual(main())


def _is_as_stored(store: MemoryStore, resource: str, metadata: dict[str, Any], obj: dict[str, Any]) -> bool:
    """Whether an informer's object is the newest one, and not one that comes later, or was changed on its way."""
    for record in store.scan(resource, metadata.get("namespace")):
        if record.key.name == metadata["name"] and str(record.version) == metadata["resourceVersion"]:
            if orjson.loads(record.data) == obj:
                assert orjson.dumps(obj) == record.data
                return True
            assert resource == "leases.coordination.k8s.io", record  # these are renewed as they are read
    return False


async def _live(running: Running) -> None:
    client = running.assembly.client()
    for number in range(20):
        status = {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "10"}, "allocatable": {"cpu": "4", "pods": "10"}}
        metadata = {"name": f"n-{number}", "annotations": {"kwok.x-k8s.io/node": "fake"}}
        await client.create(NODES, {"metadata": metadata, "status": status})
    await running.nodes_ready(20)
    containers = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers}}
    spec = {"replicas": 30, "selector": {"matchLabels": {"app": "a"}}, "template": template}
    await client.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, "default")
    job = {
        "metadata": {"annotations": {"atoll.dev/run-seconds": "30"}},
        "spec": {"restartPolicy": "Never", "containers": containers},
    }
    gang = {
        "metadata": {"name": "j", "annotations": {"atoll.dev/gang": "true"}},
        "spec": {"completions": 30, "parallelism": 30, "template": job},
    }
    await client.create(JOBS, gang, "default")
    await client.create(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"a": "b"}}, "default")
    await asyncio.sleep(20)
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}}
    await client.patch(DEPLOYMENTS, "d", changed, "default")
    await client.delete(NODES, "n-3")
    await client.patch(NODES, "n-4", {"metadata": {"annotations": {"atoll.dev/not-ready": "broken"}}})
    await asyncio.sleep(120)
    await client.delete(JOBS, "j", "default", options=DeleteOptions(propagation="Background"))
    pods = (await client.list(PODS, "default")).items
    await client.delete(PODS, pods[0]["metadata"]["name"], "default")
    await asyncio.sleep(120)
