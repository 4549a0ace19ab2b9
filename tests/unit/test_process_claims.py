"""A process node starts a pod once each of its ResourceClaims is allocated and reserved for it, in kubelet's words; a
container is told of the devices of its own claims, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nvml_stand_in import Board, StandIn

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.errors import NotFound
from atoll.client.port import Client
from atoll.cluster.gpus.inventory import Inventory
from atoll.cluster.gpus.manager import DeviceManager
from atoll.cluster.gpus.model import ANNOTATION, annotation, declare_real
from atoll.cluster.gpus.node_devices import GpuNodeDevices
from atoll.cluster.gpus.nvml import NvmlDevices
from atoll.cluster.nodes.process.claims import ClaimsNotReady, check_claims
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import NODES, PODS, RESOURCE_CLAIMS, SERVICE_ACCOUNTS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual

Object = dict[str, Any]
DRIVER = "gpu.nvidia.com"


def play(main: Callable[[Client, LoopClock], Awaitable[None]]) -> None:
    async def whole() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
        await bootstrap(assembly)
        await assembly.client().create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default")
        await main(assembly.client(), clock)

    run_virtual(whole())


async def claim(client: Client, name: str, *devices: str, owner: Object | None = None) -> Object:
    """With devices of the node n, where some are named."""
    metadata: Object = {"name": name}
    if owner is not None:
        uid = owner["metadata"]["uid"]
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": True}]
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu", "count": 2}}]}}
    made = await client.create(RESOURCE_CLAIMS, {"metadata": metadata, "spec": spec}, "default")
    if not devices:
        return made
    results = [{"request": "gpu", "driver": DRIVER, "pool": "n", "device": device} for device in devices]
    return await status(client, made, allocation={"devices": {"results": results}})


async def status(client: Client, made: Object, **fields: Any) -> Object:
    found = {**made, "status": {**(made.get("status") or {}), **fields}}
    return await client.update(RESOURCE_CLAIMS, found, subresource="status")


async def pod(client: Client, name: str, *entries: Object) -> Object:
    claims = [{"name": entry["name"]} for entry in entries]
    container = {"name": "c", "image": "i", "resources": {"claims": claims}}
    spec = {"containers": [container], "resourceClaims": list(entries), "nodeName": "n"}
    await client.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")
    return await client.get(PODS, name, "default")


def test_a_pod_starts_with_its_claims_and_not_before() -> None:
    async def main(client: Client, clock: LoopClock) -> None:
        waiting = await pod(client, "p", {"name": "g", "resourceClaimName": "one"})
        with pytest.raises(NotFound):
            await check_claims(client, waiting)
        one = await claim(client, "one")
        with pytest.raises(ClaimsNotReady, match="ResourceClaim one is not allocated"):
            await check_claims(client, waiting)
        await client.delete(RESOURCE_CLAIMS, "one", "default")
        one = await claim(client, "one", "gpu-0")
        with pytest.raises(ClaimsNotReady, match="is not allowed to use ResourceClaim one"):
            await check_claims(client, waiting)
        user = {"resource": "pods", "name": "p", "uid": waiting["metadata"]["uid"]}
        await status(client, one, reservedFor=[user])
        await check_claims(client, waiting)

    play(main)


def test_a_claim_of_a_template_must_be_made_and_the_pods_own() -> None:
    async def main(client: Client, clock: LoopClock) -> None:
        waiting = await pod(client, "p", {"name": "g", "resourceClaimTemplateName": "t"})
        with pytest.raises(ClaimsNotReady, match="ResourceClaim not created yet"):
            await check_claims(client, waiting)
        told = {"status": {"resourceClaimStatuses": [{"name": "g", "resourceClaimName": "made"}]}}
        waiting = await client.patch(PODS, "p", told, "default", subresource="status")
        await claim(client, "made", "gpu-0")
        with pytest.raises(ClaimsNotReady, match="was not created for Pod default/p"):
            await check_claims(client, waiting)
        await client.delete(RESOURCE_CLAIMS, "made", "default")
        own = await claim(client, "made", "gpu-0", owner=waiting)
        user = {"resource": "pods", "name": "p", "uid": waiting["metadata"]["uid"]}
        await status(client, own, reservedFor=[user])
        await check_claims(client, waiting)

    play(main)


def test_a_container_sees_the_real_gpus_of_its_own_claims_only(tmp_path: Any) -> None:
    """By NVML's calls on a stand-in: device files and variable are of the claim's GPUs."""
    boards = [Board(f"GPU-0000000{number}-0000-0000-0000-000000000000", number) for number in range(3)]
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()

    async def main(client: Client, clock: LoopClock) -> None:
        port = NvmlDevices(StandIn(boards), None, tmp_path)
        declared = annotation(declare_real(gpu) for gpu in port.devices())
        await client.create(NODES, {"metadata": {"name": "n", "annotations": {ANNOTATION: declared}}})
        found = []
        for name, devices in (("a", ("gpu-0",)), ("b", ("gpu-1", "gpu-2"))):
            user = await pod(client, name, {"name": "g", "resourceClaimName": name})
            uid = user["metadata"]["uid"]
            made = await claim(client, name, *devices)
            await status(client, made, reservedFor=[{"resource": "pods", "name": name, "uid": uid}])
            found.append(user)
        informers = Informers(client)
        inventory = Inventory(informers)
        informers.start()
        await inventory.synced()
        node = GpuNodeDevices("n", port, inventory, DeviceManager(inventory), clock)
        one, two = (node.access(user, "c") for user in found)
        assert one.env["NVIDIA_VISIBLE_DEVICES"] == boards[0].uuid
        assert two.env["NVIDIA_VISIBLE_DEVICES"] == f"{boards[1].uuid},{boards[2].uuid}"
        shared = {str(tmp_path / name) for name in ("nvidiactl", "nvidia-uvm")}
        assert set(one.files) == {str(tmp_path / "nvidia0")} | shared
        assert set(two.files) == {str(tmp_path / "nvidia1"), str(tmp_path / "nvidia2")} | shared
        await informers.stop()

    play(main)
