"""Pods that are equal but for their names come out as the whole way makes them, as long as nothing changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.base.errors import AlreadyExists, ApiError
from atoll.client.port import Client
from atoll.cluster.apiserver.verbs.molds import Mold, Molds
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import NAMESPACES, PODS, SERVICE_ACCOUNTS
from atoll.kinds.resource import Resource

LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
Story = Callable[[Client, Assembly], Awaitable[None]]


def pod(name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "100%/x:1", "resources": {"requests": {"cpu": "0.1"}}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"containers": containers, **spec},
    }


def tell(story: Story, options: ApiOptions | None = None) -> None:
    async def main() -> None:
        clock = ManualClock()
        store = MemoryStore(clock)
        assembly = assemble(store, clock, Chance(1), options or ApiOptions())
        await bootstrap(assembly)
        client = assembly.client()
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default")
        await story(client, assembly)

    asyncio.run(main())


def unlike(obj: dict[str, Any]) -> dict[str, Any]:
    """Without what must differ between two pods."""
    metadata = {key: obj["metadata"][key] for key in obj["metadata"] if key not in ("name", "uid", "resourceVersion")}
    text = repr({**obj, "metadata": metadata})
    volume = obj["spec"]["volumes"][-1]["name"]
    return {"text": text.replace(volume, "VOLUME"), "keys": list(obj["metadata"])}


@pytest.fixture
def casts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that came from a mold."""
    names: list[str] = []
    whole = Mold.cast

    def cast(self: Mold, name: str, uid: str, now: float) -> Any:
        names.append(name)
        return whole(self, name, uid, now)

    monkeypatch.setattr(Mold, "cast", cast)
    return names


def test_cast_pods_are_like_the_first(casts: list[str]) -> None:
    async def story(client: Client, _: Assembly) -> None:
        made = [await client.create(PODS, pod(f"p-{number}"), "default") for number in range(5)]
        assert casts == ["p-2", "p-3", "p-4"]
        assert [item["metadata"]["name"] for item in made] == [f"p-{number}" for number in range(5)]
        assert len({item["metadata"]["uid"] for item in made}) == 5
        assert len({item["spec"]["volumes"][0]["name"] for item in made}) == 5
        for item in made:
            assert item["spec"]["containers"][0]["volumeMounts"][0]["name"] == item["spec"]["volumes"][0]["name"]
            assert unlike(item) == unlike(made[0])
            assert await client.get(PODS, item["metadata"]["name"], "default") == item

    tell(story)


def test_generated_names(casts: list[str]) -> None:
    async def story(client: Client, _: Assembly) -> None:
        template = pod("")
        template["metadata"] = {"generateName": "web-", "labels": {"app": "a"}}
        made = [await client.create(PODS, template, "default") for _ in range(4)]
        assert len(casts) == 2 and len({item["metadata"]["name"] for item in made}) == 4
        assert all(item["metadata"]["name"].startswith("web-") for item in made)
        assert unlike(made[3]) == unlike(made[0])

    tell(story)


def test_time_goes_on(casts: list[str]) -> None:
    async def story(client: Client, assembly: Assembly) -> None:
        for number in range(2):
            await client.create(PODS, pod(f"p-{number}"), "default")
        clock = assembly.clock
        assert isinstance(clock, ManualClock)
        clock.advance(61)
        metadata = (await client.create(PODS, pod("late"), "default"))["metadata"]
        assert casts == ["late"]
        assert metadata["creationTimestamp"] == metadata["managedFields"][0]["time"]
        first = (await client.get(PODS, "p-0", "default"))["metadata"]["creationTimestamp"]
        assert metadata["creationTimestamp"] > first

    tell(story)


def test_names_are_checked_and_taken_ones_refused(casts: list[str]) -> None:
    async def story(client: Client, _: Assembly) -> None:
        for number in range(3):
            await client.create(PODS, pod(f"p-{number}"), "default")
        with pytest.raises(AlreadyExists, match='pods "p-1" already exists'):
            await client.create(PODS, pod("p-1"), "default")
        with pytest.raises(ApiError, match="Invalid value"):
            await client.create(PODS, pod('no"quote'), "default")
        assert await client.create(PODS, pod("p-9"), "default")

    tell(story)


@pytest.mark.parametrize(
    ("resource", "obj", "namespace"),
    [
        (
            LIMIT_RANGES,
            {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "default": {"memory": "1Gi"}}]}},
            "default",
        ),
        (PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 7, "globalDefault": True}, None),
    ],
)
def test_what_admission_reads_is_looked_at_again(
    resource: Resource, obj: dict[str, Any], namespace: str | None
) -> None:
    async def story(client: Client, _: Assembly) -> None:
        before = [await client.create(PODS, pod(f"p-{number}"), "default") for number in range(3)][-1]
        await client.create(resource, obj, namespace)
        after = [await client.create(PODS, pod(f"q-{number}"), "default") for number in range(3)]
        assert unlike(after[0]) != unlike(before)
        assert unlike(after[2]) == unlike(after[0])

    tell(story)


def test_a_quota_is_charged_for_each(casts: list[str]) -> None:
    async def story(client: Client, _: Assembly) -> None:
        for number in range(3):
            await client.create(PODS, pod(f"p-{number}"), "default")
        assert casts == ["p-2"]
        await client.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "4"}}}, "default")
        quota = await client.get(QUOTAS, "q", "default")
        status = {**quota, "status": {"hard": {"pods": "4"}, "used": {"pods": "3"}}}
        await client.update(QUOTAS, status, subresource="status")
        await client.create(PODS, pod("p-3"), "default")
        with pytest.raises(ApiError, match="exceeded quota: q"):
            await client.create(PODS, pod("p-4"), "default")
        assert casts == ["p-2"]

    tell(story)


def test_a_namespace_that_goes_takes_no_more(casts: list[str]) -> None:
    async def story(client: Client, _: Assembly) -> None:
        await client.create(NAMESPACES, {"metadata": {"name": "n"}})
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "n")
        for number in range(3):
            await client.create(PODS, pod(f"p-{number}"), "n")
        assert casts == ["p-2"]
        await client.delete(NAMESPACES, "n")
        with pytest.raises(ApiError, match="being terminated"):
            await client.create(PODS, pod("p-3"), "n")

    tell(story)


def test_volumes_whose_claims_have_the_pods_name_are_not_cast(casts: list[str]) -> None:
    async def story(client: Client, _: Assembly) -> None:
        claim = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
        volumes = [{"name": "v", "ephemeral": {"volumeClaimTemplate": claim}}]
        for number in range(4):
            await client.create(PODS, pod(f"p-{number}", volumes=volumes), "default")
        assert casts == []

    tell(story)


@pytest.mark.parametrize(
    ("metadata", "cast"),
    [
        ({}, 2),
        ({"labels": {"kueue.x-k8s.io/queue-name": "q"}}, 0),
        ({"labels": {"leaderworkerset.sigs.k8s.io/name": "l"}}, 0),
        ({"annotations": {"kueue.x-k8s.io/pod-group-total-count": "2"}}, None),
    ],
)
def test_pods_of_which_queues_and_groups_know_nothing_are_cast(
    metadata: dict[str, Any], cast: int | None, casts: list[str]
) -> None:
    """None: it is refused each time."""

    async def story(client: Client, _: Assembly) -> None:
        for number in range(4):
            template = pod(f"p-{number}")
            template["metadata"] |= metadata
            if cast is None:
                with pytest.raises(ApiError, match="must name the group"):
                    await client.create(PODS, template, "default")
            else:
                made = await client.create(PODS, template, "default")
                gated = bool(made["spec"].get("schedulingGates"))
                assert gated == ("kueue.x-k8s.io/queue-name" in made["metadata"].get("labels", {}))
        assert len(casts) == (cast or 0)

    tell(story, ApiOptions(batch=True, queueing=True))


def test_pods_of_a_leader_worker_set_learn_their_place() -> None:
    async def story(client: Client, _: Assembly) -> None:
        indices = []
        for number in range(4):
            template = pod(f"l-0-{number}")
            tags = {"leaderworkerset.sigs.k8s.io/name": "l", "leaderworkerset.sigs.k8s.io/group-index": "0"}
            notes = {"leaderworkerset.sigs.k8s.io/size": "5", "leaderworkerset.sigs.k8s.io/leader-name": "l-0"}
            template["metadata"] |= {"labels": tags, "annotations": notes}
            made = await client.create(PODS, template, "default")
            indices.append(made["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/worker-index"])
        assert indices == ["0", "1", "2", "3"]

    tell(story, ApiOptions(batch=True))


@pytest.mark.parametrize("labels", [7, ["kueue.x-k8s.io/queue-name"], "leaderworkerset.sigs.k8s.io/name"])
def test_labels_that_are_none_are_refused(labels: Any) -> None:
    async def story(client: Client, _: Assembly) -> None:
        template = pod("p")
        template["metadata"] |= {"labels": labels}
        for _again in range(3):
            with pytest.raises(ApiError) as refused:
                await client.create(PODS, template, "default")
            assert refused.value.code in (400, 422)

    tell(story, ApiOptions(batch=True, queueing=True))


def test_molds_are_few() -> None:
    async def story(client: Client, assembly: Assembly) -> None:
        for number in range(600):
            await client.create(PODS, pod(f"p-{number}", activeDeadlineSeconds=number + 1), "default")
        molds = assembly.api.molds
        assert isinstance(molds, Molds) and len(molds) <= 256

    tell(story)
