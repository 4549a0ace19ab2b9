"""Custom objects whose create and status are only stamped come out, byte for byte, as the whole way makes them."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.base.errors import ApiError
from atoll.capacity.queueing import status
from atoll.capacity.queueing.model import Admission, PodSetAssignment
from atoll.client.port import MERGE_PATCH, Client
from atoll.cluster.apiserver.verbs.molds import Mold, Molds
from atoll.cluster.apiserver.verbs.recasts import Recast, Recasts
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds import kueue
from atoll.kinds.builtin import DEPLOYMENTS, NAMESPACES
from atoll.kinds.resource import Resource

Object = dict[str, Any]
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
THINGS = Resource("example.org", "v1", "things", "Thing")


@pytest.fixture
def stamped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """ "create" or "status" for each that was filled in."""
    found: list[str] = []
    for kind, method, word in ((Mold, "cast", "create"), (Recast, "fill", "status")):
        whole = getattr(kind, method)

        def fill(self: Any, *asked: Any, whole: Any = whole, word: str = word) -> Any:
            found.append(word)
            return whole(self, *asked)

        monkeypatch.setattr(kind, method, fill)
    return found


def whole_way_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recasts, "_change", lambda *_: None)
    monkeypatch.setattr(Molds, "equal", lambda *_: None)


async def begun(clock: ManualClock) -> Assembly:
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(queueing=True))
    await bootstrap(assembly, kueue.custom_resource_definitions())
    return assembly


def workload(name: str, units: int = 1) -> Object:
    container = {"name": "c", "image": "100%/x:1", "resources": {"requests": {"cpu": str(units)}}}
    pods = {"name": "main", "count": 1, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload", "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"queueName": "q", "priority": 1, "podSets": [pods]},
    }  # fmt: skip


def admission(queue: str = "c", pod_set: str = "main") -> Admission:
    return Admission(queue, (PodSetAssignment(pod_set, {"cpu": "f"}, {"cpu": 1000}, 1),))


def changed(draw: random.Random, obj: Object, uid: str, now: float) -> Object:
    """A step of its life; some are refused, some say nothing new."""
    kind = draw.choices(range(9), (9, 6, 6, 4, 1, 1, 1, 1, 1))[0]
    if kind == 0:
        return status.reserved(obj, admission(draw.choice("cccd")), (), now)
    if kind == 1 and status.is_true(obj, "QuotaReserved"):
        by = {"metadata": {"labels": {"kueue.x-k8s.io/job-uid": uid}} if draw.random() < 0.3 else {}}
        text = status.preemption_message(by, uid, "InCohortReclamation")
        return status.evicted(obj, "Preempted", text, now, preempted="InCohortReclamation")
    if kind == 2 and status.is_true(obj, "Evicted"):
        return status.released(obj, now)
    if kind == 3:
        return status.finished(obj, "Succeeded", draw.choice(["done", obj["metadata"]["name"]]), now)
    if kind == 4:
        return status.reserved(obj, admission(pod_set="nobody"), (), now)  # refused
    if kind == 5:
        return status.with_condition(obj, "Odd", True, "no reason", "", now)  # refused: the pattern of reasons
    if kind == 6:
        return status.with_condition(obj, "Odd", True, "Reason", uid, now - 0.5)
    if kind == 7:
        at = draw.choice(["2026-02-31T00:00:00Z", "soon"])
        return {**obj, "status": {**(obj.get("status") or {}), "requeueState": {"count": 1, "requeueAt": at}}}
    return {**obj, "status": {**(obj.get("status") or {}), "unknown": 1}}  # pruned


async def lived(seed: int) -> list[tuple[str, bytes]]:
    """Workloads made and written by the dozen; what the store then holds, and what was refused."""
    draw, clock = random.Random(seed), ManualClock()
    assembly = await begun(clock)
    clients = [assembly.client(), assembly.client(field_manager="other")]
    told: list[tuple[str, bytes]] = []
    for batch in range(12):
        names = [f"w-{batch}-{number}" for number in range(12)]
        if batch == 5:
            names += ["main", "q", "default", "c", "status"]
        for name in names:
            await clients[0].create(kueue.WORKLOADS, workload(name, draw.choice([1, 1, 5])), "default")
            clock.advance(draw.choice([0, 0, 0, 0.4]))
        for _ in range(draw.choice([2, 4, 6])):
            clock.advance(draw.choice([0, 0.3, 1]))
            client, like = clients[draw.random() < 0.1], draw.random()
            for name in names:
                await write(client, name, like if draw.random() < 0.95 else draw.random(), clock.wall(), told)
        if draw.random() < 0.2:
            labels = {"metadata": {"labels": {"n": "1"}}}
            await client.patch(kueue.WORKLOADS, draw.choice(names), labels, "default", content_type=MERGE_PATCH)
    return told + [(record.key.name, record.data) for record in assembly.store.scan(kueue.WORKLOADS.group_resource)]


async def write(client: Client, name: str, like: float, now: float, told: list[tuple[str, bytes]]) -> None:
    """`like`: those with the same do the same, where they are alike."""
    obj = await client.get(kueue.WORKLOADS, name, "default")
    new = changed(random.Random(like), obj, told[-1][0] if told else "x", now)
    if 0.5 < like < 0.51:
        new = {**new, "metadata": {**new["metadata"], "resourceVersion": "1"}}  # refused: a conflict
    try:
        await client.update(kueue.WORKLOADS, new, subresource="status")
        told.append((obj["metadata"]["uid"], b""))
    except ApiError as error:
        told.append((obj["metadata"]["uid"], str(error).encode()))


@pytest.mark.parametrize("seed", range(8))
def test_the_bytes_are_those_of_the_whole_way(seed: int, stamped: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    short = asyncio.run(lived(seed))
    assert stamped.count("create") > 20 and stamped.count("status") > 20
    whole_way_only(monkeypatch)
    count = len(stamped)
    assert asyncio.run(lived(seed)) == short
    assert len(stamped) == count


def test_while_a_real_kueue_runs_nothing_is_learnt(stamped: list[str]) -> None:
    """What is let through unseen then must be looked at again once these kinds are ours."""

    async def story() -> None:
        client = (await begun(ManualClock())).client()
        container = {"name": "c", "image": "i"}
        spec = {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}},
        }
        await client.create(NAMESPACES, {"metadata": {"name": "kueue-system"}})
        theirs = {"metadata": {"name": "kueue-controller-manager"}, "spec": spec}
        await client.create(DEPLOYMENTS, theirs, "kueue-system")
        two = workload("")["spec"]["podSets"] * 2
        bad = {
            **workload("x")["spec"],
            "podSets": [{**pods, "name": f"p{n}", "minCount": 1} for n, pods in enumerate(two)],
        }
        for number in range(4):
            await client.create(kueue.WORKLOADS, {**workload(f"w-{number}"), "spec": bad}, "default")
        assert stamped == []
        await client.delete(DEPLOYMENTS, "kueue-controller-manager", "kueue-system")
        with pytest.raises(ApiError, match="at most one podSet can use minCount"):
            await client.create(kueue.WORKLOADS, {**workload("w-5"), "spec": bad}, "default")

    asyncio.run(story())


def crd(rule: str, **status_fields: Object) -> Object:
    status_schema = {"type": "object", "properties": {"at": {"type": "string"}, **status_fields}}
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "status": status_schema,
        },
        "x-kubernetes-validations": [{"rule": rule}],
    }
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }  # fmt: skip
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    spec = {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "things.example.org"}, "spec": spec}


async def things(client: Client, count: int) -> list[Object]:
    made = []
    for number in range(count):
        thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": f"t{number}"}, "spec": {"n": 1}}
        made.append(await client.create(THINGS, thing, "default"))
    return made


def test_where_a_rule_reads_the_name_each_is_judged(stamped: list[str]) -> None:
    async def story() -> None:
        client = (await begun(ManualClock())).client()
        await client.create(CRDS, crd("self.metadata.name != 't6'"))
        with pytest.raises(ApiError, match="failed rule"):
            await things(client, 7)
        assert len((await client.list(THINGS, "default")).items) == 6 and "create" not in stamped

    asyncio.run(story())


def test_where_a_rule_reads_a_time_each_is_judged(stamped: list[str]) -> None:
    async def story() -> None:
        client = (await begun(ManualClock())).client()
        await client.create(CRDS, crd("!has(self.status) || self.status.at != '2026-01-01T00:00:06Z'"))
        made = await things(client, 8)
        for number, thing in enumerate(made[:6]):
            await client.update(
                THINGS, {**thing, "status": {"at": f"2026-01-01T00:00:0{number}Z"}}, subresource="status"
            )
        with pytest.raises(ApiError, match="failed rule"):
            await client.update(THINGS, {**made[6], "status": {"at": "2026-01-01T00:00:06Z"}}, subresource="status")
        assert stamped.count("create") == 6 and "status" not in stamped

    asyncio.run(story())


def test_where_a_pattern_judges_a_time_each_is_judged(stamped: list[str]) -> None:
    async def story() -> None:
        client = (await begun(ManualClock())).client()
        odd = {"odd": {"type": "string", "pattern": "[0-5]Z$"}}
        await client.create(CRDS, crd("self.spec.n > 0", **odd))
        made = await things(client, 8)
        for number, thing in enumerate(made[:6]):
            new = {"at": f"2026-01-01T00:00:0{number}Z", "odd": f"2026-01-01T00:00:0{number}Z"}
            await client.update(THINGS, {**thing, "status": new}, subresource="status")
        with pytest.raises(ApiError, match="should match"):
            new = {"at": "2026-01-01T00:00:06Z", "odd": "2026-01-01T00:00:06Z"}
            await client.update(THINGS, {**made[6], "status": new}, subresource="status")
        assert "status" not in stamped
        plain = await things_of_time(client, made[7])
        assert plain["status"]["at"] == "2026-01-01T00:00:07Z"

    asyncio.run(story())


async def things_of_time(client: Client, thing: Object) -> Object:
    return await client.update(THINGS, {**thing, "status": {"at": "2026-01-01T00:00:07Z"}}, subresource="status")
